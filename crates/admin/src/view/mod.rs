//! What is shown, as data. `--output json` prints exactly these structures: fields are only ever added.
//! Sizes are bytes, times RFC 3339 in UTC, absent things `null`.
//!
//! Each module holds the structures of one noun and the columns they have as a table; how they look to people is the
//! business of [`crate::render`].

mod audit;
mod change;
mod config;
mod doctor;
mod fsck;
mod group;
mod inventory;
mod policy;
mod volume;
mod why;
mod work;

use serde::Serialize;

pub use audit::{AuditEntry, AuditList};
pub use change::Changed;
pub use config::{Config, ConfigChange, ConfigDatastore, ConfigDocument};
pub use doctor::{Checkup, Finding, Repaired, Repairs};
pub use fsck::{Damage, Damaged, LookedAt};
pub use group::{Group, GroupList, Member, Privilege, Usage};
pub use inventory::{Datastore, Host, Status, Vm};
pub use policy::Policy;
pub use volume::{
    Attached, COLUMNS as VOLUME_COLUMNS, Filesystem, Inspection, ORIGINAL_COLUMNS, Operation,
    Removed, Volume, VolumeList,
};
pub use why::{Event, Why};
pub use work::Work;

use crate::grid::Grid;
use crate::time;

/// An answer, as columns and rows: what CSV and XML print, and what filters and sorting go by.
pub trait Tabular {
    /// All columns, one row per item.
    fn grid(&self) -> Grid;
}

/// Who said so, when it was not the agent that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The other host.
    pub host: String,
    /// When it wrote it.
    pub at: Option<String>,
    /// How long ago that is.
    pub age_seconds: u64,
}

impl Told {
    /// What `host` wrote at `unix_ms`; none: it was read here and now.
    #[must_use]
    pub fn new(host: &str, unix_ms: i64) -> Option<Self> {
        (unix_ms != 0).then(|| Self {
            host: host.to_owned(),
            at: time::rfc3339(unix_ms),
            age_seconds: time::age_s(unix_ms),
        })
    }

    /// `12 s ago`
    #[must_use]
    pub fn ago(&self) -> String {
        format!("{} ago", time::span(self.age_seconds))
    }
}

fn present(text: String) -> Option<String> {
    Some(text).filter(|t| !t.is_empty())
}

const fn limited(bytes: u64) -> Option<u64> {
    if bytes == 0 { None } else { Some(bytes) }
}
