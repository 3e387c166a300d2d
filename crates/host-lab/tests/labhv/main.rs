//! `vdvs-labhv` as a process, with real loop devices and real namespaces.

#[cfg(test)]
mod fence;
#[cfg(test)]
mod locks;
#[cfg(test)]
mod ports;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod suspend;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use rig::{PATIENCE, Rig, can_run, kind, until};
use vdvs_host_lab::ClientError;
use vdvs_host_lab::hv::start_time;
use vdvs_host_lab::protocol::{Disk, LabErrorKind, LockState, Power};

#[test]
fn an_attached_disk_is_a_device_inside_that_vm_only() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    rig.vm("swarm01");
    rig.vm("swarm02");
    let disk = rig.disk("v");
    let (device, changed) = rig.client().attach("swarm01", &disk, false).unwrap();
    let locator = device.locator.clone().unwrap();
    assert!(changed && device.open && device.unit == 0);
    assert!(rig.sees("swarm01", &locator) && !rig.sees("swarm02", &locator));
    assert!(rig.inside("swarm01", &format!("echo here > {locator}")));
    let (again, changed) = rig.client().attach("swarm01", &disk, false).unwrap();
    assert!(!changed);
    assert_eq!(again, device);
    assert_eq!(rig.client().devices("swarm01").unwrap(), [device]);
    assert!(rig.client().detach("swarm01", &disk).unwrap());
    assert!(!rig.client().detach("swarm01", &disk).unwrap());
    assert!(!rig.sees("swarm01", &locator));
    assert_eq!(rig.client().lock(&disk).unwrap(), (LockState::Free, None));
    assert_eq!(rig.loops(), [""; 0]);
    assert!(
        fs::read(rig.files(&disk).extent())
            .unwrap()
            .starts_with(b"here\n")
    );
}

#[test]
fn a_second_vm_is_refused_while_the_first_holds_the_disk() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    rig.vm("swarm01");
    rig.vm("swarm02");
    let disk = rig.disk("v");
    rig.client().attach("swarm01", &disk, false).unwrap();
    for read_only in [false, true] {
        match rig.client().attach("swarm02", &disk, read_only) {
            Err(ClientError::Refused(e)) => {
                assert_eq!(e.kind, LabErrorKind::Locked);
                assert_eq!(e.holder.as_deref(), Some("swarm01"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rig.client().devices("swarm02").unwrap(), []);
    let held = (LockState::Held, Some("swarm01".to_owned()));
    assert_eq!(rig.client().lock(&disk).unwrap(), held);
    assert_eq!(
        kind(rig.client().attach("swarm01", &disk, true)),
        LabErrorKind::Invalid
    );
}

#[test]
fn readers_share_a_disk_and_keep_writers_out() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    for vm in ["a", "b", "c"] {
        rig.vm(vm);
    }
    let disk = rig.disk("v");
    let (first, _) = rig.client().attach("a", &disk, true).unwrap();
    let (second, _) = rig.client().attach("b", &disk, true).unwrap();
    assert_ne!(first.locator, second.locator);
    let node = first.locator.unwrap();
    assert!(
        !rig.inside("a", &format!("echo no > {node}")),
        "a read-only disk was written"
    );
    assert_eq!(
        kind(rig.client().attach("c", &disk, false)),
        LabErrorKind::Locked
    );
    rig.client().detach("a", &disk).unwrap();
    assert_eq!(
        kind(rig.client().attach("c", &disk, false)),
        LabErrorKind::Locked
    );
    rig.client().detach("b", &disk).unwrap();
    rig.client().attach("c", &disk, false).unwrap();
}

#[test]
fn a_device_in_use_is_not_detached() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    rig.vm("swarm01");
    let disk = rig.disk("v");
    let (device, _) = rig.client().attach("swarm01", &disk, false).unwrap();
    let node = device.locator.clone().unwrap();
    let mount =
        format!("/sbin/mkfs.ext4 -q {node} && mkdir -p /dev/m && mount -t ext4 {node} /dev/m");
    assert!(rig.inside("swarm01", &mount));
    assert_eq!(
        kind(rig.client().detach("swarm01", &disk)),
        LabErrorKind::Busy
    );
    assert!(rig.sees("swarm01", &node));
    assert_eq!(rig.client().devices("swarm01").unwrap(), [device]);
    assert!(rig.inside("swarm01", "umount /dev/m"));
    assert!(rig.client().detach("swarm01", &disk).unwrap());
    assert_eq!(rig.loops(), [""; 0]);
}

#[test]
fn power_loss_releases_the_lock_and_keeps_the_configuration() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    rig.vm("swarm01");
    rig.vm("swarm02");
    let disk = rig.disk("v");
    let (device, _) = rig.client().attach("swarm01", &disk, false).unwrap();
    let node = device.locator.unwrap();
    // Mounted while the power goes: the kernel takes the file system down in its own time.
    let mount =
        format!("/sbin/mkfs.ext4 -q {node} && mkdir -p /dev/m && mount -t ext4 {node} /dev/m");
    assert!(rig.inside("swarm01", &mount));
    rig.client().power_off("swarm01").unwrap();
    rig.client().power_off("swarm01").unwrap();
    until("the lock is free", || {
        rig.client().lock(&disk).unwrap().0 == LockState::Free
    });
    assert_eq!(rig.loops(), [""; 0]);
    let vms = rig.client().vms().unwrap();
    assert_eq!(
        vms.iter().map(|v| v.power).collect::<Vec<_>>(),
        [Power::Off, Power::On]
    );
    let kept = rig.client().devices("swarm01").unwrap();
    assert!(matches!(&kept[..], [d] if d.disk == disk && !d.open && d.locator.is_none()));
    assert_eq!(
        kind(rig.client().attach("swarm01", &disk, false)),
        LabErrorKind::PoweredOff
    );
    // Another VM takes it; the first cannot boot with it, and can once it is out of its configuration.
    rig.client().attach("swarm02", &disk, false).unwrap();
    let init = rig.boot("swarm01");
    let start = start_time(init).unwrap();
    assert_eq!(
        kind(rig.client().power_on("swarm01", init, start)),
        LabErrorKind::Locked
    );
    assert_eq!(rig.client().vms().unwrap()[0].power, Power::Off);
    assert!(rig.client().detach("swarm01", &disk).unwrap());
    rig.client().power_on("swarm01", init, start).unwrap();
    assert_eq!(rig.client().devices("swarm01").unwrap(), []);
}

