//! Taking a disk from a guest that writes to it: nothing acknowledged is lost, nothing changes afterwards.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use vdvs_host_lab::protocol::{Disk, LockState};

use crate::rig::{Rig, can_run, command, until};

/// The smallest disk that `mkfs.xfs` takes; ext4 is content with less.
pub(crate) fn mib(kind: &str) -> u64 {
    if kind == "xfs" { 300 } else { 32 }
}

/// Files that are written at once.
const WRITERS: usize = 3;

fn rounds() -> u32 {
    env::var("VDVS_FENCE_ROUNDS").map_or(2, |n| n.parse().unwrap())
}

/// Somebody who writes numbered lines into a file of the guest and flushes each.
pub(crate) struct Writer {
    file: PathBuf,
    acknowledged: Arc<AtomicU64>,
    thread: JoinHandle<i32>,
}

impl Writer {
    pub(crate) fn start(file: PathBuf) -> Self {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (count, path) = (Arc::clone(&acknowledged), file.clone());
        let thread = thread::spawn(move || {
            let open = OpenOptions::new().append(true).create(true).open(path);
            let mut file = open.unwrap();
            for line in 1.. {
                let done = writeln!(file, "{line}").and_then(|()| file.sync_all());
                if let Err(e) = done {
                    return e.raw_os_error().unwrap();
                }
                count.store(line, Ordering::SeqCst);
            }
            unreachable!()
        });
        Self {
            file,
            acknowledged,
            thread,
        }
    }

