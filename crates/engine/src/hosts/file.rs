//! What a host tells the others: one small file, replaced as a whole.
//!
//! It is for people and never decides anything. It is bounded: what does not fit is left out from the back, volumes
//! first, and counted. A reader takes what it understands: fields of a newer program are ignored, absent ones empty,
//! so the frame's format changes only when a field gets another meaning.

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vdvs_domain::{DatastoreName, Error, HostId, Timestamp, VmId, VolumeId, VolumeRecord};

use crate::layout;
use crate::ports::{AuditRow, Power};
use crate::swap::frame::{self, Kind};
use crate::swap::{SharedFile, slot_of};

/// Rows of the audit that are told.
pub(super) const MAX_ROWS: usize = 50;
/// Volumes on datastores that no other host sees.
pub(super) const MAX_VOLUMES: usize = 500;
/// A host of the platform runs at most 1024 VMs.
const MAX_VMS: usize = 1024;
const MAX_WAITS: usize = 200;
const MAX_WARNINGS: usize = 20;
/// Longest text of a row or warning, in characters.
const MAX_TEXT: usize = 300;
/// Longest body: what a reader accepts, less the header.
const MAX_BODY: usize = Kind::Host.max_bytes() - 128;
const STEM: &str = "host";
/// How the names of all such files start.
pub(super) const START: &str = "host.";

/// A host's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HostFile {
    /// Who tells.
    pub(crate) host: HostId,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) program: String,
    /// When, by its clock.
    pub(crate) at: Timestamp,
    #[serde(default)]
    pub(crate) vms: Vec<ToldVm>,
    #[serde(default)]
    pub(crate) datastores: Vec<ToldDatastore>,
    /// The configurations it follows.
    #[serde(default)]
    pub(crate) configs: Vec<ToldConfig>,
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
    /// What its VMs wait for.
    #[serde(default)]
    pub(crate) waits: Vec<ToldWait>,
    /// The newest rows of its audit that name a volume, newest first.
    #[serde(default)]
    pub(crate) rows: Vec<ToldRow>,
    /// Volumes on datastores that, as far as it knows, no other host sees.
    #[serde(default)]
    pub(crate) volumes: Vec<ToldVolume>,
    /// How many of all these did not fit.
    #[serde(default)]
    pub(crate) left_out: u32,
}

/// A VM registered there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ToldVm {
    pub(crate) id: VmId,
    pub(crate) name: String,
    pub(crate) power: ToldPower,
    #[serde(default)]
    pub(crate) connected: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) plugin: String,
    #[serde(default)]
    pub(crate) home: Option<DatastoreName>,
}

/// [`Power`] in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToldPower {
    On,
    Off,
    Suspended,
}

impl From<Power> for ToldPower {
    fn from(power: Power) -> Self {
        match power {
            Power::On => Self::On,
            Power::Off => Self::Off,
            Power::Suspended => Self::Suspended,
        }
    }
}

impl From<ToldPower> for Power {
    fn from(power: ToldPower) -> Self {
        match power {
            ToldPower::On => Self::On,
            ToldPower::Off => Self::Off,
            ToldPower::Suspended => Self::Suspended,
        }
    }
}

/// A datastore it sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ToldDatastore {
    pub(crate) name: DatastoreName,
    /// Identity by its marker; none before its first use, or when that cannot be read.
    #[serde(default)]
    pub(crate) id: Option<Uuid>,
    #[serde(default)]
    pub(crate) capacity: u64,
    #[serde(default)]
    pub(crate) free: u64,
    /// Why it cannot be used there; empty: it can.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) problem: String,
}

/// A configuration it follows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ToldConfig {
    pub(crate) id: Uuid,
    pub(crate) version: u64,
}

/// A request that waits there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ToldWait {
    pub(crate) volume: VolumeId,
    /// Name of the VM.
    pub(crate) by: String,
    pub(crate) since: Timestamp,
}

/// A row of its audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ToldRow {
    pub(crate) at: Timestamp,
    #[serde(default)]
    pub(crate) last: Timestamp,
    #[serde(default)]
    pub(crate) count: u64,
    pub(crate) who: String,
    pub(crate) verb: String,
    pub(crate) object: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) volume: Option<VolumeId>,
    pub(crate) outcome: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) detail: String,
}

