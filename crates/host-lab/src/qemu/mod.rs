//! VMs that are QEMU processes: what QEMU is asked, over its QMP socket, and what its locks on disk files say.
//!
//! ```text
//!   lab runner ── starts QEMU, CPUs stopped ─► power_on(pid) ─► disks plugged ─► `cont`
//!   attach   blockdev-add (the descriptor; QEMU takes its lock) ─► device_add scsi-hd on the PVSCSI controller
//!   detach   device_del ─► DEVICE_DELETED ─► blockdev-del (closes the files, the lock goes)      also: fence
//!   suspend  stop ─► blockdev-set-active false (locks go)        resume: active (locks taken again) ─► cont
//! ```
//!
//! Invariants:
//! * What QEMU has plugged is asked of QEMU, never remembered across a start of ours: its devices are named after
//!   their place, so configuration and machine can be compared.
//! * QEMU never waits for the guest when a disk on a PVSCSI controller is removed: removing is fencing, and when the
//!   files are closed no byte of the disk changes any more.
//! * Every wait has a limit. A command that was sent and not answered has an unknown outcome; looking tells.
//!
//! Nothing here starts a process: the lab runner does.

mod lock;
mod machine;
mod qmp;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use lock::{Use, in_use};
pub(crate) use machine::{Disk, Machine};
pub use qmp::{Qmp, QmpError};

/// Places on a controller; 7 is the controller itself.
pub(crate) const PER_CONTROLLER: u32 = 16;

/// The part of `vm.json` that makes a VM one of this kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QemuVm {
    /// QEMU's monitor for labhv; a monitor serves one client at a time.
    pub qmp: PathBuf,
    /// Its PVSCSI controllers, in the order of the places on them.
    pub controllers: Vec<Controller>,
}

/// A PVSCSI controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controller {
    /// Its id on QEMU's command line.
    pub id: String,
    /// Its slot as the guest's kernel numbers it: what ESXi calls `pciSlotNumber`.
    pub pci_slot: u32,
}

/// Where the guest finds a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The controller's slot.
    pub pci_slot: u32,
    /// Target on it.
    pub target: u8,
}

impl QemuVm {
    /// How many places there are, the controllers' own among them.
    pub(crate) fn units(&self) -> u32 {
        u32::try_from(self.controllers.len())
            .unwrap_or(u32::MAX)
            .saturating_mul(PER_CONTROLLER)
    }

    /// The controller of a place and the target on it.
    pub(crate) fn controller(&self, unit: u32) -> Option<(&Controller, u8)> {
        let index = usize::try_from(unit / PER_CONTROLLER).ok()?;
        let target = u8::try_from(unit % PER_CONTROLLER).ok()?;
        Some((self.controllers.get(index)?, target))
    }

    /// As the guest is told.
    pub(crate) fn place(&self, unit: u32) -> Option<Place> {
        let (controller, target) = self.controller(unit)?;
        Some(Place {
            pci_slot: controller.pci_slot,
            target,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_controllers_slot_and_a_target() {
        let controller = |id: &str, pci_slot| Controller {
            id: id.to_owned(),
            pci_slot,
        };
        let vm = QemuVm {
            qmp: "/x".into(),
            controllers: vec![controller("scsi0", 160), controller("scsi1", 17)],
        };
        let place = |unit| vm.place(unit).map(|p| (p.pci_slot, p.target));
        assert_eq!(place(3), Some((160, 3)));
        assert_eq!(place(16), Some((17, 0)));
        assert_eq!(place(32), None);
        assert_eq!(vm.units(), 32);
    }
}
