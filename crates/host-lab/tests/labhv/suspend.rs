//! Suspended VMs, and the configuration file that tells others about them.

use std::fs;
use std::thread::{sleep, spawn};
use std::time::Duration;

use vdvs_host_lab::ClientError;
use vdvs_host_lab::protocol::{Disk, LabErrorKind, LockState, Power};

use crate::fence::{digest, mib};
use crate::rig::{Rig, can_run, kind, until};

const SHARED: [(&str, &str, u64); 1] = [("shared", "vmfs", 1000)];

fn vmx(rig: &Rig, vm: &str) -> String {
    fs::read_to_string(rig.store("shared").join(format!("{vm}/{vm}.vmx"))).unwrap()
}

fn power(rig: &Rig) -> Power {
    rig.on("esx01").vms().unwrap()[0].power
}

/// Two hosts; a VM whose program writes lines, each flushed, into a file system on a disk.
fn busy(kind: &str) -> (Rig, Disk) {
    let mut rig = Rig::with(&["esx01", "esx02"], &SHARED);
    rig.vm_on("esx01", "swarm01", "shared");
    rig.vm_on("esx02", "swarm02", "shared");
    let disk = rig.disk_on("shared", "v", mib(kind));
    let (device, _) = rig.on("esx01").attach("swarm01", &disk, false).unwrap();
    let node = device.locator.unwrap();
    let program = "i=0; while true; do i=$((i+1)); echo $i >> /dev/m/log; sync /dev/m/log; done";
    let line = format!(
        "/sbin/mkfs.{kind} -q {node} && mkdir /dev/m && mount -t {kind} {node} /dev/m && \
         (setsid /bin/sh -c '{program}' < /dev/null > /dev/null 2>&1 &)"
    );
    assert!(rig.inside("swarm01", &line));
    until("it writes", || lines(&rig) > 3);
    (rig, disk)
}

fn lines(rig: &Rig) -> usize {
    let log = fs::read_to_string(rig.seen("swarm01", "/dev/m/log"));
    log.map_or(0, |text| text.lines().count())
}

fn suspend_and_resume(kind_of_fs: &str) {
    if !can_run() {
        return;
    }
    let (mut rig, disk) = busy(kind_of_fs);
    let extent = rig.files(&disk).extent().to_owned();
    assert!(!vmx(&rig, "swarm01").contains("vmState"));
    rig.on("esx01").suspend("swarm01").unwrap();
    rig.on("esx01").suspend("swarm01").unwrap();
    assert_eq!(power(&rig), Power::Suspended);
    assert!(vmx(&rig, "swarm01").contains("checkpoint.vmState = \"swarm01.vmss\"\n"));
    for host in ["esx01", "esx02"] {
        assert_eq!(rig.on(host).lock(&disk).unwrap().0, LockState::Free);
    }
    let seen = rig.on("esx01").devices("swarm01").unwrap();
    assert!(!seen[0].open && seen[0].disk == disk);
    assert_eq!(
        kind(rig.on("esx01").detach("swarm01", &disk)),
        LabErrorKind::Busy
    );
    assert_eq!(
        kind(rig.on("esx01").attach("swarm01", &disk, false)),
        LabErrorKind::PoweredOff
    );
    let (before, count) = (digest(&extent), lines(&rig));
    // Neither time nor a new labhv wakes it.
    rig.kill("esx01");
    sleep(Duration::from_millis(1200));
    assert_eq!(rig.on("esx02").lock(&disk).unwrap().0, LockState::Free);
    rig.start("esx01");
    assert_eq!(power(&rig), Power::Suspended);
    assert_eq!((digest(&extent), lines(&rig)), (before, count));
    rig.on("esx01").resume("swarm01").unwrap();
    rig.on("esx01").resume("swarm01").unwrap();
    assert_eq!(power(&rig), Power::On);
    assert!(!vmx(&rig, "swarm01").contains("vmState"));
    until("it goes on", || lines(&rig) > count + 3);
    let held = (LockState::Held, Some("swarm01".to_owned()));
    assert_eq!(rig.on("esx02").lock(&disk).unwrap(), held);
    assert!(rig.inside("swarm01", "echo ok > /dev/m/ok && sync -f /dev/m"));
}

#[test]
fn a_vm_with_an_ext4_is_suspended_without_its_locks_and_goes_on_where_it_was() {
    suspend_and_resume("ext4");
}

#[test]
fn a_vm_with_an_xfs_is_suspended_without_its_locks_and_goes_on_where_it_was() {
    suspend_and_resume("xfs");
}

