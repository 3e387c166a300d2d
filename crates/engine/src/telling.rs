//! How long work for an administrator tells how far it is, and hears that it should end.
//!
//! The work tells, anybody may listen, and nobody waits: a listener that is slow sees the latest state only. What is
//! told is for people; what has to survive stands in records.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Lines that are kept of one work. Beyond them they are only counted: thousands help nobody.
const MAX_LINES: usize = 500;

/// What long work has told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// How much is done, in the work's own unit.
    pub done: u64,
    /// Of how much; 0: not known yet.
    pub total: u64,
    /// Results so far.
    pub lines: Vec<String>,
    /// Results beyond those that are kept.
    pub more_lines: u64,
}

impl Told {
    /// The lines, the last one saying how many are left out.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.lines.clone();
        if self.more_lines > 0 {
            lines.push(format!("... and {} more", self.more_lines));
        }
        lines
    }
}

/// The working side. Cheap to clone; all clones tell of the same work.
#[derive(Clone)]
pub struct Teller {
    told: Arc<watch::Sender<Told>>,
    stop: CancellationToken,
}

impl Default for Teller {
    /// For work that nobody asks about.
    fn default() -> Self {
        Self::new(0, CancellationToken::new())
    }
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Teller").field(&*self.told.borrow()).finish()
    }
}

impl Teller {
    /// Of work of so much in all (0: not known yet), which should end early when `stop` is cancelled.
    #[must_use]
    pub fn new(total: u64, stop: CancellationToken) -> Self {
        let told = Told {
            total,
            ..Told::default()
        };
        Self {
            told: Arc::new(watch::channel(told).0),
            stop,
        }
    }

    /// So much is to be done in all.
    pub fn total(&self, total: u64) {
        self.told.send_modify(|told| told.total = total);
    }

    /// So much is done.
    pub fn done(&self, done: u64) {
        self.told.send_if_modified(|told| {
            let news = told.done != done;
            told.done = done;
            news
        });
    }

    /// One more is done.
    pub fn one_more(&self) {
        self.told
            .send_modify(|told| told.done = told.done.saturating_add(1));
    }

    /// A result a person should see.
    pub fn line(&self, line: impl Into<String>) {
        self.told.send_modify(|told| {
            if told.lines.len() < MAX_LINES {
                told.lines.push(line.into());
            } else {
                told.more_lines = told.more_lines.saturating_add(1);
            }
        });
    }

    /// Whether the work should end at its next safe point: the agent stops.
    #[must_use]
    pub fn should_stop(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Cancelled when the work should end.
    #[must_use]
    pub const fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// What was told so far, and what will be.
    #[must_use]
    pub fn listen(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_sees_the_latest_and_lines_are_bounded() {
        let teller = Teller::default();
        let ear = teller.listen();
        teller.total(9);
        teller.one_more();
        for n in 0..MAX_LINES + 3 {
            teller.line(format!("line {n}"));
        }
        let told = ear.borrow().clone();
        assert_eq!((told.done, told.total), (1, 9));
        assert_eq!(told.lines().len(), MAX_LINES + 1);
        assert_eq!(
            told.lines().last().map(String::as_str),
            Some("... and 3 more")
        );
    }
}
