//! Every failure a caller can see, and the one table that maps it to the wire, to scripts and to the shell.
//!
//! [`Error`] says what happened, with the facts, and what to do next. [`ErrorKind`] is what programs decide on: each
//! kind has one row in [`ErrorKind::row`] with its gRPC code, its stable machine string (`reason` on the wire), the
//! exit code of the command line and whether trying again may help. `docs/error-codes.md` is made from the table, and
//! a test compares the two.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::access::{Denied, Fault};
use crate::capacity::Capacity;
use crate::governing::ConfigFault;
use crate::ids::{Epoch, Timestamp, VolumeId};
use crate::names::{DatastoreName, NameError, VolumeAddress, VolumeName};
use crate::options::{OptionError, listed};
use crate::ownership::Forbidden;
use crate::policy::PolicyFault;
use crate::suggest;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The kind.
    pub kind: ErrorKind,
    /// gRPC status code (its number in the gRPC specification).
    pub grpc: u8,
    /// Stable machine string.
    pub reason: &'static str,
    /// Exit code of `vdvs`.
    pub exit: u8,
    /// Whether the same request may succeed later without anybody changing it.
    pub retry: bool,
    /// When it happens, for the documentation.
    pub when: &'static str,
}

macro_rules! kinds {
    ($($kind:ident = $grpc:literal, $reason:literal, $exit:literal, $retry:literal, $when:literal;)+) => {
        /// What kind of failure an [`Error`] is. The set only grows; strings and numbers never change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        pub enum ErrorKind {
            $(#[doc = $when] $kind,)+
        }

        impl ErrorKind {
            /// All kinds, in the order of the table.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$kind,)+];

            /// The kind's row.
            #[must_use]
            pub const fn row(self) -> Row {
                match self {
                    $(ErrorKind::$kind => Row {
                        kind: ErrorKind::$kind, grpc: $grpc, reason: $reason, exit: $exit,
                        retry: $retry, when: $when,
                    },)+
                }
            }
        }
    };
}

kinds! {
    NotFound = 5, "NOT_FOUND", 3, false, "No volume of that name, after a fresh look at every datastore where it could be; or no such vmgroup, VM, privilege or policy.";
    AlreadyExists = 6, "ALREADY_EXISTS", 4, false, "A volume of that name exists with other options; or a vmgroup, member, privilege or policy exists already.";
    InvalidArgument = 3, "INVALID_ARGUMENT", 2, false, "A name, size, option or message that is malformed.";
    PermissionDenied = 7, "PERMISSION_DENIED", 5, false, "The caller's vmgroup may not do this on that datastore.";
    UnknownCaller = 16, "UNKNOWN_CALLER", 5, false, "The hypervisor could not say which VM is calling, or two VMs claim one identity.";
    NotConfigured = 9, "NOT_CONFIGURED", 5, false, "The datastore is governed by a configuration this host does not have; access is closed.";
    InUse = 9, "IN_USE", 6, true, "The volume is attached to another VM, or mounted.";
    Superseded = 10, "SUPERSEDED", 6, false, "The message speaks of an attachment that a newer one replaced.";
    RequestMismatch = 3, "REQUEST_MISMATCH", 2, false, "A request id was used twice for different things.";
    Conflict = 9, "CONFLICT", 4, false, "What there is does not allow the change: a vmgroup that is not empty, a VM of another vmgroup, a privilege that is needed.";
    Ambiguous = 9, "AMBIGUOUS", 4, false, "Two things have that name: volumes on two datastores, or VMs.";
    Unavailable = 14, "UNAVAILABLE", 7, true, "The answer is not known now: a datastore, the host or an unfinished operation stands in the way.";
    Timeout = 4, "TIMEOUT", 7, true, "The wait ended before the volume was free.";
    Overloaded = 8, "OVERLOADED", 7, true, "Too many requests of this VM are under way.";
    NoSpace = 8, "NO_SPACE", 8, false, "The datastore, or the VM's controllers, are full.";
    QuotaExceeded = 8, "QUOTA_EXCEEDED", 8, false, "The vmgroup's total on that datastore would be exceeded.";
    FormatRefused = 9, "FORMAT_REFUSED", 9, false, "Formatting could destroy data.";
    Damaged = 15, "DAMAGED", 9, false, "A record or disk is damaged; nothing was changed.";
    NewerFormat = 12, "NEWER_FORMAT", 9, false, "A newer version of this program wrote that; this one leaves it untouched.";
    VersionMismatch = 12, "VERSION_MISMATCH", 10, false, "Guest and host speak no common protocol version.";
    HostFailed = 14, "HOST_FAILED", 7, true, "The hypervisor refused or failed a call.";
    Internal = 13, "INTERNAL", 1, false, "A defect of this program.";
}

impl ErrorKind {
    /// The kind with this machine string.
    #[must_use]
    pub fn from_reason(reason: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|k| k.row().reason == reason)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().reason)
    }
}

/// Who holds a volume, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// VM.
    pub vm: Box<str>,
    /// Host it runs on, as far as known.
    pub host: Box<str>,
    /// Since when; the default where nobody knows.
    pub since: Timestamp,
    /// What else matters about it, as a subordinate clause without its comma; mostly empty.
    pub note: &'static str,
}

impl Holder {
    /// A holder that only the hypervisor knows of.
    #[must_use]
    pub fn seen_by_the_lock(who: &str) -> Self {
        Self {
            vm: who.into(),
            host: Box::default(),
            since: Timestamp::default(),
            note: "",
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VM {}", self.vm)?;
        if !self.host.is_empty() {
            write!(f, " on host {}", self.host)?;
        }
        if self.since != Timestamp::default() {
            write!(f, " since {}", self.since)?;
        }
        if !self.note.is_empty() {
            write!(f, ", {}", self.note)?;
        }
        Ok(())
    }
}

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
        "The total volume size exceeds the usage quota: {used} of {limit} bytes are used, {asked} more were asked for"
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
            Self::VolumeNotFound { .. } => ErrorKind::NotFound,
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
            | Self::Unresolved { .. }
            | Self::CloneFailed { .. }
            | Self::Stopped { .. }
            | Self::OnTheMove { .. }
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

/// The table as Markdown: the body of `docs/error-codes.md`.
#[must_use]
pub fn table_as_markdown() -> String {
    let mut out = String::from(
        "| reason | gRPC code | exit code | try again | when |\n|---|---|---|---|---|\n",
    );
    for kind in ErrorKind::ALL {
        let row = kind.row();
        let retry = if row.retry { "yes" } else { "no" };
        out.push_str(&format!(
            "| `{}` | {} | {} | {retry} | {} |\n",
            row.reason, row.grpc, row.exit, row.when
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn machine_strings_are_unique_and_found_again() {
        let reasons: HashSet<_> = ErrorKind::ALL.iter().map(|k| k.row().reason).collect();
        assert_eq!(reasons.len(), ErrorKind::ALL.len());
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_reason(kind.row().reason), Some(*kind));
            assert!((1..=16).contains(&kind.row().grpc), "{kind}");
            assert!(kind.row().exit != 0, "{kind}");
        }
    }

    #[test]
    fn the_documentation_lists_this_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/error-codes.md");
        let doc = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            doc.contains(&table_as_markdown()),
            "docs/error-codes.md differs from the table; it should contain:\n{}",
            table_as_markdown()
        );
    }
}
