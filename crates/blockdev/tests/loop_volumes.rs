//! Volumes with wishes, clones and repairs, on real loop devices. Needs root; says so when it skips.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::absolute_paths,
    reason = "the lab around the code under test; helpers outside of test functions"
)]

mod lab;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use lab::{BUDGET, Disk, fs, installed, rw};
use uuid::Uuid;
use vdvs_blockdev::mountinfo::topmost;
use vdvs_blockdev::{
    Birth, Device, DeviceError, Devices, LinuxDevices, MountOptions, Probe, clone_uuid,
};
use vdvs_domain::{Layout, VolumeId};

const SOURCE: VolumeId = VolumeId::new(Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001));
const CLONE: VolumeId = VolumeId::new(Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0002));

/// `btrfstune` looks at every disk of the machine for the UUID it is given: one clone per test.
const THIRD: VolumeId = VolumeId::new(Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0003));

/// A fresh volume, mounted, as a guest makes it.
async fn born(
    disk: &Disk,
    kind: &str,
    uuid: u128,
    birth: Birth,
    options: &MountOptions,
) -> (LinuxDevices, Device) {
    let (devices, device) = disk.found().await;
    let (at, kind) = (disk.at(), fs(kind));
    let uuid = Uuid::from_u128(0x2234_5678_9abc_4def_8123_4567_0000_0000 | uuid);
    let made = devices.format(&device, &kind, uuid, "x", BUDGET).await;
    made.unwrap();
    devices.mount(&device, &kind, &at, options).await.unwrap();
    let laid_out = devices.prepare_data_dir(&at, SOURCE, Layout::Data, birth);
    laid_out.await.unwrap();
    (devices, device)
}

fn extra(all: &[&str]) -> MountOptions {
    MountOptions {
        read_only: false,
        extra: all.iter().map(|&o| o.to_owned()).collect(),
    }
}

#[tokio::test]
async fn mount_options_reach_the_kernel_per_file_system_and_data_is_born_as_ordered() {
    let cases: [(&str, &[&str], &str); 3] = [
        ("ext4", &["noatime", "nosuid", "commit=30"], "commit=30"),
        (
            "xfs",
            &["noatime", "nosuid", "allocsize=1024k"],
            "allocsize=1024k",
        ),
        (
            "btrfs",
            &["noatime", "nosuid", "compress=zstd:3"],
            "compress=zstd:3",
        ),
    ];
    let birth = Birth {
        uid: 999,
        gid: 2000,
        mode: 0o2770,
    };
    for (kind, options, shown) in cases {
        let Some(disk) = Disk::new(320) else { return };
        if !installed(&format!("/usr/sbin/mkfs.{kind}")) {
            continue;
        }
        let (devices, device) = born(&disk, kind, 1, birth, &extra(options)).await;
        let table = devices.mounts().await.unwrap();
        let mount = topmost(&table, &disk.at()).unwrap();
        let has = |all: &str, one: &str| all.split(',').any(|option| option == one);
        for flag in ["noatime", "nosuid", "nodev"] {
            assert!(has(&mount.options, flag), "{kind}: {}", mount.options);
        }
        assert!(
            has(&mount.super_options, shown),
            "{kind}: {}",
            mount.super_options
        );
        let at = disk.at();
        let data = at.join("data");
        let meta = fs::metadata(&data).unwrap();
        assert_eq!(
            (meta.uid(), meta.gid(), meta.mode() & 0o7777),
            (999, 2000, 0o2770)
        );
        // From now on it is the containers': nothing that we do later changes it.
        fs::set_permissions(&data, PermissionsExt::from_mode(0o700)).unwrap();
        for _ in 0..2 {
            let again = devices.prepare_data_dir(&at, SOURCE, Layout::Data, birth);
            again.await.unwrap();
        }
        assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o700);
        devices.unmount(&disk.at()).await.unwrap();
        let wrong = devices
            .mount(&device, &fs(kind), &disk.at(), &extra(&["frobnicate"]))
            .await;
        let text = wrong.unwrap_err().to_string();
        assert!(text.contains("mount options frobnicate"), "{text}");
    }
}

