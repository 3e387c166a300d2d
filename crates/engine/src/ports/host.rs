//! The hypervisor: virtual machines registered on this host, their disks, the lock on a disk.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use vdvs_domain::options::AttachAs;
use vdvs_domain::ownership::Locator;
use vdvs_domain::{DatastoreName, HostId, VmId};

use super::DsPath;

/// Who this host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostIdentity {
    /// Identity that survives restarts.
    pub id: HostId,
    /// Name for messages.
    pub name: String,
    /// `esxi`, `lab` or `sim`.
    pub kind: &'static str,
}

/// Whether a VM runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Running.
    On,
    /// Not running; it cannot write.
    Off,
    /// Suspended: it does not run, yet its disks are still its own.
    Suspended,
}

/// A VM registered on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// Identity.
    pub id: VmId,
    /// Display name.
    pub name: String,
    /// Power state.
    pub power: Power,
    /// The datastore its configuration file lies on.
    pub home: Option<DatastoreName>,
}

/// A virtual disk: descriptor's path below a datastore.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DiskPath {
    /// Datastore.
    pub datastore: DatastoreName,
    /// Path of the descriptor.
    pub path: DsPath,
}

impl fmt::Display for DiskPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.datastore, self.path)
    }
}

/// A disk in a VM's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmDisk {
    /// Which disk.
    pub disk: DiskPath,
    /// Attached read-only.
    pub read_only: bool,
    /// Where the guest finds it; none while the VM is off.
    pub locator: Option<Locator>,
}

/// The answer of a successful attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedDisk {
    /// Where the guest finds the disk.
    pub locator: Locator,
    /// The disk's UUID as the guest's SCSI layer shows it, where the host exposes it.
    pub disk_uuid: Option<String>,
}

/// What a detach did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detached {
    /// The disk was in the VM's configuration and is not any more.
    Removed,
    /// It was not there.
    WasAbsent,
}

/// What making a VM ready for volumes did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Controllers for volumes it has now.
    pub controllers: u32,
    /// How many of them are new.
    pub added: u32,
    /// Its guest is shown disks' UUIDs now, and was not before.
    pub enabled_uuid: bool,
    /// Something counts only after the VM was powered off and on.
    pub needs_power_cycle: bool,
}

/// A VM that the host starts by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Autostart {
    /// Which.
    pub vm: VmId,
    /// How long after it began to start VMs, at the earliest.
    pub after: Duration,
}

/// The hypervisor's lock on a disk: the sole arbiter of who writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskLock {
    /// Nobody has it open.
    Free,
    /// Somebody has; in the host's words.
    Held {
        /// By whom.
        by: String,
    },
    /// The host cannot say. Never proof of anything.
    Unknown {
        /// Why not.
        why: String,
    },
}

/// A host call failed. [`HostError::outcome_is_unknown`] tells whether it may still have had its effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No such VM is registered here.
    #[error("VM {vm} is not registered on this host")]
    NoSuchVm {
        /// Its identity in words.
        vm: String,
    },
    /// The VM does not run.
    #[error("VM {vm} is not powered on")]
    PoweredOff {
        /// Its name.
        vm: String,
    },
    /// The disk does not exist.
    #[error("disk {disk} does not exist")]
    NoSuchDisk {
        /// Which.
        disk: String,
    },
    /// Somebody else has the disk open.
    #[error("disk is locked by {holder}")]
    Locked {
        /// Who, in the host's words.
        holder: String,
    },
    /// The guest still uses the device.
    #[error("the device is still in use inside the VM")]
    Busy,
    /// No free place on the VM's controllers.
    #[error("no free unit on the controllers of VM {vm}")]
    NoSlot {
        /// Its name.
        vm: String,
    },
    /// The host refused or failed; it had no effect.
    #[error("{why}")]
    Failed {
        /// In the host's words.
        why: String,
    },
    /// No answer, a broken connection, a time-out: the call may or may not have had its effect.
    #[error("no answer from the host: {why}")]
    NoAnswer {
        /// What happened.
        why: String,
    },
}

impl HostError {
    /// True when the only way to learn what happened is to look.
    #[must_use]
    pub const fn outcome_is_unknown(&self) -> bool {
        matches!(self, Self::NoAnswer { .. })
    }
}

/// The hypervisor of this host. All calls may fail at any time and may be repeated.
#[async_trait]
pub trait Host: Send + Sync + fmt::Debug {
    /// Who this host is. Never changes.
    fn identity(&self) -> HostIdentity;

    /// Every VM registered on this host, in any power state.
    async fn vms(&self) -> Result<Vec<Vm>, HostError>;

    /// The same as the host told it last: for knowing who calls, never for deciding about power or disks. Answered
    /// from memory only while the host is bound to tell of every change at once.
    async fn known_vms(&self) -> Result<Arc<Vec<Vm>>, HostError> {
        self.vms().await.map(Arc::new)
    }

    /// The disks in a VM's configuration, whether it runs or not.
    async fn disks(&self, vm: &VmId) -> Result<Vec<VmDisk>, HostError>;

    /// Hot-adds the disk. Opening it takes the hypervisor's lock; [`HostError::Locked`] is an ordinary answer.
    /// Repeating it for a disk the VM already has, in the same mode, returns the same place.
    async fn attach(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        read_only: bool,
        deadline: Instant,
    ) -> Result<AttachedDisk, HostError>;

    /// As [`Host::attach`], with the volume's disk mode: whether snapshots of the VM contain the disk. Hosts whose VMs have
    /// no snapshots attach all disks alike.
    async fn attach_as(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        read_only: bool,
        mode: AttachAs,
        deadline: Instant,
    ) -> Result<AttachedDisk, HostError> {
        let _ = mode;
        self.attach(vm, disk, read_only, deadline).await
    }

    /// Removes the disk from the VM's configuration, keeping its files; for a running VM a hot-remove.
    /// [`HostError::Busy`] when the host can see that the guest still uses it.
    async fn detach(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        deadline: Instant,
    ) -> Result<Detached, HostError>;

    /// Hot-removes the disk from a VM that uses it: the guest's requests fail from then on, and when this returns, no
    /// byte of the disk changes any more. For a VM that does not run the same as [`Host::detach`].
    async fn fence(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        deadline: Instant,
    ) -> Result<Detached, HostError>;

    /// Makes a VM ready for volumes, with so many controllers for them as far as there is room. May run twice.
    async fn prepare(
        &self,
        vm: &VmId,
        controllers: u32,
        deadline: Instant,
    ) -> Result<Prepared, HostError> {
        let _ = (vm, controllers, deadline);
        Err(HostError::Failed {
            why: "VMs of this kind of host need no preparation".to_owned(),
        })
    }

    /// The disks of a VM that its snapshots contain: they cannot be taken out of it. Hosts whose VMs have no snapshots
    /// have none.
    async fn pinned(&self, vm: &VmId) -> Result<Vec<DiskPath>, HostError> {
        let _ = vm;
        Ok(Vec::new())
    }

    /// The VMs that this host starts by itself after its own start. None, where hosts start none.
    async fn autostart(&self) -> Result<Vec<Autostart>, HostError> {
        Ok(Vec::new())
    }

    /// The lock on a disk.
    async fn lock(&self, disk: &DiskPath) -> DiskLock;

    /// Waits until VMs were registered, changed power or devices since `generation` (0: the beginning), or until
    /// `deadline`; returns the present generation. A hint only: the engine also looks by itself.
    async fn changed(&self, generation: u64, deadline: Instant) -> Result<u64, HostError>;
}
