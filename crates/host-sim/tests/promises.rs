//! The simulated world keeps the promises written on the engine's ports.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, advance, timeout};
use uuid::Uuid;
use vdvs_domain::{Capacity, DatastoreName, DiskFormat, VmId};
use vdvs_engine::ports::{
    Clock, DatastoreKind, Datastores, Detached, DiskLock, DiskPath, DiskSpec, DsPath, Host,
    HostError, Power, StorageError,
};
use vdvs_host_sim::{DiskIoError, Event, Fault, Removal, When, World};

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

#[tokio::test(start_paused = true)]
async fn a_guest_writes_exactly_what_it_has_open() {
    let (world, vms, disk) = with_disk().await;
    let host = world.host_of(&vms[0]).unwrap();
    let session = world.session(host);
    let write = |vm: usize| world.write_block(&vms[vm], &disk, 3, b"x");
    assert_eq!(write(0), Err(DiskIoError::NotAttached));
    session.attach(&vms[0], &disk, false, soon()).await.unwrap();
    write(0).unwrap();
    assert_eq!(world.read_block(&vms[0], &disk, 3).unwrap(), b"x");
    assert_eq!(write(1), Err(DiskIoError::NotAttached));
    world.power(&vms[0], Power::Suspended);
    assert_eq!(write(0), Err(DiskIoError::NotRunning));
    world.power(&vms[0], Power::On);
    world.reach(host, &ds(), false);
    assert_eq!(write(0), Err(DiskIoError::Unreachable));
    world.reach(host, &ds(), true);
    write(0).unwrap();
    world.fill(&ds(), Some(0));
    write(0).unwrap();
    let fresh = world.write_block(&vms[0], &disk, 4, b"x");
    assert_eq!(fresh, Err(DiskIoError::NoSpace));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_lost_its_datastore_loses_its_disks_with_the_locks() {
    let (world, vms, disk) = with_disk().await;
    let host = world.host_of(&vms[0]).unwrap();
    let other = world.add_host("two");
    world.set_lapse(Duration::from_secs(10));
    world.register(&vms[1], other);
    let (session, elsewhere) = (world.session(host), world.session(other));
    session.attach(&vms[0], &disk, false, soon()).await.unwrap();
    world.cut_off_from(host, &ds(), true);
    let early = elsewhere.attach(&vms[1], &disk, false, soon()).await;
    assert!(matches!(early, Err(HostError::Locked { .. })), "{early:?}");
    assert!(
        !world.restart_elsewhere(&vms[0], other),
        "its files are locked"
    );
    advance(Duration::from_secs(11)).await;
    elsewhere
        .attach(&vms[1], &disk, false, soon())
        .await
        .unwrap();
    world.cut_off_from(host, &ds(), false);
    let late = world.write_block(&vms[0], &disk, 0, b"late");
    assert_eq!(late, Err(DiskIoError::Lost));
    world.write_block(&vms[1], &disk, 0, b"new").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_goes_back_lists_disks_of_others_and_stays_off() {
    let (world, vms, disk) = with_disk().await;
    let session = world.session(world.host_of(&vms[0]).unwrap());
    session.attach(&vms[0], &disk, false, soon()).await.unwrap();
    world.snapshot(&vms[0]);
    world.power(&vms[0], Power::Off);
    session.detach(&vms[0], &disk, soon()).await.unwrap();
    session.attach(&vms[1], &disk, false, soon()).await.unwrap();
    assert!(world.revert(&vms[0]));
    assert_eq!(world.devices(&vms[0]).len(), 1);
    assert!(!world.power(&vms[0], Power::On), "another VM has its disk");
    assert_eq!(world.writers(&disk), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_nobody_waits_for_comes_all_the_same() {
    let (world, vms, disk) = with_disk().await;
    let session = world.session(world.host_of(&vms[0]).unwrap());
    session.plan(0, Fault::Late(Duration::from_secs(30)));
    let answer = session.attach(&vms[0], &disk, false, soon()).await;
    assert!(answer.unwrap_err().outcome_is_unknown());
    assert!(world.devices(&vms[0]).is_empty());
    session.crash();
    advance(Duration::from_secs(31)).await;
    assert_eq!(world.writers(&disk), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn who_watches_hears_what_the_hypervisor_did() {
    let (world, vms, disk) = with_disk().await;
    let heard: Arc<Mutex<Vec<Event>>> = Arc::default();
    let told = Arc::clone(&heard);
    world.observe(move |_, event| told.lock().unwrap().push(event.clone()));
    let session = world.session(world.host_of(&vms[0]).unwrap());
    session.attach(&vms[0], &disk, false, soon()).await.unwrap();
    let refused = session.attach(&vms[1], &disk, false, soon()).await;
    assert!(refused.is_err());
    world.write_block(&vms[0], &disk, 0, b"x").unwrap();
    session.fence(&vms[0], &disk, soon()).await.unwrap();
    let heard = heard.lock().unwrap();
    let [
        Event::Attached { vm, .. },
        Event::Wrote {
            outcome: Ok(()), ..
        },
        Event::Removed {
            how: Removal::Fence,
            running: true,
            ..
        },
    ] = heard.as_slice()
    else {
        panic!("{heard:?}");
    };
    assert_eq!(*vm, vms[0]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_jumps_on_its_own_host() {
    let world = World::new();
    let (one, two) = (world.add_host("one"), world.add_host("two"));
    world.jump_clock(one, -3_600_000);
    let (one, two) = (world.session(one), world.session(two));
    let hour = two.now().millis() - one.now().millis();
    assert_eq!(hour, 3_600_000);
}
