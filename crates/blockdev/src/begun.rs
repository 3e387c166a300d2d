//! "A format began here": what tells our own half-made file system from somebody's data.
//!
//! `mkfs` writes in an order of its own, and a power cut leaves any part of it on the disk. Without its superblock that
//! is just bytes, and bytes are never formatted (P3). So before `mkfs` runs, one block is written to a disk that was
//! found blank, naming the UUID the file system will get; it is taken away when `mkfs` has ended, before the record can
//! say *ready*. Found again, it proves that whatever else lies there was written by that `mkfs`: the disk was blank
//! before, and nothing was mounted since.
//!
//! ```text
//!   blank ─► block + flush ─► mkfs ─► block away + flush ─► superblock read back ─► (layout) ─► record: ready
//!             └───── cut here: Holds{the UUID}, formatted again in state formatting, and only there ─────┘
//! ```
//! * The block counts only if it is whole and if nothing else on the disk is recognised: what a person put there
//!   meanwhile (a partition table, another file system) wins.
//! * It lies at fifteen sixteenths of the disk, where no `mkfs` of ours writes at once: the beginning and the last MiBs
//!   are cleared first by all of them, groups and logs begin at powers of two or at quarters. Where one does write
//!   over it, a cut after that is what it was before: refused, not guessed.
//! * It is taken away only where it still reads as written, so nothing of the file system goes with it.

use uuid::Uuid;

/// One block.
pub(crate) const LEN: usize = 4096;

const MAGIC: &str = "vdvs: a format began here; UUID of the file system: ";

/// Where the block lies on a disk of this size; none: the disk is too small to have a place for it.
pub(crate) fn place(size: u64) -> Option<u64> {
    let block = LEN as u64;
    let at = size / 16 * 15 / block * block;
    (at > 0 && at + block <= size).then_some(at)
}

/// The block.
pub(crate) fn block(uuid: Uuid) -> Vec<u8> {
    let mut bytes = format!("{MAGIC}{}\n", uuid.hyphenated()).into_bytes();
    bytes.resize(LEN, 0);
    bytes
}

/// The UUID in a block, if the block is exactly ours.
pub(crate) fn read(bytes: &[u8]) -> Option<Uuid> {
    let rest = bytes.strip_prefix(MAGIC.as_bytes())?;
    let text = str::from_utf8(rest.get(..36)?).ok()?;
    let uuid = Uuid::try_parse(text).ok()?;
    (bytes == block(uuid)).then_some(uuid)
}

/// `regions` without the block, in order.
pub(crate) fn spared(regions: Vec<(u64, u64)>, size: u64) -> Vec<(u64, u64)> {
    let Some(at) = place(size) else {
        return regions;
    };
    let end = at + LEN as u64;
    regions
        .into_iter()
        .flat_map(|(from, to)| [(from, to.min(at)), (from.max(end), to)])
        .filter(|(from, to)| from < to)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;

    #[test]
    fn one_byte_more_or_less_and_it_is_not_ours() {
        let uuid = Uuid::from_u128(0x1234);
        let whole = block(uuid);
        assert_eq!(read(&whole), Some(uuid));
        for at in [
            0,
            20,
            MAGIC.len(),
            MAGIC.len() + 35,
            MAGIC.len() + 36,
            LEN - 1,
        ] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x11;
            assert_ne!(read(&bytes), Some(uuid), "at {at}");
        }
        assert_eq!(read(&whole[..LEN - 1]), None);
        assert_eq!(read(&[whole, vec![0]].concat()), None);
        let loud = format!("{MAGIC}{}\n", "ABCDEF00-0000-0000-0000-000000000000");
        let mut bytes = loud.into_bytes();
        bytes.resize(LEN, 0);
        assert_eq!(read(&bytes), None, "one spelling only");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_passed_over(bytes in collection::vec(any::<u8>(), 0..5000)) {
            prop_assert_eq!(read(&bytes), None);
        }

        #[test]
        fn sparing_takes_the_block_out_and_nothing_else(
            size in 1_u64..1 << 44,
            regions in collection::vec((0_u64..1 << 44, 1_u64..1 << 30), 0..6),
        ) {
            let regions: Vec<(u64, u64)> = regions
                .into_iter()
                .map(|(from, len)| (from.min(size - 1), (from.min(size - 1) + len).min(size)))
                .collect();
            let length = |all: &[(u64, u64)]| all.iter().map(|(a, b)| b - a).sum::<u64>();
            let left = spared(regions.clone(), size);
            let Some(at) = place(size) else {
                prop_assert_eq!(left, regions);
                return Ok(());
            };
            let end = at + LEN as u64;
            prop_assert!(end <= size);
            prop_assert!(left.iter().all(|(from, to)| from < to && (*to <= at || *from >= end)));
            let covered: u64 = regions
                .iter()
                .map(|(from, to)| to.min(&end).saturating_sub(*from.max(&at)))
                .sum();
            prop_assert_eq!(length(&left) + covered, length(&regions));
        }
    }
}
