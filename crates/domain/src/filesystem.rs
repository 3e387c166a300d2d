//! Whether a volume may be formatted. A wrong answer here destroys data, so the rule stands in one pure function.
//!
//! ```text
//!   Never ──begin_format(uuid)──► Formatting{uuid} ──finish_format(uuid)──► Ready{uuid}
//!   Unknown: a rebuilt, damaged or adopted record. Never formatted, mounted only when the disk holds something.
//! ```
//! `begin_format` stores the UUID *before* `mkfs` runs with it. So after a crash the disk either is blank, or holds
//! exactly that UUID and was never mounted: both may be formatted again. Anything else on the disk is somebody's data.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::Error;
use crate::names::FsType;

/// What the record knows of the file system on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum FilesystemState {
    /// Created by us, never formatted.
    Never,
    /// A guest was told to format with this UUID and has not reported back.
    Formatting {
        /// The UUID the file system will carry.
        uuid: Uuid,
    },
    /// Formatted; may hold data.
    Ready {
        /// The file system's UUID.
        uuid: Uuid,
    },
    /// Nobody can say. Never formatted.
    Unknown,
}

/// Type and state of a volume's file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    /// Which `mkfs` makes or made it.
    pub fstype: FsType,
    /// What is known of the disk.
    pub state: FilesystemState,
}

/// What a guest saw on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// Every place that could hold a signature was read and is zero.
    Blank,
    /// Something is there; its UUID if it has one.
    Holds {
        /// The file system's UUID.
        uuid: Option<Uuid>,
        /// For messages: what it is.
        what: String,
    },
    /// The device could not be read or understood.
    Unknown(String),
}

/// What to do with a device before it is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormatPlan {
    /// Mount what is there.
    Mount,
    /// Ask the agent for a UUID, format with it, report back, mount.
    Format,
    /// Touch nothing; the text says why and what to do.
    Refuse(String),
}

impl FilesystemState {
    /// Promise P3: `Format` only for `Never` on a blank device, or for `Formatting` on a device that is blank or
    /// holds the very UUID that was stored.
    #[must_use]
    pub fn plan(&self, probed: &Probed) -> FormatPlan {
        match (self, probed) {
            (_, Probed::Unknown(why)) => FormatPlan::Refuse(format!(
                "the disk could not be examined ({why}), so nothing was formatted or mounted; try again, and look at the guest's kernel log if it stays"
            )),
            (Self::Never | Self::Formatting { .. }, Probed::Blank) => FormatPlan::Format,
            (Self::Formatting { uuid }, Probed::Holds { uuid: Some(found), .. }) if found == uuid => {
                FormatPlan::Format
            }
            (Self::Ready { .. } | Self::Unknown, Probed::Holds { .. }) => FormatPlan::Mount,
            (Self::Never | Self::Formatting { .. }, Probed::Holds { what, .. }) => {
                FormatPlan::Refuse(format!(
                    "the volume was never formatted by us, yet its disk holds {what}; nothing was touched. Compare the disk with the record (vdvs volume inspect)"
                ))
            }
            (Self::Ready { uuid }, Probed::Blank) => FormatPlan::Refuse(format!(
                "the record says the disk holds file system {uuid}, but the disk is blank; nothing was formatted. Restore the disk from a backup, or remove the volume"
            )),
            (Self::Unknown, Probed::Blank) => FormatPlan::Refuse(
                "the disk is blank and its record cannot say whether it ever held data, so it is not formatted. Remove the volume, or restore its disk".to_owned(),
            ),
        }
    }

    /// Stores `fresh` as the UUID to format with, or returns the one stored before: a retry formats with the same.
    ///
    /// # Errors
    /// [`Error::FormatRefused`] when the volume is ready or unknown.
    pub fn begin_format(self, fresh: Uuid) -> Result<(Self, Uuid), Error> {
        match self {
            Self::Never => Ok((Self::Formatting { uuid: fresh }, fresh)),
            Self::Formatting { uuid } => Ok((self, uuid)),
            Self::Ready { .. } => Err(Error::FormatRefused {
                why: "it is formatted already",
            }),
            Self::Unknown => Err(Error::FormatRefused {
                why: "its record cannot say whether it holds data",
            }),
        }
    }

    /// The guest formatted with `uuid`.
    ///
    /// # Errors
    /// [`Error::FormatRefused`] when another UUID was stored or no format had begun.
    pub fn finish_format(self, uuid: Uuid) -> Result<Self, Error> {
        match self {
            Self::Formatting { uuid: stored } if stored == uuid => Ok(Self::Ready { uuid }),
            Self::Ready { uuid: stored } if stored == uuid => Ok(self),
            _ => Err(Error::FormatRefused {
                why: "the record expects another file system",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid::from_u128(0xa);
    const B: Uuid = Uuid::from_u128(0xb);

    fn holds(uuid: Uuid) -> Probed {
        Probed::Holds {
            uuid: Some(uuid),
            what: "ext4".into(),
        }
    }

    #[test]
    fn only_never_on_blank_and_formatting_on_blank_or_its_own_uuid_are_formatted() {
        let states = [
            FilesystemState::Never,
            FilesystemState::Formatting { uuid: A },
            FilesystemState::Ready { uuid: A },
            FilesystemState::Unknown,
        ];
        let probes = [
            Probed::Blank,
            holds(A),
            holds(B),
            Probed::Holds {
                uuid: None,
                what: "bytes".into(),
            },
            Probed::Unknown("EIO".into()),
        ];
        let formatted: Vec<(usize, usize)> = states
            .iter()
            .enumerate()
            .flat_map(|(s, state)| {
                probes
                    .iter()
                    .enumerate()
                    .filter(|(_, probe)| state.plan(probe) == FormatPlan::Format)
                    .map(move |(p, _)| (s, p))
            })
            .collect();
        assert_eq!(formatted, [(0, 0), (1, 0), (1, 1)]);
    }

    #[test]
    fn a_repeated_begin_keeps_the_stored_uuid() {
        let (state, uuid) = FilesystemState::Never.begin_format(A).unwrap();
        assert_eq!(state.begin_format(B).unwrap(), (state, uuid));
        assert!(state.finish_format(B).is_err(), "another attempt's");
        let ready = state.finish_format(A).unwrap();
        assert_eq!(ready.finish_format(A).unwrap(), ready);
        assert!(ready.finish_format(B).is_err());
        assert!(ready.begin_format(B).is_err());
        assert!(FilesystemState::Unknown.begin_format(B).is_err());
        assert!(FilesystemState::Never.finish_format(A).is_err());
    }
}
