//! Damage on datastores.
#![expect(
    missing_docs,
    reason = "the names are the documentation: they are what JSON shows"
)]

use serde::Serialize;
use vdvs_api::v1;

use super::{Tabular, present};
use crate::grid::{Cell, Column, Grid, Row, text};

/// `vdvs fsck`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    pub findings: Vec<Damaged>,
    pub looked: Vec<LookedAt>,
}

/// Something that is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damaged {
    pub datastore: String,
    pub name: String,
    pub path: String,
    pub volume: Option<String>,
    /// What was found.
    pub what: String,
    /// What was done, would be done, or is to be done.
    pub action: String,
    /// repairable, repaired, left
    pub state: String,
}

/// A datastore that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LookedAt {
    pub datastore: String,
    pub records: u32,
    pub claims: u32,
    pub disks: u32,
    /// Why it could not be looked at.
    pub unread: Option<String>,
}

impl From<v1::FsckReply> for Damage {
    fn from(r: v1::FsckReply) -> Self {
        let findings = r.findings.into_iter().map(|f| Damaged {
            datastore: f.datastore,
            name: f.name,
            path: f.path,
            volume: present(f.volume),
            what: f.what,
            action: f.action,
            state: f.state,
        });
        let looked = r.looked.into_iter().map(|l| LookedAt {
            datastore: l.datastore,
            records: l.records,
            claims: l.claims,
            disks: l.disks,
            unread: present(l.unread),
        });
        Self {
            findings: findings.collect(),
            looked: looked.collect(),
        }
    }
}

impl Damaged {
    /// It was repaired: nothing is left to do.
    #[must_use]
    pub fn is_repaired(&self) -> bool {
        self.state == "repaired"
    }
}

impl Damage {
    /// How many of the findings a repair would end.
    #[must_use]
    pub fn repairable(&self) -> usize {
        let repairable = self.findings.iter().filter(|f| f.state == "repairable");
        repairable.count()
    }

    /// 0: nothing is damaged, or all of it was repaired; 1: something is left, or could not be looked at.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let left = self.findings.iter().any(|f| !f.is_repaired());
        u8::from(left || self.looked.iter().any(|l| l.unread.is_some()))
    }
}

impl Tabular for Damage {
    fn grid(&self) -> Grid {
        const DAMAGED: &[Column] = &[
            text("datastore", "Datastore"),
            text("name", "Name"),
            text("state", "State"),
            text("volume", "Volume"),
            text("path", "Path"),
            text("what", "What"),
            text("action", "Action"),
        ];
        let row = |f: &Damaged| Row {
            cells: vec![
                Cell::text(&f.datastore),
                Cell::text(&f.name),
                Cell::text(&f.state),
                Cell::maybe(f.volume.as_deref()),
                Cell::text(&f.path),
                Cell::text(&f.what),
                Cell::text(&f.action),
            ],
            marked: !f.is_repaired(),
        };
        Grid {
            columns: DAMAGED,
            rows: self.findings.iter().map(row).collect(),
        }
    }
}
