//! What callers of the engine say and hear: the agent's handlers translate the wire into these types and back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vdvs_domain::access::StoragePolicy;
use vdvs_domain::ownership::Locator;
use vdvs_domain::record::Created;
use vdvs_domain::{
    Capacity, CreateOptions, DatastoreName, Epoch, Filesystem, GroupName, Layout, OperationKind,
    Ownership, RequestId, Timestamp, VmRef, VolumeId, VolumeName,
};

pub use crate::admin_groups::{GroupChange, GroupChanged, RemoveGroup};
pub use crate::admin_groups_view::{AdminGroup, AdminMember, AdminUsage, GroupListing};
pub use crate::doctor::{Checkup, Finding, Fixed, Kind, Remedy, Repaired, Risk, Row};
pub use crate::fsck::{FsckAsk, FsckFinding, FsckKind, FsckLooked, FsckReport, FsckState};
pub use crate::hosts::{About, AdminHost, Guests, KnownVm};
pub use crate::kept::Kept;
pub use crate::settings::AdminSet;
pub use crate::telling::{Teller, Told};
pub use crate::why::{VolumeEvent, Why};

use crate::ports::{Clock, DatastoreInfo, Datastores, Host, HostIdentity, Ids, Power, Store};

/// The world the engine works in.
#[derive(Debug, Clone)]
pub struct Ports {
    /// The hypervisor.
    pub host: Arc<dyn Host>,
    /// Its datastores.
    pub datastores: Arc<dyn Datastores>,
    /// This host's own store.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Fresh identities.
    pub ids: Arc<dyn Ids>,
}

/// What an operator may tune. The defaults are what the product ships with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Time between two sweeps of the reconciler.
    pub sweep: Duration,
    /// How often a waiter looks at a record that another host may change.
    pub poll: Duration,
    /// How often the agent looks whether another host wants a volume of its VMs.
    pub claim_poll: Duration,
    /// A claim that nobody renewed for so long is abandoned: well above the time a slow datastore keeps its writer.
    pub claim_lease: Duration,
    /// How long a disk's lock must read free, without gap, to prove that its owner cannot write.
    pub free_proof: Duration,
    /// Requests of one VM under way at once.
    pub calls_per_vm: usize,
    /// More of them reserved for detaches, so that a VM that waits for everything can still let go.
    pub detaches_per_vm: usize,
    /// How long the agent goes on with a step after the caller's deadline, once it cannot turn back.
    pub host_call: Duration,
    /// A name claim without a record is taken for the leftover of a crash after this time.
    pub orphan_age: Duration,
    /// The other hosts are told what changed here at most so often.
    pub status_every: Duration,
    /// They are told that this host lives, though nothing changed, so often.
    pub status_heartbeat: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sweep: Duration::from_secs(30),
            poll: Duration::from_millis(250),
            claim_poll: Duration::from_millis(500),
            claim_lease: Duration::from_secs(10),
            free_proof: Duration::from_secs(5),
            calls_per_vm: 32,
            detaches_per_vm: 8,
            host_call: Duration::from_secs(30),
            orphan_age: Duration::from_secs(60),
            status_every: Duration::from_secs(30),
            status_heartbeat: Duration::from_secs(300),
        }
    }
}

/// The VM that asks, as the transport identified it and the host knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The VM.
    pub vm: VmRef,
    /// The datastore its configuration file lies on.
    pub home: Option<DatastoreName>,
}

/// What every changing request carries.
#[derive(Debug, Clone)]
pub struct Call {
    /// The same for all retries of one request.
    pub request: RequestId,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// The caller went away. Honoured only before the point of no return.
    pub cancel: CancellationToken,
}

/// What a request did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<T> {
    /// Everything was so already.
    Unchanged(T),
    /// Something new exists.
    Created(T),
    /// Something that existed is different now.
    Changed(T),
}

impl<T> Outcome<T> {
    /// The value, whatever happened.
    pub fn into_inner(self) -> T {
        match self {
            Self::Unchanged(value) | Self::Created(value) | Self::Changed(value) => value,
        }
    }

    /// Whether anything is different now.
    pub const fn is_change(&self) -> bool {
        !matches!(self, Self::Unchanged(_))
    }
}

/// A volume as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeView {
    /// Its identity.
    pub id: VolumeId,
    /// Its name, without datastore.
    pub name: VolumeName,
    /// Where it lies.
    pub datastore: DatastoreName,
    /// The vmgroup it belongs to.
    pub group: GroupName,
    /// Size of its disk.
    pub capacity: Capacity,
    /// Bytes it occupies; 0 when the disk could not be looked at.
    pub allocated_bytes: u64,
    /// Options it was made with.
    pub options: CreateOptions,
    /// Its file system.
    pub filesystem: Filesystem,
    /// Where its data lies in the file system.
    pub layout: Layout,
    /// Its making.
    pub created: Created,
    /// Whose it is.
    pub ownership: Ownership,
    /// Name of the owner's host, as far as known; empty without owner.
    pub host_name: String,
    /// Count of attachments.
    pub epoch: Epoch,
    /// What it waits for, in words.
    pub waiting: Option<String>,
}

/// Answer of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The volumes that could be read, by name.
    pub volumes: Vec<VolumeView>,
    /// Datastores that could not be read: anything may be on them.
    pub unreadable: Vec<DatastoreName>,
}

