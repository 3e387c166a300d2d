//! The engine's ports on a lab host, with a real labhv behind them.

use std::fs::{self, OpenOptions};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;
use vdvs_domain::ownership::Locator;
use vdvs_domain::{Capacity, DatastoreName, DiskFormat, VmId};
use vdvs_engine::ports::{
    DatastoreKind, Datastores, Detached, DiskLock, DiskPath, DiskSpec, DsPath, Host, HostError,
    Power, Progress, StorageError,
};
use vdvs_host_lab::{LabDatastores, LabHost};

use crate::rig::{PATIENCE, Rig, can_run};

fn ds() -> DatastoreName {
    DatastoreName::new("vsanDatastore").unwrap()
}

fn path(text: &str) -> DsPath {
    DsPath::new(text).unwrap()
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// A list may be a moment old.
async fn not_accessible(stores: &LabDatastores) {
    let deadline = soon();
    while stores.list().await.unwrap()[0].accessible {
        assert!(Instant::now() < deadline, "it is listed as accessible");
        sleep(Duration::from_millis(5)).await;
    }
}

fn spec(format: DiskFormat) -> DiskSpec {
    DiskSpec {
        capacity: Capacity::parse("16mb").unwrap(),
        format,
        uuid: Uuid::new_v4(),
    }
}

#[tokio::test]
async fn small_files_are_exclusive_bounded_and_told_apart_when_missing() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    let stores = LabDatastores::new(&rig.host_dir()).unwrap();
    let (dir, file) = (path("dockvols/g/.vdvs"), path("dockvols/g/.vdvs/r.1"));
    assert!(matches!(
        stores.create_new(&ds(), &file).await,
        Err(StorageError::NotFound(_))
    ));
    stores.make_dir(&ds(), &dir).await.unwrap();
    stores.make_dir(&ds(), &dir).await.unwrap();
    assert!(matches!(
        stores.write(&ds(), &file, b"x").await,
        Err(StorageError::NotFound(_))
    ));
    stores.create_new(&ds(), &file).await.unwrap();
    let again = stores.create_new(&ds(), &file).await;
    assert!(
        matches!(again, Err(StorageError::AlreadyExists(_))),
        "{again:?}"
    );
    stores.write(&ds(), &file, b"longer content").await.unwrap();
    stores.write(&ds(), &file, b"content").await.unwrap();
    assert_eq!(stores.read(&ds(), &file, 7).await.unwrap(), b"content");
    assert!(matches!(
        stores.read(&ds(), &file, 6).await,
        Err(StorageError::TooLarge(_))
    ));
    let mut names = Vec::new();
    for entry in stores.read_dir(&ds(), &path("dockvols/g")).await.unwrap() {
        names.push((entry.name, entry.is_dir));
    }
    assert_eq!(names, [(".vdvs".to_owned(), true)]);
    assert!(stores.remove(&ds(), &file).await.unwrap());
    assert!(!stores.remove(&ds(), &file).await.unwrap());
}

#[tokio::test]
async fn a_datastore_that_is_not_there_never_says_not_found() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    let stores = LabDatastores::new(&rig.host_dir()).unwrap();
    let known = stores.list().await.unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!(
        (known[0].kind, known[0].accessible),
        (DatastoreKind::Vsan, true)
    );
    assert!(known[0].free_bytes > 0 && known[0].capacity_bytes >= known[0].free_bytes);
    fs::remove_dir_all(rig.dir.path().join("datastores/vsanDatastore")).unwrap();
    not_accessible(&stores).await;
    let file = path("dockvols/a");
    assert!(matches!(
        stores.read(&ds(), &file, 9).await,
        Err(StorageError::Io(_))
    ));
    assert!(matches!(
        stores.read_dir(&ds(), &file).await,
        Err(StorageError::Io(_))
    ));
    assert!(matches!(
        stores.make_dir(&ds(), &file).await,
        Err(StorageError::Io(_))
    ));
    assert!(matches!(
        stores.stat_disk(&ds(), &path("a.vmdk")).await,
        Err(StorageError::Io(_))
    ));
    let other = DatastoreName::new("other").unwrap();
    assert!(matches!(
        stores.read(&other, &file, 9).await,
        Err(StorageError::Io(_))
    ));
}

