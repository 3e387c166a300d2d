//! The options of *create*: what may be asked, what it means, and how a repeated request is compared.
//!
//! Texts of refusals start with the original's words, which scripts match (original: option validation of the host
//! service); what follows says what to do.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::capacity::{Capacity, CapacityError};
use crate::names::{FsType, NameError};

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
            /// Reads the spelling used in options and records.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some($variant),)+ _ => None }
            }
        }
    };
}

spelled!(DiskFormat {
    DiskFormat::Thin => "thin",
    DiskFormat::ZeroedThick => "zeroedthick",
    DiskFormat::EagerZeroedThick => "eagerzeroedthick",
});
spelled!(Access { Access::ReadWrite => "read-write", Access::ReadOnly => "read-only" });
spelled!(AttachAs {
    AttachAs::IndependentPersistent => "independent_persistent",
    AttachAs::Persistent => "persistent",
});
spelled!(Failover { Failover::Wait => "wait", Failover::Fence => "fence" });
spelled!(Layout { Layout::Data => "data", Layout::Root => "root" });

/// Keys of this version, with the defaults people see.
pub const KEYS: [(&str, &str); 6] = [
    ("size", "1gb"),
    ("fstype", "ext4"),
    ("diskformat", "thin"),
    ("attach-as", "independent_persistent"),
    ("access", "read-write"),
    ("failover", "wait"),
];

/// More options than any caller has a use for; bounds the work for a hostile request.
pub const MAX_OPTIONS: usize = 32;

/// Why options are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// A key nobody knows.
    #[error("Invalid options: {unknown:?} \nValid options and defaults: {KEYS:?}")]
    Unknown {
        /// The keys, sorted.
        unknown: Vec<String>,
    },
    /// More than [`MAX_OPTIONS`].
    #[error("{0} options given, at most {MAX_OPTIONS} are read")]
    TooMany(usize),
    /// `size`.
    #[error(transparent)]
    Size(#[from] CapacityError),
    /// `fstype`.
    #[error(transparent)]
    Fstype(#[from] NameError),
    /// `diskformat`.
    #[error(
        "Disk Allocation Format '{0}' is not supported. Valid options are: ['zeroedthick', 'thin', 'eagerzeroedthick']."
    )]
    DiskFormat(String),
    /// `attach-as`.
    #[error(
        "Attach type '{0}' is not supported. Valid options are: ['independent_persistent', 'persistent']"
    )]
    AttachAs(String),
    /// `access`.
    #[error("Access type '{0}' is not supported. Valid options are: ['read-write', 'read-only']")]
    Access(String),
    /// `failover`.
    #[error("Failover '{0}' is not supported. Valid options are: ['wait', 'fence']")]
    Failover(String),
}

/// The options a caller gave; what it left out is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct GivenOptions {
    /// `size`
    pub size: Option<Capacity>,
    /// `fstype`
    pub fstype: Option<FsType>,
    /// `diskformat`
    pub diskformat: Option<DiskFormat>,
    /// `attach-as`
    pub attach_as: Option<AttachAs>,
    /// `access`
    pub access: Option<Access>,
    /// `failover`
    pub failover: Option<Failover>,
}

/// The options a volume has, as its record keeps them. Its size is the record's capacity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateOptions {
    /// Which `mkfs` makes the file system.
    pub fstype: FsType,
    /// Allocation of the extent.
    pub diskformat: DiskFormat,
    /// Disk mode towards snapshots.
    pub attach_as: AttachAs,
    /// What guests may do.
    pub access: Access,
    /// What happens when another VM wants the volume.
    pub failover: Failover,
}

impl GivenOptions {
    /// Reads the map that Docker sends. Order of checks: unknown keys, then as in [`KEYS`]; the first failure wins.
    ///
    /// # Errors
    /// [`OptionError`] with the original's text.
    pub fn parse(map: &BTreeMap<String, String>) -> Result<Self, OptionError> {
        if map.len() > MAX_OPTIONS {
            return Err(OptionError::TooMany(map.len()));
        }
        let unknown: Vec<String> = map
            .keys()
            .filter(|k| !KEYS.iter().any(|(known, _)| known == k))
            .map(|k| k.chars().take(64).collect())
            .collect();
        if !unknown.is_empty() {
            return Err(OptionError::Unknown { unknown });
        }
        let get = |key: &str| map.get(key).map(String::as_str);
        let cut = |text: &str| text.chars().take(64).collect::<String>();
        Ok(Self {
            size: get("size").map(Capacity::parse).transpose()?,
            fstype: get("fstype").map(FsType::new).transpose()?,
            diskformat: get("diskformat")
                .map(|t| DiskFormat::parse(t).ok_or_else(|| OptionError::DiskFormat(cut(t))))
                .transpose()?,
            attach_as: get("attach-as")
                .map(|t| AttachAs::parse(t).ok_or_else(|| OptionError::AttachAs(cut(t))))
                .transpose()?,
            access: get("access")
                .map(|t| Access::parse(t).ok_or_else(|| OptionError::Access(cut(t))))
                .transpose()?,
            failover: get("failover")
                .map(|t| Failover::parse(t).ok_or_else(|| OptionError::Failover(cut(t))))
                .transpose()?,
        })
    }

