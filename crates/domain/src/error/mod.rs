//! Every failure a caller can see, and the one table that maps it to the wire, to scripts and to the shell.
//!
//! [`Error`] says what happened, with the facts, and what to do next. [`ErrorKind`] is what programs decide on: each
//! kind has one row in [`ErrorKind::row`] with its gRPC code, its stable machine string (`reason` on the wire), the
//! exit code of the command line and whether trying again may help. `docs/error-codes.md` is made from the table, and
//! a test compares the two.

mod holder;
mod table;

use crate::access::{Denied, Fault};
use crate::capacity::{Capacity, exact};
use crate::governing::ConfigFault;
use crate::ids::{Epoch, VolumeId};
use crate::names::{DatastoreName, NameError, VolumeAddress, VolumeName};
use crate::options::{OptionError, listed};
use crate::ownership::Forbidden;
use crate::policy::PolicyFault;
use crate::suggest;

pub use holder::Holder;
pub use table::{ErrorKind, Row, table_as_markdown};

/// A failure of a use case. Every text says what happened and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A fresh look-up on every datastore where the name could be found nothing.
    #[error(
        "Volume {address} not found (looked on: {looked_on}); docker volume ls shows the volumes there are"
    )]
    VolumeNotFound {
        /// What was asked for.
        address: String,
        /// The datastores, comma-separated.
        looked_on: String,
    },
    /// The name leads to another volume than the one that is meant.
    #[error(
        "Volume {name} with id {meant} not found, nothing was removed: another volume has that name by now; \
         docker volume inspect {name} shows it, docker volume rm {name} removes it"
    )]
    AnotherVolume {
        /// Full name.
        name: VolumeAddress,
        /// The one that is meant.
        meant: VolumeId,
    },
    /// The volume exists with other options.
    #[error("Volume {name} already exists with other options ({}); use it as it is, remove it first, or choose another name", .differences.join("; "))]
    AlreadyExists {
        /// Its full name.
        name: VolumeAddress,
        /// What differs.
        differences: Vec<String>,
    },
    /// A malformed name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A malformed or unknown option.
    #[error(transparent)]
    Options(#[from] OptionError),
    /// Any other malformed field.
    #[error("{what}: {problem}")]
    Invalid {
        /// Field or argument.
        what: &'static str,
        /// What is wrong and what is right.
        problem: String,
    },
    /// Access control said no.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Access control said no, and there are datastores where it would not have.
    #[error("{denied}. Datastores this VM may use: {permitted}")]
    NotPermittedThere {
        /// What it said.
        denied: Denied,
        /// Comma-separated.
        permitted: String,
    },
    /// A change of vmgroups, members or privileges is refused.
    #[error(transparent)]
    Access(#[from] Fault),
    /// A verb about the configuration as a whole was refused.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// A change of vSAN policies is refused, or did not reach everything.
    #[error(transparent)]
    Policy(#[from] PolicyFault),
    /// The name is on its way from one vmgroup to another.
    #[error("volume {name} is being moved to another vmgroup; nothing was done, try again")]
    OnTheMove {
        /// As asked.
        name: String,
    },
    /// A datastore's name fits several, and none exactly.
    #[error(
        "Found multiple datastores with same name (ignoring case difference): {}; write the one you mean exactly", listed(.found)
    )]
    DatastoresAlike {
        /// Their names.
        found: Vec<String>,
    },
    /// The transport could not say who calls.
    #[error("the caller is not known ({why}); access is closed to it")]
    UnknownCaller {
        /// Why not.
        why: String,
    },
    /// No configuration governs the datastore for this host.
    #[error(
        "Configuration not found. Please init configuration with 'vdvs config init' (datastore {datastore}: {why})"
    )]
    NotConfigured {
        /// The datastore.
        datastore: DatastoreName,
        /// What was found instead.
        why: String,
    },
    /// The same, as a VM is told of it.
    #[error(
        "Configuration not found. Please init configuration with 'vdvs config init'; until an administrator of the host does that, access to {to} is closed"
    )]
    Closed {
        /// `datastore ds1`, or that it is one.
        to: String,
    },
    /// No such datastore.
    #[error(
        "Invalid datastore '{asked}'.\nKnown datastores: {known}.\nName one of these, as in volume@datastore, or none.{}",
        suggest::did_you_mean(.asked.as_str(), .known.split(", "))
    )]
    NoSuchDatastore {
        /// As asked.
        asked: DatastoreName,
        /// Comma-separated.
        known: String,
    },
    /// Another VM has the volume.
    #[error("Failed to {verb} volume {name}, in use by VM = {}. It is attached to {holder}; stop its containers there, or see: vdvs volume inspect {name}", .holder.vm)]
    InUse {
        /// What was tried.
        verb: &'static str,
        /// Full name.
        name: VolumeAddress,
        /// Who has it.
        holder: Holder,
    },
    /// The wait for a volume ended.
    #[error(
        "after {waited_ms} ms of waiting, volume {name} is still attached to {holder}; nothing changed. Stop its containers there, or see: vdvs volume inspect {name}"
    )]
    WaitedInVain {
        /// Full name.
        name: VolumeAddress,
        /// Who has it.
        holder: Holder,
        /// How long.
        waited_ms: u64,
    },
    /// A message about an older attachment.
    #[error(
        "epoch {given} of volume {name} was superseded by {current}; the message is late and was ignored"
    )]
    Superseded {
        /// Full name.
        name: VolumeAddress,
        /// Epoch in the message.
        given: Epoch,
        /// Epoch of the record.
        current: Epoch,
    },
    /// The caller's deadline passed while the volume's disk was made.
    #[error(
        "volume {name} is {making}; that goes on without its caller. Ask again with the same options to join it, or see: vdvs volume inspect {name}"
    )]
    StillMaking {
        /// Full name.
        name: VolumeAddress,
        /// `being created: 42 % written`, `being cloned from v@ds: 42 % copied`.
        making: String,
    },
    /// The volume is the source of a clone that is being made.
    #[error(
        "Failed to {verb} volume {name}, in use by its clone {clone}, which is {making}. Wait for it, or see: vdvs volume inspect {clone}"
    )]
    BeingCloned {
        /// What was tried.
        verb: &'static str,
        /// Full name.
        name: VolumeAddress,
        /// The clone.
        clone: String,
        /// `being cloned from v@ds: 42 % copied`.
        making: String,
    },
    /// `clone-from` names no volume.
    #[error(
        "Could not find volume for cloning {asked} (looked on: {looked_on}); docker volume ls shows the volumes there are"
    )]
    NoCloneSource {
        /// As asked.
        asked: VolumeAddress,
        /// The datastores, comma-separated.
        looked_on: String,
    },
    /// The copy did not come to a good end.
    #[error("Failed to clone volume: {source_name} {why}; nothing was made, try again")]
    CloneFailed {
        /// The source.
        source_name: VolumeAddress,
        /// What happened.
        why: String,
    },
    /// The agent stops before the disk was made.
    #[error("volume {name} was not made: the agent is stopping; nothing is left, try again")]
    Stopped {
        /// Full name.
        name: VolumeAddress,
    },
    /// A request id came back with different content.
    #[error(
        "request id {request} was used before for something else; make a fresh id for each request"
    )]
    RequestMismatch {
        /// The id.
        request: String,
    },
    /// Two claimants.
    #[error(
        "volume name {name} is ambiguous: it exists on {datastores}; name one in full: {}",
        in_full(.name, .datastores)
    )]
    Ambiguous {
        /// Short name.
        name: VolumeName,
        /// Comma-separated.
        datastores: String,
    },
    /// What an administrator wrote fits several volumes.
    #[error("'{address}' means more than one volume; write one of these in full, or its id: {}", .candidates.join(", "))]
    SeveralFit {
        /// As asked.
        address: String,
        /// Vmgroup, name, datastore and id of each.
        candidates: Vec<String>,
    },
    /// An administrator protected the volume.
    #[error(
        "Failed to remove volume {name}: it is protected against removal. An administrator of the host lifts that with: vdvs volume unprotect {name}"
    )]
    Protected {
        /// Full name.
        name: VolumeAddress,
    },
    /// A datastore that would have to be read cannot be.
    #[error(
        "datastore {datastore} cannot be read ({why}), so it is not known whether the volume exists there; nothing changed. Bring the datastore back, then try again"
    )]
    DatastoreUnavailable {
        /// The datastore.
        datastore: DatastoreName,
        /// What failed.
        why: String,
    },
    /// The agent's own files take no change: the datastore is full.
    #[error(
        "datastore {datastore} has no space left, not even for what the agent keeps there; what exists is untouched. Free some space, then try again"
    )]
    DatastoreFull {
        /// The datastore.
        datastore: DatastoreName,
    },
    /// An earlier operation on this volume has not been resolved.
    #[error("volume {name} has an unfinished {operation} ({why}); it is being resolved, try again")]
    Unresolved {
        /// Full name.
        name: VolumeAddress,
        /// The verb.
        operation: &'static str,
        /// What stands in the way.
        why: String,
    },
    /// Writers kept overtaking each other.
    #[error("volume {name} is being changed by others; nothing was done, try again")]
    Contended {
        /// Full name.
        name: VolumeAddress,
    },
    /// The volume's record takes no change.
    #[error(
        "the record of volume {name} cannot be written: {why}; nothing was done. Free some space on its datastore, or bring that back, then try again"
    )]
    Unwritten {
        /// Full name.
        name: VolumeAddress,
        /// What failed.
        why: String,
    },
    /// The deadline passed before the point of no return.
    #[error("the deadline passed while {doing}; nothing changed, try again")]
    DeadlinePassed {
        /// What was under way.
        doing: &'static str,
    },
    /// One VM asks for too much at once.
    #[error("too many requests of this VM are under way (at most {limit}); wait for some of them")]
    Overloaded {
        /// The limit.
        limit: usize,
    },
    /// The datastore is full.
    #[error(
        "Failed to create volume: datastore {datastore} has no room for {asked}; free some space or name another datastore"
    )]
    NoSpace {
        /// The datastore.
        datastore: DatastoreName,
        /// What was asked for.
        asked: Capacity,
    },
    /// The VM's controllers are full.
    #[error(
        "Failed to place new disk - The maximum number of supported volumes has been reached. Detach some volumes of VM {vm} first"
    )]
    NoSlot {
        /// The VM.
        vm: String,
    },
    /// The group's total.
    #[error(
        "The total volume size exceeds the usage quota: {} of {} are used, {} more were asked for; an administrator sees who uses it with: vdvs vmgroup show",
        exact(*used),
        exact(*limit),
        exact(*asked)
    )]
    QuotaExceeded {
        /// Used bytes.
        used: u64,
        /// Allowed bytes.
        limit: u64,
        /// Asked bytes.
        asked: u64,
    },
    /// Formatting was asked for where it could destroy data.
    #[error("the volume is not formatted: {why}; nothing was touched")]
    FormatRefused {
        /// Why not.
        why: &'static str,
    },
    /// The volume is not attached to the caller.
    #[error("volume {name} is not attached to this VM; mount it first")]
    NotAttached {
        /// Full name.
        name: VolumeAddress,
    },
    /// A shared file is damaged.
    #[error(
        "{what} is damaged ({why}); nothing was changed. Keep the file and restore it, or remove it after a backup"
    )]
    Damaged {
        /// Which file.
        what: String,
        /// How.
        why: String,
    },
    /// A shared file of a newer version.
    #[error(
        "{what} was written by a newer version (format {found}, this program knows {known}); upgrade this host"
    )]
    NewerFormat {
        /// Which file.
        what: String,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// No common protocol version.
    #[error("guest speaks protocol {guest}, host speaks {host}; upgrade the {upgrade}")]
    VersionMismatch {
        /// Range of the guest.
        guest: String,
        /// Range of the host.
        host: String,
        /// Which side is older.
        upgrade: &'static str,
    },
    /// The hypervisor failed.
    #[error("the host failed to {verb}: {why}; nothing was acknowledged, try again")]
    HostFailed {
        /// What was tried.
        verb: &'static str,
        /// Its words.
        why: String,
    },
    /// A defect.
    #[error("internal error: {0}; please report it with the agent's log")]
    Internal(String),
}

