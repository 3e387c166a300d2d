//! What does a device hold? Three answers, and only one of them permits writing: [`Probe::Blank`].
//!
//! The question "is it blank" is answered by reading, not by the absence of a known signature. Examined are
//! * the first 4 MiB: partition tables, LVM, LUKS, software RAID 1.1 and 1.2, swap, and the superblocks of every file
//!   system that Linux mounts (the deepest, btrfs and reiserfs, lie at 64 KiB, UFS at 256 KiB, VMFS at 1 MiB);
//! * the last 1 MiB: GPT's second header, RAID 0.90 and 1.0, ZFS's and nilfs2's second labels;
//! * 64 KiB at each place where a file system keeps a spare superblock when its first was wiped: ext at 8 MiB + 1 KiB,
//!   32 MiB and 128 MiB (block sizes 1, 2 and 4 KiB), btrfs at 64 MiB and 256 GiB, xfs at each quarter.
//!
//! * one block at fifteen sixteenths, where a format of ours that was interrupted left its mark ([`begun`]).
//!
//! A single byte that is not zero there makes the device *not blank*, known signature or not. A new disk reads as zeros
//! everywhere, thin or thick, and from a thin disk zeros cost no storage I/O, so this takes milliseconds.
//! In addition `blkid` must recognise nothing, where it is installed. It is asked last: the file systems we make are
//! recognised from the bytes read, which saves a process on every mount and works where there is no `blkid`.
//!
//! | read | blkid | answer |
//! |---|---|---|
//! | error | - | Unknown |
//! | exactly one file system we know | not asked | Holds |
//! | all zero | nothing found, or not installed | **Blank** |
//! | all zero | anything found | Holds |
//! | all zero | failed | Unknown |
//! | nothing known, but our mark | nothing found, or not installed | Holds, with the UUID of that format |
//! | the same | failed | Unknown |
//! | not zero | whatever | Holds |

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use uuid::Uuid;
use vdvs_domain::FsType;

use crate::{Content, Probe};
use crate::{begun, process};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// See the module's list.
const HEAD: u64 = 4 * MIB;
const TAIL: u64 = MIB;
const SPARE: u64 = 64 * KIB;
/// Superblocks of all file systems that [`identify`] knows lie below.
const IDENTIFIED: usize = 128 * 1024;
/// One read; a multiple of every block size.
const CHUNK: usize = 128 * 1024;
/// blkid reads a few hundred KiB; beyond this the device hangs.
const BLKID_LIMIT: Duration = Duration::from_secs(20);

/// What reading showed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    Zero,
    Known(Content),
    /// The first byte that is not zero.
    Bytes {
        at: u64,
        hint: Option<String>,
    },
    /// A format with this UUID began here, and nothing on the disk is recognised.
    Begun(Uuid),
    Failed(String),
}

/// What `blkid` said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Blkid {
    NotInstalled,
    Nothing,
    Found(Content),
    Ambiguous,
    Failed(String),
}

/// Asks `blkid` by low-level probing, which looks at the device alone and at no cache.
pub(crate) async fn blkid(device: &Path) -> Blkid {
    let Some(program) = process::program("blkid") else {
        return Blkid::NotInstalled;
    };
    let args = [
        "-p".as_ref(),
        "-o".as_ref(),
        "export".as_ref(),
        device.as_os_str(),
    ];
    match process::run(&program, &args, BLKID_LIMIT).await {
        Ok(done) => match done.code {
            Some(0) => Blkid::Found(from_export(&done.stdout)),
            // Its manual: 2 nothing found, 8 more than one signature.
            Some(2) if done.stderr.trim().is_empty() => Blkid::Nothing,
            Some(8) => Blkid::Ambiguous,
            _ => Blkid::Failed(format!("blkid: {} {}", done.status, done.stderr.trim())),
        },
        Err(error) => Blkid::Failed(format!("blkid: {error}")),
    }
}

/// Reads `KEY=value` lines.
pub(crate) fn from_export(output: &str) -> Content {
    let value = |key: &str| {
        output
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .filter(|value| !value.is_empty())
    };
    let filesystem = value("USAGE") == Some("filesystem");
    let uuid = value("UUID");
    let description = match (value("TYPE"), value("PTTYPE")) {
        (Some(kind), _) => with_uuid(kind, uuid),
        (None, Some(table)) => format!("a partition table ({table})"),
        (None, None) => "something that blkid recognises".to_owned(),
    };
    Content {
        fstype: value("TYPE")
            .filter(|_| filesystem)
            .and_then(|t| FsType::new(t).ok()),
        uuid: uuid.map(str::to_owned),
        description,
    }
}