#[tokio::test]
async fn a_clone_is_mounted_beside_its_source_and_keeps_the_data() {
    for (number, kind) in (10..).zip(["ext4", "xfs", "btrfs"]) {
        let (Some(source), Some(copy)) = (Disk::new(320), Disk::new(320)) else {
            return;
        };
        if !installed(&format!("/usr/sbin/mkfs.{kind}")) {
            continue;
        }
        let (devices, device) = born(&source, kind, number, Birth::default(), &rw()).await;
        fs::write(source.at().join("data/file"), "kept").unwrap();
        devices.unmount(&source.at()).await.unwrap();
        duplicate(&source, &copy);
        devices
            .mount(&device, &fs(kind), &source.at(), &rw())
            .await
            .unwrap();

        let (_, other) = copy.found().await;
        for _ in 0..2 {
            devices
                .give_identity(&other, &fs(kind), CLONE, &copy.at())
                .await
                .unwrap();
        }
        devices
            .mount(&other, &fs(kind), &copy.at(), &rw())
            .await
            .unwrap();
        let foreign = devices.verify_layout(&copy.at(), CLONE, Layout::Data).await;
        assert!(
            matches!(foreign, Err(DeviceError::Layout { .. })),
            "{foreign:?}"
        );
        for _ in 0..2 {
            let claimed = devices.claim_layout(&copy.at(), CLONE, Layout::Data).await;
            claimed.unwrap();
        }
        let ours = devices.verify_layout(&copy.at(), CLONE, Layout::Data).await;
        ours.unwrap();
        let theirs = devices
            .verify_layout(&source.at(), SOURCE, Layout::Data)
            .await;
        theirs.unwrap();
        let file = |disk: &Disk| disk.at().join("data/file");
        assert_eq!(fs::read_to_string(file(&copy)).unwrap(), "kept");
        fs::write(file(&copy), "changed").unwrap();
        nix::unistd::sync();
        assert_eq!(fs::read_to_string(file(&source)).unwrap(), "kept", "{kind}");
        devices.unmount(&copy.at()).await.unwrap();
        devices.unmount(&source.at()).await.unwrap();
        let Probe::Holds(content) = devices.probe(&other).await else {
            panic!("{kind}: nothing there");
        };
        let own = content.uuid == Some(clone_uuid(CLONE).to_string());
        // ext4 has its own only where its checksums do not depend on it.
        assert!(
            own == (kind == "btrfs") || kind == "ext4",
            "{kind}: {content:?}"
        );
        // The other way round, and read-only: a marker that cannot be changed is taken as it is.
        let read_only = MountOptions::read_only(true);
        devices
            .mount(&other, &fs(kind), &copy.at(), &read_only)
            .await
            .unwrap();
        devices
            .mount(&device, &fs(kind), &source.at(), &read_only)
            .await
            .unwrap();
        let claimed = devices
            .claim_layout(&source.at(), CLONE, Layout::Data)
            .await;
        claimed.unwrap();
        devices.unmount(&copy.at()).await.unwrap();
        devices.unmount(&source.at()).await.unwrap();
    }
}

#[tokio::test]
async fn an_ext4_whose_checksums_do_not_depend_on_its_uuid_gets_the_clones() {
    let Some(disk) = Disk::new(64) else { return };
    disk.run(
        "/usr/sbin/mkfs.ext4",
        &["-q", "-F", "-O", "metadata_csum_seed"],
    );
    let (devices, device) = disk.found().await;
    let ext4 = fs("ext4");
    assert!(
        devices
            .give_identity(&device, &ext4, CLONE, &disk.at())
            .await
            .unwrap()
    );
    assert!(
        !devices
            .give_identity(&device, &ext4, CLONE, &disk.at())
            .await
            .unwrap()
    );
    let Probe::Holds(content) = devices.probe(&device).await else {
        panic!("nothing there");
    };
    assert_eq!(content.uuid, Some(clone_uuid(CLONE).to_string()));
    disk.run("/usr/sbin/e2fsck", &["-f", "-n"]);
}