    /// The capacity to make: what was given, or the default.
    #[must_use]
    pub fn capacity(&self) -> Capacity {
        self.size.unwrap_or(Capacity::DEFAULT)
    }

    /// What was given, as `key=value` in the order of [`KEYS`]: part of a request's fingerprint, so it must not
    /// change from version to version.
    #[must_use]
    pub fn canonical(&self) -> String {
        fn pair<T: ToString>(key: &str, value: Option<&T>) -> Option<String> {
            value.map(|v| format!("{key}={}", v.to_string()))
        }
        let pairs = [
            pair("size", self.size.map(Capacity::bytes).as_ref()),
            pair("fstype", self.fstype.as_ref()),
            pair("diskformat", self.diskformat.as_ref()),
            pair("attach-as", self.attach_as.as_ref()),
            pair("access", self.access.as_ref()),
            pair("failover", self.failover.as_ref()),
        ];
        pairs.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// Fills in the defaults.
    #[must_use]
    pub fn resolve(&self) -> CreateOptions {
        CreateOptions {
            fstype: self.fstype.clone().unwrap_or_else(FsType::ext4),
            diskformat: self.diskformat.unwrap_or_default(),
            attach_as: self.attach_as.unwrap_or_default(),
            access: self.access.unwrap_or_default(),
            failover: self.failover.unwrap_or_default(),
        }
    }

    /// The options given here that an existing volume does not have, as `key: asked X, has Y`. Empty: creating it
    /// again changes nothing and succeeds.
    #[must_use]
    pub fn differences(&self, capacity: Capacity, has: &CreateOptions) -> Vec<String> {
        fn differ<T: PartialEq + fmt::Display>(
            key: &str,
            asked: Option<&T>,
            has: &T,
        ) -> Option<String> {
            asked
                .filter(|a| *a != has)
                .map(|a| format!("{key}: asked {a}, has {has}"))
        }
        [
            differ("size", self.size.as_ref(), &capacity),
            differ("fstype", self.fstype.as_ref(), &has.fstype),
            differ("diskformat", self.diskformat.as_ref(), &has.diskformat),
            differ("attach-as", self.attach_as.as_ref(), &has.attach_as),
            differ("access", self.access.as_ref(), &has.access),
            differ("failover", self.failover.as_ref(), &has.failover),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<GivenOptions, OptionError> {
        GivenOptions::parse(
            &pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn nothing_given_is_one_thin_gibibyte_of_ext4() {
        let given = parse(&[]).unwrap();
        assert_eq!(given.capacity().bytes(), 1 << 30);
        let options = given.resolve();
        assert_eq!(
            (options.fstype.as_str(), options.diskformat),
            ("ext4", DiskFormat::Thin)
        );
    }

    #[test]
    fn refusals_start_with_the_originals_words() {
        for (key, value, text) in [
            (
                "foo",
                "1",
                "Invalid options: [\"foo\"] \nValid options and defaults: ",
            ),
            (
                "size",
                "10",
                "Invalid format for size. \nValid sizes must be of form X[mMgGtT]b",
            ),
            (
                "diskformat",
                "Thin",
                "Disk Allocation Format 'Thin' is not supported.",
            ),
            ("attach-as", "x", "Attach type 'x' is not supported."),
            ("access", "rw", "Access type 'rw' is not supported."),
        ] {
            let err = parse(&[(key, value)]).unwrap_err().to_string();
            assert!(err.starts_with(text), "{key}={value}: {err}");
        }
    }

    #[test]
    fn what_was_given_has_one_spelling_for_ever() {
        let given = parse(&[("size", "1024MB"), ("access", "read-only")]).unwrap();
        assert_eq!(given.canonical(), "size=1073741824 access=read-only");
        assert_eq!(parse(&[]).unwrap().canonical(), "");
    }

    #[test]
    fn a_repeated_create_names_only_what_was_given_and_differs() {
        let has = parse(&[("size", "1gb")]).unwrap();
        let (capacity, options) = (has.capacity(), has.resolve());
        assert!(
            parse(&[])
                .unwrap()
                .differences(capacity, &options)
                .is_empty()
        );
        assert!(
            parse(&[("size", "1024mb")])
                .unwrap()
                .differences(capacity, &options)
                .is_empty()
        );
        assert_eq!(
            parse(&[("size", "2gb"), ("fstype", "xfs")])
                .unwrap()
                .differences(capacity, &options),
            ["size: asked 2GB, has 1GB", "fstype: asked xfs, has ext4"]
        );
    }
}
