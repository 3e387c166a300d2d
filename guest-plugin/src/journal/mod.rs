//! What the plugin remembers across its own restarts: a hint, never the truth.
//!
//! * **Held** ([`Held`]): the volumes this guest has or may have attached, where they are mounted, and for whom. Each
//!   change is on disk before the request that made it is answered. Small: one entry per disk in this VM.
//! * **Known** ([`Known`]): every volume the plugin ever saw, so that its name can be answered while the agent is
//!   away. A name is on disk before it is first told to Docker, unless the disk takes nothing: then it is answered all
//!   the same, and written when there is room. Up to [`MAX_KNOWN`] entries, hence a log with one line per change.
//!
//! After each start mounts come from the kernel's mount table and attachments from the agent; the journal adds
//! what neither of them knows: counts per mount ID, epochs, names. A journal that cannot be read is set aside and
//! begun anew: in-use volumes then keep their mounts, and the reality check releases the others.

mod file;
pub mod format;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use vdvs_blockdev::{Device, MountOptions};
use vdvs_domain::ownership::Locator;
use vdvs_domain::{Epoch, FsType, Layout, Timestamp, VolumeId};

pub use file::{FileJournal, peek};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use format::fuzzing::journal;

use crate::agent::Volume;

/// Most volumes remembered by name; twice what one datastore is designed for. Beyond it new names are not learnt.
pub const MAX_KNOWN: usize = 20_000;

/// Most mount IDs counted per volume. dockerd makes one per container mount point.
pub const MAX_IDS: usize = 4096;

/// How often one mount ID was mounted, and when last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Mounts minus unmounts.
    pub count: u32,
    /// The last Mount with this ID.
    pub last: Timestamp,
}

/// How far a volume is into this guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The disk is, or may be, in this VM; we have no mount of it. Unless a Mount wants it, it is to be detached.
    Attached,
    /// Mounted at `<mount root>/<volume id>`.
    Mounted,
    /// The host took it away while it was in use here. Unmounts are acknowledged, nothing else happens.
    Lost,
}

/// A device: its node, and its number when it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The node.
    pub path: PathBuf,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl From<&Device> for Node {
    fn from(device: &Device) -> Self {
        let (major, minor) = device.major_minor;
        Self {
            path: device.path.clone(),
            major,
            minor,
        }
    }
}

impl From<&Node> for Device {
    fn from(node: &Node) -> Self {
        Self {
            path: node.path.clone(),
            major_minor: (node.major, node.minor),
        }
    }
}

/// A volume this guest has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Identity.
    pub volume: VolumeId,
    /// `name@datastore`; the id when nobody could say yet.
    pub name: String,
    /// Epoch of the attachment; 0: not known yet (found in the mount table, not in the journal).
    pub epoch: Epoch,
    /// How far it is.
    pub stage: Stage,
    /// The device, once found.
    pub device: Option<Node>,
    /// Where the agent said the disk is.
    pub locator: Option<Locator>,
    /// The disk's size in bytes; 0: not known.
    pub capacity: u64,
    /// Type of the file system.
    pub fstype: FsType,
    /// Where the data lies.
    pub layout: Layout,
    /// Mounted read-only.
    pub read_only: bool,
    /// The volume's own mount options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mount_options: Vec<String>,
    /// Mounts per mount ID.
    pub counts: BTreeMap<String, Count>,
    /// When the stage last changed.
    pub since: Timestamp,
}

impl Held {
    /// How its file system is mounted.
    #[must_use]
    pub fn options(&self) -> MountOptions {
        MountOptions {
            read_only: self.read_only,
            extra: self.mount_options.clone(),
        }
    }
}

/// A volume the plugin has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// As last seen. What changes by itself (owner, epoch, allocation) may be older on disk than in memory.
    pub volume: Volume,
    /// Whether its short name alone led to it.
    pub short: bool,
    /// When the agent last described it.
    pub seen: Timestamp,
}

impl Known {
    /// Whether the difference to `other` is worth a write: not what changes with every mount.
    #[must_use]
    pub fn same_on_disk(&self, other: &Self) -> bool {
        let durable = |known: &Self| {
            let mut volume = known.volume.clone();
            volume.allocated = 0;
            volume.state.clear();
            volume.attachment = None;
            volume.epoch = Epoch::default();
            volume.waiting.clear();
            (volume, known.short)
        };
        durable(self) == durable(other)
    }
}

/// One change of what is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Seen.
    Put(Box<Known>),
    /// Does not exist any more.
    Drop(VolumeId),
}

/// What a start finds.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Volumes this guest had.
    pub held: Vec<Held>,
    /// Volumes seen.
    pub known: Vec<Known>,
    /// What was unreadable and set aside, for the log.
    pub set_aside: Vec<String>,
}

/// The port. Calls may block; the service makes those on the blocking pool.
pub trait JournalStore: Send + Sync + Debug {
    /// Whether calls may block. One that only touches memory is called where the service stands: a simulation's order
    /// is then its own and not the threads'.
    fn may_block(&self) -> bool {
        true
    }

    /// Reads everything. Damage is set aside, not an error.
    ///
    /// # Errors
    /// The folder cannot be used at all.
    fn load(&self) -> io::Result<Loaded>;

    /// Replaces what is held. A `version` not above the last one written is ignored, so a late writer does no harm.
    ///
    /// # Errors
    /// The former content is still there.
    fn save_held(&self, version: u64, held: &[Held]) -> io::Result<()>;

    /// Adds changes; answers how many lines the log has now.
    ///
    /// # Errors
    /// Any prefix of the changes may have been written.
    fn append_known(&self, changes: &[Change]) -> io::Result<usize>;

    /// Replaces the log.
    ///
    /// # Errors
    /// The former content is still there.
    fn rewrite_known(&self, known: &[Known]) -> io::Result<()>;
}

/// One call of the journal, on the blocking pool if it may block.
pub(crate) async fn call<T: Send + 'static>(
    journal: &Arc<dyn JournalStore>,
    call: impl FnOnce(&dyn JournalStore) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if !journal.may_block() {
        return call(journal.as_ref());
    }
    let journal = Arc::clone(journal);
    let called = spawn_blocking(move || call(journal.as_ref())).await;
    called.unwrap_or_else(|lost| Err(io::Error::other(lost)))
}
