//! Why a verb about the configuration as a whole is refused. The original's words stand first where it had some.

use crate::error::ErrorKind;
use crate::names::DatastoreName;

/// Why a change of the configuration is refused, or why it is not known whether it was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigFault {
    /// The host follows no configuration yet.
    #[error(
        "Configuration not found. Please init configuration with 'esxcli storage guestvol config init'. Here that is: vdvs config init --datastore DATASTORE, or the first volume does it"
    )]
    InitNeeded,
    /// The host follows several.
    #[error(
        "this host follows several configurations ({}), so it is not clear which one is meant; put all datastores under one of them with: vdvs config init --datastore DATASTORE --force, or see: vdvs config status", .homes.join(", ")
    )]
    Several {
        /// Their home datastores.
        homes: Vec<String>,
    },
    /// Nobody used the datastore yet, and it is not sure that no configuration is to govern it.
    #[error(
        "Configuration not found. Please init configuration with 'esxcli storage guestvol config init'. Nobody used datastore {datastore} yet, and it is in doubt whether it may be open to all ({}); bring that back, or decide with: vdvs config init --datastore {datastore}", .doubts.join("; ")
    )]
    FirstInDoubt {
        /// The datastore.
        datastore: DatastoreName,
        /// What is in the way.
        doubts: Vec<String>,
    },
    /// The document's home cannot be read or written.
    #[error(
        "the configuration on datastore {home} cannot be read or changed now ({why}); nothing was changed. Bring the datastore back, then try again"
    )]
    HomeUnavailable {
        /// The home.
        home: DatastoreName,
        /// What failed.
        why: String,
    },
    /// A change was written, and it is not known whether it stands.
    #[error(
        "it is not known whether the change of the configuration on datastore {home} was made ({why}); look at: vdvs config history"
    )]
    Unsettled {
        /// The home.
        home: DatastoreName,
        /// What failed.
        why: String,
    },
    /// An administrator removed it.
    #[error(
        "the configuration on datastore {home} was removed ({by}), and access is closed; bring it back with: vdvs config restore FILE, or make a new one, which is open to all, with: vdvs config init --datastore {home} --force"
    )]
    Removed {
        /// The home.
        home: DatastoreName,
        /// When and by whom.
        by: String,
    },
    /// The original's refusals of its verbs, and ours in its manner: text and advice.
    #[error("{text}")]
    Refused {
        /// What is wrong, then what to do.
        text: String,
    },
}

impl ConfigFault {
    /// What programs decide on.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::InitNeeded | Self::Removed { .. } | Self::FirstInDoubt { .. } => {
                ErrorKind::NotConfigured
            }
            Self::Several { .. } => ErrorKind::Ambiguous,
            Self::HomeUnavailable { .. } | Self::Unsettled { .. } => ErrorKind::Unavailable,
            Self::Refused { .. } => ErrorKind::InvalidArgument,
        }
    }
}
