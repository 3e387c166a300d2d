//! Everything the guest does with disks and file systems, behind one port: [`Devices`].
//!
//! ```text
//!   attach reply ─► find ─► probe ─► format ─► mount ─► prepare_data_dir ─► (in use) ─► unmount ─► exclusively_unused
//!                          Blank?   only Blank           verify_layout                  only then may it be detached
//! ```
//!
//! Invariants (their numbers are the promises in ARCHITECTURE.md):
//! * **P3, never format by guess.** [`Devices::format`] probes again itself and refuses unless the device is blank or
//!   holds the very UUID it was asked to make. A probe that fails is [`Probe::Unknown`], and that never formats.
//! * **P8, detach only what is unused.** [`Devices::exclusively_unused`] asks the kernel, which knows every mount
//!   namespace; this process's mount table does not.
//! * A device is bound to its number when it is found. Each later use opens the node and compares, so a node name that
//!   was given to another disk meanwhile is an error and not that disk's end.
//! * Other devices' sysfs entries are never evidence about ours.
//!
//! Failure behaviour: every call has a limit and answers [`DeviceError::TimedOut`] when the kernel does not; the
//! blocked thread stays behind with its system call. `mkfs` beyond its budget goes on and a repeated call joins it.
//!
//! | module | concept |
//! |---|---|
//! | [`linux`] | the port on a Linux kernel |
//! | [`fake`] | the port in memory (feature `fake`) |
//! | [`mountinfo`], [`uevent`] | the kernel's table of mounts and its announcements |
//! | `find`, `probe`, `mkfs`, `mounting`, `layout` | one step each |
//! | `begun` | the mark of a format under way |
//! | `fsck` | repair before a mount, where the file system asks for it |
//! | `identity` | a clone's own file-system UUID |
//! | `health` | does a mounted disk still answer? |
//! | `process` | the one door to other programs |
#![forbid(unsafe_code)]

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use uuid::Uuid;
use vdvs_domain::filesystem::Probed;
use vdvs_domain::{Capacity, FsType, Layout, VolumeId};

mod begun;
pub mod error;
#[cfg(feature = "fake")]
pub mod fake;
mod find;
mod fsck;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod identity;
mod layout;
pub mod linux;
mod mkfs;
pub mod mountinfo;
mod mounting;
mod probe;
mod process;
pub mod uevent;

pub use error::DeviceError;
pub use identity::clone_uuid;
pub use linux::LinuxDevices;
pub use mountinfo::MountEntry;

/// The sub-folder that Docker is handed in layout `data`.
pub const DATA_DIR: &str = "data";
/// The file at the root of a file system that says whose it is.
pub const MARKER: &str = ".vdvs";

/// Where the hypervisor put the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Locator {
    /// On a SCSI controller: its slot as the VM's configuration numbers it, and the target. Channel and LUN are 0.
    Scsi {
        /// `pciSlotNumber` of the controller.
        pci_slot: u32,
        /// Target on the controller (the disk's unit number).
        target: u8,
    },
    /// A device node (lab).
    Path(PathBuf),
}

/// The disk to find, with what identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where it should be.
    pub locator: Locator,
    /// Its size; always checked.
    pub size: Capacity,
    /// Its UUID, any punctuation; checked where the kernel shows one.
    pub disk_uuid: Option<String>,
}

/// A disk that was found and checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Device {
    /// Its node.
    pub path: PathBuf,
    /// Its number when it was found; compared at each use.
    pub major_minor: (u32, u32),
}

/// How a file system is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// Nothing may be written.
    pub read_only: bool,
    /// The volume's own options, each as mount(8) spells it. Checked when the volume was created.
    pub extra: Vec<String>,
}

impl MountOptions {
    /// Without options of the volume's own.
    #[must_use]
    pub const fn read_only(read_only: bool) -> Self {
        Self {
            read_only,
            extra: Vec::new(),
        }
    }
}

/// How the folder `data` comes into the world; from then on it is the containers'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Birth {
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permissions.
    pub mode: u32,
}

impl Default for Birth {
    /// root:root 0755.
    fn default() -> Self {
        Self {
            uid: 0,
            gid: 0,
            mode: 0o755,
        }
    }
}

/// What a device holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Type, when it is exactly one known file system.
    pub fstype: Option<FsType>,
    /// UUID of the file system as the tools print it.
    pub uuid: Option<String>,
    /// For messages.
    pub description: String,
}

/// What was seen on a device. Only [`Probe::Blank`] may be overwritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Every examined place reads as zeros and no tool recognises anything.
    Blank,
    /// Something is there.
    Holds(Content),
    /// It could not be examined; the reason.
    Unknown(String),
}

