//! Disks for tests: an image each, on a loop device. Mounts lie in the disk's own folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::unistd::geteuid;
use tokio::time::Instant;
use vdvs_blockdev::{Device, Devices, LinuxDevices, Locator, MountOptions, Wanted};
use vdvs_domain::{Capacity, FsType};

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const BUDGET: Duration = Duration::from_secs(60);

/// An image with a loop device, gone at the end.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) node: PathBuf,
    pub(crate) size: Capacity,
}

impl Disk {
    pub(crate) fn new(mib: u64) -> Option<Self> {
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
        let node = PathBuf::from(String::from_utf8(out.stdout).unwrap().trim());
        let size = Capacity::from_bytes(mib * MIB).unwrap();
        Some(Self { dir, node, size })
    }

    pub(crate) fn at(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    pub(crate) async fn found(&self) -> (LinuxDevices, Device) {
        let devices = LinuxDevices::new();
        let wanted = Wanted {
            locator: Locator::Path(self.node.clone()),
            size: self.size,
            disk_uuid: None,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        let device = devices.find(&wanted, deadline).await.unwrap();
        (devices, device)
    }

    pub(crate) fn run(&self, program: &str, args: &[&str]) {
        let status = Command::new(program)
            .args(args)
            .arg(&self.node)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{program} {args:?}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let at = self.at();
        if fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .contains(at.to_str().unwrap())
        {
            umount2(&at, MntFlags::MNT_DETACH).ok();
        }
        drop(
            Command::new("/usr/sbin/losetup")
                .arg("-d")
                .arg(&self.node)
                .status(),
        );
    }
}

pub(crate) fn rw() -> MountOptions {
    MountOptions::default()
}

pub(crate) fn fs(kind: &str) -> FsType {
    FsType::new(kind).unwrap()
}

pub(crate) fn installed(program: &str) -> bool {
    let there = Path::new(program).exists();
    if !there {
        eprintln!("skipped: {program} is not installed");
    }
    there
}
