//! The audit.
#![expect(
    missing_docs,
    reason = "the names are the documentation: they are what JSON shows"
)]

use serde::Serialize;
use vdvs_api::v1;

use super::{Tabular, present};
use crate::grid::{Cell, Column, Grid, number, text};
use crate::time::rfc3339;

/// `vdvs audit ls`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditList {
    /// The host whose audit this is.
    pub host: String,
    /// Newest first; of an export, oldest first.
    pub entries: Vec<AuditEntry>,
    /// Older ones exist that fit the question.
    pub more: bool,
}

/// A row of the audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    pub number: u64,
    pub at: Option<String>,
    /// When the last of the folded ones happened.
    pub last: Option<String>,
    pub count: u32,
    pub who: String,
    pub verb: String,
    pub object: String,
    pub volume_id: Option<String>,
    pub outcome: String,
    pub detail: Option<String>,
}

impl From<v1::ListAuditReply> for AuditList {
    fn from(r: v1::ListAuditReply) -> Self {
        Self {
            host: r.host,
            entries: r.entries.into_iter().map(AuditEntry::from).collect(),
            more: r.more,
        }
    }
}

impl From<v1::AuditEntry> for AuditEntry {
    fn from(e: v1::AuditEntry) -> Self {
        Self {
            number: e.number,
            at: rfc3339(e.at_unix_ms),
            last: rfc3339(e.last_unix_ms),
            count: e.count,
            who: e.who,
            verb: e.verb,
            object: e.object,
            volume_id: present(e.volume_id),
            outcome: e.outcome,
            detail: present(e.detail),
        }
    }
}

impl Tabular for AuditList {
    fn grid(&self) -> Grid {
        const AUDIT: &[Column] = &[
            number("number", "Number"),
            text("time", "Time"),
            text("last", "Last"),
            number("count", "Count"),
            text("who", "Who"),
            text("verb", "Verb"),
            text("object", "Object"),
            text("volume-id", "Volume Id"),
            text("outcome", "Outcome"),
            text("detail", "Detail"),
        ];
        let row = |e: &AuditEntry| {
            vec![
                Cell::Count(e.number),
                Cell::maybe(e.at.as_deref()),
                Cell::maybe(e.last.as_deref()),
                Cell::Count(e.count.into()),
                Cell::text(&e.who),
                Cell::text(&e.verb),
                Cell::text(&e.object),
                Cell::maybe(e.volume_id.as_deref()),
                Cell::text(&e.outcome),
                Cell::maybe(e.detail.as_deref()),
            ]
        };
        Grid::new(AUDIT, self.entries.iter().map(row))
    }
}
