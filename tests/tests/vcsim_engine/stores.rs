//! Datastores of every kind.

use std::sync::Arc;

use vdvs_domain::Capacity;
use vdvs_engine::api::VolumeView;
use vdvs_engine::ports::{
    DatastoreKind, Datastores, DiskPath, DiskSpec, DsPath, Host, StorageError,
};
use vdvs_testkit::vcsim::Mode;

use crate::rig::{Rig, disk, fresh};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_live_on_every_kind_of_datastore() {
    let Some(mut rig) = Rig::with(Mode::Esx, &["-datastores", "VMFS,NFS,vsan,VVOL"]).await else {
        return;
    };
    let listed = rig.agent.opened.datastores.list().await.unwrap();
    let mut kinds: Vec<_> = listed
        .iter()
        .map(|d| (d.name.to_string(), d.kind, d.accessible))
        .collect();
    kinds.sort_by(|a, b| a.0.cmp(&b.0));
    let named = |n: usize, kind| (format!("LocalDS_{n}"), kind, true);
    assert_eq!(
        kinds,
        [
            named(0, DatastoreKind::Vmfs),
            named(1, DatastoreKind::Nfs),
            named(2, DatastoreKind::Vsan),
            named(3, DatastoreKind::Vvol)
        ]
    );
    for number in 0..4 {
        let name = format!("v{number}@LocalDS_{number}");
        let view = rig.agent.create(0, &name, &[("size", "10mb")]).await;
        assert_eq!(rig.files(&disk(&view)), (true, true), "{name}");
        let attached = rig.agent.attach(0, &name).await;
        let device = rig.device(0, &view);
        let by_identity = !device["file"].as_str().unwrap().contains("dockvols");
        assert_eq!(by_identity, number > 1, "{device}");
        // What hostd says is read back as the volume's own path.
        let disks = Host::disks(&*rig.agent.opened.host, rig.agent.vm(0))
            .await
            .unwrap();
        assert!(disks.iter().any(|d| d.disk == disk(&view)), "{disks:?}");
        rig.agent.detach(0, &attached).await;
        rig.agent.try_delete(0, fresh(), &name).await.unwrap();
        assert_eq!(rig.files(&disk(&view)), (false, false), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_format_is_made_and_a_clone_may_be_larger_than_its_source() {
    let Some(mut rig) = Rig::new(Mode::Esx).await else {
        return;
    };
    for format in ["thin", "zeroedthick", "eagerzeroedthick"] {
        let view = rig
            .agent
            .create(0, format, &[("size", "4mb"), ("diskformat", format)])
            .await;
        assert_eq!(rig.files(&disk(&view)), (true, true), "{format}");
        let (source, target) = (disk(&view), other_disk(&view));
        let spec = DiskSpec {
            capacity: Capacity::parse("8mb").unwrap(),
            format: view.options.diskformat,
            uuid: fresh(),
        };
        let store = rig.agent.opened.datastores.clone();
        store
            .clone_disk(&source, &target, &spec, &Arc::default())
            .await
            .unwrap();
        let stat = store
            .stat_disk(&target.datastore, &target.path)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(stat.capacity, spec.capacity, "{format}");
        assert_eq!(rig.files(&target), (true, true), "{format}");
        let again = store
            .clone_disk(&source, &target, &spec, &Arc::default())
            .await;
        assert!(
            matches!(again, Err(StorageError::AlreadyExists(_))),
            "{again:?}"
        );
        assert_eq!(
            store.delete_disk(&target.datastore, &target.path).await,
            Ok(true)
        );
        assert_eq!(
            store.delete_disk(&target.datastore, &target.path).await,
            Ok(false)
        );
    }
}

/// A place for another disk beside a volume's.
fn other_disk(view: &VolumeView) -> DiskPath {
    let disk = disk(view);
    let path = DsPath::new(&disk.path.as_str().replace(".vmdk", "x.vmdk")).unwrap();
    DiskPath { path, ..disk }
}
