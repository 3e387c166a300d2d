//! Why a change of policies is refused. The original's words stand first.

use super::change::MAX_POLICIES;
use super::parse::PolicyError;
use crate::error::ErrorKind;
use crate::names::PolicyName;

/// Volumes that messages name; of more, only the number is said.
const NAMED: usize = 20;

/// A volume that did not take a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedVolume {
    /// Its full name.
    pub name: String,
    /// Why not.
    pub why: String,
}

/// Why a change of policies is refused, or did not reach every volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// No datastore has policies.
    #[error(
        "Error: VSAN datastore does not exist; policies are for vSAN datastores, vdvs datastore ls shows those of this host"
    )]
    NoVsan,
    /// The name is taken.
    #[error(
        "Error: Policy already exists; choose another name, or change it with: vdvs policy update --name={0}"
    )]
    Exists(PolicyName),
    /// No such policy.
    #[error("Error: Policy {0} does not exist; vdvs policy ls shows those there are")]
    NotThere(PolicyName),
    /// The same, to who removes one.
    #[error("Policy {0} does not exist; vdvs policy ls shows those there are")]
    NotThereToRemove(PolicyName),
    /// Nothing is different, and every volume has it.
    #[error(
        "Error: New policy is identical to old policy. Ignoring. Every volume that names it has it"
    )]
    Identical,
    /// The content is no policy.
    #[error("Error: {0}")]
    Content(#[from] PolicyError),
    /// The name is none for a new policy.
    #[error(
        "Error: Policy name '{0}' is invalid; expected at most 64 letters, digits, blanks, '_', '.' and '-', the first a letter, digit or '_'"
    )]
    Name(String),
    /// Too many.
    #[error(
        "Error: there are {MAX_POLICIES} policies already; remove one that is not used first: vdvs policy ls"
    )]
    TooMany,
    /// Volumes name it.
    #[error("Cannot remove. Policy is in use by {}; remove these volumes first, or keep the policy", counted(.volumes))]
    InUse {
        /// Full names.
        volumes: Vec<String>,
    },
    /// Volumes that name it may lie where nobody can look now.
    #[error(
        "Cannot remove. It is not known whether the policy is in use: datastore {0} cannot be read; bring it back, then try again"
    )]
    MayBeInUse(String),
    /// Some volumes have the new content and some do not. The configuration has it.
    #[error(
        "Successfully updated: {updated} volumes.\nFailed to update:     [{}] volumes.\nVolumes that failed keep what they had, as vdvs policy ls shows; the same command again tries only them", unfinished(.failed)
    )]
    NotEverywhere {
        /// How many have it now that did not have it.
        updated: usize,
        /// Those that do not.
        failed: Vec<FailedVolume>,
    },
    /// A datastore does not give a new disk the policy.
    #[error(
        "Failed to create volume {name}: {why}; nothing was made. Choose another policy, or have the administrator change this one"
    )]
    NotForNew {
        /// The volume.
        name: String,
        /// The datastore's words.
        why: String,
    },
}

fn counted(volumes: &[String]) -> String {
    let named: Vec<&str> = volumes.iter().take(NAMED).map(String::as_str).collect();
    let more = volumes.len() - named.len();
    let list = named.join(", ");
    match (volumes.len(), more) {
        (1, _) => list,
        (count, 0) => format!("{count} volumes: {list}"),
        (count, more) => format!("{count} volumes: {list} and {more} more"),
    }
}

fn unfinished(volumes: &[FailedVolume]) -> String {
    let named = volumes.iter().take(NAMED);
    let mut texts: Vec<String> = named.map(|v| format!("{} ({})", v.name, v.why)).collect();
    let more = volumes.len() - texts.len();
    if more > 0 {
        texts.push(format!("and {more} more"));
    }
    texts.join(", ")
}

impl PolicyFault {
    /// What programs decide on.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NotThere(_) | Self::NotThereToRemove(_) => ErrorKind::NotFound,
            Self::Exists(_) => ErrorKind::AlreadyExists,
            Self::Content(_) | Self::Name(_) => ErrorKind::InvalidArgument,
            Self::NoVsan | Self::Identical | Self::TooMany | Self::NotForNew { .. } => {
                ErrorKind::Conflict
            }
            Self::InUse { .. } => ErrorKind::InUse,
            Self::MayBeInUse(_) => ErrorKind::Unavailable,
            Self::NotEverywhere { .. } => ErrorKind::HostFailed,
        }
    }
}