impl From<AuditRow> for ToldRow {
    fn from(row: AuditRow) -> Self {
        Self {
            at: row.first,
            last: row.last,
            count: row.count,
            who: cut(&row.who),
            verb: row.verb,
            object: cut(&row.object),
            volume: row.volume,
            outcome: row.outcome,
            detail: cut(&row.detail),
        }
    }
}

/// A volume that only this host sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ToldVolume {
    pub(crate) datastore: DatastoreName,
    pub(crate) datastore_id: Uuid,
    /// Name of its vmgroup there.
    pub(crate) group: String,
    /// Path of its descriptor below the datastore.
    #[serde(default)]
    pub(crate) disk_path: String,
    /// Its record, without what is for retries.
    pub(crate) record: VolumeRecord,
}

/// A text that is told, bounded.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// Where a host's file lies on a datastore.
pub(super) fn place(ds: &DatastoreName, host: HostId) -> SharedFile {
    SharedFile {
        ds: ds.clone(),
        dir: layout::own_dir(),
        stem: format!("{STEM}.{host}"),
        max: Kind::Host.max_bytes(),
    }
}

/// The host and slot in an entry's name, if it is a slot of a host's file.
pub(super) fn slot_of_host(entry: &str) -> Option<(HostId, u64)> {
    let rest = entry.strip_prefix(STEM)?.strip_prefix('.')?;
    let (id, _) = rest.split_once('.')?;
    let host = HostId::new(Uuid::try_parse(id).ok()?);
    // Exactly as we write them.
    let seq = slot_of(entry, &format!("{STEM}.{host}"))?;
    Some((host, seq))
}

impl HostFile {
    /// Whether another file says something else, its time apart.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        let timeless = |file: &Self| {
            let mut file = file.clone();
            file.at = Timestamp::default();
            // A twentieth of a datastore more or less is no news.
            for ds in &mut file.datastores {
                ds.free /= (ds.capacity / 20).max(1);
            }
            file
        };
        timeless(self) == timeless(other)
    }

    fn bound(&mut self) {
        fn keep<T>(list: &mut Vec<T>, most: usize) -> usize {
            let excess = list.len().saturating_sub(most);
            list.truncate(most);
            excess
        }
        let out = keep(&mut self.vms, MAX_VMS)
            + keep(&mut self.waits, MAX_WAITS)
            + keep(&mut self.rows, MAX_ROWS)
            + keep(&mut self.warnings, MAX_WARNINGS)
            + keep(&mut self.volumes, MAX_VOLUMES);
        self.leave_out(out);
    }

    fn leave_out(&mut self, n: usize) {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        self.left_out = self.left_out.saturating_add(n);
    }

    /// Leaves out half of what is least missed. `false`: nothing is left.
    fn shrink(&mut self) -> bool {
        fn halve<T>(list: &mut Vec<T>) -> usize {
            let out = list.len().div_ceil(2);
            list.truncate(list.len() - out);
            out
        }
        let mut out = halve(&mut self.volumes);
        for next in [
            |f: &mut Self| halve(&mut f.rows),
            |f: &mut Self| halve(&mut f.waits),
            |f: &mut Self| halve(&mut f.vms),
            |f: &mut Self| halve(&mut f.datastores),
            |f: &mut Self| halve(&mut f.warnings),
        ] {
            if out == 0 {
                out = next(self);
            }
        }
        self.leave_out(out);
        out > 0
    }

    /// The file's bytes, cut down until a reader accepts them.
    pub(super) fn bytes(mut self) -> Result<Vec<u8>, Error> {
        self.bound();
        loop {
            let body = serde_json::to_vec(&self)
                .map_err(|why| Error::Internal(format!("a status file cannot be made: {why}")))?;
            if body.len() <= MAX_BODY {
                return Ok(frame::around(Kind::Host, &body));
            }
            if !self.shrink() {
                return Err(Error::Internal(format!(
                    "a status file of {} bytes cannot be cut down",
                    body.len()
                )));
            }
        }
    }

    /// What is in a file's bytes; `None` when it is not whole.
    pub(super) fn read(bytes: &[u8], what: impl Fn() -> String) -> Result<Option<Self>, Error> {
        frame::decode(Kind::Host, bytes, what)
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
