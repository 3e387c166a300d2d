use std::fs;
use std::os::unix::fs::FileExt;

use tempfile::TempDir;

use super::*;
use crate::new::Adapter;

const MIB: u64 = 1 << 20;

fn disk(bytes: u64, provisioning: Provisioning) -> NewDisk {
    NewDisk {
        capacity: Capacity::from_bytes(bytes).unwrap(),
        provisioning,
        adapter: Adapter::LsiLogic,
        uuid: DiskUuid::from_random([7; 16]),
        content_id: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff,
    }
}

fn here(dir: &TempDir) -> DiskFiles {
    DiskFiles::new(&dir.path().join("vol.1234abcd.vmdk")).unwrap()
}

fn never(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn a_thin_disk_takes_no_space_until_it_is_written() {
    let dir = TempDir::new().unwrap();
    let files = here(&dir);
    let real = files
        .create(&disk(1024 * MIB, Provisioning::Thin), &mut never)
        .unwrap();
    assert_eq!(real, Provisioning::Thin);
    let stat = files.stat().unwrap();
    assert_eq!((stat.capacity.bytes(), stat.thin), (1024 * MIB, true));
    assert!(stat.allocated < MIB, "{} bytes allocated", stat.allocated);
    assert_eq!(stat.uuid, Some(DiskUuid::from_random([7; 16])));
    let extent = OpenOptions::new().write(true).open(files.extent()).unwrap();
    extent.write_all_at(&[1; 4096], 512 * MIB).unwrap();
    extent.sync_all().unwrap();
    assert!(files.stat().unwrap().allocated >= 4096);
    assert_eq!(files.check().unwrap(), []);
}

#[test]
fn thick_disks_take_their_space_at_once() {
    let dir = TempDir::new().unwrap();
    for (name, provisioning) in [
        ("z", Provisioning::ZeroedThick),
        ("e", Provisioning::EagerZeroedThick),
    ] {
        let files = DiskFiles::new(&dir.path().join(format!("{name}.vmdk"))).unwrap();
        let real = files
            .create(&disk(4 * MIB, provisioning), &mut never)
            .unwrap();
        assert_eq!(real, provisioning);
        let stat = files.stat().unwrap();
        assert!(!stat.thin && stat.allocated >= 4 * MIB, "{stat:?}");
        assert!(fs::read(files.extent()).unwrap().iter().all(|b| *b == 0));
        assert_eq!(files.read().unwrap().ddb("thinProvisioned"), None);
    }
}

#[test]
fn zeroing_tells_its_progress_and_ends_at_the_whole() {
    let dir = TempDir::new().unwrap();
    let mut seen = Vec::new();
    // Not a whole number of chunks.
    let size = 3 * MIB + 512;
    here(&dir)
        .create(&disk(size, Provisioning::EagerZeroedThick), &mut |p| {
            seen.push(p.done);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen, [MIB, 2 * MIB, 3 * MIB, size]);
}

#[test]
fn a_cancelled_create_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let err = here(&dir)
        .create(&disk(4 * MIB, Provisioning::EagerZeroedThick), &mut |p| {
            if p.done >= 2 * MIB {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap_err();
    assert!(matches!(err, Error::Cancelled(_)), "{err}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn creating_over_a_disk_or_the_rest_of_one_is_refused_and_touches_nothing() {
    let dir = TempDir::new().unwrap();
    let files = here(&dir);
    files
        .create(&disk(MIB, Provisioning::Thin), &mut never)
        .unwrap();
    fs::write(files.extent(), b"data").unwrap();
    let again = files
        .create(&disk(MIB, Provisioning::Thin), &mut never)
        .unwrap_err();
    assert!(matches!(again, Error::Exists(_)), "{again}");
    fs::remove_file(files.descriptor()).unwrap();
    let rest = files
        .create(&disk(MIB, Provisioning::Thin), &mut never)
        .unwrap_err();
    assert!(matches!(rest, Error::Exists(_)), "{rest}");
    assert_eq!(fs::read(files.extent()).unwrap(), b"data");
}

#[test]
fn a_create_whose_descriptor_cannot_be_written_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let files = here(&dir);
    // A folder where the preparation must go: it can be neither removed as a file nor created.
    fs::create_dir(files::temp_of(files.descriptor())).unwrap();
    let err = files
        .create(&disk(MIB, Provisioning::Thin), &mut never)
        .unwrap_err();
    assert!(matches!(err, Error::Io { .. }), "{err}");
    assert!(!files.extent().exists() && !files.descriptor().exists());
}

#[test]
fn delete_removes_both_files_and_may_run_twice() {
    let dir = TempDir::new().unwrap();
    let files = here(&dir);
    files
        .create(&disk(MIB, Provisioning::Thin), &mut never)
        .unwrap();
    assert!(files.delete().unwrap());
    assert!(!files.delete().unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn delete_finishes_what_a_crash_left() {
    let dir = TempDir::new().unwrap();
    let files = here(&dir);
    fs::write(files.extent(), b"half made").unwrap();
    fs::write(files::temp_of(files.descriptor()), b"# Disk Desc").unwrap();
    assert_eq!(
        files.check().unwrap(),
        [
            Finding::LeftOver(files::temp_of(files.descriptor())),
            Finding::NoDescriptor { extent: true }
        ]
    );
    assert!(files.delete().unwrap());
    files
        .create(&disk(MIB, Provisioning::Thin), &mut never)
        .unwrap();
    assert_eq!(files.check().unwrap(), []);
}

#[test]
fn a_disk_that_is_being_made_is_not_taken_for_a_left_over() {
    let dir = TempDir::new().unwrap();
    let files = here(&dir);
    let mut refused = 0;
    files
        .create(&disk(2 * MIB, Provisioning::EagerZeroedThick), &mut |_| {
            assert!(matches!(here(&dir).delete().unwrap_err(), Error::Busy(_)));
            refused += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(refused, 2);
    assert_eq!(files.check().unwrap(), []);
    assert!(files.delete().unwrap());
}

#[test]
fn a_descriptor_that_is_not_understood_is_never_deleted() {
    let dir = TempDir::new().unwrap();
    let files = here(&dir);
    files
        .create(&disk(MIB, Provisioning::Thin), &mut never)
        .unwrap();
    let text = fs::read_to_string(files.descriptor()).unwrap();
    let elsewhere = text.replace("vol.1234abcd-flat.vmdk", "../precious-flat.vmdk");
    let child = text.replace("parentCID=ffffffff", "parentCID=00000001");
    for strange in [elsewhere, child] {
        fs::write(files.descriptor(), strange).unwrap();
        assert!(matches!(
            files.delete().unwrap_err(),
            Error::Unsupported { .. }
        ));
        assert!(matches!(
            files.check().unwrap()[..],
            [Finding::Unsupported(_)]
        ));
        assert!(files.stat().is_err());
    }
    fs::write(files.descriptor(), b"rubbish").unwrap();
    assert!(matches!(files.delete().unwrap_err(), Error::Damaged { .. }));
    assert!(files.extent().exists() && files.descriptor().exists());
}

#[test]
fn check_finds_a_short_and_a_missing_extent() {
    let dir = TempDir::new().unwrap();
    let files = here(&dir);
    files
        .create(&disk(2 * MIB, Provisioning::Thin), &mut never)
        .unwrap();
    OpenOptions::new()
        .write(true)
        .open(files.extent())
        .unwrap()
        .set_len(MIB)
        .unwrap();
    assert_eq!(
        files.check().unwrap(),
        [Finding::ExtentLength {
            expected: 2 * MIB,
            found: MIB
        }]
    );
    fs::remove_file(files.extent()).unwrap();
    assert_eq!(files.check().unwrap(), [Finding::NoExtent]);
}

#[test]
fn names_that_would_be_misread_are_refused() {
    for bad in [
        "vol",
        "vol-flat.vmdk",
        "vol-ctk.vmdk",
        ".vmdk",
        "a\"b.vmdk",
        "a\nb.vmdk",
        "/",
    ] {
        assert!(DiskFiles::new(Path::new(bad)).is_err(), "{bad}");
    }
    assert!(DiskFiles::new(Path::new("päckchen mit schleife.vmdk")).is_ok());
}

#[test]
fn descriptors_stay_below_what_the_original_takes_for_data() {
    let longest = "x".repeat(200);
    let text = disk(MIB, Provisioning::Thin).descriptor(&longest).render();
    assert!(text.len() < 5000);
    let d = Descriptor::parse(text.as_bytes()).unwrap();
    assert_eq!(d.cid(), 0xccdd_eeff);
    assert_eq!(
        d.ddb("longContentID"),
        Some("00112233445566778899aabbccddeeff")
    );
}

#[test]
fn no_disk_claims_to_have_no_parent_id_by_chance() {
    for low in [0u128, 0xffff_ffff] {
        let new = NewDisk {
            content_id: (5 << 64) | low,
            ..disk(MIB, Provisioning::Thin)
        };
        let cid = new.descriptor("a-flat.vmdk").cid();
        assert!(cid != 0 && cid != u32::MAX, "{cid:08x}");
    }
}
