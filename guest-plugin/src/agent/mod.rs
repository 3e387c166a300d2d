//! The agent on this VM's host, as the plugin sees it: a port, so that everything above it runs against a fake.
//!
//! What callers may rely on:
//! * A call returns by its deadline. Until then the implementation hides lost connections: it reconnects and repeats
//!   the call with the **same request id**, so nothing happens twice.
//! * [`AgentError::Away`] means *not known*: the call may or may not have taken effect. [`AgentError::Said`] is an
//!   answer.
//! * Generated messages stop here; what comes out has been checked.

mod grpc;
pub(crate) mod ordered;
mod silence;

pub use grpc::{GrpcAgent, Keeper};
pub use silence::{Silence, unreachable};

use std::collections::BTreeMap;
use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use uuid::Uuid;
use vdvs_blockdev::Birth;
use vdvs_domain::ownership::Locator;
use vdvs_domain::{
    DatastoreName, Epoch, ErrorKind, Filesystem, FilesystemState, Layout, Timestamp, VolumeAddress,
    VolumeId, VolumeName,
};

/// A volume as the agent describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Identity.
    pub id: VolumeId,
    /// Name, without the datastore.
    pub name: VolumeName,
    /// Where it lies.
    pub datastore: DatastoreName,
    /// Its vmgroup.
    pub group: String,
    /// Size of the disk in bytes.
    pub capacity: u64,
    /// Bytes allocated on the datastore.
    pub allocated: u64,
    /// Its file system.
    pub filesystem: Filesystem,
    /// Where the data lies in the file system.
    pub layout: Layout,
    /// All options by their names in `docker volume create -o`.
    pub options: BTreeMap<String, String>,
    /// When it was made.
    pub created: Timestamp,
    /// By which VM; empty: by an administrator.
    pub created_by: String,
    /// `free`, `attached` and so on, in the agent's words.
    pub state: String,
    /// Who has it.
    pub attachment: Option<Attachment>,
    /// Count of its attachments.
    pub epoch: Epoch,
    /// What it waits for, in words; empty: nothing.
    pub waiting: String,
}

impl Volume {
    /// `name@datastore`.
    #[must_use]
    pub fn full_name(&self) -> VolumeAddress {
        VolumeAddress {
            name: self.name.clone(),
            datastore: Some(self.datastore.clone()),
        }
    }

    /// Whether guests may only read it.
    #[must_use]
    pub fn read_only(&self) -> bool {
        self.options
            .get("access")
            .is_some_and(|access| access == "read-only")
    }

    /// Its own mount options, as it was created with.
    #[must_use]
    pub fn mount_options(&self) -> Vec<String> {
        ordered::mount_options(&self.options)
    }

    /// How its folder `data` is to be made.
    ///
    /// # Errors
    /// The option that cannot be read: a default in its place would be a folder the container cannot use.
    pub fn birth(&self) -> Result<Birth, String> {
        ordered::birth(&self.options)
    }

    /// Whether its disk began as a copy of another volume's, file system included.
    #[must_use]
    pub fn is_clone(&self) -> bool {
        let formatted = matches!(
            self.filesystem.state,
            FilesystemState::Ready { .. } | FilesystemState::Unknown
        );
        let source = self.options.get("clone-from");
        formatted && source.is_some_and(|source| !source.is_empty() && source != "None")
    }
}

/// Who has a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Name of the VM.
    pub vm: String,
    /// The VM's instance UUID.
    pub vm_uuid: String,
    /// Where that VM's guest finds the disk.
    pub locator: Option<Locator>,
}

/// The answer of [`Agent::attach`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The volume.
    pub volume: Volume,
    /// To be named in every later message about this attachment.
    pub epoch: Epoch,
    /// Where the disk is found.
    pub locator: Locator,
    /// The disk's UUID as the SCSI layer shows it, where known.
    pub disk_uuid: Option<String>,
}

/// The answer of [`Agent::list`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The volumes this VM may see.
    pub volumes: Vec<Volume>,
    /// Datastores that could not be read; volumes there may be missing above.
    pub unreadable: Vec<String>,
}

