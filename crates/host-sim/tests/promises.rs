//! The simulated world keeps the promises written on the engine's ports.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use uuid::Uuid;
use vdvs_domain::{Capacity, DatastoreName, DiskFormat, VmId};
use vdvs_engine::ports::{
    DatastoreKind, Datastores, Detached, DiskLock, DiskPath, DiskSpec, DsPath, Host, HostError,
    Power, StorageError,
};
use vdvs_host_sim::{Fault, When, World};

fn ds() -> DatastoreName {
    DatastoreName::new("ds").unwrap()
}

fn path(text: &str) -> DsPath {
    DsPath::new(text).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

async fn with_disk() -> (World, Vec<VmId>, DiskPath) {
    let world = World::new();
    world.add_datastore(&ds(), DatastoreKind::Vmfs);
    let host = world.add_host("esx01");
    let vms = vec![
        world.add_vm(host, "a", &ds()),
        world.add_vm(host, "b", &ds()),
    ];
    let session = world.session(host);
    let spec = DiskSpec {
        capacity: Capacity::DEFAULT,
        format: DiskFormat::Thin,
        uuid: Uuid::nil(),
    };
    session.make_dir(&ds(), &path("d")).await.unwrap();
    session
        .create_disk(&ds(), &path("d/v.vmdk"), &spec, &Arc::default())
        .await
        .unwrap();
    let disk = DiskPath {
        datastore: ds(),
        path: path("d/v.vmdk"),
    };
    (world, vms, disk)
}

#[tokio::test(start_paused = true)]
async fn a_file_is_created_by_one_and_written_only_when_it_is_there() {
    let world = World::new();
    world.add_datastore(&ds(), DatastoreKind::Vmfs);
    let (one, two) = (world.add_host("one"), world.add_host("two"));
    let (one, two) = (world.session(one), world.session(two));
    let file = path("f.1");
    one.create_new(&ds(), &file).await.unwrap();
    let second = two.create_new(&ds(), &file).await.unwrap_err();
    assert!(matches!(second, StorageError::AlreadyExists(_)));
    assert!(two.remove(&ds(), &file).await.unwrap());
    let gone = one.write(&ds(), &file, b"x").await.unwrap_err();
    assert!(
        matches!(gone, StorageError::NotFound(_)),
        "a removed slot does not come back"
    );
}

#[tokio::test(start_paused = true)]
async fn a_disk_is_written_by_one_vm() {
    let (world, vms, disk) = with_disk().await;
    let host = world.add_host("unused");
    let session = world.session(host);
    let here = session
        .attach(&vms[0], &disk, false, soon())
        .await
        .unwrap_err();
    assert!(
        matches!(here, HostError::NoSuchVm { .. }),
        "another host's VM"
    );
    world.register(&vms[0], host);
    world.register(&vms[1], host);
    let first = session.attach(&vms[0], &disk, false, soon()).await.unwrap();
    let again = session.attach(&vms[0], &disk, false, soon()).await.unwrap();
    assert_eq!(first, again);
    let other = session
        .attach(&vms[1], &disk, false, soon())
        .await
        .unwrap_err();
    assert_eq!(other, HostError::Locked { holder: "a".into() });
    assert_eq!(session.lock(&disk).await, DiskLock::Held { by: "a".into() });
    world.power(&vms[0], Power::Off);
    assert_eq!(session.lock(&disk).await, DiskLock::Free);
    session.attach(&vms[1], &disk, false, soon()).await.unwrap();
    assert!(
        !world.power(&vms[0], Power::On),
        "it still has the disk in its configuration"
    );
    assert_eq!(
        session.detach(&vms[0], &disk, soon()).await.unwrap(),
        Detached::Removed
    );
    assert_eq!(
        session.detach(&vms[0], &disk, soon()).await.unwrap(),
        Detached::WasAbsent
    );
    assert!(world.power(&vms[0], Power::On));
}

#[tokio::test(start_paused = true)]
async fn a_dead_session_never_answers_and_its_last_write_is_torn() {
    let world = World::new();
    world.add_datastore(&ds(), DatastoreKind::Vmfs);
    let host = world.add_host("one");
    let session = world.session(host);
    session.create_new(&ds(), &path("f")).await.unwrap();
    session.plan(0, Fault::Crash(When::Half));
    let second = Duration::from_secs(1);
    assert!(
        timeout(second, session.write(&ds(), &path("f"), b"abcdef"))
            .await
            .is_err()
    );
    assert!(timeout(second, session.vms()).await.is_err());
    timeout(second, session.died()).await.unwrap();
    assert_eq!(world.file(&ds(), "f").unwrap(), b"abc");
    assert!(world.session(host).vms().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_change_wakes_who_waits_for_it() {
    let (world, vms, _) = with_disk().await;
    let host = world.add_host("new");
    let session = world.session(host);
    let now = session.changed(0, soon()).await.unwrap();
    assert_eq!(
        session.changed(now, soon()).await.unwrap(),
        now,
        "the deadline"
    );
    world.register(&vms[0], host);
    assert!(session.changed(now, soon()).await.unwrap() > now);
}
