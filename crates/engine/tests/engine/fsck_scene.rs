//! What the tests of fsck share: volumes on a datastore, their files, and what fsck says of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::advance;
use vdvs_domain::FilesystemState;
use vdvs_engine::Engine;
use vdvs_engine::api::{
    Attached, FsckAsk, FsckFinding, FsckReport, FsckState, Settings, Teller, VolumeView,
};
use vdvs_engine::ports::{Datastores, DsPath};

use crate::support::{Lab, disk, ds, root};

/// What the volume under test holds.
pub(crate) const CONTENT: u64 = 77;

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Volume `db`, which `vm1` has, and `cache`, which nobody has.
pub(crate) struct Scene {
    pub(crate) lab: Lab,
    pub(crate) db: VolumeView,
    pub(crate) held: Attached,
    pub(crate) cache: VolumeView,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::over(Lab::new()).await
    }

    pub(crate) async fn over(lab: Lab) -> Self {
        let db = lab.create(1, "db").await;
        let cache = lab.create(1, "cache").await;
        for view in [&db, &cache] {
            lab.world.write_disk(&disk(view), CONTENT);
        }
        let held = lab.attach(1, "db").await;
        Self {
            lab,
            db,
            held,
            cache,
        }
    }

    /// Another agent, which remembers nothing.
    pub(crate) fn restart(&mut self) {
        self.lab.restart();
    }

    pub(crate) async fn fsck(&self, repair: bool) -> FsckReport {
        fsck(&self.lab.engine, repair, &[]).await
    }

    /// All small files.
    pub(crate) fn files(&self) -> Files {
        let (world, at) = (&self.lab.world, ds("ds"));
        let names = world.files(&at).into_iter();
        names
            .filter_map(|name| Some((name.clone(), world.file(&at, &name)?)))
            .collect()
    }

    /// The newest slot whose name holds this.
    pub(crate) fn slot(&self, part: &str) -> String {
        let number = |name: &str| {
            name.rsplit_once('.')
                .and_then(|(_, n)| n.parse::<u64>().ok())
        };
        let files = self.files();
        let found = files
            .keys()
            .filter(|n| n.contains(part) && !n.contains("/damaged/"));
        let newest = found.max_by_key(|name| number(name));
        newest.unwrap_or_else(|| panic!("no file {part}")).clone()
    }

    pub(crate) fn put(&self, path: &str, bytes: &[u8]) {
        self.lab.world.put_file(&ds("ds"), path, bytes);
    }

    pub(crate) async fn remove(&self, path: &str) {
        let path = DsPath::new(path).unwrap();
        self.lab.session.remove(&ds("ds"), &path).await.unwrap();
    }

    /// The files are these and no others.
    pub(crate) async fn restore(&self, files: &Files) {
        for name in self.files().keys().filter(|n| !files.contains_key(*n)) {
            self.remove(name).await;
        }
        for (name, bytes) in files {
            self.put(name, bytes);
        }
    }

    /// Both disks are there with what they held, and `vm1` has its own.
    pub(crate) fn check_disks(&self, text: &str) {
        for view in [&self.db, &self.cache] {
            let held = self.lab.world.read_disk(&disk(view));
            assert_eq!(held, Some(CONTENT), "{text}: disk of {}", view.name);
        }
        let devices = self.lab.world.devices(&self.lab.vms[0]);
        assert_eq!(devices.len(), 1, "{text}: vm1 lost its disk");
    }

    /// Both volumes are known, whole, and never to be formatted without reason; `db` is still `vm1`'s.
    pub(crate) async fn check_volumes(&self, text: &str) {
        self.check_disks(text);
        for (view, state) in [(&self.db, "attached"), (&self.cache, "free")] {
            let now = self.lab.get(1, view.name.as_str()).await;
            let now = now.unwrap_or_else(|why| panic!("{text}: {}: {why}", view.name));
            assert_eq!(now.id, view.id, "{text}");
            assert_eq!(now.capacity, view.capacity, "{text}");
            assert_eq!(now.ownership.name(), state, "{text}: {}", view.name);
            let rebuilt = now.epoch > view.epoch.next();
            if rebuilt {
                let fs = now.filesystem.state;
                assert_eq!(fs, FilesystemState::Unknown, "{text}: may be formatted");
            }
        }
    }

    /// What the reconciler does by itself meanwhile, also to leftovers.
    pub(crate) async fn sweep(&self) {
        self.lab.engine.sweep().await;
        advance(Duration::from_secs(70)).await;
        self.lab.engine.sweep().await;
    }
}

pub(crate) async fn fsck(engine: &Arc<Engine>, repair: bool, nobody_has: &[&str]) -> FsckReport {
    let ask = FsckAsk {
        datastores: Vec::new(),
        repair,
        nobody_has: nobody_has.iter().map(|n| (*n).to_owned()).collect(),
    };
    engine
        .admin_fsck(&root(), &ask, &Teller::default())
        .await
        .unwrap()
}

pub(crate) fn kinds(report: &FsckReport) -> Vec<(&'static str, &'static str)> {
    let kind = |f: &FsckFinding| (f.kind.name(), f.state.name());
    report.findings.iter().map(kind).collect()
}

pub(crate) fn repaired(report: &FsckReport) -> usize {
    let repaired = |f: &&FsckFinding| f.state == FsckState::Repaired;
    report.findings.iter().filter(repaired).count()
}

/// An agent over the same world that keeps nothing of before.
pub(crate) fn fresh(scene: &Scene) -> Arc<Engine> {
    Engine::new(scene.lab.session.ports(), Settings::default())
}