/// One line of [`Agent::report_inventory`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InventoryItem {
    /// Volume.
    pub volume: VolumeId,
    /// Epoch of the attachment we believe in.
    pub epoch: Epoch,
    /// Whether it is mounted.
    pub mounted: bool,
}

/// What the host says to our inventory. What it does not mention is unknown, never gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InventoryAnswer {
    /// Volumes that the records say this VM has.
    pub attached: Vec<Volume>,
    /// Reported volumes that are not this VM's any more.
    pub superseded: Vec<VolumeId>,
    /// Volumes of this VM that another VM waits for.
    pub wanted: Vec<VolumeId>,
}

/// What the agent tells without being asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Another VM waits for this volume.
    Wanted {
        /// Volume.
        volume: VolumeId,
        /// Who waits.
        by_vm: String,
    },
    /// The attachment of this epoch is over.
    Superseded {
        /// Volume.
        volume: VolumeId,
        /// The attachment that ended.
        epoch: Epoch,
    },
}

/// Whether the agent is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It answered *Hello* on the present connection.
    Up {
        /// What the host calls this VM.
        vm_name: String,
        /// Its instance UUID.
        vm_uuid: String,
        /// Name of the host.
        host: String,
    },
    /// No connection, and why.
    Down {
        /// The last cause.
        why: String,
    },
}

impl Link {
    /// Whether calls can be expected to be answered.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// No answer within the deadline; what happened is not known.
    #[error("{0}")]
    Away(Silence),
    /// The agent's answer is an error; the text is for people.
    #[error("{text}")]
    Said {
        /// What programs decide on.
        kind: ErrorKind,
        /// What people read.
        text: String,
    },
}

impl AgentError {
    /// The kind of an answered error.
    #[must_use]
    pub const fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Away(_) => None,
            Self::Said { kind, .. } => Some(*kind),
        }
    }
}

/// Result of a call.
pub type Answer<T> = Result<T, AgentError>;

/// The port.
#[async_trait]
pub trait Agent: Send + Sync + Debug {
    /// Whether the agent is there, and changes of that.
    fn link(&self) -> watch::Receiver<Link>;

    /// Notices, from all connections, in order. To be taken once; `None` the second time.
    fn notices(&self) -> Option<mpsc::Receiver<Notice>>;

    /// Allocates a volume. True: it was made; false: it existed with equal options.
    async fn create(
        &self,
        name: &str,
        options: &BTreeMap<String, String>,
        deadline: Instant,
    ) -> Answer<(Volume, bool)>;

    /// Removes this volume, whose full name this was a moment ago. Another one that bears the name by now is not touched:
    /// then, and where there is none, it is *not found*, unless a repetition of this call is what hears so.
    async fn delete(&self, name: &str, volume: VolumeId, deadline: Instant) -> Answer<()>;

    /// Looks a volume up, afresh.
    async fn get(&self, name: &str, deadline: Instant) -> Answer<Volume>;

    /// All volumes this VM may see.
    async fn list(&self, deadline: Instant) -> Answer<Listing>;

    /// Attaches to this VM; the agent waits up to `wait_ms` for another VM to let go.
    async fn attach(
        &self,
        name: &str,
        read_only: bool,
        wait_ms: u64,
        deadline: Instant,
    ) -> Answer<Attached>;

    /// Ends the attachment of this epoch. False: it was over already.
    async fn detach(&self, volume: VolumeId, epoch: Epoch, deadline: Instant) -> Answer<bool>;

    /// Stores, and returns, the UUID to format with.
    async fn begin_format(&self, volume: VolumeId, epoch: Epoch, deadline: Instant)
    -> Answer<Uuid>;

    /// The file system of this UUID is there and its layout is durable.
    async fn finish_format(
        &self,
        volume: VolumeId,
        epoch: Epoch,
        uuid: Uuid,
        deadline: Instant,
    ) -> Answer<()>;

    /// Tells what we believe to have.
    async fn report_inventory(
        &self,
        items: &[InventoryItem],
        deadline: Instant,
    ) -> Answer<InventoryAnswer>;
}
