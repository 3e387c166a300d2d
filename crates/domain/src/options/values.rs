//! Values of options that are one word of a list, and the time of `fence-after`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How the extent's blocks are allocated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// Blocks are allocated at their first write.
    #[default]
    Thin,
    /// Allocated at once, zeroed at the first write.
    ZeroedThick,
    /// Allocated and written with zeros at once.
    EagerZeroedThick,
}

/// What a guest may do with the file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read and write.
    #[default]
    ReadWrite,
    /// Read only, once the volume is formatted.
    ReadOnly,
}

/// Whether VM snapshots include the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachAs {
    /// Left out of VM snapshots.
    #[default]
    IndependentPersistent,
    /// Included; a snapshot then pins the disk to its VM.
    Persistent,
}

/// What happens when another VM wants a volume whose owner is alive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Failover {
    /// Wait for an orderly detach or for proof that the owner is dead.
    #[default]
    Wait,
    /// Wait `fence-after` for an orderly detach, then the owner's host removes the disk from the live owner.
    Fence,
}

/// Where a volume's data lies inside its file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// In the folder `data`, so that `lost+found` does not show.
    Data,
    /// At the root: volumes of the original, found in place.
    Root,
}

macro_rules! spelled {
    ($type:ty { $($variant:path => $text:literal),+ $(,)? }) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($variant => $text),+ })
            }
        }
        impl $type {
            /// Every spelling, in the order messages show them.
            pub const WORDS: &'static [&'static str] = &[$($text),+];

            /// Reads the spelling used in options and records.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some($variant),)+ _ => None }
            }
        }
    };
}

spelled!(DiskFormat {
    DiskFormat::ZeroedThick => "zeroedthick",
    DiskFormat::Thin => "thin",
    DiskFormat::EagerZeroedThick => "eagerzeroedthick",
});
spelled!(Access { Access::ReadWrite => "read-write", Access::ReadOnly => "read-only" });
spelled!(AttachAs {
    AttachAs::IndependentPersistent => "independent_persistent",
    AttachAs::Persistent => "persistent",
});
spelled!(Failover { Failover::Wait => "wait", Failover::Fence => "fence" });
spelled!(Layout { Layout::Data => "data", Layout::Root => "root" });

impl DiskFormat {
    /// Whether all blocks are the volume's own from the start.
    #[must_use]
    pub const fn is_allocated(self) -> bool {
        matches!(self, Self::ZeroedThick | Self::EagerZeroedThick)
    }
}

/// How long a live owner has to let go in an orderly way before it is fenced, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct FenceAfter(u32);

impl FenceAfter {
    /// Above Docker's 10 s stop grace, so that a node that stops its container in time is never fenced.
    pub const DEFAULT: Self = Self(15);
    /// Longer than anybody waits for a Mount: `failover=wait` is meant then.
    pub const MAX_SECONDS: u32 = 3600;

    /// That many seconds; none when zero or above [`Self::MAX_SECONDS`].
    #[must_use]
    pub const fn new(seconds: u32) -> Option<Self> {
        if seconds == 0 || seconds > Self::MAX_SECONDS {
            None
        } else {
            Some(Self(seconds))
        }
    }

    /// Reads `15`, `15s` or `2m`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (digits, factor) = match text.strip_suffix('m') {
            Some(digits) => (digits, 60),
            None => (text.strip_suffix('s').unwrap_or(text), 1),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Self::new(digits.parse::<u32>().ok()?.checked_mul(factor)?)
    }

    /// In seconds.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        self.0
    }

    /// As a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }

    pub(super) fn is_default(&self) -> bool {
        *self == Self::DEFAULT
    }
}

impl Default for FenceAfter {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for FenceAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0)
    }
}

impl From<FenceAfter> for u32 {
    fn from(after: FenceAfter) -> Self {
        after.0
    }
}

impl TryFrom<u32> for FenceAfter {
    type Error = &'static str;
    fn try_from(seconds: u32) -> Result<Self, &'static str> {
        Self::new(seconds).ok_or("fence-after is 1 to 3600 seconds")
    }
}

/// Reads `750` or `0750`: permission bits of a folder.
pub(super) fn parse_mode(text: &str) -> Option<u32> {
    let octal = (1..=5).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| octal)?;
    (mode <= 0o7777).then_some(mode)
}

/// Reads a user's or group's number. The highest means *nobody* to the kernel's calls and is none.
pub(super) fn parse_owner(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse::<u32>()
        .ok()
        .filter(|id| digits && *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fence_after_is_seconds_or_minutes_within_an_hour() {
        for (text, seconds) in [
            ("15", 15),
            ("15s", 15),
            ("2m", 120),
            ("1", 1),
            ("60m", 3600),
        ] {
            assert_eq!(
                FenceAfter::parse(text).unwrap().seconds(),
                seconds,
                "{text}"
            );
        }
        for bad in [
            "",
            "0",
            "s",
            "m",
            "61m",
            "3601",
            "-1",
            "+5",
            "1.5s",
            "5h",
            "5 s",
            "99999999999",
        ] {
            assert_eq!(FenceAfter::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn modes_are_octal_and_owners_are_numbers() {
        assert_eq!(parse_mode("0750"), Some(0o750));
        assert_eq!(parse_mode("2775"), Some(0o2775));
        for bad in ["", "8", "u+x", "10000", "+75", "000000"] {
            assert_eq!(parse_mode(bad), None, "{bad}");
        }
        assert_eq!(parse_owner("999"), Some(999));
        for bad in ["", "root", "-1", "+1", "4294967295", "99999999999"] {
            assert_eq!(parse_owner(bad), None, "{bad}");
        }
    }
}