/// Answer of an attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The volume.
    pub view: VolumeView,
    /// The attachment's epoch; messages about it carry it.
    pub epoch: Epoch,
    /// Where the guest finds the disk.
    pub locator: Locator,
    /// The disk's UUID as the guest's SCSI layer shows it, where the host exposes it.
    pub disk_uuid: Option<String>,
    /// How long the request waited for another VM.
    pub waited: Duration,
}

/// A volume a guest says it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InventoryItem {
    /// The volume.
    pub volume: VolumeId,
    /// The epoch of the attachment it knows.
    pub epoch: Epoch,
    /// Whether it is mounted there.
    pub mounted: bool,
}

/// What the records say to an inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InventoryAnswer {
    /// Volumes whose records name the caller, also ones it did not report.
    pub attached: Vec<VolumeView>,
    /// Reported volumes that are not the caller's any more, or not with that epoch.
    pub superseded: Vec<VolumeId>,
    /// Reported volumes that another VM waits for.
    pub wanted: Vec<VolumeId>,
}

/// Something a guest should know without asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Another VM waits for a volume that the receiver holds.
    Wanted {
        /// The volume.
        volume: VolumeId,
        /// Name of the VM that waits.
        by_vm: String,
    },
    /// The receiver's attachment ended without it.
    Superseded {
        /// The volume.
        volume: VolumeId,
        /// The epoch of the attachment that ended.
        epoch: Epoch,
    },
}

/// A volume as an administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminVolume {
    /// The volume.
    pub view: VolumeView,
    /// The operation under way, and when it began.
    pub operation: Option<(OperationKind, Timestamp)>,
    /// Why a person should look at it.
    pub attention: Option<String>,
    /// Path of its descriptor below its datastore.
    pub disk_path: String,
    /// Name of its vSAN policy; empty: none.
    pub policy: String,
    /// It cannot be removed until an administrator lifts the protection.
    pub protected: bool,
    /// Its vmgroup exists no more: no VM can reach it.
    pub orphan: bool,
    /// The other host whose status file says so, and when that was written; none: read here and now.
    pub told: Option<(String, Timestamp)>,
}

/// All volumes, of every vmgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdminListing {
    /// The volumes that could be read.
    pub volumes: Vec<AdminVolume>,
    /// Datastores that could not be read.
    pub unreadable: Vec<DatastoreName>,
}

/// One volume with its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminInspect {
    /// The volume.
    pub volume: AdminVolume,
    /// Its record, pretty-printed.
    pub record_json: String,
}

/// A VM registered on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminVm {
    /// The VM.
    pub vm: VmRef,
    /// Power state.
    pub power: Power,
    /// Its vmgroup; none when it belongs to none.
    pub group: Option<GroupName>,
    /// Full names of the volumes it holds.
    pub volumes: Vec<String>,
    /// Name of the host it is registered on.
    pub host: String,
    /// When that host wrote it; none: it is this one.
    pub told_at: Option<Timestamp>,
    /// Whether its plugin is connected, and what that called itself last.
    pub guest: (bool, String),
}

/// A datastore with what lies on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminDatastore {
    /// The datastore.
    pub info: DatastoreInfo,
    /// Sum of the volumes' sizes.
    pub provisioned_bytes: u64,
    /// Sum of what they occupy.
    pub used_bytes: u64,
    /// How many there are.
    pub volumes: u32,
    /// Why it cannot be used; none when it can.
    pub problem: Option<String>,
}

/// The agent's state in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminStatus {
    /// This host.
    pub host: HostIdentity,
    /// VMs registered here.
    pub vms: u32,
    /// Volumes that could be read.
    pub volumes: u32,
    /// Those of them that belong to a VM.
    pub attached: u32,
    /// Operations that have not been resolved.
    pub unresolved_operations: u32,
    /// Some vmgroup lets every VM create and delete.
    pub open_to_all: bool,
    /// How to close what is open to all; empty: it is closed.
    pub lock_hint: String,
    /// In the original's words: NotConfigured, SingleNode, MultiNode, BrokenLink.
    pub config_mode: String,
    /// Hosts known, this one included.
    pub hosts: u32,
    /// What a person should look at.
    pub warnings: Vec<String>,
    /// The datastores.
    pub datastores: Vec<AdminDatastore>,
}

/// A user of this host, as its kernel names who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalUser {
    /// Name of the account; empty when the host knows none.
    pub name: String,
    /// Its number, where the kernel says it.
    pub uid: Option<u32>,
}

impl fmt::Display for LocalUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name.as_str(), self.uid) {
            ("", None) => f.write_str("local user"),
            ("", Some(uid)) => write!(f, "user with uid {uid}"),
            (name, None) => write!(f, "user {name}"),
            (name, Some(uid)) => write!(f, "user {name} (uid {uid})"),
        }
    }
}

/// A vSAN policy and who uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyUse {
    /// The policy.
    pub policy: StoragePolicy,
    /// Volumes that name it.
    pub volumes: usize,
    /// Those of them that do not have its newest content, or of which nobody knows.
    pub outdated: usize,
    /// vSAN datastores that cannot be read: more may name it.
    pub unreadable: Vec<DatastoreName>,
}

/// Who acts, for messages and the audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor<'a> {
    /// A VM.
    Vm(&'a Caller),
    /// An administrator on this host.
    Admin(&'a LocalUser),
    /// The reconciler.
    Reconciler,
}

impl fmt::Display for Actor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vm(caller) => write!(f, "{} {}", caller.vm.id.instance_uuid, caller.vm.name),
            Self::Admin(user) => user.fmt(f),
            Self::Reconciler => f.write_str("reconciler"),
        }
    }
}
