//! What differs, and what became of it.
#![expect(
    missing_docs,
    reason = "the names are the documentation: they are what JSON shows"
)]

use serde::Serialize;
use vdvs_api::v1;

use super::{Tabular, present};
use crate::grid::{Cell, Column, Grid, text};
use crate::time::{age_s, rfc3339};

/// The risk of a finding that endangers data.
const DATA: &str = "data";
/// The outcomes after which a finding does not stand any more.
const SETTLED: [&str; 2] = ["repaired", "gone"];
/// The same for findings and repairs, so that one command of esxcli answers with one kind of list.
const COLUMNS: &[Column] = &[
    text("risk", "Risk"),
    text("name", "Name"),
    text("object", "Object"),
    text("since", "Since"),
    text("found", "Found"),
    text("danger", "Danger"),
    text("command", "Command"),
    text("repair", "Repair"),
    text("outcome", "Outcome"),
];

/// `vdvs doctor`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checkup {
    /// The host that looked.
    pub host: String,
    /// What it looked at.
    pub volumes: u32,
    pub vms: u32,
    pub other_hosts: u32,
    /// Data at risk first.
    pub findings: Vec<Finding>,
}

/// Something a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub name: String,
    pub object: String,
    /// What was found.
    pub text: String,
    /// What findings of this name mean.
    pub explanation: String,
    /// warning, data
    pub risk: String,
    /// What may happen if nothing is done.
    pub danger: String,
    pub since: Option<String>,
    pub age_seconds: u64,
    /// It was seen first then, and may be older.
    pub since_seen: bool,
    /// What `--fix` would do; null: only a person can.
    pub repair: Option<String>,
    /// The one command to act.
    pub command: String,
    pub volume_id: Option<String>,
}

/// `vdvs doctor --fix`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repairs {
    pub repaired: Vec<Repaired>,
}

/// What became of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repaired {
    pub name: String,
    pub object: String,
    /// would, repaired, gone, refused
    pub outcome: String,
    pub text: String,
    pub risk: String,
    /// What to do about one that stands.
    pub command: Option<String>,
}

impl From<v1::DoctorReply> for Checkup {
    fn from(r: v1::DoctorReply) -> Self {
        Self {
            host: r.host,
            volumes: r.volumes,
            vms: r.vms,
            other_hosts: r.hosts,
            findings: r.findings.into_iter().map(Finding::from).collect(),
        }
    }
}

impl From<v1::Finding> for Finding {
    fn from(f: v1::Finding) -> Self {
        Self {
            name: f.name,
            object: f.object,
            text: f.text,
            explanation: f.explanation,
            risk: f.risk,
            danger: f.danger,
            since: rfc3339(f.since_unix_ms),
            age_seconds: age_s(f.since_unix_ms),
            since_seen: f.since_seen,
            repair: present(f.repair),
            command: f.command,
            volume_id: present(f.volume_id),
        }
    }
}

impl From<v1::RepairReply> for Repairs {
    fn from(r: v1::RepairReply) -> Self {
        let repaired = r.repaired.into_iter().map(|r| Repaired {
            name: r.name,
            object: r.object,
            outcome: r.outcome,
            text: r.text,
            risk: r.risk,
            command: present(r.command),
        });
        Self {
            repaired: repaired.collect(),
        }
    }
}

/// 0: nothing; 1: warnings; 2: data at risk.
fn exit_code<'a>(risks: impl IntoIterator<Item = &'a str>) -> u8 {
    let code = |risk| if risk == DATA { 2 } else { 1 };
    risks.into_iter().map(code).max().unwrap_or(0)
}

impl Finding {
    /// Whether it endangers data.
    #[must_use]
    pub fn is_data(&self) -> bool {
        self.risk == DATA
    }
}

impl Checkup {
    /// 0: clean; 1: warnings; 2: data at risk.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        exit_code(self.findings.iter().map(|f| f.risk.as_str()))
    }
}

impl Repaired {
    /// Whether the finding stands.
    #[must_use]
    pub fn stands(&self) -> bool {
        !SETTLED.contains(&self.outcome.as_str())
    }
}

impl Repairs {
    /// As of the findings that stand.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let standing = self.repaired.iter().filter(|r| r.stands());
        exit_code(standing.map(|r| r.risk.as_str()))
    }
}

impl Tabular for Checkup {
    fn grid(&self) -> Grid {
        let row = |f: &Finding| {
            vec![
                Cell::text(&f.risk),
                Cell::text(&f.name),
                Cell::text(&f.object),
                Cell::maybe(f.since.as_deref()),
                Cell::text(&f.text),
                Cell::text(&f.danger),
                Cell::text(&f.command),
                Cell::maybe(f.repair.as_deref()),
                Cell::Nothing,
            ]
        };
        Grid::new(COLUMNS, self.findings.iter().map(row))
    }
}

impl Tabular for Repairs {
    fn grid(&self) -> Grid {
        let row = |r: &Repaired| {
            vec![
                Cell::text(&r.risk),
                Cell::text(&r.name),
                Cell::text(&r.object),
                Cell::Nothing,
                Cell::text(&r.text),
                Cell::Nothing,
                Cell::maybe(r.command.as_deref()),
                Cell::Nothing,
                Cell::text(&r.outcome),
            ]
        };
        Grid::new(COLUMNS, self.repaired.iter().map(row))
    }
}
