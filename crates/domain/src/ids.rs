//! Identities: volumes, requests, hosts, groups, virtual machines; epochs and points in time.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that the `Ids` port made or a peer sent.
            #[must_use]
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0.hyphenated())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0.hyphenated())
            }
        }
    };
}

uuid_newtype! {
    /// A volume, for ever: UUID v7, so ids sort by time of creation. Never reused.
    VolumeId
}
uuid_newtype! {
    /// One request of a guest; a retry carries the same id and gets the first answer.
    RequestId
}
uuid_newtype! {
    /// A host that runs an agent.
    HostId
}
uuid_newtype! {
    /// A vmgroup. Its volumes lie in a folder named after it.
    GroupId
}

impl GroupId {
    /// The id the original gave to `_DEFAULT`, kept so that its volumes are found in place
    /// (original: constants of the authorisation data model).
    pub const DEFAULT: Self = Self(Uuid::from_u128(0x1111_1111_1111_1111_1111_1111_1111_1111));
}

impl VolumeId {
    /// Eight hexadecimal digits for file names: the **last** eight, which are random in a UUID v7
    /// (the first are the time, and volumes made together would share them).
    #[must_use]
    pub fn id8(self) -> String {
        let text = self.0.simple().to_string();
        text.chars().skip(24).collect()
    }
}

/// The identity of a virtual machine as the hypervisor knows it: instance UUID and configuration file.
/// Both together, because a copied VM may bring its original's UUID along.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VmId {
    /// `instanceUuid` of the VM.
    pub instance_uuid: Uuid,
    /// Path of its configuration file, for example `[vsanDatastore] swarm01/swarm01.vmx`.
    pub config_path: String,
}

/// A VM with the name people know it by; the name is for messages only and may change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VmRef {
    /// Identity.
    pub id: VmId,
    /// Display name at the time of writing.
    pub name: String,
}

impl fmt::Display for VmRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The count of attachments of one volume. Every attach raises it, so a delayed message about an older
/// attachment is recognised by its number. 0: never attached.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The next epoch.
    #[must_use]
    pub const fn next(self) -> Self {
        // 2^64 attachments do not happen; saturating keeps the order total even then.
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A point in time, milliseconds since 1970-01-01 UTC. For people and for ages; nothing that keeps data safe
/// compares clocks of two machines.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The time so many milliseconds after the epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    /// UTC, to the second: `2026-11-21 07:46:09 UTC`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        let (days, time) = (seconds / 86_400, seconds % 86_400);
        // Days of the proleptic Gregorian calendar, in eras of 400 years that begin on 1 March.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_carry_the_random_end_of_an_id() {
        let id = VolumeId::new(Uuid::from_u128(0x0192_aaaa_bbbb_7ccc_8ddd_eeee_1234_5678));
        assert_eq!(id.id8(), "12345678");
    }

    #[test]
    fn epochs_only_grow() {
        assert!(Epoch::new(3).next() > Epoch::new(3));
        assert_eq!(Epoch::new(u64::MAX).next(), Epoch::new(u64::MAX));
    }
    #[test]
    fn a_time_reads_as_a_date() {
        let text = |seconds: u64| Timestamp::from_millis(seconds * 1000 + 999).to_string();
        assert_eq!(text(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(text(951_868_799), "2000-02-29 23:59:59 UTC");
        assert_eq!(text(951_868_800), "2000-03-01 00:00:00 UTC");
        assert_eq!(text(1_795_247_169), "2026-11-21 07:46:09 UTC");
        assert_eq!(text(4_102_444_800), "2100-01-01 00:00:00 UTC");
    }
}
