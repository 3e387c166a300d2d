//! `ReconfigVM_Task`.
//!
//! A disk's files are neither made nor destroyed here: no change carries a `fileOperation`.

use tokio::time::Instant;

use super::{Controller, ControllerKind, Disk};
use crate::soap::{Call, Repeat};
use crate::xml::Writer;
use crate::{Client, Error, MoRef, Task};

/// How writes go to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskMode {
    /// At once, and snapshots of the VM leave it out. The default for volumes.
    IndependentPersistent,
    /// At once, and snapshots of the VM contain it.
    Persistent,
    /// Never: what is written is gone at the next power-off. For volumes attached read-only.
    IndependentNonpersistent,
}

impl DiskMode {
    /// The API's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IndependentPersistent => "independent_persistent",
            Self::Persistent => "persistent",
            Self::IndependentNonpersistent => "independent_nonpersistent",
        }
    }
}

/// A change of a VM's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigSpec {
    /// With [`crate::Hardware::change_version`]: refused with `ConcurrentAccess` if the VM was changed since.
    pub change_version: Option<String>,
    /// Devices that come and go. A controller is added alone, in a change of its own.
    pub devices: Vec<DeviceChange>,
    /// Keys of `extraConfig`; an empty value removes a key.
    pub extra_config: Vec<(String, String)>,
}

/// A device that comes or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceChange {
    /// A PVSCSI controller on this bus.
    AddParaVirtual {
        /// Negative, any number that no other change of this spec has.
        key: i32,
        /// 0 to 3.
        bus: i32,
    },
    /// An existing disk.
    AddDisk {
        /// Negative, any number that no other change of this spec has.
        key: i32,
        /// `[datastore] folder/disk.vmdk`.
        file: String,
        /// The controller's key.
        controller_key: i32,
        /// The unit there; never the controller's own.
        unit: i32,
        /// How writes go to it.
        mode: DiskMode,
        /// Most operations a second.
        iops_limit: Option<i64>,
    },
    /// Takes the disk away and leaves its files.
    RemoveDisk(Disk),
    /// Takes a controller without devices away.
    RemoveController(Controller),
    /// A larger size for a disk the VM has, for the guest to see.
    GrowDisk {
        /// The disk as it is.
        disk: Disk,
        /// Its new size.
        capacity_bytes: u64,
    },
    /// Another limit for a disk the VM has.
    LimitDisk {
        /// The disk as it is.
        disk: Disk,
        /// Most operations a second, -1 for no limit.
        iops_limit: i64,
    },
}

impl ConfigSpec {
    /// One change of devices.
    #[must_use]
    pub fn device(change: DeviceChange) -> Self {
        Self {
            devices: vec![change],
            ..Self::default()
        }
    }

    fn write(&self, w: &mut Writer) {
        if let Some(version) = &self.change_version {
            w.text("changeVersion", version);
        }
        for change in &self.devices {
            w.typed("deviceChange", "VirtualDeviceConfigSpec", |w| {
                change.write(w);
            });
        }
        for (key, value) in &self.extra_config {
            w.typed("extraConfig", "OptionValue", |w| {
                w.text("key", key);
                w.any("value", "xsd:string", value);
            });
        }
    }
}

impl DeviceChange {
    fn write(&self, w: &mut Writer) {
        match self {
            Self::AddParaVirtual { key, bus } => {
                w.text("operation", "add");
                w.typed("device", "ParaVirtualSCSIController", |w| {
                    w.number("key", *key);
                    w.number("busNumber", *bus);
                    w.text("sharedBus", "noSharing");
                });
            }
            Self::AddDisk {
                key,
                file,
                controller_key,
                unit,
                mode,
                iops_limit,
            } => {
                w.text("operation", "add");
                w.typed("device", "VirtualDisk", |w| {
                    w.number("key", *key);
                    backing(w, file, mode.as_str());
                    w.number("controllerKey", *controller_key);
                    w.number("unitNumber", *unit);
                    // Required by the schema; hostd takes the size from the file.
                    w.number("capacityInKB", 0);
                    if let Some(limit) = iops_limit {
                        allocation(w, *limit);
                    }
                });
            }
            Self::RemoveDisk(disk) => {
                w.text("operation", "remove");
                write_disk(w, disk, disk.capacity_bytes, None);
            }
            Self::RemoveController(controller) => {
                w.text("operation", "remove");
                write_controller(w, controller);
            }
            Self::GrowDisk {
                disk,
                capacity_bytes,
            } => {
                w.text("operation", "edit");
                write_disk(w, disk, *capacity_bytes, disk.iops_limit);
            }
            Self::LimitDisk { disk, iops_limit } => {
                w.text("operation", "edit");
                write_disk(w, disk, disk.capacity_bytes, Some(*iops_limit));
            }
        }
    }
}

fn backing(w: &mut Writer, file: &str, mode: &str) {
    w.typed("backing", "VirtualDiskFlatVer2BackingInfo", |w| {
        w.text("fileName", file);
        w.text("diskMode", mode);
    });
}

fn allocation(w: &mut Writer, limit: i64) {
    w.element("storageIOAllocation", |w| {
        w.number("limit", limit);
    });
}

/// A disk the VM has, as far as hostd identifies it by.
fn write_disk(w: &mut Writer, disk: &Disk, capacity_bytes: u64, iops_limit: Option<i64>) {
    w.typed("device", "VirtualDisk", |w| {
        w.number("key", disk.key);
        let flat = disk.backing.kind == "VirtualDiskFlatVer2BackingInfo";
        if let (true, Some(file)) = (flat, &disk.backing.file) {
            let mode = disk.backing.mode.as_deref().unwrap_or_default();
            backing(w, file, mode);
        }
        if let Some(key) = disk.controller_key {
            w.number("controllerKey", key);
        }
        if let Some(unit) = disk.unit {
            w.number("unitNumber", unit);
        }
        w.number("capacityInKB", capacity_bytes / 1024);
        w.number("capacityInBytes", capacity_bytes);
        if let Some(limit) = iops_limit {
            allocation(w, limit);
        }
    });
}

fn write_controller(w: &mut Writer, controller: &Controller) {
    let inside = |w: &mut Writer| {
        w.number("key", controller.key);
        w.number("busNumber", controller.bus.unwrap_or_default());
        w.text("sharedBus", "noSharing");
    };
    match controller.kind {
        ControllerKind::ParaVirtual => w.typed("device", "ParaVirtualSCSIController", inside),
        // hostd finds it by its key.
        ControllerKind::OtherScsi(_) | ControllerKind::Other(_) => {
            w.typed("device", "VirtualSCSIController", inside)
        }
    };
}

impl Client {
    /// `ReconfigVM_Task`.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn reconfig_vm(
        &self,
        vm: &MoRef,
        spec: &ConfigSpec,
        deadline: Instant,
    ) -> Result<Task, Error> {
        let call = Call::new("ReconfigVM_Task", Repeat::Never, vm, |w| {
            w.element("spec", |w| spec.write(w));
        });
        self.start(call, deadline).await
    }
}
