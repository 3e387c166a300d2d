//! The crash matrix: the real code is stopped at every call to a port, in every operation (docs/adr/0112). The matrix is
//! this crate's test; here is how its runs are counted, and what broke is kept.
#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

/// An operation that breaks so often is not struck any further: the first tell enough.
const ENOUGH: usize = 5;

/// What was struck, and what broke: of one operation, or of all.
#[derive(Debug, Default, Clone)]
pub struct Score {
    /// Calls at which something can go wrong.
    pub points: usize,
    /// Worlds in which something did.
    pub runs: usize,
    /// What broke, and how.
    pub failures: Vec<String>,
}

impl Score {
    /// Does it, unless enough broke already. What breaks is kept with what it was.
    pub fn attempt<T>(&mut self, what: &str, run: impl FnOnce() -> T) -> Option<T> {
        if self.failures.len() >= ENOUGH {
            return None;
        }
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(done) => Some(done),
            Err(payload) => {
                let text = payload.downcast_ref::<String>().cloned();
                let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                let text = text.unwrap_or_else(|| "a panic without a text".to_owned());
                self.failures.push(format!("{what}\n    {text}"));
                None
            }
        }
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: Self) {
        self.points += other.points;
        self.runs += other.runs;
        self.failures.extend(other.failures);
    }
}
