//! The simulated world keeps the promises of the engine's ports.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test suite")]

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{self, Instant};
use uuid::Uuid;
use vdvs_domain::{Capacity, DatastoreName, DiskFormat, VmId};
use vdvs_engine::ports::{
    DatastoreKind, Datastores, Detached, DiskLock, DiskPath, DiskSpec, DsPath, Host, HostError,
    StorageError,
};
use vdvs_host_sim::{CallKind, Fault, SimPorts, When, World};

struct Setup {
    world: Arc<World>,
    ports: SimPorts,
    ds: DatastoreName,
    a: VmId,
    b: VmId,
    disk: DiskPath,
}

async fn setup() -> Setup {
    let world = World::new(1);
    let ds = DatastoreName::new("ds1").unwrap();
    world.add_datastore(&ds, DatastoreKind::Vmfs, 1 << 30);
    let ports = SimPorts::of(&world, "esx01");
    let (a, b) = (
        world.add_vm("esx01", "a", &ds),
        world.add_vm("esx01", "b", &ds),
    );
    let disk = World::disk(&ds, "dockvols/v.vmdk");
    let spec = DiskSpec {
        capacity: Capacity::parse("10mb").unwrap(),
        format: DiskFormat::Thin,
        uuid: Uuid::nil(),
    };
    ports
        .datastores
        .create_disk(&ds, &disk.path, &spec, soon())
        .await
        .unwrap();
    Setup {
        world,
        ports,
        ds,
        a,
        b,
        disk,
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[tokio::test(start_paused = true)]
async fn a_disk_open_in_one_vm_is_locked_for_the_others_until_its_power_is_cut() {
    let s = setup().await;
    let host = &s.ports.host;
    let place = host.attach(&s.a, &s.disk, false, soon()).await.unwrap();
    assert_eq!(
        host.attach(&s.a, &s.disk, false, soon()).await.unwrap(),
        place,
        "repeated"
    );
    let refused = host.attach(&s.b, &s.disk, false, soon()).await.unwrap_err();
    assert_eq!(refused, HostError::Locked { holder: "a".into() });
    s.world.suspend(&s.a);
    assert_eq!(
        host.lock(&s.disk).await,
        DiskLock::Held { by: "a".into() },
        "suspended"
    );
    s.world.power_off(&s.a);
    assert_eq!(host.lock(&s.disk).await, DiskLock::Free);
    assert_eq!(
        s.world.devices(&s.a),
        vec![s.disk.clone()],
        "the configuration survives"
    );
    host.attach(&s.b, &s.disk, false, soon()).await.unwrap();
    assert!(!s.world.power_on(&s.a), "its disk is somebody else's");
    assert_eq!(s.world.writers(&s.disk), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_device_in_use_in_the_guest_is_not_detached() {
    let s = setup().await;
    s.ports
        .host
        .attach(&s.a, &s.disk, false, soon())
        .await
        .unwrap();
    s.world.guest_uses(&s.a, &s.disk, true);
    let refused = s
        .ports
        .host
        .detach(&s.a, &s.disk, soon())
        .await
        .unwrap_err();
    assert_eq!(refused, HostError::Busy);
    s.world.guest_uses(&s.a, &s.disk, false);
    assert_eq!(
        s.ports.host.detach(&s.a, &s.disk, soon()).await.unwrap(),
        Detached::Removed
    );
    assert_eq!(
        s.ports.host.detach(&s.a, &s.disk, soon()).await.unwrap(),
        Detached::WasAbsent
    );
}

#[tokio::test(start_paused = true)]
async fn exclusive_create_has_one_winner_and_unreachable_is_not_absent() {
    let s = setup().await;
    let other = SimPorts::of(&s.world, "esx02");
    let dir = DsPath::new("dockvols/g").unwrap();
    let file = dir.join("v.vdvs").unwrap();
    s.ports.datastores.make_dir(&s.ds, &dir).await.unwrap();
    s.ports.datastores.create_new(&s.ds, &file).await.unwrap();
    let lost = other.datastores.create_new(&s.ds, &file).await.unwrap_err();
    assert!(matches!(lost, StorageError::AlreadyExists(_)));
    s.world.set_accessible("esx02", &s.ds, false);
    let unknown = other.datastores.read_dir(&s.ds, &dir).await.unwrap_err();
    assert!(matches!(unknown, StorageError::Io(_)));
    assert!(!other.datastores.list().await.unwrap()[0].accessible);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_has_its_effect_and_a_lost_request_has_none() {
    let s = setup().await;
    s.world
        .faults()
        .add(When::Nth(CallKind::HostAttach, 1), Fault::LostRequest);
    s.world
        .faults()
        .add(When::Nth(CallKind::HostAttach, 2), Fault::LostReply);
    let host = &s.ports.host;
    assert!(
        host.attach(&s.a, &s.disk, false, soon())
            .await
            .unwrap_err()
            .outcome_is_unknown()
    );
    assert!(s.world.devices(&s.a).is_empty());
    assert!(
        host.attach(&s.a, &s.disk, false, soon())
            .await
            .unwrap_err()
            .outcome_is_unknown()
    );
    assert_eq!(s.world.devices(&s.a).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_crash_never_returns_and_a_torn_write_keeps_half() {
    let s = setup().await;
    let dir = DsPath::new("d").unwrap();
    let file = dir.join("f").unwrap();
    s.ports.datastores.make_dir(&s.ds, &dir).await.unwrap();
    s.ports.datastores.create_new(&s.ds, &file).await.unwrap();
    s.world
        .faults()
        .add(When::Nth(CallKind::Write, 1), Fault::Torn);
    let write = s.ports.datastores.write(&s.ds, &file, b"12345678");
    tokio::select! {
        _ = write => panic!("the agent is dead"),
        () = s.world.faults().crashed() => {}
    }
    assert_eq!(
        s.ports.datastores.read(&s.ds, &file, 100).await.unwrap(),
        b"1234"
    );
}

#[tokio::test(start_paused = true)]
async fn a_change_wakes_who_waits_for_it() {
    let s = setup().await;
    let now = s.ports.host.changed(0, soon()).await.unwrap();
    let (host, world, vm) = (s.ports.host.clone(), s.world.clone(), s.a.clone());
    let waited = async { host.changed(now, soon()).await.unwrap() };
    let cut = async {
        time::sleep(Duration::from_secs(1)).await;
        world.power_off(&vm);
    };
    let (generation, ()) = tokio::join!(waited, cut);
    assert!(generation > now);
}
