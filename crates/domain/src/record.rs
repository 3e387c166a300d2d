//! What a datastore remembers about one volume: the record, and the name claim beside it.
//!
//! The record is changed only by *swap* (see the engine), so every version is complete. It says what is about to
//! happen ([`Operation`]) before it happens; whoever finds an operation later finishes or undoes it by looking at the
//! disk and at the VM's device list, never by guessing. Everything in it can be rebuilt from disks and VM
//! configurations, except that a rebuilt file-system state is `unknown`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::capacity::Capacity;
use crate::filesystem::Filesystem;
use crate::history::Happened;
use crate::ids::{Epoch, GroupId, HostId, RequestId, Timestamp, VmRef, VolumeId};
use crate::names::{DatastoreName, VolumeName};
use crate::options::{CreateOptions, Failover, Layout};
use crate::ownership::Ownership;

/// Version of the record's format that this program writes. A newer one is refused untouched.
pub const FORMAT: u32 = 1;
/// Answers kept for retries. A guest has at most a handful of requests for one volume under way.
pub const MAX_RESULTS: usize = 8;

/// What is being done to a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// The disk is being made. The volume does not exist yet for anybody.
    Create,
    /// The disk is being attached to the VM named by the ownership.
    Attach,
    /// The disk is being detached from that VM.
    Detach,
    /// The disk is being taken out of a VM that is proven dead.
    Release,
    /// The disk is being taken out of a live VM, because another one wants it and the volume's options say so.
    Fence,
    /// The disk is being removed. The volume exists no more for anybody.
    Delete,
}

impl OperationKind {
    /// The verb, for messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Attach => "attach",
            Self::Detach => "detach",
            Self::Release => "release",
            Self::Fence => "fence",
            Self::Delete => "delete",
        }
    }
}

/// An operation under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// What is being done.
    pub kind: OperationKind,
    /// The request that asked for it.
    pub request: RequestId,
    /// Who asked for what, so that a request id used twice for different things is noticed.
    pub fingerprint: Fingerprint,
    /// The host that is doing it.
    pub host: HostId,
    /// When it began.
    pub started: Timestamp,
    /// When the caller stops waiting. Recovery never completes an attach after this.
    pub deadline: Timestamp,
}

/// Digest of caller, verb, volume and arguments.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub String);

/// The answer to a finished request, kept for its retries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestResult {
    /// The request.
    pub request: RequestId,
    /// What it asked.
    pub fingerprint: Fingerprint,
    /// What it got.
    pub answer: Answer,
}

/// What a finished request did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The volume was created.
    Created,
    /// It was attached with this epoch.
    Attached {
        /// Epoch of the attachment.
        epoch: Epoch,
    },
    /// It was detached, or needed no detach.
    Detached,
    /// It is to be formatted with this UUID.
    FormatBegun {
        /// The UUID for `mkfs`.
        uuid: Uuid,
    },
    /// Its file system is ready.
    FormatFinished,
}

/// A request on another host that wants the volume. It changes neither owner nor epoch: it asks the agent of the
/// owner's host to do what [`Failover`] says, and keeps the volume for the claimant once it is free.
///
/// Its writer renews it, moving `deadline`, as long as the request waits. No host compares `deadline` with its own
/// clock where it matters: a claim counts as abandoned when the one who looks saw it unchanged for too long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The VM that wants it.
    pub vm: VmRef,
    /// The host it is registered on.
    pub host: HostId,
    /// That host's name, for messages.
    #[serde(default)]
    pub host_name: String,
    /// The request that waits.
    pub request: RequestId,
    /// What the volume's options said when the claim was made; for people, the options decide.
    pub mode: Failover,
    /// When the request began to wait, by the claimant's clock; for people.
    pub since: Timestamp,
    /// By when the claimant renews it, by its own clock.
    pub deadline: Timestamp,
    /// An administrator takes it, whatever `failover` says, and at once.
    #[serde(default, skip_serializing_if = "is_false")]
    pub at_once: bool,
}

/// A volume on its way from one vmgroup to another. One change of the record, that of its `group`, moves it; what
/// comes before and after is repeated, or taken back, by whoever finds it.
///
/// Its disk stays where it is, since the configuration of a VM may name it; and so does the record, beside the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The vmgroup it leaves.
    pub from: GroupId,
    /// The vmgroup it comes to.
    pub to: GroupId,
    /// The request that asked for it.
    pub request: RequestId,
    /// The host that is at it.
    pub host: HostId,
    /// When it began.
    pub started: Timestamp,
    /// It is being taken back: nobody may end it any more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub given_up: bool,
    /// The name stays taken in the vmgroup it leaves, for requests that do not know of the move yet.
    #[serde(default, skip_serializing_if = "is_false")]
    pub keep_name: bool,
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The volume whose content a clone gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneSource {
    /// The source.
    pub id: VolumeId,
    /// Its name, for messages.
    pub name: VolumeName,
    /// Where it lies.
    pub datastore: DatastoreName,
}