/// The table in the module's documentation.
pub(crate) fn conclude(scan: Scan, blkid: Blkid) -> Probe {
    match (scan, blkid) {
        (Scan::Failed(why), _) => Probe::Unknown(why),
        (Scan::Known(content), _) | (_, Blkid::Found(content)) => Probe::Holds(content),
        (Scan::Zero, Blkid::Nothing | Blkid::NotInstalled) => Probe::Blank,
        (Scan::Begun(uuid), Blkid::Nothing | Blkid::NotInstalled) => Probe::Holds(Content {
            fstype: None,
            uuid: Some(uuid.hyphenated().to_string()),
            description: format!("a format that was interrupted, with UUID {uuid}"),
        }),
        (Scan::Zero | Scan::Begun(_), Blkid::Failed(why)) => Probe::Unknown(why),
        (_, Blkid::Ambiguous) => Probe::Holds(unnamed("more than one signature".to_owned())),
        (Scan::Bytes { at, hint }, Blkid::Nothing | Blkid::NotInstalled | Blkid::Failed(_)) => {
            Probe::Holds(unnamed(hint.unwrap_or_else(|| {
                format!("data of an unknown kind (first byte at {at})")
            })))
        }
    }
}

fn unnamed(description: String) -> Content {
    Content {
        fstype: None,
        uuid: None,
        description,
    }
}

/// Reads the places listed above. `size` is the device's.
pub(crate) fn scan(file: &File, size: u64) -> Scan {
    if size == 0 {
        return Scan::Failed("the device has no capacity".to_owned());
    }
    match scan_regions(file, size) {
        Ok(scan) => scan,
        Err((at, error)) => Scan::Failed(format!("reading at {at}: {error}")),
    }
}

fn scan_regions(file: &File, size: u64) -> Result<Scan, (u64, io::Error)> {
    let mut head = vec![0_u8; IDENTIFIED.min(usize::try_from(size).unwrap_or(IDENTIFIED))];
    file.read_exact_at(&mut head, 0).map_err(|e| (0, e))?;
    let seen = identify(&head);
    let hint = match seen.as_slice() {
        [] => None,
        [Signature::Filesystem(content)] => return Ok(Scan::Known(content.clone())),
        [Signature::Other(what)] => Some((*what).to_owned()),
        _ => Some("more than one signature".to_owned()),
    };
    let mut buffer = vec![0_u8; CHUNK];
    for (start, end) in regions(size) {
        if let Some(at) = first_nonzero(file, start, end, &mut buffer)? {
            if hint.is_none()
                && let Some(uuid) = mark(file, size)?
            {
                return Ok(Scan::Begun(uuid));
            }
            return Ok(Scan::Bytes { at, hint });
        }
    }
    Ok(Scan::Zero)
}

/// The UUID of the format that began on this disk.
fn mark(file: &File, size: u64) -> Result<Option<Uuid>, (u64, io::Error)> {
    let Some(at) = begun::place(size) else {
        return Ok(None);
    };
    let mut block = [0; begun::LEN];
    file.read_exact_at(&mut block, at).map_err(|e| (at, e))?;
    Ok(begun::read(&block))
}

/// Start and end of every examined place, within the device.
pub(crate) fn regions(size: u64) -> Vec<(u64, u64)> {
    let mut spares = vec![8 * MIB, 32 * MIB, 64 * MIB, 128 * MIB, 256 * KIB * MIB];
    // xfs makes four groups on disks below 4 TiB, whole blocks each.
    let block = 4 * KIB;
    for quarter in 1..4 {
        // Blocks are shared out rounding up, so the group may begin a block or two later than the exact quarter.
        let start = size / block / 4 * quarter * block;
        spares.push(start);
    }
    let mut all = vec![(0, HEAD.min(size))];
    all.extend(
        spares
            .into_iter()
            .map(|start| (start, start.saturating_add(SPARE).min(size)))
            .filter(|(start, end)| start < end),
    );
    all.extend(begun::place(size).map(|at| (at, at + begun::LEN as u64)));
    all.push((size.saturating_sub(TAIL), size));
    all
}

