//! What happens to disks and VMs, told to whoever watches, in the order in which it happened.
//!
//! The observer is called while the world stands still: it must not call the world, and needs to be quick. What it is
//! told is what the hypervisor did, not what anybody believes or was answered.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;
use vdvs_domain::{DatastoreName, HostId, VmId};
use vdvs_engine::ports::{DiskPath, Power};

use crate::disk_io::DiskIoError;

/// How a disk left a VM's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// An agent's ordinary detach.
    Detach,
    /// An agent's fence.
    Fence,
    /// Somebody else: an administrator, a VM that was deleted or went back to a snapshot.
    Elsewhere,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A disk came into a VM's configuration. The VM runs and has it open.
    Attached {
        /// Which VM.
        vm: VmId,
        /// The host it is registered on.
        host: HostId,
        /// Which disk.
        disk: DiskPath,
        /// Not for writing.
        read_only: bool,
    },
    /// A disk left a VM's configuration.
    Removed {
        /// Which VM.
        vm: VmId,
        /// Which disk.
        disk: DiskPath,
        /// By whom.
        how: Removal,
        /// The VM ran, and had the disk open until now.
        running: bool,
    },
    /// The locks of a VM's host lapsed: the VM runs on, its disks answer no more until they are attached anew.
    Lapsed {
        /// Which VM.
        vm: VmId,
        /// Which disks.
        disks: Vec<DiskPath>,
    },
    /// A VM's power changed. With `On` it opened these disks.
    Power {
        /// Which VM.
        vm: VmId,
        /// Its power now.
        power: Power,
        /// Its disks, and which of them are not for writing.
        disks: Vec<(DiskPath, bool)>,
    },
    /// A VM is registered on another host now; if it runs, it ran on.
    Moved {
        /// Which VM.
        vm: VmId,
        /// From where.
        from: HostId,
        /// To where.
        to: HostId,
    },
    /// A VM went back to what it was: its guest has forgotten what came after.
    Reverted {
        /// Which VM.
        vm: VmId,
        /// The disks in its configuration now.
        disks: Vec<DiskPath>,
    },
    /// A VM is no more.
    Deleted {
        /// Which VM.
        vm: VmId,
    },
    /// A host reaches a datastore, or does not any more.
    Reach {
        /// Which host.
        host: HostId,
        /// Which datastore.
        datastore: DatastoreName,
        /// Whether it reaches it now.
        reachable: bool,
    },
    /// A VM wrote a block, or was refused.
    Wrote {
        /// Which VM.
        vm: VmId,
        /// Which disk.
        disk: DiskPath,
        /// Which block.
        block: u64,
        /// What came of it.
        outcome: Result<(), DiskIoError>,
    },
    /// A small file was written; these are its bytes now.
    Filed {
        /// By an agent of which host.
        host: HostId,
        /// Where.
        datastore: DatastoreName,
        /// Which file.
        path: String,
        /// All that reached it.
        bytes: Vec<u8>,
    },
    /// A disk exists now.
    Made {
        /// Which disk.
        disk: DiskPath,
        /// Whose content it has.
        source: Option<DiskPath>,
    },
    /// A disk is gone.
    Unmade {
        /// Which disk.
        disk: DiskPath,
    },
    /// A disk lies elsewhere now, as after a storage vMotion; VMs that had it have it still.
    Renamed {
        /// From where.
        from: DiskPath,
        /// To where.
        to: DiskPath,
    },
}

/// Who watches.
#[derive(Clone, Default)]
pub(crate) struct Observers {
    all: Vec<Arc<Watcher>>,
}

type Watcher = dyn Fn(Instant, &Event) + Send + Sync;

impl Observers {
    pub(crate) fn add(&mut self, watcher: Arc<Watcher>) {
        self.all.push(watcher);
    }

    pub(crate) fn tell(&self, event: &Event) {
        let now = Instant::now();
        for watcher in &self.all {
            watcher(now, event);
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observers").field(&self.all.len()).finish()
    }
}