/// How far a volume's disk is made. Its maker renews it as long as it is at it, so that others see that it lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Making {
    /// The source, if it is a clone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<CloneSource>,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all; 0: not known yet.
    pub total: u64,
    /// When the maker said so, by its clock.
    pub seen: Timestamp,
}

impl Making {
    /// In hundredths, cut down; none while nothing is known.
    #[must_use]
    pub const fn percent(&self) -> Option<u64> {
        self.done.saturating_mul(100).checked_div(self.total)
    }
}

/// Who made a volume, when and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// When.
    pub at: Timestamp,
    /// The VM that asked; none when an administrator did.
    pub by: Option<VmRef>,
    /// The host that made it.
    pub host: HostId,
}

/// A volume's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// The volume.
    pub id: VolumeId,
    /// Its name, without datastore.
    pub name: VolumeName,
    /// It was created under its short name, which therefore is its own on every datastore; otherwise the name was
    /// given with the datastore.
    pub short_name: bool,
    /// The vmgroup it belongs to.
    pub group: GroupId,
    /// The vmgroup's folder in which its disk and this record lie, where that is another than its own: it was moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<GroupId>,
    /// It is on its way to another vmgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<Move>,
    /// Nobody may remove it until an administrator lifts the protection.
    #[serde(default, skip_serializing_if = "is_false")]
    pub protected: bool,
    /// It was rebuilt while its VM had it: the guest may still name the epoch of before, and is not told that it lost the
    /// volume. Ends with this attachment.
    #[serde(default, skip_serializing_if = "is_false")]
    pub rebuilt: bool,
    /// The version of its vSAN policy that its disk has; none: it names none, or nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_version: Option<u32>,
    /// Size of its disk.
    pub capacity: Capacity,
    /// Options it was made with.
    pub options: CreateOptions,
    /// Where its data lies in the file system.
    pub layout: Layout,
    /// Its making.
    pub created: Created,
    /// Its file system.
    pub filesystem: Filesystem,
    /// Whose it is.
    pub ownership: Ownership,
    /// Count of attachments.
    pub epoch: Epoch,
    /// Who waits for it on another host; one at a time, the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// What is being done to it.
    pub operation: Option<Operation>,
    /// How far its disk is made; only during a create that takes long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub making: Option<Making>,
    /// Answers to recent requests, oldest first, at most [`MAX_RESULTS`].
    pub results: Vec<RequestResult>,
    /// What happened to its ownership, oldest first, at most [`MAX_EVENTS`](crate::history::MAX_EVENTS).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Happened>,
}

impl VolumeRecord {
    /// Whether the volume exists for people: its creation finished and its removal has not begun.
    #[must_use]
    pub fn exists(&self) -> bool {
        !matches!(
            self.operation,
            Some(Operation {
                kind: OperationKind::Create | OperationKind::Delete,
                ..
            })
        )
    }

    /// The folder its files lie in.
    #[must_use]
    pub fn home(&self) -> GroupId {
        self.folder.unwrap_or(self.group)
    }

    /// Whether only that differs, if anything, which says nothing about who has it: the claim, the vmgroup, the
    /// protection, options. What was planned for an attachment on one holds for the other.
    #[must_use]
    pub fn same_attachment(&self, other: &Self) -> bool {
        let without = |record: &Self| Self {
            claim: None,
            group: GroupId::DEFAULT,
            folder: None,
            moving: None,
            protected: false,
            policy_version: None,
            options: other.options.clone(),
            history: Vec::new(),
            ..record.clone()
        };
        self == other || without(self) == without(other)
    }

    /// Keeps an answer for retries, dropping the oldest beyond [`MAX_RESULTS`].
    pub fn remember(&mut self, result: RequestResult) {
        self.results.retain(|r| r.request != result.request);
        self.results.push(result);
        let excess = self.results.len().saturating_sub(MAX_RESULTS);
        self.results.drain(..excess);
    }

    /// The answer an earlier run of this request got.
    #[must_use]
    pub fn recall(&self, request: RequestId) -> Option<&RequestResult> {
        self.results.iter().find(|r| r.request == request)
    }

    /// File name of the disk's descriptor: `<name>.<id8>.vmdk`. Never reused, since the id is not.
    #[must_use]
    pub fn disk_file(&self) -> String {
        format!("{}.{}.vmdk", self.name, self.id.id8())
    }
}

/// The claim on a name in one group on one datastore: made by exclusive create, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameClaim {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// The volume that has the name.
    pub id: VolumeId,
    /// The name, so that a claim found alone explains itself.
    pub name: VolumeName,
    /// The vmgroup's folder in which the volume's record lies, where that is another than the claim's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<GroupId>,
    /// The request that made the claim.
    pub request: RequestId,
    /// The host that made it.
    pub host: HostId,
    /// When.
    pub at: Timestamp,
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