/// `v@ds1 or v@ds2`; what stands in brackets behind a datastore is for people.
fn in_full(name: &VolumeName, datastores: &str) -> String {
    let plain = |ds: &str| ds.split(" (").next().unwrap_or(ds).to_owned();
    let full: Vec<String> = datastores
        .split(", ")
        .map(|ds| format!("{name}@{}", plain(ds)))
        .collect();
    full.join(" or ")
}

impl From<Forbidden> for Error {
    fn from(edge: Forbidden) -> Self {
        Self::Internal(edge.to_string())
    }
}

impl Error {
    /// What programs decide on.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::VolumeNotFound { .. } | Self::AnotherVolume { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::Name(_)
            | Self::Options(_)
            | Self::Invalid { .. }
            | Self::NoCloneSource { .. }
            | Self::DatastoresAlike { .. }
            | Self::NoSuchDatastore { .. } => ErrorKind::InvalidArgument,
            Self::Denied(_) | Self::NotPermittedThere { .. } => ErrorKind::PermissionDenied,
            Self::Access(fault) => fault.kind(),
            Self::Policy(fault) => fault.kind(),
            Self::Config(fault) => fault.kind(),
            Self::UnknownCaller { .. } => ErrorKind::UnknownCaller,
            Self::NotConfigured { .. } | Self::Closed { .. } => ErrorKind::NotConfigured,
            Self::InUse { .. } | Self::NotAttached { .. } | Self::BeingCloned { .. } => {
                ErrorKind::InUse
            }
            Self::WaitedInVain { .. } | Self::DeadlinePassed { .. } | Self::StillMaking { .. } => {
                ErrorKind::Timeout
            }
            Self::Superseded { .. } => ErrorKind::Superseded,
            Self::RequestMismatch { .. } => ErrorKind::RequestMismatch,
            Self::Ambiguous { .. } | Self::SeveralFit { .. } => ErrorKind::Ambiguous,
            Self::Protected { .. } => ErrorKind::PermissionDenied,
            Self::DatastoreUnavailable { .. }
            | Self::DatastoreFull { .. }
            | Self::Unresolved { .. }
            | Self::CloneFailed { .. }
            | Self::Stopped { .. }
            | Self::OnTheMove { .. }
            | Self::Unwritten { .. }
            | Self::Contended { .. } => ErrorKind::Unavailable,
            Self::Overloaded { .. } => ErrorKind::Overloaded,
            Self::NoSpace { .. } | Self::NoSlot { .. } => ErrorKind::NoSpace,
            Self::QuotaExceeded { .. } => ErrorKind::QuotaExceeded,
            Self::FormatRefused { .. } => ErrorKind::FormatRefused,
            Self::Damaged { .. } => ErrorKind::Damaged,
            Self::NewerFormat { .. } => ErrorKind::NewerFormat,
            Self::VersionMismatch { .. } => ErrorKind::VersionMismatch,
            Self::HostFailed { .. } => ErrorKind::HostFailed,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }
}

/// The name of a volume with its datastore, for messages.
#[must_use]
pub fn full_name(name: &VolumeName, datastore: &DatastoreName) -> VolumeAddress {
    VolumeAddress {
        name: name.clone(),
        datastore: Some(datastore.clone()),
    }
}

/// How messages name a volume of which only the id is known.
#[must_use]
pub fn by_id(id: VolumeId) -> String {
    format!("id {id}")
}
