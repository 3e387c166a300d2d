//! What happened to a volume's ownership: the last few events, written with the changes they tell of.
//!
//! For people only. The ring is bounded, an older program may drop it, and nothing is decided by it. What a kind means
//! is text, so that a record of a newer program can be read.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, Timestamp};
use crate::ownership::Ownership;
use crate::record::{OperationKind, VolumeRecord};

/// Events kept of a volume: a few days of a database that moves, and some two kilobytes.
pub const MAX_EVENTS: usize = 16;

/// The VM has the disk.
pub const ATTACHED: &str = "attached";
/// The VM let it go.
pub const DETACHED: &str = "detached";
/// It was taken from a VM that was proven unable to write.
pub const RELEASED: &str = "released";
/// It was taken from a VM that ran.
pub const FENCED: &str = "fenced";
/// The VM runs on another host now, or the volume belongs to another vmgroup.
pub const MOVED: &str = "moved";

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// When, by the clock of the host that wrote it.
    pub at: Timestamp,
    /// That host's name.
    pub host: String,
    /// What, in one word.
    pub kind: String,
    /// Name of the VM it was about; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub vm: String,
    /// The attachment it was about.
    pub epoch: Epoch,
}

/// What a change of a record tells of its ownership: the kind, and the VM's name.
fn told(before: &VolumeRecord, after: &VolumeRecord) -> Option<(&'static str, String)> {
    let vm = |ownership: &Ownership| ownership.owner().map(|o| o.vm.name.clone());
    let doing = before.operation.as_ref().map(|o| o.kind);
    let kind = match (&before.ownership, &after.ownership) {
        (Ownership::Attaching { .. }, Ownership::Attached { .. }) => ATTACHED,
        (Ownership::Attached { owner: was }, Ownership::Attached { owner: is })
            if was.host != is.host =>
        {
            MOVED
        }
        // The host refused it, or the caller had gone: the VM never had it.
        (Ownership::Attaching { .. }, Ownership::Free) if doing == Some(OperationKind::Attach) => {
            return None;
        }
        (was, Ownership::Free) if was.owner().is_some() => match doing {
            Some(OperationKind::Detach) => DETACHED,
            Some(OperationKind::Fence) => FENCED,
            _ => RELEASED,
        },
        _ if before.group != after.group => MOVED,
        _ => return None,
    };
    let vm = match kind {
        ATTACHED | MOVED => vm(&after.ownership),
        _ => vm(&before.ownership),
    };
    Some((kind, vm.unwrap_or_default()))
}

impl VolumeRecord {
    /// Adds what its change from `before` tells, written by `host` at `at`. The oldest event goes beyond
    /// [`MAX_EVENTS`].
    pub fn note(&mut self, before: &Self, at: Timestamp, host: &str) {
        let Some((kind, vm)) = told(before, self) else {
            return;
        };
        self.history.push(Happened {
            at,
            host: host.to_owned(),
            kind: kind.to_owned(),
            vm,
            epoch: self.epoch,
        });
        let excess = self.history.len().saturating_sub(MAX_EVENTS);
        self.history.drain(..excess);
    }
}