#[tokio::test]
async fn a_datastore_that_hangs_is_listed_soon_as_not_accessible() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    let stores = Arc::new(LabDatastores::new(&rig.host_dir()).unwrap());
    // A file that nobody writes keeps its reader waiting, as a dead storage path does.
    let pipe = rig.dir.path().join("datastores/vsanDatastore/pipe");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let mut readers = JoinSet::new();
    for _ in 0..16 {
        let stores = Arc::clone(&stores);
        readers.spawn(async move { stores.read(&ds(), &path("pipe"), 9).await });
    }
    sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    let listed = stores.list().await.unwrap();
    assert!(!listed[0].accessible, "{listed:?}");
    // A call that waits for the storage gives up after 20 s.
    assert!(begun.elapsed() < Duration::from_secs(8), "{begun:?}");
    // Lets the readers go.
    while !readers.is_empty() {
        drop(
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(&pipe)
                .unwrap(),
        );
        let next = readers.join_next();
        timeout(Duration::from_millis(50), next).await.ok();
    }
    assert!(stores.list().await.unwrap()[0].accessible);
}

#[tokio::test]
async fn disks_are_made_seen_and_removed_also_half_made_ones() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    let stores = LabDatastores::new(&rig.host_dir()).unwrap();
    let disk = path("dockvols/v.1234.vmdk");
    assert_eq!(stores.stat_disk(&ds(), &disk).await.unwrap(), None);
    assert!(!stores.delete_disk(&ds(), &disk).await.unwrap());
    stores
        .create_disk(&ds(), &disk, &spec(DiskFormat::Thin), &Arc::default())
        .await
        .unwrap();
    let stat = stores.stat_disk(&ds(), &disk).await.unwrap().unwrap();
    assert_eq!(stat.capacity.bytes(), 16 << 20);
    assert!(stat.allocated_bytes < 1 << 20);
    let again = stores
        .create_disk(&ds(), &disk, &spec(DiskFormat::Thin), &Arc::default())
        .await;
    assert!(
        matches!(again, Err(StorageError::AlreadyExists(_))),
        "{again:?}"
    );
    fs::remove_file(
        rig.dir
            .path()
            .join("datastores/vsanDatastore")
            .join(disk.as_str()),
    )
    .unwrap();
    assert_eq!(stores.stat_disk(&ds(), &disk).await.unwrap(), None);
    assert!(stores.delete_disk(&ds(), &disk).await.unwrap());
    assert!(!stores.delete_disk(&ds(), &disk).await.unwrap());
    assert!(
        !stores
            .delete_disk(&ds(), &path("no/such/folder.vmdk"))
            .await
            .unwrap()
    );
    let unwanted = Arc::new(Progress::default());
    unwanted.stop();
    stores
        .create_disk(&ds(), &disk, &spec(DiskFormat::EagerZeroedThick), &unwanted)
        .await
        .unwrap_err();
    assert_eq!(stores.stat_disk(&ds(), &disk).await.unwrap(), None);
}