    pub(crate) fn lines(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// The name of the file, the last line that was acknowledged, the error that ended it.
    pub(crate) fn end(self) -> (String, u64, i32) {
        let error = self.thread.join().unwrap();
        let name = self.file.file_name().unwrap().to_str().unwrap().to_owned();
        (name, self.acknowledged.load(Ordering::SeqCst), error)
    }
}

/// What a writer sees of a lost disk: the failure itself, or a file system that somebody else's failure made read-only.
pub(crate) fn is_end(error: i32) -> bool {
    matches!(error, libc::EIO | libc::EROFS)
}

pub(crate) fn digest(path: &Path) -> String {
    let out = command("/usr/bin/md5sum").arg(path).output().unwrap();
    assert!(out.status.success());
    String::from_utf8(out.stdout).unwrap()
}

pub(crate) fn mount(rig: &Rig, vm: &str, kind: &str, node: &str, place: &str) {
    // The machine has one kernel, in which the dead file system still has the identity of the living one.
    let options = if kind == "xfs" { "-o nouuid" } else { "" };
    let line = format!("mkdir -p {place} && mount -t {kind} {options} {node} {place}");
    assert!(rig.inside(vm, &line), "{line}");
}

fn fence_under_load(rig: &Rig, kind: &str, disk: &Disk, round: u32) {
    let client = rig.client();
    let extent = rig.files(disk).extent().to_owned();
    let (device, _) = client.attach("swarm01", disk, false).unwrap();
    let node = device.locator.unwrap();
    let place = format!("/dev/{kind}{round}");
    mount(rig, "swarm01", kind, &node, &place);
    let writers: Vec<Writer> = (0..WRITERS)
        .map(|n| Writer::start(rig.seen("swarm01", &format!("{place}/{round}.{n}"))))
        .collect();
    until("they write", || writers.iter().all(|w| w.lines() > 3));

    assert!(client.fence("swarm01", disk).unwrap());

    let after = (digest(&extent), fs::metadata(&extent).unwrap().len());
    assert_eq!(after.1, mib(kind) << 20, "the extent has its size");
    assert_eq!(client.lock(disk).unwrap(), (LockState::Free, None));
    assert_eq!(client.devices("swarm01").unwrap(), []);
    assert!(!rig.sees("swarm01", &node));
    let number = node.strip_prefix("/dev/").unwrap();
    let size = fs::read_to_string(format!("/sys/block/{number}/size")).unwrap();
    assert_eq!(size, "0\n", "the guest still has it mounted");
    let ended: Vec<_> = writers.into_iter().map(Writer::end).collect();
    assert!(
        ended.iter().all(|(_, _, error)| is_end(*error)),
        "{ended:?}"
    );
    // The guest tries on.
    rig.inside(
        "swarm01",
        &format!("sync; echo late > {place}/late 2> /dev/null; sync -f {place} 2> /dev/null"),
    );
    sleep(Duration::from_millis(200));
    let late = (digest(&extent), fs::metadata(&extent).unwrap().len());
    assert_eq!(late, after, "the extent changed after the answer");
    assert!(
        !client.fence("swarm01", disk).unwrap(),
        "it is not there any more"
    );

    // The first guest still has the dead device mounted, the second has the disk.
    let (device, _) = client.attach("swarm02", disk, false).unwrap();
    let there = device.locator.unwrap();
    assert_ne!(there, node);
    mount(rig, "swarm02", kind, &there, "/dev/m");
    for (name, acknowledged, _) in ended {
        let text = fs::read_to_string(rig.seen("swarm02", &format!("/dev/m/{name}"))).unwrap();
        let lines: Vec<u64> = text.lines().map_while(|l| l.parse().ok()).collect();
        assert!(
            lines.len() as u64 >= acknowledged,
            "{name}: {} of {acknowledged}",
            lines.len()
        );
        assert!(lines.iter().copied().eq(1..=lines.len() as u64), "{name}");
    }
    assert!(rig.inside("swarm01", &format!("umount -l {place}")));
    until("the dead device goes with its mount", || {
        rig.loops() == [there.clone()]
    });
    assert!(rig.inside("swarm02", "umount /dev/m"));
    assert!(client.detach("swarm02", disk).unwrap());
}

fn fence_rounds(kind: &str, mkfs: &str) {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    rig.vm("swarm01");
    rig.vm("swarm02");
    let disk = rig.disk_on("vsanDatastore", "v", mib(kind));
    let (device, _) = rig.client().attach("swarm01", &disk, false).unwrap();
    assert!(rig.inside("swarm01", &format!("{mkfs} {}", device.locator.unwrap())));
    rig.client().detach("swarm01", &disk).unwrap();
    for round in 0..rounds() {
        fence_under_load(&rig, kind, &disk, round);
    }
    assert_eq!(rig.loops(), [""; 0]);
}

#[test]
fn an_ext4_that_is_written_is_fenced_without_losing_an_acknowledged_line() {
    fence_rounds("ext4", "/sbin/mkfs.ext4 -q");
}

#[test]
fn an_xfs_that_is_written_is_fenced_without_losing_an_acknowledged_line() {
    fence_rounds("xfs", "/sbin/mkfs.xfs -q");
}

#[test]
fn a_fence_of_an_idle_or_closed_disk_is_a_detach() {
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    rig.vm("swarm01");
    let disk = rig.disk("v");
    assert!(!rig.client().fence("swarm01", &disk).unwrap());
    rig.client().attach("swarm01", &disk, false).unwrap();
    assert!(rig.client().fence("swarm01", &disk).unwrap());
    assert_eq!(rig.loops(), [""; 0]);
    rig.client().attach("swarm01", &disk, false).unwrap();
    rig.client().power_off("swarm01").unwrap();
    assert!(rig.client().fence("swarm01", &disk).unwrap());
    assert_eq!(rig.client().devices("swarm01").unwrap(), []);
}

#[test]
fn wherever_labhv_is_killed_in_a_fence_the_disk_is_the_vms_or_is_fenced() {
    const ROUNDS: u64 = 12;
    if !can_run() {
        return;
    }
    let mut rig = Rig::new();
    rig.vm("swarm01");
    let disk = rig.disk("v");
    let mut fenced = 0;
    for round in 0..ROUNDS {
        let client = rig.client();
        let (device, _) = client.attach("swarm01", &disk, false).unwrap();
        let node = device.locator.unwrap();
        let place = format!("/dev/k{round}");
        assert!(rig.inside("swarm01", &format!("/sbin/mkfs.ext4 -qF {node}")));
        mount(&rig, "swarm01", "ext4", &node, &place);
        let writer = Writer::start(rig.seen("swarm01", &format!("{place}/w")));
        until("it writes", || writer.lines() > 3);
        let order = disk.clone();
        let fence = thread::spawn(move || client.fence("swarm01", &order).ok());
        sleep(Duration::from_micros(1_000 + round * 900));
        rig.kill_labhv();
        let answer = fence.join().unwrap();
        rig.start_labhv();
        let devices = rig.client().devices("swarm01").unwrap();
        if devices.is_empty() {
            fenced += 1;
            assert_eq!(rig.client().lock(&disk).unwrap().0, LockState::Free);
        } else {
            assert_eq!(answer, None);
            assert!(devices[0].open && rig.sees("swarm01", &node));
            let before = writer.lines();
            until("it still writes", || writer.lines() > before);
            assert!(rig.client().fence("swarm01", &disk).unwrap());
        }
        let (_, _, error) = writer.end();
        assert!(is_end(error), "{error}");
        assert_eq!(
            fs::metadata(rig.files(&disk).extent()).unwrap().len(),
            16 << 20
        );
        assert!(rig.inside("swarm01", &format!("umount -l {place}")));
        until("the dead device goes", || rig.loops().is_empty());
    }
    eprintln!("{fenced} of {ROUNDS} were killed behind the first step");
}
