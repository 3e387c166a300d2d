//! Other people's readers on the disks we write, and our reader on theirs.
//!
//! qemu-img and libvmdk share no code with us nor with each other. Every descriptor we write must open in both, and
//! every byte must come back the same. libvmdk is the strict one: it refuses an extent shorter than its descriptor
//! says, which qemu-img lets pass; a test here makes sure that the strict one is really asked.
#![forbid(unsafe_code)]

#[cfg(test)]
#[path = "vmdk_oracles/tools.rs"]
mod tools;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use tempfile::TempDir;
use tools::{
    MIB, Oracles, both_readers_agree, both_readers_open, create, new_disk, noise, run, sha256,
};
use vdvs_vmdk::{Descriptor, Finding, Provisioning};

#[test]
fn every_kind_of_disk_we_make_is_read_alike_by_both_readers() {
    let Some(oracles) = Oracles::find() else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let kinds = [
        ("thin.vmdk", Provisioning::Thin),
        (
            "postgres_postgres_vol.1234abcd.vmdk",
            Provisioning::ZeroedThick,
        ),
        ("name with spaces ä 漢.vmdk", Provisioning::EagerZeroedThick),
    ];
    // The smallest disk, and one that is no whole number of megabytes nor of cylinders.
    for (seed, size) in [(7, MIB), (23, 5 * MIB + 512)] {
        for (name, provisioning) in kinds {
            let disk = new_disk(size, provisioning, seed);
            let files = create(dir.path(), name, &disk);
            let extent = OpenOptions::new().write(true).open(files.extent()).unwrap();
            extent.write_all_at(&noise(4096, size), 0).unwrap();
            extent
                .write_all_at(&noise(512, size + 1), size - 512)
                .unwrap();
            both_readers_agree(&oracles, &files, &disk);
            assert!(files.delete().unwrap());
        }
    }
}

#[test]
fn disks_of_every_geometry_and_size_are_opened_by_both_readers() {
    let Some(oracles) = Oracles::find() else {
        return;
    };
    let dir = TempDir::new().unwrap();
    // Two to each side of a change of geometry, and one beyond 32 bits of sectors.
    for (seed, size) in [(1, 1023), (2, 1024), (3, 2047), (4, 2048), (5, 3 << 20)] {
        let disk = new_disk(size * MIB, Provisioning::Thin, seed);
        let files = create(dir.path(), "v.vmdk", &disk);
        both_readers_open(&oracles, &files, &disk);
        assert!(files.delete().unwrap());
    }
}

#[test]
fn a_file_system_of_200_mib_comes_back_whole_through_both_readers() {
    let Some(oracles) = Oracles::find() else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let disk = new_disk(200 * MIB, Provisioning::Thin, 0xa5);
    let files = create(dir.path(), "postgres_vol.vmdk", &disk);
    let content = dir.path().join("content");
    fs::create_dir_all(content.join("base/1")).unwrap();
    for (i, megabytes) in [1usize, 7, 40, 60].into_iter().enumerate() {
        let bytes = noise(megabytes << 20, 99 + i as u64);
        fs::write(content.join(format!("base/1/{i}")), bytes).unwrap();
    }
    let (extent, from) = (files.extent().to_str().unwrap(), content.to_str().unwrap());
    run(&oracles.mkfs, &["-q", "-F", "-d", from, extent]).good();
    let stat = files.stat().unwrap();
    assert!(
        stat.allocated < 190 * MIB,
        "the thin disk is not thin: {}",
        stat.allocated
    );
    both_readers_agree(&oracles, &files, &disk);
    // Not only the same bytes but a sound file system with the files in it.
    let raw = dir.path().join("back.raw");
    let vmdk = files.descriptor().to_str().unwrap();
    run(
        &oracles.qemu_img,
        &[
            "convert",
            "-f",
            "vmdk",
            "-O",
            "raw",
            vmdk,
            raw.to_str().unwrap(),
        ],
    )
    .good();
    run(&oracles.fsck, &["-f", "-n", raw.to_str().unwrap()]).good();
    let out = dir.path().join("3");
    let dump = format!("dump /base/1/3 {}", out.display());
    run(&oracles.debugfs, &["-R", &dump, raw.to_str().unwrap()]).good();
    assert_eq!(sha256(&out), sha256(&content.join("base/1/3")));
    let alike = run(
        &oracles.qemu_img,
        &[
            "compare",
            "-f",
            "vmdk",
            "-F",
            "raw",
            vmdk,
            raw.to_str().unwrap(),
        ],
    );
    assert!(alike.good().contains("identical"));
}

#[test]
fn an_extent_that_is_too_short_is_refused_by_the_strict_reader_and_by_us() {
    let Some(oracles) = Oracles::find() else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let disk = new_disk(4 * MIB, Provisioning::Thin, 1);
    let files = create(dir.path(), "short.vmdk", &disk);
    OpenOptions::new()
        .write(true)
        .open(files.extent())
        .unwrap()
        .set_len(4 * MIB - 512)
        .unwrap();
    let strict = oracles.libvmdk(files.descriptor().to_str().unwrap());
    assert!(!strict.success, "libvmdk took it: {}", strict.text);
    let expected = Finding::ExtentLength {
        expected: 4 * MIB,
        found: 4 * MIB - 512,
    };
    assert_eq!(files.check().unwrap(), [expected]);
}

#[test]
fn descriptors_that_others_write_are_understood() {
    let Some(oracles) = Oracles::find() else {
        return;
    };
    let dir = TempDir::new().unwrap();
    for (kind, extents) in [("monolithicFlat", 1), ("twoGbMaxExtentFlat", 2)] {
        let path = dir.path().join(format!("{kind}.vmdk"));
        let option = format!("subformat={kind}");
        let name = path.to_str().unwrap();
        run(
            &oracles.qemu_img,
            &["create", "-q", "-f", "vmdk", "-o", &option, name, "3G"],
        )
        .good();
        let descriptor = Descriptor::parse(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(descriptor.create_type(), kind);
        assert_eq!(descriptor.capacity().unwrap().bytes(), 3 << 30);
        assert_eq!(descriptor.extents().len(), extents);
        assert_eq!(descriptor.flat_extent().is_some(), extents == 1);
        assert_eq!(descriptor.ddb("adapterType"), Some("ide"));
        // What we would write of it, they still read.
        fs::write(&path, descriptor.render()).unwrap();
        let info = run(&oracles.qemu_img, &["info", "-f", "vmdk", name]).good();
        assert!(info.contains("3 GiB"), "{info}");
        run(&oracles.vmdkinfo, &[name]).good();
    }
}
