//! What happened to a volume, over all hosts: its record's last owners, the audits' rows, and who waits.

use vdvs_domain::history::Happened;
use vdvs_domain::{Timestamp, VolumeRecord};

use crate::hosts::ToldRow;
use crate::ports::AuditRow;

/// Events shown; the newest stay.
const MAX_SHOWN: usize = 200;
/// A row of the audit is written a moment after the change of the record that it tells of.
const SAME_WITHIN_MS: u64 = 5000;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeEvent {
    /// When, by the clock of the host that says so.
    pub at: Timestamp,
    /// Name of that host.
    pub host: String,
    /// created, attached, detached, released, fenced, waiting, denied, moved, changed.
    pub kind: String,
    /// Whom it is about, or who did it.
    pub who: String,
    /// The attachment; 0: it is about none.
    pub epoch: u64,
    /// Facts in words.
    pub text: String,
    /// How often it happened.
    pub count: u64,
}

/// A host's row of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) host: String,
    pub(super) row: AuditRow,
}

impl Row {
    pub(super) fn told(host: &str, row: &ToldRow) -> Self {
        Self {
            host: host.to_owned(),
            row: AuditRow {
                number: 0,
                first: row.at,
                last: row.last.max(row.at),
                count: row.count.max(1),
                who: row.who.clone(),
                verb: row.verb.clone(),
                object: row.object.clone(),
                volume: row.volume,
                outcome: row.outcome.clone(),
                detail: row.detail.clone(),
            },
        }
    }

    fn kind(&self) -> &str {
        if self.row.is_denial() {
            return "denied";
        }
        match self.row.verb.as_str() {
            "create" => "created",
            "attach" => "attached",
            "detach" => "detached",
            "release" => "released",
            "fence" => "fenced",
            "move" | "follow" => "moved",
            _ => "changed",
        }
    }

    fn event(&self) -> VolumeEvent {
        let (row, kind) = (&self.row, self.kind());
        let verb = match kind {
            "changed" | "denied" => row.verb.as_str(),
            _ => "",
        };
        let text = match (verb, row.detail.as_str()) {
            ("", detail) => detail.to_owned(),
            (verb, "") => verb.to_owned(),
            (verb, detail) => format!("{verb}: {detail}"),
        };
        VolumeEvent {
            at: row.last,
            host: self.host.clone(),
            kind: kind.to_owned(),
            who: vm_or_user(&row.who),
            epoch: 0,
            text,
            count: row.count,
        }
    }
}

/// Who acted, as the record names VMs; the audit has the instance UUID too.
pub(super) fn vm_or_user(who: &str) -> String {
    match who.split_once(' ') {
        Some((uuid, name)) if uuid.len() == 36 => format!("VM {name}"),
        _ => who.to_owned(),
    }
}

impl VolumeEvent {
    fn of(happened: &Happened) -> Self {
        Self {
            at: happened.at,
            host: happened.host.clone(),
            kind: happened.kind.clone(),
            who: match happened.vm.is_empty() {
                true => String::new(),
                false => format!("VM {}", happened.vm),
            },
            epoch: happened.epoch.number(),
            text: String::new(),
            count: 1,
        }
    }

    /// Whether a row of the audit tells of the same.
    fn is_told_by(&self, row: &Row) -> bool {
        self.kind == row.kind()
            && self.host == row.host
            && self.at.millis().abs_diff(row.row.last.millis()) <= SAME_WITHIN_MS
    }

    /// A request that waits.
    pub(super) fn waiting(vm: &str, host: &str, since: Timestamp) -> Self {
        Self {
            at: since,
            host: host.to_owned(),
            kind: "waiting".to_owned(),
            who: format!("VM {vm}"),
            epoch: 0,
            text: "waits for it since then".to_owned(),
            count: 1,
        }
    }
}

/// All that is known, oldest first. Each thing once: what the record and an audit both tell takes the audit's words. Rows
/// come oldest first.
pub(super) fn timeline(
    record: Option<(&VolumeRecord, String)>,
    rows: &[Row],
    waits: Vec<VolumeEvent>,
) -> Vec<VolumeEvent> {
    let mut events = Vec::new();
    let mut rows: Vec<_> = rows.iter().collect();
    if let Some((record, host)) = record {
        let by = record.created.by.as_ref();
        let mut of_record = vec![VolumeEvent {
            at: record.created.at,
            host,
            kind: "created".to_owned(),
            who: by.map_or_else(String::new, |vm| format!("VM {}", vm.name)),
            epoch: 0,
            text: String::new(),
            count: 1,
        }];
        of_record.extend(record.history.iter().map(VolumeEvent::of));
        for event in &mut of_record {
            if let Some(at) = rows.iter().position(|row| event.is_told_by(row)) {
                event.text.clone_from(&rows.remove(at).row.detail);
            }
        }
        events.extend(of_record);
    }
    events.extend(rows.into_iter().map(Row::event));
    events.extend(waits);
    // Of one moment in the order they were written down.
    events.sort_by_key(|event| event.at);
    events.dedup();
    let excess = events.len().saturating_sub(MAX_SHOWN);
    events.drain(..excess);
    events
}
