//! Long work.
#![expect(
    missing_docs,
    reason = "the names are the documentation: they are what JSON shows"
)]

use serde::Serialize;
use vdvs_api::v1;

use super::{Tabular, present};
use crate::grid::{Cell, Column, Grid, Row, number, text};
use crate::time::rfc3339;

/// `vdvs work show`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Work {
    pub id: String,
    pub what: String,
    pub done: u64,
    pub total: u64,
    /// running, done, failed
    pub state: String,
    pub lines: Vec<String>,
    pub error: Option<String>,
    pub reason: Option<String>,
    pub started_at: Option<String>,
}

impl From<v1::Work> for Work {
    fn from(w: v1::Work) -> Self {
        Self {
            id: w.id,
            what: w.what,
            done: w.done,
            total: w.total,
            state: w.state,
            lines: w.lines,
            error: present(w.error),
            reason: present(w.reason),
            started_at: rfc3339(w.started_unix_ms),
        }
    }
}

impl Work {
    /// Whether it goes on.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.state == "running"
    }

    /// `42 %`; none where nobody knows how much there is.
    #[must_use]
    pub fn percent(&self) -> Option<u64> {
        let part = u128::from(self.done.min(self.total)) * 100;
        let percent = part.checked_div(u128::from(self.total))?;
        u64::try_from(percent).ok()
    }
}

impl Tabular for Vec<Work> {
    fn grid(&self) -> Grid {
        const WORKS: &[Column] = &[
            text("id", "Id"),
            text("what", "What"),
            text("state", "State"),
            number("done", "Done"),
            number("total", "Total"),
            text("started", "Started"),
            text("error", "Error"),
        ];
        let row = |w: &Work| Row {
            cells: vec![
                Cell::text(&w.id),
                Cell::text(&w.what),
                Cell::text(&w.state),
                Cell::Count(w.done),
                Cell::Count(w.total),
                Cell::maybe(w.started_at.as_deref()),
                Cell::maybe(w.error.as_deref()),
            ],
            marked: w.error.is_some(),
        };
        Grid {
            columns: WORKS,
            rows: self.iter().map(row).collect(),
        }
    }
}

impl Tabular for Work {
    fn grid(&self) -> Grid {
        vec![self.clone()].grid()
    }
}
