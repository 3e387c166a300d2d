//! The breaker: after a row of failures nobody tries but one at a time.
//!
//! ```text
//!            MOST failures in a row            rest over: one attempt
//!   closed ─────────────────────────► resting ───────────────────────► probing
//!      ▲                                 ▲                                │ │
//!      │                                 └────────── failed ──────────────┘ │
//!      └───────────────────────────── succeeded ────────────────────────────┘
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::pace::Pace;

/// Failures in a row after which callers stop trying on their own.
const MOST: u32 = 5;

/// First and longest rest. hostd takes 13 s to start: the longest is short against that.
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(5);

/// How long a second caller waits for the verdict of the one who tries.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Whether a call may try now.
#[derive(Debug)]
pub(crate) enum Admission<'b> {
    /// It may, and says how it went.
    Go(Attempt<'b>),
    /// Not before this time has passed.
    Rest(Duration),
}

/// The breaker.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

#[derive(Debug)]
struct State {
    failures: u32,
    /// Until when nobody tries.
    until: Option<Instant>,
    probing: bool,
    rests: Pace,
}

impl Default for State {
    fn default() -> Self {
        Self {
            failures: 0,
            until: None,
            probing: false,
            rests: Pace::new(FIRST_REST, LONGEST_REST),
        }
    }
}

/// An attempt that was let through. Dropped without a word it counts for nothing.
#[derive(Debug)]
pub(crate) struct Attempt<'b> {
    breaker: &'b Breaker,
    probe: bool,
}

impl Breaker {
    /// May a call try now?
    pub(crate) fn admit(&self) -> Admission<'_> {
        let mut state = self.lock();
        let probe = match state.until {
            None => false,
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    return Admission::Rest(left);
                }
                if state.probing {
                    return Admission::Rest(LOOK_AGAIN);
                }
                state.probing = true;
                true
            }
        };
        Admission::Go(Attempt {
            breaker: self,
            probe,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt<'_> {
    /// hostd answered.
    pub(crate) fn succeeded(self) {
        *self.breaker.lock() = State::default();
    }

    /// hostd did not answer, or is not available.
    pub(crate) fn failed(self) {
        let mut state = self.breaker.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= MOST {
            let rest = state.rests.next();
            state.until = Some(Instant::now() + rest);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.lock().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn go(breaker: &Breaker) -> Attempt<'_> {
        match breaker.admit() {
            Admission::Go(attempt) => attempt,
            Admission::Rest(left) => panic!("it rests for {left:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_row_of_failures_one_tries_at_a_time() {
        let breaker = Breaker::default();
        for _ in 0..MOST {
            go(&breaker).failed();
        }
        let Admission::Rest(left) = breaker.admit() else {
            panic!("it let one through");
        };
        advance(left).await;
        let probe = go(&breaker);
        assert!(matches!(breaker.admit(), Admission::Rest(_)));
        probe.succeeded();
        go(&breaker).succeeded();
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_given_up_leaves_the_way_to_the_next() {
        let breaker = Breaker::default();
        for _ in 0..MOST {
            go(&breaker).failed();
        }
        advance(LONGEST_REST).await;
        drop(go(&breaker));
        go(&breaker).failed();
        assert!(matches!(breaker.admit(), Admission::Rest(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_forgets_earlier_failures() {
        let breaker = Breaker::default();
        for _ in 0..MOST * 3 {
            go(&breaker).failed();
            go(&breaker).succeeded();
        }
        go(&breaker).succeeded();
    }
}
