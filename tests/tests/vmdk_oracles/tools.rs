//! The disks to be read, and the readers: programs with absolute paths. One that is not installed makes a test say so and do nothing.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use vdvs_domain::Capacity;
use vdvs_vmdk::{Adapter, DiskFiles, DiskUuid, NewDisk, Provisioning};

/// Reads a disk through libvmdk from end to end; prints its size and the hash of its content.
const LIBVMDK_SHA: &str = "
import hashlib, pyvmdk, sys
h = pyvmdk.handle()
h.open(sys.argv[1])
h.open_extent_data_files()
left, hash = h.get_media_size(), hashlib.sha256()
print(left, end=' ')
while left:
    block = h.read_buffer(min(left, 1 << 20))
    if not block:
        sys.exit('the disk ends early')
    hash.update(block)
    left -= len(block)
print(hash.hexdigest())
";

pub(crate) struct Oracles {
    pub(crate) qemu_img: PathBuf,
    pub(crate) vmdkinfo: PathBuf,
    pub(crate) python: PathBuf,
    pub(crate) mkfs: PathBuf,
    pub(crate) fsck: PathBuf,
    pub(crate) debugfs: PathBuf,
}

/// How a program ended and what it said.
pub(crate) struct Told {
    pub(crate) success: bool,
    pub(crate) text: String,
    said: String,
}

impl Told {
    /// What it wrote, after a success.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert!(self.success, "{}", self.text);
        self.said
    }
}

impl Oracles {
    /// All of them, or nothing after saying why.
    pub(crate) fn find() -> Option<Self> {
        let all = Self {
            qemu_img: "/usr/bin/qemu-img".into(),
            vmdkinfo: "/usr/bin/vmdkinfo".into(),
            python: "/usr/bin/python3".into(),
            mkfs: "/sbin/mkfs.ext4".into(),
            fsck: "/sbin/e2fsck".into(),
            debugfs: "/sbin/debugfs".into(),
        };
        for tool in [
            &all.qemu_img,
            &all.vmdkinfo,
            &all.python,
            &all.mkfs,
            &all.fsck,
            &all.debugfs,
        ] {
            if !tool.exists() {
                eprintln!("skipped: {} is not installed", tool.display());
                return None;
            }
        }
        let binding = run(&all.python, &["-c", "import pyvmdk"]);
        if !binding.success {
            eprintln!(
                "skipped: python3-libvmdk is not installed: {}",
                binding.text
            );
            return None;
        }
        Some(all)
    }

    /// Size and hash as libvmdk reads them.
    pub(crate) fn libvmdk(&self, vmdk: &str) -> Told {
        run(&self.python, &["-c", LIBVMDK_SHA, vmdk])
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place of this suite that starts programs"
)]
pub(crate) fn run(program: &Path, args: &[&str]) -> Told {
    let output = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{} does not start: {e}", program.display()));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let text = format!(
        "{} {args:?}: {}\n{said}{stderr}",
        program.display(),
        output.status
    );
    Told {
        success: output.status.success(),
        text,
        said,
    }
}

/// The hash of a file, by coreutils.
pub(crate) fn sha256(path: &Path) -> String {
    let line = run(
        Path::new("/usr/bin/sha256sum"),
        &["--zero", path.to_str().unwrap()],
    )
    .good();
    line.split(' ').next().unwrap().to_owned()
}

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) fn new_disk(bytes: u64, provisioning: Provisioning, seed: u8) -> NewDisk {
    NewDisk {
        capacity: Capacity::from_bytes(bytes).unwrap(),
        provisioning,
        adapter: Adapter::LsiLogic,
        uuid: DiskUuid::from_random([seed; 16]),
        content_id: u128::from_be_bytes([seed; 16]),
    }
}

pub(crate) fn create(dir: &Path, name: &str, disk: &NewDisk) -> DiskFiles {
    let files = DiskFiles::new(&dir.join(name)).unwrap();
    files
        .create(disk, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    files
}

/// Bytes without pattern that are the same at each run: xorshift.
pub(crate) fn noise(length: usize, mut state: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Both readers take the disk for what it is.
pub(crate) fn both_readers_open(oracles: &Oracles, files: &DiskFiles, disk: &NewDisk) {
    let descriptor = files.read().unwrap();
    let vmdk = files.descriptor().to_str().unwrap();

    let info = run(
        &oracles.qemu_img,
        &["info", "--output=json", "-f", "vmdk", vmdk],
    )
    .good();
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    let special = &info["format-specific"]["data"];
    assert_eq!(info["virtual-size"], disk.capacity.bytes());
    assert_eq!(special["create-type"], "vmfs");
    assert_eq!(special["cid"], descriptor.cid());
    assert_eq!(special["parent-cid"], u32::MAX);
    assert_eq!(
        special["extents"][0]["filename"],
        files.extent().to_str().unwrap()
    );
    let told = run(&oracles.vmdkinfo, &[vmdk]).good();
    let says = |key: &str, value: &str| {
        told.lines()
            .any(|l| l.trim_start().starts_with(key) && l.contains(value))
    };
    assert!(
        says("Content identifier", &format!("0x{:08x}", descriptor.cid())),
        "{told}"
    );
    assert!(says("Number of extents", "1"), "{told}");
    assert_eq!(files.check().unwrap(), []);
}

/// Both read the bytes that are in its extent.
pub(crate) fn both_readers_agree(oracles: &Oracles, files: &DiskFiles, disk: &NewDisk) {
    both_readers_open(oracles, files, disk);
    let truth = sha256(files.extent());
    let vmdk = files.descriptor().to_str().unwrap();
    let raw = files.descriptor().with_extension("raw");
    let raw_name = raw.to_str().unwrap();
    run(
        &oracles.qemu_img,
        &["convert", "-f", "vmdk", "-O", "raw", vmdk, raw_name],
    )
    .good();
    assert_eq!(
        sha256(&raw),
        truth,
        "qemu-img reads other bytes from {vmdk}"
    );
    fs::remove_file(raw).unwrap();

    let read = oracles.libvmdk(vmdk).good();
    let (size, hash) = read.trim().split_once(' ').unwrap();
    assert_eq!(size, disk.capacity.bytes().to_string());
    assert_eq!(hash, truth, "libvmdk reads other bytes from {vmdk}");
}