#[test]
fn a_vm_that_boots_again_has_its_disks_again() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    rig.vm("swarm01");
    let disk = rig.disk("v");
    rig.client().attach("swarm01", &disk, false).unwrap();
    rig.client().power_off("swarm01").unwrap();
    let init = rig.boot("swarm01");
    rig.client()
        .power_on("swarm01", init, start_time(init).unwrap())
        .unwrap();
    let devices = rig.client().devices("swarm01").unwrap();
    let node = devices[0].locator.clone().unwrap();
    assert!(devices[0].open && rig.sees("swarm01", &node));
}

#[test]
fn an_init_that_dies_by_itself_is_noticed() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    rig.vm("swarm01");
    let disk = rig.disk("v");
    rig.client().attach("swarm01", &disk, false).unwrap();
    let known = rig.client().wait_change(0, Duration::from_secs(1)).unwrap();
    assert!(
        rig::command("/bin/kill")
            .args(["-9", &rig.init("swarm01").to_string()])
            .status()
            .unwrap()
            .success()
    );
    let now = rig.client().wait_change(known, PATIENCE).unwrap();
    assert!(now > known);
    assert_eq!(rig.client().vms().unwrap()[0].power, Power::Off);
    until("the lock is free", || {
        rig.client().lock(&disk).unwrap().0 == LockState::Free
    });
}

#[test]
fn killing_labhv_changes_nothing_for_vms_and_a_new_one_finds_everything_again() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    rig.vm("swarm01");
    rig.vm("swarm02");
    let (written, read) = (rig.disk("w"), rig.disk("r"));
    rig.client().attach("swarm01", &written, false).unwrap();
    rig.client().attach("swarm01", &read, true).unwrap();
    rig.client().attach("swarm02", &read, true).unwrap();
    let before = (
        rig.client().devices("swarm01").unwrap(),
        rig.client().devices("swarm02").unwrap(),
        rig.loops().len(),
    );
    rig.kill_labhv();
    let node = before.0[0].locator.clone().unwrap();
    assert!(rig.inside("swarm01", &format!("echo still > {node}")));
    assert!(matches!(
        rig.client().vms(),
        Err(ClientError::Unreachable(..))
    ));
    rig.start_labhv();
    let after = (
        rig.client().devices("swarm01").unwrap(),
        rig.client().devices("swarm02").unwrap(),
        rig.loops().len(),
    );
    assert_eq!(after, before);
    assert_eq!(
        kind(rig.client().attach("swarm02", &written, false)),
        LabErrorKind::Locked
    );
}