#[tokio::test]
async fn a_disk_is_cloned_unless_somebody_has_it() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    rig.vm("swarm01");
    let host = LabHost::new(&rig.host_dir()).unwrap();
    let stores = LabDatastores::new(&rig.host_dir()).unwrap();
    let at = |file: &str| DiskPath {
        datastore: ds(),
        path: path(file),
    };
    let (source, target) = (at("dockvols/v.1234.vmdk"), at("dockvols/w.5678.vmdk"));
    let progress = Arc::new(Progress::default());
    let zeroed = spec(DiskFormat::EagerZeroedThick);
    stores
        .create_disk(&source.datastore, &source.path, &zeroed, &progress)
        .await
        .unwrap();
    assert_eq!(progress.get(), (16 << 20, 16 << 20));
    let extent = rig
        .dir
        .path()
        .join("datastores/vsanDatastore/dockvols/v.1234-flat.vmdk");
    let mut bytes = fs::read(&extent).unwrap();
    bytes[5 << 20..(5 << 20) + 5].copy_from_slice(b"hello");
    fs::write(&extent, &bytes).unwrap();
    let (thin, unheard) = (spec(DiskFormat::Thin), Arc::default());
    let cloned = stores.clone_disk(&source, &target, &thin, &unheard);
    cloned.await.unwrap();
    let copy = extent.with_file_name("w.5678-flat.vmdk");
    assert!(fs::read(copy).unwrap() == bytes);
    let stat = stores.stat_disk(&ds(), &target.path).await.unwrap();
    assert!(
        stat.unwrap().allocated_bytes < 1 << 20,
        "zeros take no room"
    );
    stores.delete_disk(&ds(), &target.path).await.unwrap();
    let vm = host.vms().await.unwrap().remove(0).id;
    host.attach(&vm, &source, false, soon()).await.unwrap();
    let held = stores.clone_disk(&source, &target, &thin, &unheard).await;
    assert_eq!(held, Err(StorageError::Busy("swarm01".to_owned())));
    assert_eq!(stores.stat_disk(&ds(), &target.path).await.unwrap(), None);
    host.detach(&vm, &source, soon()).await.unwrap();
}

#[tokio::test]
async fn a_host_that_is_cut_off_from_a_datastore_says_nothing_about_it() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    let host = LabHost::new(&rig.host_dir()).unwrap();
    let stores = LabDatastores::new(&rig.host_dir()).unwrap();
    rig.disk("v");
    let disk = path("dockvols/v.vmdk");
    let there = DiskPath {
        datastore: ds(),
        path: disk.clone(),
    };
    assert!(stores.list().await.unwrap()[0].accessible);
    rig.isolate("esx01", "vsanDatastore", true);
    not_accessible(&stores).await;
    for file in [&disk, &path("dockvols/none.vmdk")] {
        let stat = stores.stat_disk(&ds(), file).await;
        assert!(matches!(stat, Err(StorageError::Io(_))), "{stat:?}");
    }
    let gone = stores.delete_disk(&ds(), &disk).await;
    assert!(matches!(gone, Err(StorageError::Io(_))), "{gone:?}");
    assert!(matches!(host.lock(&there).await, DiskLock::Unknown { .. }));
    rig.isolate("esx01", "vsanDatastore", false);
    assert!(stores.stat_disk(&ds(), &disk).await.unwrap().is_some());
    assert_eq!(host.lock(&there).await, DiskLock::Free);
}

