//! A VM's devices, as far as disks need them.

use tokio::time::Instant;

use crate::xml::Element;
use crate::{Client, Error, MoRef, Properties};

/// `config`, as far as disks need it, read at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hardware {
    /// `config.changeVersion`: give it to [`crate::ConfigSpec`] to be refused when somebody was faster.
    pub change_version: String,
    /// `config.version`: virtual hardware, as `vmx-19`.
    pub version: String,
    /// The devices.
    pub devices: Vec<Device>,
    /// `config.extraConfig`: keys and values, as `scsi0.pciSlotNumber`.
    pub extra_config: Vec<(String, String)>,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// A disk.
    Disk(Disk),
    /// A controller.
    Controller(Controller),
    /// Anything else, by type.
    Other {
        /// Key.
        key: i32,
        /// Its type.
        kind: String,
        /// The controller it is at.
        controller_key: Option<i32>,
        /// Its unit there.
        unit: Option<i32>,
    },
}

/// A disk of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disk {
    /// Key.
    pub key: i32,
    /// The controller it is at.
    pub controller_key: Option<i32>,
    /// Its unit there.
    pub unit: Option<i32>,
    /// Size.
    pub capacity_bytes: u64,
    /// What is behind it.
    pub backing: Backing,
    /// `storageIOAllocation.limit`: IOPS, -1 for none.
    pub iops_limit: Option<i64>,
}

/// What is behind a disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backing {
    /// The backing's type: `VirtualDiskFlatVer2BackingInfo` for ordinary disks.
    pub kind: String,
    /// `[datastore] folder/disk.vmdk`; a snapshot's delta where there is one.
    pub file: Option<String>,
    /// The chain below, nearest first: the file itself is not in it.
    pub parents: Vec<String>,
    /// The datastore.
    pub datastore: Option<MoRef>,
    /// The disk's UUID, `6000C29x-…`; see [`crate::plain_uuid`].
    pub uuid: Option<String>,
    /// `persistent`, `independent_persistent`, …
    pub mode: Option<String>,
    /// `sharingNone`, `sharingMultiWriter`.
    pub sharing: Option<String>,
    /// Allocated as it is written.
    pub thin: Option<bool>,
    /// Zeroed beforehand.
    pub eager: Option<bool>,
}

/// What kind of controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControllerKind {
    /// `ParaVirtualSCSIController`
    ParaVirtual,
    /// Another SCSI controller, by type.
    OtherScsi(String),
    /// No SCSI controller, by type.
    Other(String),
}

/// A controller of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Key.
    pub key: i32,
    /// Which kind.
    pub kind: ControllerKind,
    /// Its number among its kind: the *N* of `scsiN.pciSlotNumber`.
    pub bus: Option<i32>,
    /// The unit the controller takes itself, 7 for SCSI.
    pub own_unit: Option<i32>,
    /// Keys of the devices at it.
    pub devices: Vec<i32>,
    /// `slotInfo.pciSlotNumber`, where the host says it.
    pub pci_slot: Option<i32>,
}

const PATHS: &[&str] = &[
    "config.changeVersion",
    "config.version",
    "config.hardware.device",
    "config.extraConfig",
];

/// Backings followed down a snapshot chain; ESXi allows 32.
const LONGEST_CHAIN: usize = 64;

impl Hardware {
    /// Which properties [`Hardware::read`] reads.
    pub const PATHS: &'static [&'static str] = PATHS;

    /// Reads a VM's hardware from its properties. `None`: the host does not say (the VM is not readable now), which is
    /// not the same as a VM without devices.
    #[must_use]
    pub fn read(properties: &Properties) -> Option<Self> {
        let devices = properties.get("config.hardware.device")?;
        let text = |path: &str| properties.text(path).unwrap_or_default().to_owned();
        let option = |o: &Element| {
            let value = o.text_of("value").unwrap_or_default();
            Some((o.some_text_of("key")?, value.to_owned()))
        };
        let extra = properties.get("config.extraConfig");
        Some(Self {
            change_version: text("config.changeVersion"),
            version: text("config.version"),
            devices: devices.children().iter().filter_map(Device::read).collect(),
            extra_config: extra
                .into_iter()
                .flat_map(Element::children)
                .filter_map(option)
                .collect(),
        })
    }

    /// The disks.
    pub fn disks(&self) -> impl Iterator<Item = &Disk> {
        self.devices.iter().filter_map(|d| match d {
            Device::Disk(disk) => Some(disk),
            Device::Controller(_) | Device::Other { .. } => None,
        })
    }

    /// The controllers.
    pub fn controllers(&self) -> impl Iterator<Item = &Controller> {
        self.devices.iter().filter_map(|d| match d {
            Device::Controller(controller) => Some(controller),
            Device::Disk(_) | Device::Other { .. } => None,
        })
    }

    /// The value of a key of `extraConfig`.
    #[must_use]
    pub fn extra(&self, key: &str) -> Option<&str> {
        self.extra_config
            .iter()
            .find(|(k, _)| k.eq_ignore_ascii_case(key))
            .map(|(_, value)| value.as_str())
    }

    /// The PCI slot of the SCSI controller on this bus, where the VM has been powered on with it once. Bits 5 to 9 are
    /// the bridge's number, bits from 10 on its function.
    #[must_use]
    pub fn scsi_pci_slot(&self, bus: i32) -> Option<i32> {
        self.extra(&format!("scsi{bus}.pciSlotNumber"))
            .and_then(|slot| slot.parse().ok())
            .filter(|slot| *slot >= 0)
    }

    /// The units taken at a controller: its own, and those of the devices that say so.
    #[must_use]
    pub fn units_taken(&self, controller: &Controller) -> Vec<i32> {
        let mut taken: Vec<i32> = self
            .devices
            .iter()
            .filter(|d| d.controller_key() == Some(controller.key))
            .filter_map(Device::unit)
            .chain(controller.own_unit)
            .collect();
        taken.sort_unstable();
        taken.dedup();
        taken
    }
}