#[test]
fn a_new_labhv_closes_what_ended_with_the_old_one() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    rig.vm("swarm01");
    rig.vm("swarm02");
    let (dead, unnamed) = (rig.disk("dead"), rig.disk("unnamed"));
    rig.client().attach("swarm01", &dead, false).unwrap();
    let (device, _) = rig.client().attach("swarm02", &unnamed, false).unwrap();
    rig.kill_labhv();
    let init = rig.init("swarm01").to_string();
    assert!(
        rig::command("/bin/kill")
            .args(["-9", &init])
            .status()
            .unwrap()
            .success()
    );
    until("the VM ended", || {
        start_time(init.parse().unwrap()).is_err()
    });
    // What a detach that was killed after its first step leaves: a device nobody's configuration names.
    let devices = rig.host_dir().join("vms/swarm02/devices.json");
    fs::write(&devices, r#"{"devices":[]}"#).unwrap();
    rig.start_labhv();
    assert_eq!(rig.client().vms().unwrap()[0].power, Power::Off);
    assert_eq!(rig.client().devices("swarm01").unwrap().len(), 1);
    assert_eq!(rig.loops(), [""; 0]);
    assert_eq!(rig.client().lock(&unnamed).unwrap().0, LockState::Free);
    let node = device.locator.unwrap();
    assert!(
        !rig.sees("swarm02", &node),
        "the node stayed when its number became free"
    );
}

#[test]
fn the_devices_of_a_vm_whose_folder_is_damaged_are_left_alone() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    rig.vm("swarm01");
    let disk = rig.disk("v");
    let (device, _) = rig.client().attach("swarm01", &disk, false).unwrap();
    rig.kill_labhv();
    let devices = rig.host_dir().join("vms/swarm01/devices.json");
    let good = fs::read(&devices).unwrap();
    fs::write(&devices, b"{").unwrap();
    rig.start_labhv();
    let node = device.locator.clone().unwrap();
    assert!(rig.inside("swarm01", &format!("echo mine > {node}")));
    let held = (LockState::Held, Some("swarm01".to_owned()));
    assert_eq!(rig.client().lock(&disk).unwrap(), held);
    rig.kill_labhv();
    fs::write(&devices, good).unwrap();
    rig.start_labhv();
    assert_eq!(rig.client().devices("swarm01").unwrap(), [device]);
}

#[test]
fn wherever_labhv_is_killed_what_is_open_is_what_is_configured() {
    const ROUNDS: u64 = 25;
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    rig.vm("swarm01");
    let disks = [rig.disk("a"), rig.disk("b")];
    for round in 0..ROUNDS {
        let client = rig.client();
        let work = disks.clone();
        let busy = thread::spawn(move || {
            // Until labhv is gone.
            for disk in work.iter().cycle() {
                let done = match client.attach("swarm01", disk, false) {
                    Ok((_, true)) => Ok(true),
                    _ => client.detach("swarm01", disk),
                };
                if done.is_err() {
                    return;
                }
            }
        });
        // Spread over the few milliseconds that a call takes.
        thread::sleep(Duration::from_micros(2_000 + round * 437));
        rig.kill_labhv();
        busy.join().unwrap();
        rig.start_labhv();
        let devices = rig.client().devices("swarm01").unwrap();
        let mut open: Vec<String> = devices.iter().map(|d| d.locator.clone().unwrap()).collect();
        open.sort();
        let mut bound = rig.loops();
        bound.sort();
        assert_eq!(open, bound, "round {round}");
        for node in &open {
            assert!(rig.sees("swarm01", node), "round {round}");
        }
        let nodes = fs::read_dir(format!("/proc/{}/root/dev", rig.init("swarm01"))).unwrap();
        let loops = nodes
            .flatten()
            .filter(|n| n.file_name().to_string_lossy().starts_with("loop"));
        assert_eq!(loops.count(), open.len(), "round {round}");
    }
    for disk in &disks {
        rig.client().detach("swarm01", disk).unwrap();
    }
    assert_eq!(rig.loops(), [""; 0]);
}

