//! Two hosts over shared datastores: whose disk it is, while both live and when one does not.

use std::fs;
use std::path::PathBuf;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use vdvs_host_lab::ClientError;
use vdvs_host_lab::protocol::{Disk, LabErrorKind, LockState, Power};

use crate::fence::{Writer, is_end, mount};
use crate::rig::{Rig, Store, can_run, command, kind, until};

const HOSTS: [&str; 2] = ["esx01", "esx02"];
const LAPSE: u64 = 1500;
const SHARED: [Store; 1] = [("shared", "vmfs", LAPSE)];

fn two_hosts(stores: &[Store]) -> Rig {
    let mut rig = Rig::with(&HOSTS, stores);
    rig.vm_on("esx01", "swarm01", stores[0].0);
    rig.vm_on("esx02", "swarm02", stores[0].0);
    rig
}

fn held(by: &str) -> (LockState, Option<String>) {
    (LockState::Held, Some(by.to_owned()))
}

fn refused_by(rig: &Rig, host: &str, vm: &str, disk: &Disk, read_only: bool) -> Option<String> {
    match rig.on(host).attach(vm, disk, read_only) {
        Err(ClientError::Refused(e)) if e.kind == LabErrorKind::Locked => e.holder,
        other => panic!("{other:?}"),
    }
}

