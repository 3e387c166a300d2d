//! vSAN policies.
#![expect(
    missing_docs,
    reason = "the names are the documentation: they are what JSON shows"
)]

use serde::Serialize;
use vdvs_api::v1;

use super::Tabular;
use crate::grid::{Cell, Column, Grid, Row, number, text};

/// `vdvs policy ls`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    pub name: String,
    pub content: String,
    pub volumes: u32,
    pub outdated: u32,
}

impl From<v1::Policy> for Policy {
    fn from(p: v1::Policy) -> Self {
        Self {
            name: p.name,
            content: p.content,
            volumes: p.volumes,
            outdated: p.outdated,
        }
    }
}

impl Policy {
    /// The original's words.
    #[must_use]
    pub fn active(&self) -> String {
        match self.volumes {
            0 => "Unused".to_owned(),
            n => format!("In use by {n} volumes"),
        }
    }
}

impl Tabular for Vec<Policy> {
    fn grid(&self) -> Grid {
        const POLICIES: &[Column] = &[
            text("name", "Policy Name"),
            text("content", "Policy Content"),
            text("active", "Active"),
            number("volumes", "Volumes"),
            number("outdated", "Outdated"),
        ];
        let row = |p: &Policy| Row {
            cells: vec![
                Cell::text(&p.name),
                Cell::text(&p.content),
                Cell::text(p.active()),
                Cell::Count(p.volumes.into()),
                Cell::Count(p.outdated.into()),
            ],
            marked: p.outdated > 0,
        };
        Grid {
            columns: POLICIES,
            rows: self.iter().map(row).collect(),
        }
    }
}