fn first_nonzero(
    file: &File,
    start: u64,
    end: u64,
    buffer: &mut [u8],
) -> Result<Option<u64>, (u64, io::Error)> {
    let mut at = start;
    while at < end {
        let len = usize::try_from(end - at).unwrap_or(CHUNK).min(buffer.len());
        let Some(part) = buffer.get_mut(..len) else {
            break;
        };
        file.read_exact_at(part, at).map_err(|e| (at, e))?;
        if let Some(offset) = part.iter().position(|&b| b != 0) {
            return Ok(Some(at + offset as u64));
        }
        at += len as u64;
    }
    Ok(None)
}

/// One recognised structure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Signature {
    Filesystem(Content),
    Other(&'static str),
}

/// Every structure we know in the first bytes of a device.
pub(crate) fn identify(head: &[u8]) -> Vec<Signature> {
    let has = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(magic));
    let mut seen = Vec::new();
    if has(0x438, &[0x53, 0xef]) {
        let kind = ext_kind(word(head, 0x45c), word(head, 0x460), word(head, 0x464));
        seen.push(filesystem(kind, uuid_at(head, 0x468)));
    }
    if has(0, b"XFSB") {
        seen.push(filesystem("xfs", uuid_at(head, 32)));
    }
    if has(0x10040, b"_BHRfS_M") {
        seen.push(filesystem("btrfs", uuid_at(head, 0x10020)));
    }
    if has(512, b"EFI PART") || has(4096, b"EFI PART") {
        seen.push(Signature::Other("a partition table (gpt)"));
    } else if has(510, &[0x55, 0xaa]) {
        seen.push(Signature::Other("a partition table or boot sector"));
    }
    if has(4086, b"SWAPSPACE2") || has(65526, b"SWAPSPACE2") {
        seen.push(Signature::Other("swap space"));
    }
    if has(0, b"LUKS\xba\xbe") {
        seen.push(Signature::Other("an encrypted volume (LUKS)"));
    }
    if (0..4).any(|sector| has(sector * 512, b"LABELONE")) {
        seen.push(Signature::Other("an LVM physical volume"));
    }
    seen
}

/// Which of the family: the same tests as the kernel's and blkid's.
fn ext_kind(compat: u32, incompat: u32, ro_compat: u32) -> &'static str {
    const HAS_JOURNAL: u32 = 0x4;
    // What ext3 knows: filetype, recover, journal device, meta block groups; sparse super, large files, btree dirs.
    const EXT3_INCOMPAT: u32 = 0x2 | 0x4 | 0x8 | 0x10;
    const EXT3_RO_COMPAT: u32 = 0x1 | 0x2 | 0x4;
    if incompat & !EXT3_INCOMPAT != 0 || ro_compat & !EXT3_RO_COMPAT != 0 {
        "ext4"
    } else if compat & HAS_JOURNAL == 0 {
        "ext2"
    } else {
        "ext3"
    }
}

fn filesystem(kind: &str, uuid: Option<Uuid>) -> Signature {
    let uuid = uuid.map(|u| u.hyphenated().to_string());
    Signature::Filesystem(Content {
        fstype: FsType::new(kind).ok(),
        description: with_uuid(kind, uuid.as_deref()),
        uuid,
    })
}

