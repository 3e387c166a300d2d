//! What a change did.

use serde::Serialize;
use vdvs_api::v1;

use super::{Tabular, Work};
use crate::grid::{Cell, Column, Grid, text};

/// The answer of every verb that changes something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// The original's sentence of success, where it had one; ours otherwise.
    pub message: String,
    /// What happened, line by line.
    pub lines: Vec<String>,
    /// What a person should know beside it.
    pub warnings: Vec<String>,
    /// Work that was begun by it; absent: all was done at once.
    pub work: Option<Work>,
}

impl Changed {
    /// What the agent answered, and the sentence for success.
    #[must_use]
    pub fn new(message: impl Into<String>, reply: v1::ChangeReply) -> Self {
        Self {
            message: message.into(),
            lines: reply.lines,
            warnings: reply.warnings,
            work: reply.work.map(Work::from),
        }
    }

    /// Takes over what the ended work did. A work has lines only; those that warn say so at their beginning.
    pub fn end(&mut self, work: Work) {
        for line in &work.lines {
            match line.strip_prefix("warning: ") {
                Some(warning) => self.warnings.push(warning.to_owned()),
                None => self.lines.push(line.clone()),
            }
        }
        self.work = Some(work);
    }
}

impl Tabular for Changed {
    fn grid(&self) -> Grid {
        const MESSAGES: &[Column] = &[text("kind", "Kind"), text("text", "Text")];
        let lines = self.lines.iter().map(|l| ("line", l));
        let message = Some(("message", &self.message)).filter(|(_, m)| !m.is_empty());
        let warnings = self.warnings.iter().map(|w| ("warning", w));
        let rows = lines.chain(message).chain(warnings);
        Grid::new(
            MESSAGES,
            rows.map(|(kind, line)| vec![Cell::text(kind), Cell::text(line)]),
        )
    }
}