/// Where a host's lease lies on a datastore.
fn lease(rig: &Rig, host: &str) -> PathBuf {
    let json = fs::read_to_string(rig.dir_of(host).join("host.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let id = json["host_id"].as_str().unwrap().replace('-', "");
    format!(".labhv/hosts/{id}.lease").into()
}

#[test]
fn a_disk_that_is_open_on_one_host_is_locked_on_the_other() {
    if !can_run() {
        return;
    }
    let rig = two_hosts(&SHARED);
    let disk = rig.disk_on("shared", "v", 16);
    rig.on("esx01").attach("swarm01", &disk, false).unwrap();
    for host in HOSTS {
        assert_eq!(rig.on(host).lock(&disk).unwrap(), held("swarm01"));
    }
    for read_only in [true, false] {
        let holder = refused_by(&rig, "esx02", "swarm02", &disk, read_only);
        assert_eq!(holder.as_deref(), Some("swarm01"));
    }
    assert_eq!(rig.on("esx02").devices("swarm02").unwrap(), []);
    rig.on("esx01").detach("swarm01", &disk).unwrap();
    assert_eq!(
        rig.on("esx02").lock(&disk).unwrap(),
        (LockState::Free, None)
    );
    // Readers share it across hosts and keep writers out.
    rig.on("esx01").attach("swarm01", &disk, true).unwrap();
    rig.on("esx02").attach("swarm02", &disk, true).unwrap();
    rig.on("esx01").detach("swarm01", &disk).unwrap();
    let holder = refused_by(&rig, "esx01", "swarm01", &disk, false);
    assert_eq!(holder.as_deref(), Some("swarm02"));
    // Gone with the datastore's folder: nobody can tell.
    rig.move_store("shared", "away");
    assert_eq!(rig.on("esx01").lock(&disk).unwrap().0, LockState::Unknown);
    rig.move_store("away", "shared");
    assert_eq!(rig.on("esx01").lock(&disk).unwrap().0, LockState::Held);
}

#[test]
fn of_two_hosts_that_want_a_disk_at_once_never_both_get_it() {
    if !can_run() {
        return;
    }
    let rig = two_hosts(&SHARED);
    let disk = rig.disk_on("shared", "v", 16);
    let mut served = 0;
    for _ in 0..20 {
        let got: Vec<(&str, &str)> = scope(|all| {
            let both = [("esx01", "swarm01"), ("esx02", "swarm02")].map(|(host, vm)| {
                let (client, disk) = (rig.on(host), &disk);
                all.spawn(move || client.attach(vm, disk, false).ok().map(|_| (host, vm)))
            });
            both.into_iter().filter_map(|t| t.join().unwrap()).collect()
        });
        assert!(got.len() < 2, "{got:?}");
        for (host, vm) in got {
            served += 1;
            assert_eq!(rig.loops().len(), 1);
            rig.on(host).detach(vm, &disk).unwrap();
        }
    }
    assert!(served > 0, "somebody is served at times");
}

/// All declared types at once: each lock outlives the host for its own datastore's time.
#[test]
fn the_locks_of_a_crashed_host_lapse_each_in_its_datastores_time() {
    const STORES: [Store; 4] = [
        ("vmfs", "vmfs", 1500),
        ("nfs", "nfs", 4000),
        ("vsan", "vsan", 1500),
        ("vvol", "vvol", 0),
    ];
    if !can_run() {
        return;
    }
    let mut rig = two_hosts(&STORES);
    let disks = STORES.map(|(name, _, _)| rig.disk_on(name, "v", 16));
    // When the other host looked last; what it saw then is good for the lapse time at least.
    let looked = disks.each_ref().map(|disk| {
        rig.on("esx01").attach("swarm01", disk, false).unwrap();
        let now = Instant::now();
        assert_eq!(rig.on("esx02").lock(disk).unwrap(), held("swarm01"));
        now
    });
    let lease = lease(&rig, "esx01");
    rig.crash("esx01", &["swarm01"]);
    // And when its host renewed it last, which the other cannot have seen before.
    let renewed = STORES.map(|(name, ..)| {
        let file = fs::metadata(rig.store(name).join(&lease)).ok()?;
        file.modified().ok()
    });
    let mut free = [None; 4];
    until("all locks lapse", || {
        for (n, at) in free.iter_mut().enumerate() {
            if at.is_none() && rig.on("esx02").lock(&disks[n]).unwrap().0 == LockState::Free {
                let since_renewal = renewed[n].map(|at| at.elapsed().unwrap());
                *at =
                    Some(since_renewal.map_or(looked[n].elapsed(), |t| t.min(looked[n].elapsed())));
            }
        }
        free.iter().all(Option::is_some)
    });
    eprintln!("free after {free:?}");
    for ((name, _, lapse), after) in STORES.iter().zip(free) {
        assert!(after >= Some(Duration::from_millis(*lapse)), "{name}");
    }
    assert_eq!(
        rig.loops(),
        [""; 0],
        "what the dead host left open is closed"
    );
    rig.on("esx02").attach("swarm02", &disks[0], false).unwrap();

    // The host is back; its VM does not boot with a disk that is another's now.
    rig.start("esx01");
    assert_eq!(rig.on("esx02").lock(&disks[1]).unwrap().0, LockState::Free);
    let refused = rig.power_on("esx01", "swarm01");
    match refused {
        Err(ClientError::Refused(e)) => {
            assert_eq!(
                (e.kind, e.holder.as_deref()),
                (LabErrorKind::Locked, Some("swarm02"))
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.on("esx01").vms().unwrap()[0].power, Power::Off);
    assert_eq!(rig.on("esx02").lock(&disks[1]).unwrap().0, LockState::Free);
    rig.on("esx01").detach("swarm01", &disks[0]).unwrap();
    rig.power_on("esx01", "swarm01").unwrap();
    assert_eq!(rig.on("esx02").lock(&disks[1]).unwrap(), held("swarm01"));
}

#[test]
fn the_locks_of_living_vms_outlast_their_labhv_however_long_it_is_dead() {
    if !can_run() {
        return;
    }
    let mut rig = two_hosts(&SHARED);
    let disk = rig.disk_on("shared", "v", 16);
    let (device, _) = rig.on("esx01").attach("swarm01", &disk, false).unwrap();
    rig.kill("esx01");
    let dead = Instant::now();
    while dead.elapsed() < Duration::from_millis(2 * LAPSE + 1000) {
        assert_eq!(rig.on("esx02").lock(&disk).unwrap(), held("swarm01"));
        sleep(Duration::from_millis(50));
    }
    refused_by(&rig, "esx02", "swarm02", &disk, false);
    rig.start("esx01");
    assert_eq!(rig.on("esx01").devices("swarm01").unwrap(), [device]);
    assert_eq!(rig.on("esx02").lock(&disk).unwrap(), held("swarm01"));
    // Asked to go, it goes; with its VM it would not have let go of anything.
    rig.stop("esx01");
    assert_eq!(rig.on("esx02").lock(&disk).unwrap(), held("swarm01"));
    rig.start("esx01");
    rig.on("esx01").power_off("swarm01").unwrap();
    let own = || {
        let own = rig.store("shared").join(".labhv");
        let count = |dir: &str| fs::read_dir(own.join(dir)).unwrap().count();
        (count("hosts"), count("locks"))
    };
    until("the disk is closed", || own() == (2, 0));
    rig.stop("esx01");
    let own = rig.store("shared").join(".labhv/hosts");
    assert_eq!(fs::read_dir(own).unwrap().count(), 1);
    assert_eq!(rig.on("esx02").lock(&disk).unwrap().0, LockState::Free);
}

#[test]
fn a_host_that_is_cut_off_from_a_datastore_stops_writing_before_its_locks_lapse() {
    if !can_run() {
        return;
    }
    let mut rig = two_hosts(&[SHARED[0], ("other", "nfs", LAPSE)]);
    let (disk, other) = (
        rig.disk_on("shared", "v", 16),
        rig.disk_on("other", "o", 16),
    );
    let (device, _) = rig.on("esx01").attach("swarm01", &disk, false).unwrap();
    let (kept, _) = rig.on("esx01").attach("swarm01", &other, false).unwrap();
    let node = device.locator.unwrap();
    assert!(rig.inside("swarm01", &format!("/sbin/mkfs.ext4 -q {node}")));
    mount(&rig, "swarm01", "ext4", &node, "/dev/m");
    let writer = Writer::start(rig.seen("swarm01", "/dev/m/w"));
    until("it writes", || writer.lines() > 3);
    rig.isolate("esx01", "shared", true);
    assert_eq!(rig.on("esx01").lock(&disk).unwrap().0, LockState::Unknown);
    assert_eq!(
        kind(
            rig.on("esx01")
                .attach("swarm01", &rig.disk_on("shared", "w", 16), false)
        ),
        LabErrorKind::Io
    );
    // Cut off or not yet: as long as it may write, the other host sees it.
    let size = format!("/sys/block/{}/size", node.trim_start_matches("/dev/"));
    until("the disk is cut off", || {
        let lock = rig.on("esx02").lock(&disk).unwrap();
        let cut = fs::read_to_string(&size).unwrap() == "0\n";
        assert!(cut || lock == held("swarm01"));
        cut
    });
    let (_, acknowledged, error) = writer.end();
    assert!(is_end(error), "{error}");
    until("the lock lapses", || {
        rig.on("esx02").lock(&disk).unwrap().0 == LockState::Free
    });
    let (device, _) = rig.on("esx02").attach("swarm02", &disk, false).unwrap();
    mount(&rig, "swarm02", "ext4", &device.locator.unwrap(), "/dev/m");
    let kept_lines = fs::read_to_string(rig.seen("swarm02", "/dev/m/w")).unwrap();
    assert!(kept_lines.lines().count() as u64 >= acknowledged);
    assert!(rig.inside("swarm02", "umount /dev/m"));
    let closed = |rig: &Rig| {
        let seen = rig.on("esx01").devices("swarm01").unwrap();
        assert!(!seen[0].open && seen[0].locator.is_none(), "{seen:?}");
        assert_eq!(seen[1], kept, "the other datastore is as before");
    };
    closed(&rig);
    rig.kill("esx01");
    rig.start("esx01");
    closed(&rig);

    rig.isolate("esx01", "shared", false);
    until("it is back", || {
        rig.on("esx01").lock(&disk).unwrap() == held("swarm02")
    });
    sleep(Duration::from_millis(2 * LAPSE / 10));
    let holder = refused_by(&rig, "esx01", "swarm01", &disk, false);
    assert_eq!(holder.as_deref(), Some("swarm02"));
    closed(&rig);
    rig.on("esx02").detach("swarm02", &disk).unwrap();
    let (again, changed) = rig.on("esx01").attach("swarm01", &disk, false).unwrap();
    assert!(changed && rig.sees("swarm01", &again.locator.unwrap()));
}

/// A renewal that never comes back, as on a dead NFS server: the datastore is lost, others are not held up.
#[test]
fn a_datastore_that_hangs_is_lost_and_takes_no_other_with_it() {
    if !can_run() {
        return;
    }
    // One host: another would read the pipe.
    let mut rig = Rig::with(&["esx01"], &[SHARED[0], ("other", "nfs", LAPSE)]);
    rig.vm_on("esx01", "swarm01", "other");
    let (disk, other) = (
        rig.disk_on("shared", "v", 16),
        rig.disk_on("other", "o", 16),
    );
    rig.on("esx01").attach("swarm01", &disk, false).unwrap();
    rig.on("esx01").attach("swarm01", &other, false).unwrap();
    // Nobody reads the pipe, so its writer waits for ever.
    let lease = rig.store("shared").join(lease(&rig, "esx01"));
    let pipe = rig.store("shared").join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let moved = command("/bin/mv").arg(&pipe).arg(&lease).status();
    assert!(moved.unwrap().success());
    until("the disk is cut off", || {
        let devices = rig.on("esx01").devices("swarm01").unwrap();
        assert!(devices[1].open);
        !devices[0].open
    });
    rig.on("esx01").detach("swarm01", &other).unwrap();
    fs::remove_file(&lease).unwrap();
    rig.kill("esx01");
}