fn with_uuid(kind: &str, uuid: Option<&str>) -> String {
    uuid.map_or_else(|| kind.to_owned(), |u| format!("{kind} with UUID {u}"))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

fn uuid_at(bytes: &[u8], at: usize) -> Option<Uuid> {
    let chunk = bytes.get(at..)?.first_chunk()?;
    Some(Uuid::from_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;

    const SIZE: u64 = 512 * MIB;

    fn image_with(at: u64, bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(SIZE).unwrap();
        file.write_all_at(bytes, at).unwrap();
        file
    }

    #[test]
    fn one_byte_in_any_examined_place_is_enough_not_to_be_blank() {
        assert_eq!(scan(&image_with(0, &[0]), SIZE), Scan::Zero);
        for (start, end) in regions(SIZE) {
            for at in [start, end - 1] {
                let found = scan(&image_with(at, &[1]), SIZE);
                assert_eq!(found, Scan::Bytes { at, hint: None });
            }
        }
    }

    #[test]
    fn our_mark_counts_only_where_nothing_else_is_recognised() {
        let uuid = Uuid::from_u128(7);
        let at = begun::place(SIZE).unwrap();
        let disk = image_with(at, &begun::block(uuid));
        assert_eq!(scan(&disk, SIZE), Scan::Begun(uuid));
        disk.write_all_at(b"half of something", 5000).unwrap();
        assert_eq!(scan(&disk, SIZE), Scan::Begun(uuid));
        let begun = conclude(scan(&disk, SIZE), Blkid::Nothing);
        assert!(begun.permits_format(uuid).is_ok());
        assert!(begun.permits_format(Uuid::from_u128(8)).is_err());
        for blkid in [
            Blkid::Found(unnamed("zfs".into())),
            Blkid::Ambiguous,
            Blkid::Failed("x".into()),
        ] {
            let probe = conclude(Scan::Begun(uuid), blkid);
            assert!(probe.permits_format(uuid).is_err(), "{probe:?}");
        }
        disk.write_all_at(&[0x55, 0xaa], 510).unwrap();
        let seen = conclude(scan(&disk, SIZE), Blkid::Nothing);
        assert!(
            seen.permits_format(uuid).is_err(),
            "a boot sector wins: {seen:?}"
        );
        disk.write_all_at(&[0, 0], 510).unwrap();
        disk.write_all_at(&[1], at + 100).unwrap();
        assert!(
            matches!(scan(&disk, SIZE), Scan::Bytes { .. }),
            "half a mark"
        );
    }

    #[test]
    fn only_zeros_and_a_silent_blkid_make_a_blank_disk() {
        let found = || Blkid::Found(unnamed("zfs".into()));
        let bytes = || Scan::Bytes { at: 9, hint: None };
        let failed = || Blkid::Failed("x".into());
        let blank = [
            conclude(Scan::Zero, Blkid::Nothing),
            conclude(Scan::Zero, Blkid::NotInstalled),
        ];
        assert!(blank.iter().all(|p| *p == Probe::Blank));
        for (scan, blkid) in [
            (Scan::Zero, found()),
            (Scan::Zero, Blkid::Ambiguous),
            (bytes(), Blkid::Nothing),
            (bytes(), Blkid::NotInstalled),
            (bytes(), failed()),
            (bytes(), found()),
        ] {
            assert!(matches!(conclude(scan, blkid), Probe::Holds(_)));
        }
        assert!(matches!(conclude(Scan::Zero, failed()), Probe::Unknown(_)));
        let unreadable = conclude(Scan::Failed("EIO".into()), Blkid::Nothing);
        assert!(matches!(unreadable, Probe::Unknown(_)));
    }

    #[test]
    fn a_device_without_capacity_or_shorter_than_told_is_unknown() {
        assert!(matches!(scan(&image_with(0, &[0]), 0), Scan::Failed(_)));
        assert!(matches!(
            scan(&image_with(0, &[0]), 2 * SIZE),
            Scan::Failed(_)
        ));
    }

    #[test]
    fn blkids_answer_names_type_and_uuid() {
        let content = from_export("DEVNAME=/dev/x\nUUID=abc\nTYPE=f2fs\nUSAGE=filesystem\n");
        assert_eq!(content.fstype, Some(FsType::new("f2fs").unwrap()));
        assert_eq!(content.uuid.as_deref(), Some("abc"));
        let swap = from_export("UUID=abc\nTYPE=swap\nUSAGE=other\n");
        assert_eq!(swap.fstype, None);
        let empty = from_export("TYPE=\nUUID=\nUSAGE=filesystem\n");
        assert_eq!(empty.description, "something that blkid recognises");
        assert_eq!((empty.fstype, empty.uuid), (None, None));
        assert_eq!(
            from_export("PTTYPE=gpt\n").description,
            "a partition table (gpt)"
        );
    }

    proptest! {
        #[test]
        fn identification_takes_any_bytes(bytes in collection::vec(any::<u8>(), 0..5000)) {
            drop(identify(&bytes));
        }

        #[test]
        fn every_region_lies_in_the_device_and_its_ends_are_covered(size in 1_u64..1 << 46) {
            let all = regions(size);
            prop_assert!(all.iter().all(|(start, end)| start < end && *end <= size));
            prop_assert_eq!(all.first().unwrap().0, 0);
            prop_assert_eq!(all.last().unwrap().1, size);
        }
    }
}
