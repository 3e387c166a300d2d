//! The service against an agent and disks in memory, on a paused clock.

mod journal;
mod lookup;
mod loss;
mod mounting;
mod options;
mod reality;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;
use tokio::time::{Duration, Instant, sleep};
use tokio_util::sync::CancellationToken;
use vdvs_blockdev::Devices;
use vdvs_blockdev::Locator as Place;
use vdvs_blockdev::fake::FakeDevices;
use vdvs_domain::VolumeId;

use super::{Failure, Limits, Ports, Volumes};
use crate::clock::{Clock, ManualClock};
use crate::fake::{FakeAgent, HERE};
use crate::journal::Held;
use journal::{Journal, open};

const ROOT: &str = "/mnt/vdvs";

/// One guest whose plugin can be stopped and started.
struct Guest {
    folder: TempDir,
    agent: Arc<FakeAgent>,
    devices: FakeDevices,
    clock: Arc<ManualClock>,
    /// The file system of its journal takes nothing.
    full: Arc<AtomicBool>,
    volumes: Option<Volumes>,
    stop: CancellationToken,
}

impl Guest {
    async fn new() -> Self {
        let devices = FakeDevices::new();
        let agent = FakeAgent::new(devices.clone());
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let full = Arc::default();
        let (volumes, stop) = start(&folder, &agent, &devices, &clock, &full).await;
        Self {
            folder,
            agent,
            devices,
            clock,
            full,
            volumes: Some(volumes),
            stop,
        }
    }

    /// The plugin ends, without a word to anybody, and comes back.
    async fn restart(&mut self) {
        self.stop.cancel();
        if let Some(old) = self.volumes.take() {
            old.finish().await;
        }
        let (volumes, stop) = start(
            &self.folder,
            &self.agent,
            &self.devices,
            &self.clock,
            &self.full,
        )
        .await;
        self.volumes = Some(volumes);
        self.stop = stop;
    }

    fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    fn volumes(&self) -> &Volumes {
        self.volumes.as_ref().unwrap()
    }

    async fn mount(&self, name: &str, id: &str) -> PathBuf {
        self.volumes().mount(name, id).await.unwrap()
    }

    async fn unmount(&self, name: &str, id: &str) {
        self.volumes().unmount(name, id).await.unwrap();
    }

    /// What was done to disks; looking at the mount table is nothing.
    fn device_calls(&self) -> Vec<String> {
        let mut calls = self.devices.calls();
        calls.retain(|call| call != "mounts");
        calls
    }

    fn held(&self, name: &str) -> Option<Held> {
        let id = self.agent.volume(name)?.id;
        self.volumes().book().held.get(&id).cloned()
    }

    async fn is_mounted(&self, name: &str) -> bool {
        let id = self.agent.volume(name).unwrap().id;
        let target = Path::new(ROOT).join(id.to_string());
        let table = self.devices.mounts().await.unwrap();
        table.iter().any(|mount| mount.at == target)
    }

    fn is_attached_here(&self, name: &str) -> bool {
        self.agent
            .volume(name)
            .and_then(|volume| volume.attachment)
            .is_some_and(|a| a.vm == HERE)
    }

    /// Another mount namespace, a container's, begins or ends to use the disk.
    fn set_busy(&self, name: &str, busy: bool) {
        let id = self.agent.volume(name).unwrap().id;
        assert!(self.devices.change(&place(id), |disk| disk.busy = busy));
    }

    /// Time passes on both clocks.
    async fn pass(&self, seconds: u64) {
        self.clock.advance(seconds * 1000);
        sleep(Duration::from_secs(seconds)).await;
    }

    async fn until(&self, what: &str, mut reached: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !reached(self) {
            assert!(Instant::now() < end, "{what}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn start(
    folder: &TempDir,
    agent: &Arc<FakeAgent>,
    devices: &FakeDevices,
    clock: &Arc<ManualClock>,
    full: &Arc<AtomicBool>,
) -> (Volumes, CancellationToken) {
    let stop = CancellationToken::new();
    let ports = Ports {
        agent: Arc::clone(agent) as _,
        devices: Arc::new(devices.clone()),
        journal: Arc::new(Journal {
            file: open(folder.path()).await,
            full: Arc::clone(full),
        }),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
    };
    let volumes = Volumes::start_up(ports, Path::new(ROOT), Limits::default(), stop.clone()).await;
    (volumes.unwrap(), stop)
}

fn place(id: VolumeId) -> Place {
    Place::Path(format!("/dev/vdvs-{}", id.id8()).into())
}

fn none() -> BTreeMap<String, String> {
    BTreeMap::new()
}

fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn text(failure: Failure) -> String {
    match failure {
        Failure::Said(text) => text,
        Failure::Unknown(why) => panic!("hung up: {why}"),
    }
}
