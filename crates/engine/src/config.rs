//! What an administrator says and hears about the configuration as a whole.

use uuid::Uuid;
use vdvs_domain::{DatastoreName, Timestamp};

/// A change of the configuration as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigVerb {
    /// Makes a datastore follow a configuration: the one there is, or a first one.
    Init {
        /// Which datastore.
        datastore: Option<DatastoreName>,
        /// One for this host alone.
        local: bool,
        /// Also where that puts something else aside.
        force: bool,
    },
    /// Removes it; access is closed.
    Remove {
        /// It was made with `local`.
        local: bool,
        /// It is shared.
        unlink: bool,
        /// The administrator is sure.
        confirm: bool,
        /// Leave no backup.
        no_backup: bool,
    },
    /// Gives it another home.
    Move {
        /// Its home to be.
        to: DatastoreName,
        /// Also when a move to an unreachable datastore is under way.
        force: bool,
    },
    /// Brings back what a backup holds.
    Restore {
        /// The backup.
        json: String,
    },
    /// Takes over what the original's database holds.
    Import {
        /// The database, parsed.
        original: Original,
        /// Home of the configuration it becomes; none: the one that governs here.
        datastore: Option<DatastoreName>,
    },
}

/// What a change did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigDone {
    /// Line by line.
    pub lines: Vec<String>,
    /// What a person should know beside it.
    pub warnings: Vec<String>,
}

/// A datastore and what governs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigDatastore {
    /// The datastore.
    pub datastore: DatastoreName,
    /// Its identity; nil: it has none yet.
    pub id: Uuid,
    /// The configuration; nil: none.
    pub config: Uuid,
    /// Home of the configuration; none: there is none.
    pub home: Option<DatastoreName>,
    /// governed, fresh, closed, unreadable, kept
    pub state: &'static str,
    /// What is wrong and what to run; empty: nothing.
    pub problem: String,
}

/// A configuration this host follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigDocument {
    /// Its identity.
    pub id: Uuid,
    /// The datastore it lies on.
    pub home: DatastoreName,
    /// Rises with each change.
    pub version: u64,
    /// When it was changed last, and by whom.
    pub changed: Option<(Timestamp, String)>,
    /// How many vmgroups it has.
    pub groups: usize,
    /// How many vSAN policies.
    pub policies: usize,
    /// Its home cannot be read; this is the copy kept on this host.
    pub kept: bool,
}

/// What governs this host's datastores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigShown {
    /// In the original's words: NotConfigured, SingleNode, MultiNode, BrokenLink.
    pub mode: String,
    /// Where the documents lie, as paths below the datastores' mount points.
    pub locations: Vec<String>,
    /// The datastores.
    pub datastores: Vec<ConfigDatastore>,
    /// The configurations.
    pub documents: Vec<ConfigDocument>,
}

/// One change of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// The document's version since.
    pub version: u64,
    /// When, by the clock of the host it was made on.
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// The host.
    pub host: String,
    /// What, in words.
    pub what: String,
}

/// The original's database as it is, its schema 1.1 brought to 1.2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Original {
    /// Its schema's version: major, minor.
    pub schema: (i64, i64),
    /// Its vmgroups.
    pub groups: Vec<OriginalGroup>,
    /// What was found wrong in it and put right.
    pub warnings: Vec<String>,
}

/// A vmgroup of the original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginalGroup {
    /// Its id: the name of its folder.
    pub id: Uuid,
    /// Its name, as it was written.
    pub name: String,
    /// For people.
    pub description: String,
    /// URL of its default datastore.
    pub default_datastore: String,
    /// Its VMs.
    pub vms: Vec<OriginalVm>,
    /// What it may do.
    pub privileges: Vec<OriginalPrivilege>,
}

/// A VM of the original: known by its BIOS UUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginalVm {
    /// BIOS UUID.
    pub bios: Uuid,
    /// Its name when it was added; empty: not kept.
    pub name: String,
}

/// A privilege of the original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginalPrivilege {
    /// URL of the datastore.
    pub datastore: String,
    /// Create and delete volumes, not only use them.
    pub allow_create: bool,
    /// Largest volume in MB; 0: unlimited.
    pub max_volume_mb: u64,
    /// All volumes in MB; 0: unlimited.
    pub total_mb: u64,
}