impl Probe {
    /// The answer in the domain's terms, for `FilesystemState::plan`.
    #[must_use]
    pub fn as_domain(&self) -> Probed {
        match self {
            Self::Blank => Probed::Blank,
            Self::Holds(content) => Probed::Holds {
                uuid: content.uuid.as_deref().and_then(|u| u.parse().ok()),
                what: content.description.clone(),
            },
            Self::Unknown(why) => Probed::Unknown(why.clone()),
        }
    }

    /// P3 at the last moment: may `mkfs` with this UUID run on a device that looks like this?
    pub(crate) fn permits_format(&self, fs_uuid: Uuid) -> Result<(), String> {
        match self.as_domain() {
            Probed::Blank => Ok(()),
            Probed::Holds { uuid, .. } if uuid == Some(fs_uuid) => Ok(()),
            Probed::Holds { what, .. } => Err(format!("it holds {what}")),
            Probed::Unknown(why) => Err(format!("it could not be examined ({why})")),
        }
    }
}

/// How a mounted device is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Alive,
    /// The device answers, but its file system stopped accepting writes after an error.
    Damaged(String),
    /// The device is detached or fenced: unmount lazily, acknowledge later Unmounts locally.
    Lost(String),
    /// No answer in time; not proof of anything.
    Unknown(String),
}

/// The label for a volume's file system: 12 characters, the most xfs takes, ending in the random digits of the id.
#[must_use]
pub fn label_for(id: VolumeId) -> String {
    format!("vdvs{}", id.id8())
}

/// Devices and file systems of one guest.
#[async_trait]
pub trait Devices: Send + Sync + Debug {
    /// Waits for the disk until `deadline` and checks its size, and its UUID where the kernel shows one.
    async fn find(&self, wanted: &Wanted, deadline: Instant) -> Result<Device, DeviceError>;

    /// Looks at the device without changing it.
    async fn probe(&self, device: &Device) -> Probe;

    /// Makes a file system. Probes again and refuses unless the device is blank or holds `fs_uuid` (an earlier try
    /// with the same record). Beyond `budget` it answers [`DeviceError::StillFormatting`] and goes on; a repeated
    /// call joins it.
    async fn format(
        &self,
        device: &Device,
        fs: &FsType,
        fs_uuid: Uuid,
        label: &str,
        budget: Duration,
    ) -> Result<(), DeviceError>;

    /// Whether nobody has the device in use, in any mount namespace. Opens it exclusively and closes it again.
    async fn exclusively_unused(&self, device: &Device) -> Result<bool, DeviceError>;

    /// Mounts, making the mount point. Already mounted there: success. Repairs first what asks for it and can be
    /// repaired without a person, which may take long.
    async fn mount(
        &self,
        device: &Device,
        fs: &FsType,
        at: &Path,
        options: &MountOptions,
    ) -> Result<(), DeviceError>;

    /// Gives the file system of a clone, which is not mounted, its own UUID where the kernel needs that to mount it
    /// beside its source. True: it was changed. Running it again changes nothing. `staging` is a private place to mount
    /// it for a moment, where what was flushed has to be replayed first.
    async fn give_identity(
        &self,
        device: &Device,
        fs: &FsType,
        id: VolumeId,
        staging: &Path,
    ) -> Result<bool, DeviceError>;

    /// Unmounts and removes the empty mount point. Nothing mounted there: success.
    async fn unmount(&self, at: &Path) -> Result<(), DeviceError>;

    /// Takes the mount out of the tree at once, whatever uses it; for lost devices.
    async fn unmount_lazy(&self, at: &Path) -> Result<(), DeviceError>;

    /// The mounts of this process's namespace.
    async fn mounts(&self) -> Result<Vec<MountEntry>, DeviceError>;

    /// In a fresh, mounted file system: the folder `data` and the marker, durable when this returns. Running it again
    /// changes nothing. Layout `root` needs neither.
    async fn prepare_data_dir(
        &self,
        at: &Path,
        id: VolumeId,
        layout: Layout,
        birth: Birth,
    ) -> Result<(), DeviceError>;

    /// In a mounted clone: its source's marker becomes its own, durable when this returns; checks what
    /// [`Self::verify_layout`] checks. Where nothing can be written the marker stays.
    async fn claim_layout(
        &self,
        at: &Path,
        id: VolumeId,
        layout: Layout,
    ) -> Result<(), DeviceError>;

    /// On a volume that is ready: the marker is this volume's and `data` is a folder. Repairs nothing.
    async fn verify_layout(
        &self,
        at: &Path,
        id: VolumeId,
        layout: Layout,
    ) -> Result<(), DeviceError>;

    /// What this guest can format, sorted.
    fn filesystems(&self) -> Vec<FsType>;

    /// Whether the device mounted at `at` still answers.
    async fn healthy(&self, at: &Path, device: &Device) -> Health;
}