#[test]
fn a_disk_that_was_configured_but_not_opened_is_opened_by_the_next_labhv() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    rig.vm("swarm01");
    let disk = rig.disk("v");
    rig.kill_labhv();
    let entry = serde_json::json!({"devices": [{"disk": disk, "read_only": false, "unit": 3}]});
    fs::write(
        rig.host_dir().join("vms/swarm01/devices.json"),
        entry.to_string(),
    )
    .unwrap();
    rig.start_labhv();
    let devices = rig.client().devices("swarm01").unwrap();
    assert!(devices[0].open && devices[0].unit == 3);
    assert!(rig.sees("swarm01", devices[0].locator.as_deref().unwrap()));
}

#[test]
fn a_second_labhv_for_one_host_is_refused() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    let second = rig::command(env!("CARGO_BIN_EXE_vdvs-labhv"))
        .arg("--host-dir")
        .arg(rig.host_dir())
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another vdvs-labhv"));
    assert!(rig.client().vms().is_ok());
}

#[test]
fn what_makes_no_sense_is_refused_by_kind() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    rig.vm("swarm01");
    let good = rig.disk("v");
    let client = rig.client();
    let named = |datastore: &str, path: &str| Disk {
        datastore: datastore.to_owned(),
        path: path.to_owned(),
    };
    assert_eq!(
        kind(client.attach("nobody", &good, false)),
        LabErrorKind::NoSuchVm
    );
    let cases = [
        (named("elsewhere", "a.vmdk"), LabErrorKind::NoSuchDisk),
        (
            named("vsanDatastore", "dockvols/none.vmdk"),
            LabErrorKind::NoSuchDisk,
        ),
        (
            named("vsanDatastore", "no/folder.vmdk"),
            LabErrorKind::NoSuchDisk,
        ),
        (
            named("vsanDatastore", "../../etc/passwd"),
            LabErrorKind::Invalid,
        ),
        (
            named("vsanDatastore", "dockvols/v-flat.vmdk"),
            LabErrorKind::Invalid,
        ),
    ];
    for (disk, expected) in cases {
        assert_eq!(
            kind(client.attach("swarm01", &disk, false)),
            expected,
            "{disk}"
        );
    }
    fs::write(rig.files(&good).extent(), b"short").unwrap();
    assert_eq!(
        kind(client.attach("swarm01", &good, false)),
        LabErrorKind::Io
    );
    assert_eq!(
        kind(client.power_on("swarm01", 1, 1)),
        LabErrorKind::Invalid
    );
    assert_eq!(client.devices("swarm01").unwrap(), []);
    assert_eq!(rig.loops(), [""; 0]);
}

#[test]
fn bad_requests_are_answered_and_hurt_nobody() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    let mut stream = UnixStream::connect(rig.socket()).unwrap();
    let mut replies = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut ask = |bytes: &[u8]| {
        stream.write_all(bytes).unwrap();
        replies.next().unwrap().unwrap()
    };
    for bad in [
        &b"rubbish\n"[..],
        b"\n",
        b"\xff\xfe\n",
        b"{\"id\":1,\"call\":\"dance\"}\n",
    ] {
        let reply = ask(bad);
        assert!(
            reply.starts_with(r#"{"id":0,"error":{"kind":"invalid""#),
            "{reply}"
        );
    }
    assert_eq!(
        ask(b"{\"id\":9,\"call\":\"list_vms\"}\n"),
        r#"{"id":9,"ok":{"vms":[]}}"#
    );
    let long = ask(&vec![b'x'; 64 * 1024]);
    assert!(long.contains("invalid"), "{long}");
    assert!(
        replies.next().is_none_or(|r| r.is_err()),
        "the connection goes on"
    );
    let idle: Vec<UnixStream> = (0..100)
        .map(|_| UnixStream::connect(rig.socket()).unwrap())
        .collect();
    drop(idle);
    until("labhv serves again", || rig.client().vms().is_ok());
}
