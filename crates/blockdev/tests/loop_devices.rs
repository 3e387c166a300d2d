//! The Linux implementation on real loop devices. Needs root; says so when it skips.
//!
//! Each test makes its own image and loop device and removes exactly those. Mounts lie in the test's own folder.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::absolute_paths,
    reason = "the lab around the code under test; helpers outside of test functions"
)]

mod lab;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::{BUDGET, Disk, MIB, fs, installed, rw};
use tokio::time::Instant;
use uuid::Uuid;
use vdvs_blockdev::{
    Birth, Device, DeviceError, Devices, Health, LinuxDevices, Locator, MountOptions, Probe,
    Wanted, label_for,
};
use vdvs_domain::{Capacity, FsType, Layout, VolumeId};

const FS_UUID: Uuid = Uuid::from_u128(0x1234_5678_9abc_4def_8123_4567_89ab_cdef);
const ID: VolumeId = VolumeId::new(Uuid::from_u128(0x77));

#[tokio::test]
async fn a_new_disk_is_blank_and_a_disk_of_another_size_is_not_ours() {
    let Some(disk) = Disk::new(64) else { return };
    let (devices, device) = disk.found().await;
    assert_eq!(devices.probe(&device).await, Probe::Blank);
    let wanted = Wanted {
        locator: Locator::Path(disk.node.clone()),
        size: Capacity::DEFAULT,
        disk_uuid: None,
    };
    let soon = Instant::now() + Duration::from_millis(50);
    let error = devices.find(&wanted, soon).await.unwrap_err();
    assert!(matches!(error, DeviceError::WrongDevice { .. }), "{error}");
}

#[tokio::test]
async fn everything_that_others_put_on_a_disk_is_seen_and_never_formatted() {
    let tools: [(&str, &[&str], &str, bool); 7] = [
        ("/usr/sbin/mkfs.ext4", &["-q", "-F"], "ext4", true),
        ("/usr/sbin/mkfs.ext3", &["-q", "-F"], "ext3", true),
        ("/usr/sbin/mkfs.ext2", &["-q", "-F"], "ext2", true),
        ("/usr/sbin/mkfs.xfs", &["-q", "-f"], "xfs", true),
        ("/usr/sbin/mkfs.btrfs", &["-q", "-f"], "btrfs", true),
        ("/usr/sbin/mkfs.minix", &[], "minix", true),
        ("/usr/sbin/mkswap", &[], "swap", false),
    ];
    for (program, args, expected, mountable) in tools {
        let Some(disk) = Disk::new(320) else { return };
        if !installed(program) {
            continue;
        }
        disk.run(program, args);
        let (devices, device) = disk.found().await;
        let Probe::Holds(content) = devices.probe(&device).await else {
            panic!("{expected} was not seen");
        };
        assert!(content.description.contains(expected), "{content:?}");
        let kind = content.fstype.map(|f| f.to_string());
        assert_eq!(kind.as_deref(), mountable.then_some(expected));
        refused(&devices, &device).await;
    }
}

