//! What was struck, and what broke.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// An operation that breaks so often is not struck any further: the first tell enough.
const ENOUGH: usize = 5;

/// Of one operation, or of all.
#[derive(Debug, Default, Clone)]
pub(crate) struct Score {
    pub(crate) points: usize,
    pub(crate) runs: usize,
    pub(crate) failures: Vec<String>,
}

impl Score {
    /// Does it, unless enough broke already. What breaks is kept with what it was.
    pub(crate) fn attempt<T>(&mut self, what: &str, run: impl FnOnce() -> T) -> Option<T> {
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

    pub(crate) fn add(&mut self, other: Self) {
        self.points += other.points;
        self.runs += other.runs;
        self.failures.extend(other.failures);
    }
}
