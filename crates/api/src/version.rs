//! Which version two ends speak: the highest that both know. The history is in `proto/COMPAT.md`.

use std::fmt;

use vdvs_domain::Error;

use crate::v1;

/// The oldest version this program speaks.
pub const MIN: u32 = 1;
/// The newest.
pub const MAX: u32 = 1;
/// What this program speaks.
pub const SUPPORTED: Range = Range { min: MIN, max: MAX };

/// Versions one end speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    min: u32,
    max: u32,
}

impl Range {
    /// `min` to `max`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty range or version 0, which means that none was sent.
    pub fn new(min: u32, max: u32) -> Result<Self, Error> {
        if min == 0 || max < min {
            return Err(Error::Invalid {
                what: "versions",
                problem: format!("{min} to {max} is no range; the first version is 1"),
            });
        }
        Ok(Self { min, max })
    }

    /// The oldest.
    #[must_use]
    pub const fn min(self) -> u32 {
        self.min
    }

    /// The newest.
    #[must_use]
    pub const fn max(self) -> u32 {
        self.max
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{} to {}", self.min, self.max)
        }
    }
}

impl From<Range> for v1::VersionRange {
    fn from(range: Range) -> Self {
        Self {
            min: range.min,
            max: range.max,
        }
    }
}

impl TryFrom<Option<v1::VersionRange>> for Range {
    type Error = Error;

    fn try_from(wire: Option<v1::VersionRange>) -> Result<Self, Error> {
        let wire = wire.unwrap_or_default();
        Self::new(wire.min, wire.max)
    }
}

/// The version to speak. Both ends come to the same result, whoever asks.
///
/// # Errors
/// [`Error::VersionMismatch`], which names the older side: that one has to be upgraded.
pub fn negotiate(guest: Range, host: Range) -> Result<u32, Error> {
    let common = guest.max.min(host.max);
    if common < guest.min || common < host.min {
        let guest_is_older = guest.max < host.max;
        return Err(Error::VersionMismatch {
            guest: guest.to_string(),
            host: host.to_string(),
            upgrade: if guest_is_older {
                "plugin in this VM"
            } else {
                "agent on the host"
            },
        });
    }
    Ok(common)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: u32, max: u32) -> Range {
        Range::new(min, max).unwrap()
    }

    #[test]
    fn the_highest_common_version_is_spoken() {
        assert_eq!(negotiate(range(1, 3), range(2, 5)).unwrap(), 3);
        assert_eq!(negotiate(range(1, 9), range(2, 5)).unwrap(), 5);
        assert_eq!(negotiate(SUPPORTED, SUPPORTED).unwrap(), MAX);
    }

    #[test]
    fn without_a_common_version_the_older_side_is_named() {
        let old_guest = negotiate(range(1, 1), range(2, 3)).unwrap_err().to_string();
        assert!(old_guest.contains("upgrade the plugin"), "{old_guest}");
        let old_host = negotiate(range(4, 5), range(2, 3)).unwrap_err().to_string();
        assert_eq!(
            old_host,
            "guest speaks protocol 4 to 5, host speaks 2 to 3; upgrade the agent on the host"
        );
    }

    #[test]
    fn a_hello_without_versions_is_malformed() {
        assert!(Range::try_from(None).is_err());
        assert!(Range::new(3, 2).is_err());
    }
}