impl Device {
    /// Key.
    #[must_use]
    pub const fn key(&self) -> i32 {
        match self {
            Self::Disk(disk) => disk.key,
            Self::Controller(controller) => controller.key,
            Self::Other { key, .. } => *key,
        }
    }

    /// The controller it is at.
    #[must_use]
    pub const fn controller_key(&self) -> Option<i32> {
        match self {
            Self::Disk(disk) => disk.controller_key,
            Self::Controller(_) => None,
            Self::Other { controller_key, .. } => *controller_key,
        }
    }

    /// Its unit at its controller.
    #[must_use]
    pub const fn unit(&self) -> Option<i32> {
        match self {
            Self::Disk(disk) => disk.unit,
            Self::Controller(_) => None,
            Self::Other { unit, .. } => *unit,
        }
    }

    fn read(element: &Element) -> Option<Self> {
        let key = element.number_of("key")?;
        let kind = element.xsi_type().unwrap_or_default();
        Some(if kind == "VirtualDisk" {
            Self::Disk(Disk::read(key, element))
        } else if element.child("busNumber").is_some() {
            Self::Controller(Controller::read(key, kind, element))
        } else {
            Self::Other {
                key,
                kind: kind.to_owned(),
                controller_key: element.number_of("controllerKey"),
                unit: element.number_of("unitNumber"),
            }
        })
    }
}

impl Disk {
    fn read(key: i32, element: &Element) -> Self {
        let kib = || element.number_of::<u64>("capacityInKB")?.checked_mul(1024);
        let capacity = element.number_of("capacityInBytes").or_else(kib);
        let allocation = element.child("storageIOAllocation");
        Self {
            key,
            controller_key: element.number_of("controllerKey"),
            unit: element.number_of("unitNumber"),
            capacity_bytes: capacity.unwrap_or_default(),
            backing: element
                .child("backing")
                .map(Backing::read)
                .unwrap_or_default(),
            iops_limit: allocation.and_then(|a| a.number_of("limit")),
        }
    }
}

impl Backing {
    fn read(element: &Element) -> Self {
        let mut parents = Vec::new();
        let mut below = element.child("parent");
        while let Some(parent) = below {
            parents.extend(parent.some_text_of("fileName"));
            below = parent.child("parent");
            if parents.len() >= LONGEST_CHAIN {
                break;
            }
        }
        Self {
            kind: element.xsi_type().unwrap_or_default().to_owned(),
            file: element.some_text_of("fileName"),
            parents,
            datastore: element.moref_of("datastore"),
            uuid: element.some_text_of("uuid"),
            mode: element.some_text_of("diskMode"),
            sharing: element.some_text_of("sharing"),
            thin: element.flag_of("thinProvisioned"),
            eager: element.flag_of("eagerlyScrub"),
        }
    }
}

impl Controller {
    fn read(key: i32, kind: &str, element: &Element) -> Self {
        let scsi = element.number_of("scsiCtlrUnitNumber");
        let is_scsi = scsi.is_some() || element.child("sharedBus").is_some();
        let own_unit = if is_scsi {
            Some(scsi.unwrap_or(7))
        } else {
            None
        };
        Self {
            key,
            kind: match kind {
                "ParaVirtualSCSIController" => ControllerKind::ParaVirtual,
                _ if is_scsi => ControllerKind::OtherScsi(kind.to_owned()),
                _ => ControllerKind::Other(kind.to_owned()),
            },
            bus: element.number_of("busNumber"),
            own_unit,
            devices: element.all("device").filter_map(Element::number).collect(),
            pci_slot: element
                .child("slotInfo")
                .and_then(|s| s.number_of("pciSlotNumber")),
        }
    }
}

impl Client {
    /// A VM's devices, read now. `None`: the host does not say them (the VM cannot be read).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn hardware(&self, vm: &MoRef, deadline: Instant) -> Result<Option<Hardware>, Error> {
        let properties = self.properties(vm, PATHS, deadline).await?;
        Ok(Hardware::read(&properties))
    }
}
