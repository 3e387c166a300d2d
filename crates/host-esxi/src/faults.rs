//! What hostd's faults mean to the engine. Decided by types and keys, never by texts.

use vdvs_engine::ports::{HostError, StorageError};
use vdvs_vim::{Effect, Error, Fault, FaultKind};

/// Said beside a refusal for lack of rights.
const LOCKDOWN: &str =
    "; in lockdown mode only exception users and dcui may use the host's API: see 'vdvsd --probe'";

/// A failed call about a VM, and a disk where there is one.
pub(crate) fn host(error: &Error, vm: &str, disk: &str) -> HostError {
    if error.effect() == Effect::Unknown {
        return HostError::NoAnswer {
            why: error.to_string(),
        };
    }
    let Some(fault) = error.fault() else {
        return HostError::Failed {
            why: error.to_string(),
        };
    };
    if fault.says_locked() {
        return HostError::Locked {
            holder: words(fault),
        };
    }
    match &fault.kind {
        FaultKind::ManagedObjectNotFound { .. } => HostError::NoSuchVm { vm: vm.to_owned() },
        FaultKind::FileNotFound { .. } => HostError::NoSuchDisk {
            disk: disk.to_owned(),
        },
        FaultKind::InvalidPowerState { .. } => HostError::PoweredOff { vm: vm.to_owned() },
        FaultKind::TooManyDevices { .. } => HostError::NoSlot { vm: vm.to_owned() },
        FaultKind::ResourceInUse => HostError::Busy,
        _ => HostError::Failed {
            why: why(error, fault),
        },
    }
}

/// A failed call about something on a datastore; `place` names it.
pub(crate) fn storage(error: &Error, place: &str) -> StorageError {
    let Some(fault) = error.fault() else {
        return StorageError::Io(error.to_string());
    };
    if fault.says_locked() {
        return StorageError::Busy(words(fault));
    }
    match &fault.kind {
        FaultKind::FileNotFound { .. } => StorageError::NotFound(place.to_owned()),
        FaultKind::FileAlreadyExists { .. } => StorageError::AlreadyExists(place.to_owned()),
        FaultKind::NoDiskSpace { .. } => StorageError::NoSpace,
        FaultKind::RequestCanceled => StorageError::Stopped,
        _ => StorageError::Io(format!("{place}: {}", why(error, fault))),
    }
}

fn why(error: &Error, fault: &Fault) -> String {
    match fault.kind {
        FaultKind::NoPermission { .. } | FaultKind::RestrictedByAdministrator => {
            format!("{error}{LOCKDOWN}")
        }
        _ => error.to_string(),
    }
}

/// The host's own words for a lock it would not get.
fn words(fault: &Fault) -> String {
    let told = fault
        .details
        .iter()
        .map(|d| d.message.as_str())
        .find(|m| !m.is_empty());
    match told.unwrap_or(&fault.message) {
        "" => "somebody the host does not name".to_owned(),
        text => format!("somebody else ({text})"),
    }
}

/// The object is not known any more: hostd restarted, or it was removed. Look it up again.
pub(crate) fn is_gone(error: &Error) -> bool {
    error.fault().is_some_and(Fault::is_object_gone)
}

/// The session was lost, or somebody else changes the same VM now; nothing was done, so it may be tried again.
pub(crate) fn is_worth_another_try(error: &Error) -> bool {
    error.is_session_lost()
        || error.fault().is_some_and(|f| {
            matches!(
                f.kind,
                FaultKind::TaskInProgress | FaultKind::ConcurrentAccess
            )
        })
}

/// The host does not take this device there.
pub(crate) fn is_bad_place(error: &Error) -> bool {
    error.fault().is_some_and(|f| match &f.kind {
        FaultKind::TooManyDevices { .. } => true,
        FaultKind::InvalidDevice { name, .. } => {
            name == "InvalidDeviceSpec" || name == "InvalidController"
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use vdvs_vim::{FaultDetail, Lost};

    use super::*;

    fn refused(kind: FaultKind) -> Error {
        Error::Refused {
            call: "ReconfigVM_Task",
            fault: Box::new(Fault {
                kind,
                message: String::new(),
                details: Vec::new(),
            }),
        }
    }

    #[test]
    fn only_a_call_that_went_out_has_an_unknown_outcome() {
        let lost = Error::Unknown {
            call: "ReconfigVM_Task",
            why: Lost::Deadline,
        };
        assert!(host(&lost, "vm", "disk").outcome_is_unknown());
        assert!(!host(&refused(FaultKind::InvalidState), "vm", "disk").outcome_is_unknown());
    }

    #[test]
    fn a_disk_that_cannot_be_locked_is_an_ordinary_answer() {
        let error = Error::Refused {
            call: "ReconfigVM_Task",
            fault: Box::new(Fault {
                kind: FaultKind::VmConfigFault {
                    name: "GenericVmConfigFault".to_owned(),
                },
                message: "x".to_owned(),
                details: vec![FaultDetail {
                    key: "msg.fileio.lock".to_owned(),
                    message: "Failed to lock the file".to_owned(),
                }],
            }),
        };
        let HostError::Locked { holder } = host(&error, "vm", "disk") else {
            panic!("{error}");
        };
        assert!(holder.contains("Failed to lock the file"));
        assert!(matches!(storage(&error, "x"), StorageError::Busy(_)));
    }

    #[test]
    fn a_refusal_for_lack_of_rights_names_lockdown_mode() {
        let error = refused(FaultKind::NoPermission { privilege: None });
        assert!(host(&error, "vm", "disk").to_string().contains("lockdown"));
    }
}
