//! The options of *create*: what may be asked, what it means, and how a repeated request is compared.
//!
//! Texts of refusals start with the original's words, which scripts match (original: option validation of the host
//! service); what follows says what to do, and names the nearest valid word where one is near.
//!
//! | module | concept |
//! |---|---|
//! | `values` | values that are one word of a list; `fence-after` |
//! | `given` | what a caller gave, and its one spelling |
//! | `mount` | which mount options are safe |

mod given;
mod mount;
mod settings;
#[cfg(test)]
mod tests;
mod values;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::given::GivenOptions;
pub use self::mount::check as check_mount_options;
pub use self::settings::{EDITABLE, VolumeSettings};
pub use self::values::{Access, AttachAs, DiskFormat, Failover, FenceAfter, Layout};
use crate::capacity::CapacityError;
use crate::names::{DatastoreName, FsType, NameError, PolicyName};
use crate::suggest;

/// VIC's name for `size`; a number without unit means MB.
pub(crate) const CAPACITY: &str = "Capacity";
/// VIC's name for the datastore a volume is placed on.
pub(crate) const VOLUME_STORE: &str = "VolumeStore";

/// Keys of this version in the original's order of checks, ours behind them, with the defaults people see.
pub const KEYS: [(&str, &str); 15] = [
    ("size", "1gb"),
    ("vsan-policy-name", "[VSAN default]"),
    ("diskformat", "thin"),
    ("attach-as", "independent_persistent"),
    ("access", "read-write"),
    ("fstype", "ext4"),
    ("clone-from", "None"),
    ("failover", "wait"),
    ("fence-after", "15s"),
    ("mount-options", "None"),
    ("uid", "0"),
    ("gid", "0"),
    ("mode", "0755"),
    (CAPACITY, "as size"),
    (VOLUME_STORE, "[default datastore]"),
];

/// More options than any caller has a use for; bounds the work for a hostile request.
pub const MAX_OPTIONS: usize = 32;

/// Why options are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// A key nobody knows.
    #[error("Invalid options: {} \nValid options and defaults: {}{}", listed(.unknown), keys(), key_hint(.unknown))]
    Unknown {
        /// The keys, sorted.
        unknown: Vec<String>,
    },
    /// Options of an existing volume that cannot be changed.
    #[error("'Invalid options: {} \nOptions that can be edited: {}'; the others are given when the volume is made", listed(.unknown), listed(&EDITABLE))]
    NotEditable {
        /// The keys, sorted.
        unknown: Vec<String>,
    },
    /// More than [`MAX_OPTIONS`].
    #[error("{0} options given, at most {MAX_OPTIONS} are read")]
    TooMany(usize),
    /// `size`.
    #[error(transparent)]
    Size(#[from] CapacityError),
    /// `size` and VIC's `Capacity` differ.
    #[error("size and {key} are one option and ask for {} and {}; give one of them", .texts[0], .texts[1])]
    TwoSizes {
        /// The key as given.
        key: String,
        /// Both sizes.
        texts: [String; 2],
    },
    /// The file system does not fit.
    #[error(
        "Invalid volume size specified. {fstype} needs at least {mib}MB; give -o size={mib}mb or more, or another fstype"
    )]
    TooSmall {
        /// The file system.
        fstype: FsType,
        /// The least size in MiB.
        mib: u64,
    },
    /// `fstype`, `vsan-policy-name` or `VolumeStore` is malformed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// `diskformat`.
    #[error("Disk Allocation Format '{}' is not supported. Valid options are: {}.{}", .0, listed(DiskFormat::WORDS), suggest::did_you_mean(.0, DiskFormat::WORDS.iter().copied()))]
    DiskFormat(String),
    /// `attach-as`.
    #[error("Attach type '{}' is not supported. Valid options are: {}{}", .0, listed(AttachAs::WORDS), sentence(.0, AttachAs::WORDS))]
    AttachAs(String),
    /// `access`.
    #[error("Access type '{}' is not supported. Valid options are: {}{}", .0, listed(Access::WORDS), sentence(.0, Access::WORDS))]
    Access(String),
    /// `failover`.
    #[error("Failover '{}' is not supported. Valid options are: {}{}", .0, listed(Failover::WORDS), sentence(.0, Failover::WORDS))]
    Failover(String),
    /// `fence-after`.
    #[error("fence-after '{0}' is not a time: expected 1 to 3600 seconds, as in 15, 15s or 2m")]
    FenceAfter(String),
    /// `fence-after` without `failover=fence`.
    #[error(
        "fence-after is read only together with failover=fence; add -o failover=fence, or leave it out"
    )]
    FenceAfterAlone,
    /// `clone-from` is not a name.
    #[error("Could not find volume for cloning {asked}: {why}")]
    CloneFrom {
        /// As asked.
        asked: String,
        /// What is wrong with it.
        why: NameError,
    },
    /// Something that a clone takes from its source.
    #[error("Cannot define the {what} for a clone: {why}")]
    NotForAClone {
        /// `size`, `filesystem type`, `uid`, ...
        what: &'static str,
        /// Why not, and what to do.
        why: String,
    },
    /// One of `mount-options`.
    #[error("Mount option '{option}' is not supported: {why}")]
    MountOption {
        /// The option.
        option: String,
        /// Why not.
        why: String,
    },
    /// `uid` or `gid`.
    #[error("{key} '{text}' is not a number: expected 0 to 4294967294, as id prints it")]
    Owner {
        /// Which.
        key: &'static str,
        /// As asked.
        text: String,
    },
    /// `mode`.
    #[error("mode '{0}' is not supported: expected octal digits, as in 0755 or 2770")]
    Mode(String),
    /// Two datastores for one volume.
    #[error(
        "the volume is asked for on two datastores, {store} (VolumeStore) and {other}; name one of them"
    )]
    TwoStores {
        /// By `VolumeStore`.
        store: DatastoreName,
        /// By the name, or by another `VolumeStore`.
        other: DatastoreName,
    },
    /// A policy on a datastore that has none.
    #[error("Cannot use a VSAN policy on a non-VSAN datastore: {datastore} is of type {kind}; leave vsan-policy-name out, or name a vSAN datastore{}", known_vsan(.vsan))]
    PolicyElsewhere {
        /// The datastore.
        datastore: DatastoreName,
        /// Its type.
        kind: String,
        /// vSAN datastores of this host.
        vsan: Vec<String>,
    },
    /// A policy nobody made. Which there are is not a guest's business.
    #[error(
        "Policy {name} does not exist. Leave vsan-policy-name out, or ask the administrator for a policy (vdvs policy ls)"
    )]
    UnknownPolicy {
        /// As asked.
        name: PolicyName,
    },
}

