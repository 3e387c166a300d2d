//! A VM's device list, read as disks that volumes know.

use vdvs_domain::ownership::Locator;
use vdvs_engine::ports::DiskPath;
use vdvs_vim::{Disk, DiskMode, Hardware, plain_uuid};

use crate::stores::Stores;

/// A disk of a VM, and which one it is.
#[derive(Debug, Clone)]
pub(crate) struct Mine {
    pub(crate) disk: Disk,
    pub(crate) path: DiskPath,
}

/// The disks in a device list that are files on this host's datastores.
pub(crate) async fn disks(stores: &Stores, hardware: &Hardware) -> Vec<Mine> {
    let mut found = Vec::new();
    for disk in hardware.disks() {
        let Some(file) = base(disk) else { continue };
        let Some(path) = stores.names.disk(&stores.catalog, file).await else {
            continue;
        };
        let uuid = disk.backing.uuid.as_deref().and_then(plain_uuid);
        let path = match uuid {
            Some(uuid) => stores.moved.original(&stores.catalog, path, &uuid).await,
            None => path,
        };
        found.push(Mine {
            disk: disk.clone(),
            path,
        });
    }
    found
}

/// The disk itself: the end of the chain, where snapshots put deltas before it.
fn base(disk: &Disk) -> Option<&str> {
    let backing = &disk.backing;
    backing
        .parents
        .last()
        .or(backing.file.as_ref())
        .map(String::as_str)
}

/// Whether a snapshot put a delta before the disk: it cannot be taken out then.
pub(crate) fn has_delta(disk: &Disk) -> bool {
    !disk.backing.parents.is_empty()
}

/// Whether what the guest writes never reaches the disk.
pub(crate) fn is_read_only(disk: &Disk) -> bool {
    disk.backing.mode.as_deref() == Some(DiskMode::IndependentNonpersistent.as_str())
}

/// Where the guest finds a disk. None: the host does not say yet.
pub(crate) fn locator(hardware: &Hardware, disk: &Disk) -> Option<Locator> {
    let controller = hardware
        .controllers()
        .find(|c| Some(c.key) == disk.controller_key)?;
    let slot = controller
        .pci_slot
        .or_else(|| hardware.scsi_pci_slot(controller.bus?))?;
    Some(Locator::Scsi {
        controller_pci_slot: u32::try_from(slot).ok()?,
        target: u8::try_from(disk.unit?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use vdvs_vim::{Backing, Controller, ControllerKind, Device};

    use super::*;

    fn hardware(slot: Option<i32>) -> Hardware {
        Hardware {
            devices: vec![Device::Controller(Controller {
                key: 1001,
                kind: ControllerKind::ParaVirtual,
                bus: Some(1),
                own_unit: Some(7),
                devices: Vec::new(),
                pci_slot: slot,
            })],
            ..Hardware::default()
        }
    }

    fn disk() -> Disk {
        Disk {
            controller_key: Some(1001),
            unit: Some(3),
            ..Disk::default()
        }
    }

    #[test]
    fn the_guest_is_told_slot_and_target() {
        let here = |slot| {
            Some(Locator::Scsi {
                controller_pci_slot: slot,
                target: 3,
            })
        };
        assert_eq!(locator(&hardware(Some(192)), &disk()), here(192));
        let mut older = hardware(None);
        assert_eq!(
            locator(&older, &disk()),
            None,
            "not before the host says it"
        );
        older
            .extra_config
            .push(("scsi1.pciSlotNumber".to_owned(), "1184".to_owned()));
        assert_eq!(locator(&older, &disk()), here(1184));
    }

    #[test]
    fn a_disk_below_snapshots_is_the_end_of_the_chain() {
        let mut disk = disk();
        disk.backing = Backing {
            file: Some("[ds] a/v-000002.vmdk".to_owned()),
            parents: vec![
                "[ds] a/v-000001.vmdk".to_owned(),
                "[ds] a/v.vmdk".to_owned(),
            ],
            ..Backing::default()
        };
        assert_eq!(base(&disk), Some("[ds] a/v.vmdk"));
    }
}