/// What the host's clone does: the same bytes on another disk. Read below the device, whose cache knows nothing of
/// what a mounted file system writes.
fn duplicate(source: &Disk, copy: &Disk) {
    let bytes = fs::read(source.dir.path().join("disk.img")).unwrap();
    let node = File::options().write(true).open(&copy.node).unwrap();
    let zeros = vec![0; 1 << 20];
    for (number, part) in (0_u64..).zip(bytes.chunks(1 << 20)) {
        if zeros != part {
            node.write_all_at(part, number << 20).unwrap();
        }
    }
    node.sync_all().unwrap();
}

#[tokio::test]
async fn a_clone_of_a_disk_that_was_not_unmounted_keeps_what_was_flushed() {
    for (number, kind) in (20..).zip(["ext4", "xfs", "btrfs"]) {
        let (Some(source), Some(copy)) = (Disk::new(320), Disk::new(320)) else {
            return;
        };
        if !installed(&format!("/usr/sbin/mkfs.{kind}")) {
            continue;
        }
        let (devices, _) = born(&source, kind, number, Birth::default(), &rw()).await;
        let file = File::create(source.at().join("data/file")).unwrap();
        nix::unistd::sync();
        file.write_all_at(b"kept", 0).unwrap();
        file.sync_all().unwrap();
        // As a power cut leaves it: journal or log are not empty.
        duplicate(&source, &copy);
        drop(file);
        devices.unmount(&source.at()).await.unwrap();
        let (_, other) = copy.found().await;
        let fstype = fs(kind);
        let now = devices
            .give_identity(&other, &fstype, THIRD, &copy.at())
            .await
            .unwrap();
        assert_eq!(
            now,
            kind == "btrfs",
            "{kind}: a journal would bring the old UUID back"
        );
        for _ in 0..2 {
            devices
                .mount(&other, &fstype, &copy.at(), &rw())
                .await
                .unwrap();
            let claimed = devices.claim_layout(&copy.at(), THIRD, Layout::Data).await;
            claimed.unwrap();
            let kept = fs::read_to_string(copy.at().join("data/file")).unwrap();
            assert_eq!(kept, "kept", "{kind}");
            devices.unmount(&copy.at()).await.unwrap();
            devices
                .give_identity(&other, &fstype, THIRD, &copy.at())
                .await
                .unwrap();
        }
    }
}

fn superblock_state(node: &Path) -> u16 {
    let mut bytes = [0; 2];
    let file = File::open(node).unwrap();
    file.read_exact_at(&mut bytes, 0x43a).unwrap();
    u16::from_le_bytes(bytes)
}

#[tokio::test]
async fn a_file_system_that_carries_errors_is_repaired_before_it_is_mounted() {
    let Some(disk) = Disk::new(64) else { return };
    let (devices, device) = born(&disk, "ext4", 30, Birth::default(), &rw()).await;
    fs::write(disk.at().join("data/file"), "kept").unwrap();
    devices.unmount(&disk.at()).await.unwrap();
    disk.run("/usr/sbin/debugfs", &["-w", "-R", "ssv state 2"]);
    assert_eq!(superblock_state(&disk.node), 2);
    let ext4 = fs("ext4");
    devices
        .mount(&device, &ext4, &disk.at(), &rw())
        .await
        .unwrap();
    assert_eq!(
        fs::read_to_string(disk.at().join("data/file")).unwrap(),
        "kept"
    );
    devices.unmount(&disk.at()).await.unwrap();
    assert_eq!(superblock_state(&disk.node), 1, "it was checked");

    // What -p may not repair: the inode of the root folder is gone.
    disk.run("/usr/sbin/debugfs", &["-w", "-R", "clri <2>"]);
    disk.run("/usr/sbin/debugfs", &["-w", "-R", "ssv state 2"]);
    let refused = devices.mount(&device, &ext4, &disk.at(), &rw()).await;
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("e2fsck") && text.contains("by hand"),
        "{text}"
    );
    let table = devices.mounts().await.unwrap();
    assert!(topmost(&table, &disk.at()).is_none());
}