#[tokio::test]
async fn the_host_port_attaches_locks_and_detaches() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    rig.vm("swarm01");
    rig.vm("swarm02");
    let host = LabHost::new(&rig.host_dir()).unwrap();
    let stores = LabDatastores::new(&rig.host_dir()).unwrap();
    assert_eq!(
        (host.identity().kind, host.identity().name.as_str()),
        ("lab", "esx01")
    );
    let known = host.changed(0, soon()).await.unwrap();
    let vms = host.vms().await.unwrap();
    assert!(
        vms.iter()
            .all(|vm| vm.power == Power::On && vm.home == Some(ds()))
    );
    let [first, second] = &vms[..] else {
        panic!("{vms:?}")
    };
    let file = path("dockvols/v.1234.vmdk");
    let disk = DiskPath {
        datastore: ds(),
        path: file.clone(),
    };
    let missing = host.attach(&first.id, &disk, false, soon()).await;
    assert!(
        matches!(missing, Err(HostError::NoSuchDisk { .. })),
        "{missing:?}"
    );
    stores
        .create_disk(&ds(), &file, &spec(DiskFormat::Thin), &Arc::default())
        .await
        .unwrap();
    assert_eq!(host.lock(&disk).await, DiskLock::Free);
    let attached = host.attach(&first.id, &disk, false, soon()).await.unwrap();
    let Locator::Path(node) = &attached.locator else {
        panic!("{attached:?}")
    };
    assert!(rig.sees("swarm01", node));
    assert_eq!(
        host.attach(&first.id, &disk, false, soon()).await.unwrap(),
        attached
    );
    let refused = host.attach(&second.id, &disk, false, soon()).await;
    assert_eq!(
        refused,
        Err(HostError::Locked {
            holder: "swarm01".to_owned()
        })
    );
    assert_eq!(
        host.lock(&disk).await,
        DiskLock::Held {
            by: "swarm01".to_owned()
        }
    );
    let locked = stores.delete_disk(&ds(), &file).await.unwrap_err();
    assert!(locked.to_string().contains("swarm01"), "{locked}");
    let disks = host.disks(&first.id).await.unwrap();
    assert!(
        matches!(&disks[..], [d] if d.disk == disk && d.locator.as_ref() == Some(&attached.locator))
    );
    assert!(host.changed(known, soon()).await.unwrap() > known);
    assert_eq!(
        host.detach(&first.id, &disk, soon()).await,
        Ok(Detached::Removed)
    );
    assert_eq!(
        host.detach(&first.id, &disk, soon()).await,
        Ok(Detached::WasAbsent)
    );
    assert!(stores.delete_disk(&ds(), &file).await.unwrap());
    let stranger = VmId {
        instance_uuid: Uuid::new_v4(),
        ..first.id.clone()
    };
    let nobody = host.disks(&stranger).await;
    assert!(
        matches!(nobody, Err(HostError::NoSuchVm { .. })),
        "{nobody:?}"
    );
}

#[tokio::test]
async fn without_labhv_nothing_happened_and_no_lock_is_known() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    rig.vm("swarm01");
    let host = LabHost::new(&rig.host_dir()).unwrap();
    let stores = LabDatastores::new(&rig.host_dir()).unwrap();
    let vm = host.vms().await.unwrap().remove(0).id;
    let file = path("dockvols/v.vmdk");
    let disk = DiskPath {
        datastore: ds(),
        path: file.clone(),
    };
    rig.kill_labhv();
    let error = host.attach(&vm, &disk, false, soon()).await.unwrap_err();
    assert!(!error.outcome_is_unknown(), "{error}");
    assert!(matches!(host.lock(&disk).await, DiskLock::Unknown { .. }));
    stores
        .create_disk(&ds(), &file, &spec(DiskFormat::Thin), &Arc::default())
        .await
        .unwrap();
    stores.delete_disk(&ds(), &file).await.unwrap_err();
    assert!(stores.stat_disk(&ds(), &file).await.unwrap().is_some());
}

#[tokio::test]
async fn a_labhv_that_is_killed_again_and_again_keeps_nobody_waiting() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    rig.vm("swarm01");
    let host = Arc::new(LabHost::new(&rig.host_dir()).unwrap());
    let mut asking = JoinSet::new();
    let stop = Instant::now() + Duration::from_secs(3);
    for n in 0..4 {
        let host = Arc::clone(&host);
        asking.spawn(async move {
            let mut known = 0;
            while Instant::now() < stop {
                let begun = Instant::now();
                if n == 0 {
                    let until = begun + Duration::from_secs(1);
                    known = host.changed(known, until).await.unwrap_or(known);
                } else {
                    host.known_vms().await.ok();
                }
                let took = begun.elapsed();
                // A call that nobody answers gives up after 10 s.
                assert!(took < Duration::from_secs(8), "{n}: {took:?}");
                sleep(Duration::from_millis(5)).await;
            }
        });
    }
    let killer = spawn_blocking(move || {
        for round in 0_u64.. {
            thread::sleep(Duration::from_millis(50 + 37 * (round % 10)));
            if Instant::now() > stop {
                break;
            }
            rig.kill_labhv();
            rig.start_labhv();
        }
        rig
    });
    while let Some(done) = asking.join_next().await {
        done.unwrap();
    }
    let _rig = killer.await.unwrap();
    assert_eq!(host.vms().await.unwrap().len(), 1);
}