async fn refused(devices: &LinuxDevices, device: &Device) {
    let result = devices
        .format(device, &fs("ext4"), FS_UUID, "x", BUDGET)
        .await;
    assert!(
        matches!(result, Err(DeviceError::FormatRefused { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn partition_tables_and_stray_bytes_are_somebodys_data() {
    let table: &[u8] = &[0x55, 0xaa];
    let cases: [(u64, &[u8]); 6] = [
        (510, table),
        (512, b"EFI PART"),
        (3 * MIB + 17, b"x"),
        (64 * MIB - 1, b"x"),
        (64 * MIB - 512, b"EFI PART"),
        (16 * MIB, b"x"),
    ];
    for (at, bytes) in cases {
        let Some(disk) = Disk::new(64) else { return };
        let (devices, device) = disk.found().await;
        let node = File::options().write(true).open(&disk.node).unwrap();
        node.write_all_at(bytes, at).unwrap();
        node.sync_all().unwrap();
        let probe = devices.probe(&device).await;
        assert!(matches!(probe, Probe::Holds(_)), "at {at}: {probe:?}");
        refused(&devices, &device).await;
    }
}

#[tokio::test]
async fn a_volume_goes_from_blank_to_mounted_and_back_with_its_data() {
    for kind in ["ext4", "xfs", "btrfs"] {
        let Some(disk) = Disk::new(1024) else { return };
        if !installed(&format!("/usr/sbin/mkfs.{kind}")) {
            continue;
        }
        let (devices, device) = disk.found().await;
        let (at, kind) = (disk.at(), fs(kind));
        let label = label_for(ID);
        let birth = Birth::default();
        devices
            .format(&device, &kind, FS_UUID, &label, BUDGET)
            .await
            .unwrap();
        // An interrupted try is repeated with the same UUID, and only with that.
        devices
            .format(&device, &kind, FS_UUID, &label, BUDGET)
            .await
            .unwrap();
        refused_for_another_uuid(&devices, &device, &kind).await;

        let early = devices.prepare_data_dir(&at, ID, Layout::Data, birth).await;
        assert!(early.is_err(), "wrote below the mount point: {early:?}");
        devices.mount(&device, &kind, &at, &rw()).await.unwrap();
        devices.mount(&device, &kind, &at, &rw()).await.unwrap();
        assert!(devices.verify_layout(&at, ID, Layout::Data).await.is_err());
        devices
            .prepare_data_dir(&at, ID, Layout::Data, birth)
            .await
            .unwrap();
        devices
            .prepare_data_dir(&at, ID, Layout::Data, birth)
            .await
            .unwrap();
        devices.verify_layout(&at, ID, Layout::Data).await.unwrap();
        let other = VolumeId::new(Uuid::from_u128(0x78));
        assert!(
            devices
                .verify_layout(&at, other, Layout::Data)
                .await
                .is_err()
        );
        let meta = fs::metadata(at.join("data")).unwrap();
        assert_eq!(
            (meta.uid(), meta.gid(), meta.permissions().mode() & 0o7777),
            (0, 0, 0o755)
        );
        fs::write(at.join("data/file"), "kept").unwrap();

        assert_eq!(devices.healthy(&at, &device).await, Health::Alive);
        assert!(!devices.exclusively_unused(&device).await.unwrap());
        devices.unmount(&at).await.unwrap();
        devices.unmount(&at).await.unwrap();
        assert!(!at.exists(), "the mount point stays");
        assert!(devices.exclusively_unused(&device).await.unwrap());
        let used = fs::metadata(disk.dir.path().join("disk.img"))
            .unwrap()
            .blocks()
            * 512;
        assert!(used < 80 * MIB, "{kind}: a thin disk grew to {used} bytes");

        devices
            .mount(&device, &kind, &at, &MountOptions::read_only(true))
            .await
            .unwrap();
        assert_eq!(fs::read_to_string(at.join("data/file")).unwrap(), "kept");
        assert!(fs::write(at.join("data/file"), "x").is_err());
        devices.unmount(&at).await.unwrap();
    }
}

async fn refused_for_another_uuid(devices: &LinuxDevices, device: &Device, kind: &FsType) {
    let other = devices
        .format(device, kind, Uuid::from_u128(9), "x", BUDGET)
        .await;
    assert!(
        matches!(other, Err(DeviceError::FormatRefused { .. })),
        "{other:?}"
    );
}

#[tokio::test]
async fn a_mount_in_another_mount_namespace_keeps_the_device_busy() {
    let Some(disk) = Disk::new(64) else { return };
    let (devices, device) = disk.found().await;
    devices
        .format(&device, &fs("ext4"), FS_UUID, "x", BUDGET)
        .await
        .unwrap();
    fs::create_dir(disk.at()).unwrap();
    let script = format!(
        "mount {} {} && echo ready && read -r _",
        disk.node.display(),
        disk.at().display()
    );
    let mut other = Command::new("/usr/bin/unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "/bin/sh",
            "-c",
            &script,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let table = devices.mounts().await.unwrap();
    assert!(
        table.iter().all(|m| m.source != disk.node),
        "the mount is not private"
    );
    assert!(!devices.exclusively_unused(&device).await.unwrap());
    let result = devices
        .format(&device, &fs("ext4"), FS_UUID, "x", BUDGET)
        .await;
    assert!(
        matches!(result, Err(DeviceError::Busy { .. })),
        "{result:?}"
    );
    // The namespace ends with its last process.
    drop(other.stdin.take());
    other.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !devices.exclusively_unused(&device).await.unwrap() {
        assert!(Instant::now() < deadline, "the device stays busy");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_node_that_went_to_another_disk_is_not_touched() {
    let (Some(disk), Some(_spare)) = (Disk::new(64), Disk::new(64)) else {
        return;
    };
    let (devices, mut device) = disk.found().await;
    device.major_minor.1 += 1;
    assert!(matches!(devices.probe(&device).await, Probe::Unknown(_)));
    let result = devices.mount(&device, &fs("ext4"), &disk.at(), &rw()).await;
    assert!(
        matches!(result, Err(DeviceError::WrongDevice { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn mounting_a_blank_disk_fails_with_the_originals_text() {
    let Some(disk) = Disk::new(64) else { return };
    let (devices, device) = disk.found().await;
    let error = devices
        .mount(&device, &fs("ext4"), &disk.at(), &rw())
        .await
        .unwrap_err();
    let expected = format!(
        "Failed to mount device {} at {}: invalid argument",
        disk.node.display(),
        disk.at().display()
    );
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_disk_whose_capacity_is_taken_away_is_lost_and_unmounts_lazily() {
    let Some(disk) = Disk::new(64) else { return };
    let (devices, device) = disk.found().await;
    let at = disk.at();
    devices
        .format(&device, &fs("ext4"), FS_UUID, "x", BUDGET)
        .await
        .unwrap();
    devices
        .mount(&device, &fs("ext4"), &at, &rw())
        .await
        .unwrap();
    // The fence of the lab: the backing file shrinks to nothing and the loop device re-reads its size.
    File::options()
        .write(true)
        .open(disk.dir.path().join("disk.img"))
        .unwrap()
        .set_len(0)
        .unwrap();
    disk.run("/usr/sbin/losetup", &["-c"]);
    let health = devices.healthy(&at, &device).await;
    assert!(matches!(health, Health::Lost(_)), "{health:?}");
    assert!(matches!(devices.probe(&device).await, Probe::Unknown(_)));
    devices.unmount_lazy(&at).await.unwrap();
    let table = devices.mounts().await.unwrap();
    assert!(table.iter().all(|m| m.at != at));
}