#[test]
fn a_vm_is_not_resumed_on_a_disk_that_is_or_was_anothers() {
    if !can_run() {
        return;
    }
    let (rig, disk) = busy("ext4");
    rig.on("esx01").suspend("swarm01").unwrap();
    rig.on("esx02").attach("swarm02", &disk, false).unwrap();
    match rig.on("esx01").resume("swarm01") {
        Err(ClientError::Refused(e)) => {
            assert_eq!(
                (e.kind, e.holder.as_deref()),
                (LabErrorKind::Locked, Some("swarm02"))
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(power(&rig), Power::Suspended);
    // Only looked at: it goes on.
    rig.on("esx02").detach("swarm02", &disk).unwrap();
    rig.on("esx01").resume("swarm01").unwrap();
    let count = lines(&rig);
    until("it goes on", || lines(&rig) > count);
    rig.on("esx01").suspend("swarm01").unwrap();
    let (device, _) = rig.on("esx02").attach("swarm02", &disk, false).unwrap();
    let node = device.locator.unwrap();
    assert!(rig.inside("swarm02", &format!("echo other > {node} && sync {node}")));
    rig.on("esx02").detach("swarm02", &disk).unwrap();
    assert_eq!(
        kind(rig.on("esx01").resume("swarm01")),
        LabErrorKind::Invalid
    );
    assert_eq!(power(&rig), Power::Suspended);
    assert_eq!(rig.on("esx02").lock(&disk).unwrap().0, LockState::Free);
    // Its power can be cut, and what it had held still goes.
    rig.on("esx01").power_off("swarm01").unwrap();
    assert_eq!(power(&rig), Power::Off);
    assert!(!vmx(&rig, "swarm01").contains("vmState"));
    until("its device goes", || rig.loops().is_empty());
}

#[test]
fn wherever_labhv_is_killed_a_vm_is_suspended_or_runs() {
    const ROUNDS: u64 = 10;
    if !can_run() {
        return;
    }
    let (mut rig, disk) = busy("ext4");
    for round in 0..ROUNDS {
        let client = rig.on("esx01");
        let busy = spawn(move || {
            while client
                .suspend("swarm01")
                .and_then(|()| client.resume("swarm01"))
                .is_ok()
            {}
        });
        sleep(Duration::from_millis(20 + round * 7));
        rig.kill("esx01");
        busy.join().unwrap();
        rig.start("esx01");
        let suspended = power(&rig) == Power::Suspended;
        assert_eq!(vmx(&rig, "swarm01").contains("vmState"), suspended);
        let lock = rig.on("esx02").lock(&disk).unwrap().0;
        let expected = if suspended {
            LockState::Free
        } else {
            LockState::Held
        };
        assert_eq!(lock, expected);
        rig.on("esx01").resume("swarm01").unwrap();
        let count = lines(&rig);
        until("it goes on", || lines(&rig) > count);
    }
}

#[test]
fn a_suspended_vm_that_dies_while_nobody_watches_leaves_nothing() {
    if !can_run() {
        return;
    }
    for kind in ["ext4", "xfs"] {
        let (mut rig, disk) = busy(kind);
        rig.on("esx01").suspend("swarm01").unwrap();
        rig.crash("esx01", &["swarm01"]);
        assert!(vmx(&rig, "swarm01").contains("vmState"));
        rig.start("esx01");
        assert_eq!(power(&rig), Power::Off);
        assert!(!vmx(&rig, "swarm01").contains("vmState"));
        until("its device goes", || rig.loops().is_empty());
        assert_eq!(rig.on("esx02").lock(&disk).unwrap().0, LockState::Free);
        rig.on("esx02").attach("swarm02", &disk, false).unwrap();
    }
}

#[test]
fn the_configuration_file_names_the_vm_and_its_disks() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::with(&["esx01"], &SHARED);
    rig.vm_on("esx01", "swarm01", "shared");
    let client = rig.on("esx01");
    let uuid = client.vms().unwrap()[0].instance_uuid;
    let disk = rig.disk_on("shared", "v", 16);
    client.attach("swarm01", &disk, false).unwrap();
    let mut text = String::new();
    until("it is written", || {
        text = vmx(&rig, "swarm01");
        text.contains("fileName")
    });
    for line in [
        "displayName = \"swarm01\"".to_owned(),
        format!("uuid.instance = \"{uuid}\""),
        "scsi0:0.fileName = \"/vmfs/volumes/shared/dockvols/v.vmdk\"".to_owned(),
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
    client.detach("swarm01", &disk).unwrap();
    until("it is written", || {
        !vmx(&rig, "swarm01").contains("fileName")
    });
}
