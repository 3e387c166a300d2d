//! A VM as its folder tells it: `vm.json` (who it is, which process runs it) and `devices.json` (its disks).
//!
//! The lab runner makes the folder and `vm.json`; from then on only labhv writes both. They are written before what
//! they announce is done, so that after a crash the folder names everything that may exist.

use std::fs::{File, metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::init::{Init, InitId};
use crate::files;
use crate::protocol::{Disk, LabError, LabErrorKind};
use crate::qemu::{PER_CONTROLLER, QemuVm};

/// Places on a VM's four controllers, numbered through; each controller is itself number 7 of its sixteen.
const UNITS: u32 = 64;

/// `vm.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmFile {
    /// Name; the folder's.
    pub name: String,
    /// Instance UUID.
    pub instance_uuid: Uuid,
    /// Configuration file, for example `[vsanDatastore] swarm01/swarm01.vmx`.
    pub config_path: String,
    /// The process that runs it; none: off.
    #[serde(default)]
    pub init: Option<InitId>,
    /// Its processes are stopped, or are about to be, or were until a moment ago: in doubt it is suspended.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspended: bool,
    /// It is a QEMU process; none: namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qemu: Option<QemuVm>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// `devices.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicesFile {
    /// In the order of attaching.
    pub devices: Vec<ConfiguredDisk>,
}

/// A disk in a VM's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfiguredDisk {
    /// Which.
    pub disk: Disk,
    /// Not writable for the guest.
    pub read_only: bool,
    /// Place on the controllers.
    pub unit: u32,
    /// The loop device it was last open on; a hint for finding it again.
    #[serde(default, rename = "loop", skip_serializing_if = "Option::is_none")]
    pub loop_hint: Option<u32>,
    /// The host takes it, or took it, from the running VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
    /// How the extent stood when the VM was suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<Stamp>,
}

/// Why a disk was cut off from the VM that uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// A fence was ordered; whoever finds this finishes it.
    Fencing,
    /// The host lost its lease on the datastore. Closed until it is attached again or the VM boots.
    Lost,
}

/// What changes when somebody writes an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Length.
    pub len: u64,
    /// Time of the last write: seconds and nanoseconds.
    pub modified: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(extent: &Path) -> io::Result<Self> {
        let found = metadata(extent)?;
        Ok(Self {
            len: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }
}

/// A configured disk and whether it is open.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) configured: ConfiguredDisk,
    /// What is opened; the disk's identity, whichever way it is named.
    pub(crate) extent: PathBuf,
    /// The loop device the host has it open on.
    pub(crate) open: Option<u32>,
    /// A QEMU has it, at its place.
    pub(crate) plugged: bool,
}

impl Device {
    /// The host has it open, the one way or the other.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some() || self.plugged
    }
}

/// A registered VM.
#[derive(Debug)]
pub(crate) struct Vm {
    dir: PathBuf,
    pub(crate) file: VmFile,
    pub(crate) devices: Vec<Device>,
    pub(crate) init: Option<Init>,
    pub(crate) generation: u64,
    /// File systems that are held still while it is suspended.
    pub(crate) frozen: Vec<File>,
    /// Its configuration file as last written, and whether that failed.
    pub(crate) vmx: Published,
}

/// What was last written to a VM's configuration file.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// What was written last; empty before.
    pub(crate) text: String,
    /// The VM's generation at the last look.
    pub(crate) generation: u64,
    pub(crate) failed: bool,
}

impl Vm {
    /// Reads a VM's folder; `resolve` finds a disk's extent. The VM is off until its init is held.
    pub(crate) fn load(dir: &Path, resolve: impl Fn(&Disk) -> PathBuf) -> io::Result<Self> {
        let file: VmFile = read_json(&dir.join("vm.json"))?;
        if dir.file_name().and_then(|n| n.to_str()) != Some(&file.name) {
            return Err(io::Error::other("the folder has another name than the VM"));
        }
        let devices: DevicesFile = match read_json(&dir.join("devices.json")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => DevicesFile::default(),
            other => other?,
        };
        let devices = devices.devices.into_iter().map(|configured| Device {
            extent: resolve(&configured.disk),
            configured,
            open: None,
            plugged: false,
        });
        Ok(Self {
            dir: dir.to_owned(),
            file,
            devices: devices.collect(),
            init: None,
            generation: 0,
            frozen: Vec::new(),
            vmx: Published::default(),
        })
    }

    /// Writes which process runs the VM.
    pub(crate) fn save_init(&mut self, init: Option<InitId>) -> io::Result<()> {
        self.save_state(init, false)
    }

    /// Writes whether the VM is suspended.
    pub(crate) fn save_suspended(&mut self, suspended: bool) -> io::Result<()> {
        self.save_state(self.file.init, suspended)
    }

    fn save_state(&mut self, init: Option<InitId>, suspended: bool) -> io::Result<()> {
        let file = VmFile {
            init,
            suspended,
            ..self.file.clone()
        };
        write_json(&self.dir.join("vm.json"), &file)?;
        self.file = file;
        Ok(())
    }

    /// Writes the configuration as it stands in memory.
    pub(crate) fn save_devices(&self) -> io::Result<()> {
        files::replace(&self.devices_path(), &self.devices_file()?)
    }

    /// As [`Vm::save_devices`], when only hints are new: after a power failure there are no devices to be found again.
    pub(crate) fn save_hints(&self) -> io::Result<()> {
        files::put(&self.devices_path(), &self.devices_file()?)
    }

    fn devices_path(&self) -> PathBuf {
        self.dir.join("devices.json")
    }

    fn devices_file(&self) -> io::Result<Vec<u8>> {
        let devices = self
            .devices
            .iter()
            .map(|d| ConfiguredDisk {
                loop_hint: d.open.or(d.configured.loop_hint),
                ..d.configured.clone()
            })
            .collect();
        Ok(serde_json::to_vec_pretty(&DevicesFile { devices })?)
    }

    /// Its init lives and is not stopped.
    pub(crate) fn runs(&self) -> bool {
        self.init.is_some() && !self.file.suspended
    }

    /// Its node in `/dev` is how its guest sees a disk.
    pub(crate) fn shows_nodes(&self) -> bool {
        self.file.qemu.is_none()
    }

    pub(crate) fn find(&self, extent: &Path) -> Option<usize> {
        self.devices.iter().position(|d| d.extent == extent)
    }

    /// The lowest free place.
    pub(crate) fn free_unit(&self) -> Result<u32, LabError> {
        let taken = |unit| self.devices.iter().any(|d| d.configured.unit == unit);
        let units = self.file.qemu.as_ref().map_or(UNITS, QemuVm::units);
        (0..units.min(UNITS))
            .find(|u| u % PER_CONTROLLER != 7 && !taken(*u))
            .ok_or_else(|| {
                LabError::new(
                    LabErrorKind::NoSpace,
                    format!("VM {} has no free place on its controllers", self.file.name),
                )
            })
    }
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_str(&files::read_text(path)?)?)
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    files::replace(path, &serde_json::to_vec_pretty(value)?)
}
