//! Faults: what hostd answers when it refuses a call, and what a failed task ends with.
//!
//! The kinds the callers tell apart have a variant; every other fault keeps its type's name. Texts are for people only:
//! nothing is decided by them.

use std::fmt;

use crate::MoRef;
use crate::xml::Element;

/// Longest text kept of a fault. Enough for a person, bounded because a peer writes it.
const LONGEST_TEXT: usize = 1024;

/// Messages kept of one fault.
const MOST_DETAILS: usize = 8;

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub kind: FaultKind,
    /// The host's words.
    pub message: String,
    /// What the host adds: keys are stable, texts are not.
    pub details: Vec<FaultDetail>,
}

/// One of the messages a fault carries with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultDetail {
    /// Stable key, as `msg.fileio.lock`.
    pub key: String,
    /// The host's words.
    pub message: String,
}

/// Which fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    /// The session is gone.
    NotAuthenticated,
    /// User or password is wrong.
    InvalidLogin,
    /// The user may not do this; for every call of a host in lockdown mode.
    NoPermission {
        /// What was missing.
        privilege: Option<String>,
    },
    /// A lockdown or another rule of the host forbids it.
    RestrictedByAdministrator,
    /// The object does not exist, or does not any more.
    ManagedObjectNotFound {
        /// Which.
        object: Option<MoRef>,
    },
    /// No such file.
    FileNotFound {
        /// Which, where the host says.
        file: Option<String>,
    },
    /// The file is there already.
    FileAlreadyExists {
        /// Which, where the host says.
        file: Option<String>,
    },
    /// Somebody has the file open.
    FileLocked {
        /// Which, where the host says.
        file: Option<String>,
    },
    /// The file cannot be reached, made, written or deleted.
    FileFault {
        /// The exact type: `CannotAccessFile`, `CannotCreateFile`, `CannotDeleteFile`, `FileFault`.
        name: String,
        /// Which, where the host says.
        file: Option<String>,
    },
    /// The datastore is full.
    NoDiskSpace {
        /// Which, where the host says.
        datastore: Option<String>,
    },
    /// The folder is not empty.
    DirectoryNotEmpty,
    /// No such datastore, or not a path on one.
    InvalidDatastore {
        /// The exact type: `InvalidDatastore`, `InvalidDatastorePath`.
        name: String,
    },
    /// A change of a VM's devices was refused.
    InvalidDevice {
        /// The exact type: `InvalidDeviceSpec`, `InvalidController`, `InvalidDeviceBacking`, …
        name: String,
        /// Which change of the request.
        index: Option<u32>,
        /// Which of its properties.
        property: Option<String>,
    },
    /// No free unit on the controller, or no free bus.
    TooManyDevices {
        /// The exact type: `TooManyDevices`, `NoAvailableUnits`, `ControllerFull`.
        name: String,
    },
    /// Not in this power state.
    InvalidPowerState {
        /// The state it is in.
        existing: Option<String>,
    },
    /// Not in this state.
    InvalidState,
    /// Another change of the same object runs.
    TaskInProgress,
    /// The object was changed since it was read.
    ConcurrentAccess,
    /// The object is in use.
    ResourceInUse,
    /// The name is taken.
    NameTaken {
        /// The exact type: `DuplicateName`, `AlreadyExists`.
        name: String,
    },
    /// What was asked for is not there.
    NotFound,
    /// An argument is wrong.
    InvalidArgument {
        /// Which.
        property: Option<String>,
    },
    /// This host does not have it: `NotSupported`, `NotImplemented`, `MethodNotFound`, `InvalidRequest` and the like.
    NotSupported {
        /// The exact type.
        name: String,
    },
    /// Somebody cancelled the call or the task.
    RequestCanceled,
    /// It took the host too long.
    TimedOut,
    /// The configuration of a VM could not be changed for a reason that only `details` tell.
    VmConfigFault {
        /// The exact type: `GenericVmConfigFault`, `VmConfigFault`, `CannotAccessVmDisk`, …
        name: String,
    },
    /// A version of `WaitForUpdatesEx` the host does not know any more.
    InvalidCollectorVersion,
    /// The host failed.
    SystemError {
        /// Its reason.
        reason: String,
    },
    /// Any other.
    Unknown {
        /// Its type.
        name: String,
    },
}

impl Fault {
    /// Reads a fault of type `name` from its element.
    pub(crate) fn read(name: &str, fault: &Element, message: &str) -> Self {
        let details = fault
            .all("faultMessage")
            .take(MOST_DETAILS)
            .map(|m| FaultDetail {
                key: cut(m.text_of("key").unwrap_or_default()),
                message: cut(m.text_of("message").unwrap_or_default()),
            })
            .collect();
        Self {
            kind: kind(name, fault),
            message: cut(message),
            details,
        }
    }

    /// The fault's type, in the host's spelling.
    #[must_use]
    pub fn name(&self) -> &str {
        self.kind.name()
    }

    /// The session is gone: the call had no effect and works again after a login.
    #[must_use]
    pub const fn is_not_authenticated(&self) -> bool {
        matches!(self.kind, FaultKind::NotAuthenticated)
    }

    /// The object is gone (or hostd restarted and calls it by another name now).
    #[must_use]
    pub const fn is_object_gone(&self) -> bool {
        matches!(self.kind, FaultKind::ManagedObjectNotFound { .. })
    }

    /// Somebody has the disk open, as far as types and keys of messages say it.
    #[must_use]
    pub fn says_locked(&self) -> bool {
        let by_key = |d: &FaultDetail| {
            let key = d.key.to_ascii_lowercase();
            key.contains("lock") && !key.contains("block")
        };
        matches!(self.kind, FaultKind::FileLocked { .. }) || self.details.iter().any(by_key)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        for detail in &self.details {
            if !detail.message.is_empty() && detail.message != self.message {
                write!(f, " ({})", detail.message)?;
            }
        }
        Ok(())
    }
}

