//! Formats that are cut off, on real loop devices. Needs root; says so when it skips.
//!
//! What a power cut leaves of a `mkfs` is any part of what it wrote, in any order, sector by sector. So a whole format is
//! recorded as its sectors, and disks are made that hold the mark and a random choice of them.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the lab around the code under test"
)]

use std::collections::BTreeMap;
use std::fs;
use std::process::{self, Command, Stdio};
use std::thread::sleep;

use nix::mount::{MntFlags, umount2};
use nix::unistd::geteuid;
use tempfile::TempDir;
use vdvs_domain::Capacity;

use super::*;
use crate::{Locator, Wanted};

const MIB: u64 = 1 << 20;
const SECTOR: usize = 512;
const OTHER: Uuid = Uuid::from_u128(0x9999_5678_9abc_4def_8123_4567_89ab_cdef);
const ID: VolumeId = VolumeId::new(Uuid::from_u128(0x77));
const BUDGET: Duration = Duration::from_secs(120);

struct Disk {
    dir: TempDir,
    device: Device,
}

impl Disk {
    async fn new(mib: u64) -> Option<Self> {
        if !geteuid().is_root() {
            eprintln!("skipped: loop devices need root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("disk.img");
        File::create(&image).unwrap().set_len(mib * MIB).unwrap();
        let out = Command::new("/usr/sbin/losetup")
            .args(["--show", "-f"])
            .arg(&image)
            .output()
            .unwrap();
        assert!(out.status.success(), "losetup: {out:?}");
        let node = PathBuf::from(str::from_utf8(&out.stdout).unwrap().trim());
        let wanted = Wanted {
            locator: Locator::Path(node),
            size: Capacity::from_bytes(mib * MIB).unwrap(),
            disk_uuid: None,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        let device = LinuxDevices::new().find(&wanted, deadline).await.unwrap();
        Some(Self { dir, device })
    }

    fn node(&self) -> File {
        let mut options = File::options();
        options.read(true).write(true);
        options.open(&self.device.path).unwrap()
    }

    /// Whether the loop device still holds this image.
    fn is_attached(&self) -> bool {
        let name = self.device.path.file_name().unwrap_or_default();
        let backing = Path::new("/sys/block").join(name).join("loop/backing_file");
        let image = self.dir.path().join("disk.img");
        fs::read_to_string(backing).is_ok_and(|file| Path::new(file.trim()) == image)
    }

    /// Every sector that is not zero.
    fn sectors(&self) -> BTreeMap<u64, Vec<u8>> {
        let node = self.node();
        let end = find::end_of(&mut self.node()).unwrap();
        let mut found = BTreeMap::new();
        let mut buffer = vec![0; CHUNK];
        for at in (0..end).step_by(CHUNK) {
            node.read_exact_at(&mut buffer, at).unwrap();
            for (sector, bytes) in (0..).zip(buffer.chunks(SECTOR)) {
                if bytes.iter().any(|b| *b != 0) {
                    found.insert(at + sector * SECTOR as u64, bytes.to_vec());
                }
            }
        }
        found
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The one mount these tests make; not mounted is what is expected.
        umount2(&self.dir.path().join("mnt"), MntFlags::MNT_DETACH).ok();
        let detach = ["-d".as_ref(), self.device.path.as_os_str()];
        drop(Command::new("/usr/sbin/losetup").args(detach).status());
        // A loop device goes when the last of those leave who have it open, and a `mkfs.btrfs` beside this one opens
        // all there are. Until then its file system's UUID is taken.
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.is_attached() && Instant::now() < deadline {
            sleep(Duration::from_millis(2));
        }
    }
}

/// `mkfs.btrfs` looks at every disk of the machine for the UUID it is given: one per test.
fn uuid_of(test: u128) -> Uuid {
    // btrfs refuses an identity that another disk of the machine has: a run beside this one is another process.
    let run = u128::from(process::id()) << 8;
    Uuid::from_u128(0x1234_5678_9abc_4def_8123_0000_0000_0000 | run | test)
}

/// Good enough to choose sectors, and the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn kinds() -> Vec<FsType> {
    let installed = LinuxDevices::new().filesystems();
    let wanted = ["btrfs", "ext2", "ext4", "xfs"];
    installed
        .into_iter()
        .filter(|kind| wanted.contains(&kind.as_str()))
        .collect()
}

/// The checkers' own opinion.
fn assert_sound(kind: &FsType, device: &Device) {
    let (program, args): (&str, &[&str]) = match kind.as_str() {
        "xfs" => ("/usr/sbin/xfs_repair", &["-n"]),
        "btrfs" => ("/usr/bin/btrfs", &["check", "--readonly"]),
        _ => ("/usr/sbin/e2fsck", &["-f", "-n"]),
    };
    let out = Command::new(program)
        .args(args)
        .arg(&device.path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(out.status.success(), "{kind}: {out:?}");
}

#[tokio::test]
async fn a_format_that_was_cut_off_anywhere_is_repeated_and_nothing_else_is() {
    let devices = LinuxDevices::new();
    let uuid = uuid_of(1);
    for kind in kinds() {
        let Some(whole) = Disk::new(320).await else {
            return;
        };
        let formatted = devices
            .format(&whole.device, &kind, uuid, "x", BUDGET)
            .await;
        formatted.unwrap();
        assert_sound(&kind, &whole.device);
        let sectors = whole.sectors();
        drop(whole);
        let mut dice = Dice(0x5eed_0000 + kind.as_str().len() as u64);
        let mut marked = 0;
        for round in 0..24 {
            let disk = Disk::new(320).await.unwrap();
            begin_format(&disk.device, uuid, Ground::Blank).unwrap();
            let node = disk.node();
            let share = dice.roll(101);
            let limit = dice.roll(320 * MIB);
            for (at, bytes) in &sectors {
                // Half of the rounds in the order of the disk, as a scheduler would sort them.
                let kept = if round % 2 == 0 {
                    dice.roll(100) < share
                } else {
                    *at < limit
                };
                if kept {
                    node.write_all_at(bytes, *at).unwrap();
                }
            }
            node.sync_all().unwrap();
            let seen = devices.probe(&disk.device).await;
            assert!(
                seen.permits_format(uuid).is_ok(),
                "{kind} {round}: {seen:?}"
            );
            assert!(
                seen.permits_format(OTHER).is_err(),
                "{kind} {round}: {seen:?}"
            );
            if matches!(&seen, Probe::Holds(content) if content.fstype.is_none()) {
                marked += 1;
            }
            if round % 6 < 2 {
                again(&devices, &disk, &kind, uuid).await;
            }
        }
        eprintln!("{kind}: {marked} of 24 cuts left no superblock");
        assert!(marked > 0, "{kind}: the choice of sectors proves nothing");
    }
}

/// Formats what a cut left, and uses it.
async fn again(devices: &LinuxDevices, disk: &Disk, kind: &FsType, uuid: Uuid) {
    let device = &disk.device;
    devices
        .format(device, kind, uuid, "x", BUDGET)
        .await
        .unwrap();
    assert_sound(kind, device);
    let at = disk.dir.path().join("mnt");
    let options = MountOptions::default();
    devices.mount(device, kind, &at, &options).await.unwrap();
    let birth = Birth::default();
    let made = devices.prepare_data_dir(&at, ID, Layout::Data, birth).await;
    made.unwrap();
    devices.unmount(&at).await.unwrap();
    let size = find::end_of(&mut disk.node()).unwrap();
    let mut block = vec![0; begun::LEN];
    let place = begun::place(size).unwrap();
    disk.node().read_exact_at(&mut block, place).unwrap();
    assert_eq!(begun::read(&block), None, "the mark stays");
}

#[tokio::test]
async fn no_mkfs_of_ours_writes_where_the_mark_is() {
    let uuid = uuid_of(2);
    for kind in kinds() {
        // The smallest that btrfs and xfs take is some 300 MiB.
        let least = if kind.as_str().starts_with("ext") {
            16
        } else {
            320
        };
        for mib in [least, 1024, 5000, 20_000] {
            let Some(disk) = Disk::new(mib).await else {
                return;
            };
            begin_format(&disk.device, uuid, Ground::Blank).unwrap();
            let program = mkfs::require(&kind).unwrap();
            let made = mkfs::run(&program, &kind, uuid, "x", Ground::Blank, &disk.device.path);
            made.await.unwrap();
            let mut block = vec![0; begun::LEN];
            let place = begun::place(mib * MIB).unwrap();
            disk.node().read_exact_at(&mut block, place).unwrap();
            assert_eq!(begun::read(&block), Some(uuid), "{kind} {mib} MiB");
            end_format(&disk.device, uuid).unwrap();
            disk.node().read_exact_at(&mut block, place).unwrap();
            assert_eq!(block, vec![0; begun::LEN]);
            assert_sound(&kind, &disk.device);
        }
    }
}

#[tokio::test]
async fn a_cache_of_what_was_on_a_disk_does_not_refuse_its_format() {
    let uuid = uuid_of(4);
    let btrfs = FsType::new("btrfs").unwrap();
    let Ok(program) = mkfs::require(&btrfs) else {
        return;
    };
    let Some(disk) = Disk::new(320).await else {
        return;
    };
    let path = &disk.device.path;
    let format = || mkfs::run(&program, &btrfs, uuid, "x", Ground::Blank, path);
    format().await.unwrap();
    // The first fills the cache, which holds for minutes. The second leaves the node's time of change as it is, by
    // which the cache is judged, as writes do too on older kernels.
    for (tool, force) in [
        ("/usr/sbin/blkid", None),
        ("/usr/sbin/blkdiscard", Some("--force")),
    ] {
        let done = Command::new(tool).args(force).arg(path).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
    format().await.unwrap();
}

#[tokio::test]
async fn what_a_person_put_on_a_disk_with_our_mark_is_theirs() {
    let uuid = uuid_of(3);
    let devices = LinuxDevices::new();
    let Some(disk) = Disk::new(64).await else {
        return;
    };
    begin_format(&disk.device, uuid, Ground::Blank).unwrap();
    let theirs = Command::new("/usr/sbin/mkfs.ext4")
        .args(["-q", "-F"])
        .arg(&disk.device.path)
        .status()
        .unwrap();
    assert!(theirs.success());
    let seen = devices.probe(&disk.device).await;
    assert!(seen.permits_format(uuid).is_err(), "{seen:?}");
}
