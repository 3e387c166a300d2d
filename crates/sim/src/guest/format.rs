//! What a simulated file system puts on a disk.
//!
//! | block | holds |
//! |---|---|
//! | 0 | superblock: type and UUID |
//! | 1 | the volume's marker: whose it is, and its layout |
//! | 2 | the mark of a format under way |
//! | from [`DATA`] | what containers write, one number a block |

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vdvs_blockdev::{Content, Probe};
use vdvs_domain::{FsType, Layout, VolumeId};

pub(crate) const SUPER: u64 = 0;
pub(crate) const MARKER: u64 = 1;
pub(crate) const BEGUN: u64 = 2;
/// The first block of data.
pub(crate) const DATA: u64 = 16;
/// So many blocks of data a volume has: few, so that they are written again and again and all are read back.
pub(crate) const BLOCKS: u64 = 12;

/// A superblock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Superblock {
    pub(crate) fstype: FsType,
    pub(crate) uuid: Uuid,
}

/// Whose file system it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    pub(crate) volume: VolumeId,
    pub(crate) layout: Layout,
}

/// The mark of a format under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begun {
    pub(crate) format_of: Uuid,
}

pub(crate) fn bytes(what: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(what).expect("plain structs always serialise")
}

/// What a block holds, if it is that.
pub(crate) fn read<T: DeserializeOwned>(block: &[u8]) -> Option<T> {
    serde_json::from_slice(block).ok()
}

/// A number as a block of data.
pub(crate) fn number(value: u64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

/// The number in a block of data; 0 where none was written.
pub(crate) fn value(block: &[u8]) -> u64 {
    block.try_into().map_or(0, u64::from_le_bytes)
}

fn is_blank(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// What the first blocks of a disk say, and whether anything else is on it.
pub(crate) fn probe(superblock: &[u8], begun: &[u8], rest_is_blank: bool) -> Probe {
    if let Some(found) = read::<Superblock>(superblock) {
        return Probe::Holds(Content {
            description: format!("{} with UUID {}", found.fstype, found.uuid),
            uuid: Some(found.uuid.to_string()),
            fstype: Some(found.fstype),
        });
    }
    if let Some(found) = read::<Begun>(begun) {
        return Probe::Holds(Content {
            fstype: None,
            uuid: Some(found.format_of.to_string()),
            description: "a format that did not end".to_owned(),
        });
    }
    if is_blank(superblock) && is_blank(begun) && rest_is_blank {
        return Probe::Blank;
    }
    Probe::Holds(Content {
        fstype: None,
        uuid: None,
        description: "data of nobody we know".to_owned(),
    })
}

/// Whether a block reads as never written.
pub(crate) fn blank(block: &[u8]) -> bool {
    is_blank(block)
}