/// A list as the original printed it.
pub(crate) fn listed<T: AsRef<str>>(words: &[T]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| quoted(w.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

/// A text in quotes, with what a terminal would obey or a reader would misread escaped.
fn quoted(text: &str) -> String {
    let escaped: String = text
        .chars()
        .flat_map(|c| match c {
            '\'' | '\\' => format!("\\{c}").chars().collect::<Vec<_>>(),
            c if c.is_control() => c.escape_default().collect(),
            c => vec![c],
        })
        .collect();
    format!("'{escaped}'")
}

fn keys() -> String {
    let pairs: Vec<String> = KEYS
        .iter()
        .map(|(key, default)| format!("('{key}', '{default}')"))
        .collect();
    format!("[{}]", pairs.join(", "))
}

fn key_hint(unknown: &[String]) -> String {
    let known = || KEYS.iter().map(|(key, _)| *key);
    let mut near: Vec<&str> = Vec::new();
    for word in unknown
        .iter()
        .filter_map(|asked| suggest::nearest(asked, known()))
    {
        if !near.contains(&word) {
            near.push(word);
        }
    }
    match near.as_slice() {
        [] => String::new(),
        near => format!("\nDid you mean '{}'?", near.join("', '")),
    }
}

fn sentence(asked: &str, words: &[&str]) -> String {
    match suggest::did_you_mean(asked, words.iter().copied()) {
        hint if hint.is_empty() => hint,
        hint => format!(".{hint}"),
    }
}

fn known_vsan(vsan: &[String]) -> String {
    match vsan {
        [] => " (this host has none)".to_owned(),
        known => format!(" ({})", known.join(", ")),
    }
}

/// A part of a caller's text that fits a message.
fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

/// The options a volume has, as its record keeps them. Its size is the record's capacity. Fields that came later are
/// left out of the record when nobody set them, so that older programs read it too.
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
    /// How long a live owner has to let go before it is fenced.
    #[serde(default, skip_serializing_if = "FenceAfter::is_default")]
    pub fence_after: FenceAfter,
    /// Full name of the volume it was cloned from, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone_from: Option<String>,
    /// vSAN policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyName>,
    /// Mount options, each of them safe with `fstype`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mount_options: Vec<String>,
    /// Owner of the fresh data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group of the fresh data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Permission bits of the fresh data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}

impl CreateOptions {
    /// The options by their keys in `docker volume create -o`, without the size. Those nobody set are left out,
    /// except the six that people always see.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        fn text<T: fmt::Display>(value: &T) -> Option<String> {
            Some(value.to_string())
        }
        let after = self.fence_after;
        let fences = self.failover == Failover::Fence || after != FenceAfter::DEFAULT;
        let mounts = Some(self.mount_options.join(",")).filter(|t| !t.is_empty());
        [
            ("fstype", text(&self.fstype)),
            ("diskformat", text(&self.diskformat)),
            ("attach-as", text(&self.attach_as)),
            ("access", text(&self.access)),
            ("failover", text(&self.failover)),
            ("fence-after", Some(after.to_string()).filter(|_| fences)),
            ("clone-from", self.clone_from.clone()),
            ("vsan-policy-name", self.policy.as_ref().and_then(text)),
            ("mount-options", mounts),
            ("uid", self.uid.as_ref().and_then(text)),
            ("gid", self.gid.as_ref().and_then(text)),
            ("mode", self.mode.map(|m| format!("{m:04o}"))),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
    }
}