impl FaultKind {
    /// The fault's type, in the host's spelling.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::NotAuthenticated => "NotAuthenticated",
            Self::InvalidLogin => "InvalidLogin",
            Self::NoPermission { .. } => "NoPermission",
            Self::RestrictedByAdministrator => "RestrictedByAdministrator",
            Self::ManagedObjectNotFound { .. } => "ManagedObjectNotFound",
            Self::FileNotFound { .. } => "FileNotFound",
            Self::FileAlreadyExists { .. } => "FileAlreadyExists",
            Self::FileLocked { .. } => "FileLocked",
            Self::NoDiskSpace { .. } => "NoDiskSpace",
            Self::DirectoryNotEmpty => "DirectoryNotEmpty",
            Self::InvalidPowerState { .. } => "InvalidPowerState",
            Self::InvalidState => "InvalidState",
            Self::TaskInProgress => "TaskInProgress",
            Self::ConcurrentAccess => "ConcurrentAccess",
            Self::ResourceInUse => "ResourceInUse",
            Self::NotFound => "NotFound",
            Self::InvalidArgument { .. } => "InvalidArgument",
            Self::RequestCanceled => "RequestCanceled",
            Self::TimedOut => "Timedout",
            Self::InvalidCollectorVersion => "InvalidCollectorVersion",
            Self::SystemError { .. } => "SystemError",
            Self::FileFault { name, .. }
            | Self::InvalidDatastore { name }
            | Self::InvalidDevice { name, .. }
            | Self::TooManyDevices { name }
            | Self::NameTaken { name }
            | Self::NotSupported { name }
            | Self::VmConfigFault { name }
            | Self::Unknown { name } => name,
        }
    }
}

fn kind(name: &str, fault: &Element) -> FaultKind {
    let text = |field: &str| fault.text_of(field).filter(|t| !t.is_empty()).map(cut);
    let file = || text("file");
    let exact = || cut(name);
    match name {
        "NotAuthenticated" => FaultKind::NotAuthenticated,
        "InvalidLogin" => FaultKind::InvalidLogin,
        "NoPermission" => FaultKind::NoPermission {
            privilege: text("privilegeId"),
        },
        "RestrictedByAdministrator" | "HostAccessRestrictedToManagementServer" => {
            FaultKind::RestrictedByAdministrator
        }
        "ManagedObjectNotFound" => FaultKind::ManagedObjectNotFound {
            object: fault.child("obj").and_then(Element::moref),
        },
        "FileNotFound" => FaultKind::FileNotFound { file: file() },
        "FileAlreadyExists" => FaultKind::FileAlreadyExists { file: file() },
        "FileLocked" => FaultKind::FileLocked { file: file() },
        "NoDiskSpace" => FaultKind::NoDiskSpace {
            datastore: text("datastore"),
        },
        "DirectoryNotEmpty" => FaultKind::DirectoryNotEmpty,
        "FileFault" | "CannotAccessFile" | "CannotCreateFile" | "CannotDeleteFile"
        | "FileNotWritable" | "FileNameTooLong" | "FileTooLarge" => FaultKind::FileFault {
            name: exact(),
            file: file(),
        },
        "InvalidDatastore" | "InvalidDatastorePath" | "DatastoreNotWritableOnHost" => {
            FaultKind::InvalidDatastore { name: exact() }
        }
        "InvalidDeviceSpec"
        | "InvalidController"
        | "InvalidDeviceBacking"
        | "InvalidDeviceOperation"
        | "MissingController"
        | "DeviceNotFound"
        | "DeviceNotSupported"
        | "UnsupportedDatastore"
        | "DeviceHotPlugNotSupported" => FaultKind::InvalidDevice {
            name: exact(),
            index: text("deviceIndex").and_then(|t| t.parse().ok()),
            property: text("property"),
        },
        "TooManyDevices" | "NoAvailableUnits" | "ControllerFull" => {
            FaultKind::TooManyDevices { name: exact() }
        }
        "InvalidPowerState" => FaultKind::InvalidPowerState {
            existing: text("existingState"),
        },
        "InvalidState" => FaultKind::InvalidState,
        "TaskInProgress" | "VAppTaskInProgress" => FaultKind::TaskInProgress,
        "ConcurrentAccess" => FaultKind::ConcurrentAccess,
        "ResourceInUse" => FaultKind::ResourceInUse,
        "DuplicateName" | "AlreadyExists" => FaultKind::NameTaken { name: exact() },
        "NotFound" => FaultKind::NotFound,
        "InvalidArgument" => FaultKind::InvalidArgument {
            property: text("invalidProperty"),
        },
        "NotSupported" | "NotImplemented" | "MethodNotFound" | "InvalidRequest" | "InvalidType"
        | "InvalidProperty" | "NotEnoughLicenses" => FaultKind::NotSupported { name: exact() },
        "RequestCanceled" => FaultKind::RequestCanceled,
        "Timedout" => FaultKind::TimedOut,
        "GenericVmConfigFault"
        | "VmConfigFault"
        | "CannotAccessVmDisk"
        | "CannotAccessVmDevice"
        | "InvalidVmConfig"
        | "CannotAccessVmComponent" => FaultKind::VmConfigFault { name: exact() },
        "InvalidCollectorVersion" => FaultKind::InvalidCollectorVersion,
        "SystemError" => FaultKind::SystemError {
            reason: text("reason").unwrap_or_default(),
        },
        _ => FaultKind::Unknown { name: exact() },
    }
}

fn cut(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST_TEXT)
        .collect()
}
