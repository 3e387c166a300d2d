//! The hunt for one mistake: schedules until one breaks a promise that it keeps without the mistake.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{passed, wake};
use crate::schedule::{Plan, Report, run};

/// Schedules over which mistakes are hunted, and what is known of them.
#[derive(Debug)]
pub struct Hunt {
    first: u64,
    at_most: u64,
    budget: Duration,
    threads: NonZeroUsize,
    /// Whether a schedule passes without any mistake.
    sound: Mutex<BTreeMap<u64, bool>>,
}

/// What came of a hunt.
#[derive(Debug, Default)]
pub struct Caught {
    /// By which schedule, and what it says.
    pub by: Option<(u64, String)>,
    /// How many schedules it took.
    pub schedules: u64,
    /// How often the mistake was made.
    pub passed: u64,
    /// Schedules that fail without it, too: they catch nothing.
    pub unsound: u64,
}

impl Hunt {
    /// Schedules from `first` on, so many for each mistake, and no longer than `budget`.
    #[must_use]
    pub fn new(first: u64, at_most: u64, budget: Duration, threads: NonZeroUsize) -> Self {
        Self {
            first,
            at_most,
            budget,
            threads,
            sound: Mutex::default(),
        }
    }

    fn sound(&self) -> MutexGuard<'_, BTreeMap<u64, bool>> {
        self.sound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hunts one mistake.
    #[must_use]
    pub fn hunt(&self, number: usize) -> Caught {
        let mut caught = Caught::default();
        let begun = Instant::now();
        let mut from = self.first;
        let end = self.first.saturating_add(self.at_most);
        // Until a schedule counts: what it says may be ours, and then the next ones are tried.
        while from < end && begun.elapsed() < self.budget {
            wake(number);
            let (failed, ran) = self.first_failing(from, end, begun);
            caught.schedules = caught.schedules.saturating_add(ran);
            caught.passed = caught.passed.saturating_add(passed());
            wake(0);
            let Some(report) = failed else { break };
            from = report.seed.saturating_add(1);
            if self.is_sound(report.seed) {
                caught.by = Some((report.seed, what(&report)));
                break;
            }
            caught.unsound += 1;
        }
        caught
    }

    fn is_sound(&self, seed: u64) -> bool {
        if let Some(known) = self.sound().get(&seed) {
            return *known;
        }
        let sound = run(&Plan::of(seed)).is_well();
        self.sound().insert(seed, sound);
        sound
    }

    /// The first schedule that fails, of those that were begun in time; and how many ended.
    fn first_failing(&self, from: u64, end: u64, begun: Instant) -> (Option<Report>, u64) {
        let ran = AtomicU64::new(0);
        let next = AtomicU64::new(from);
        let found: Mutex<Option<Report>> = Mutex::default();
        let look = || found.lock().unwrap_or_else(PoisonError::into_inner);
        thread::scope(|scope| {
            for _ in 0..self.threads.get() {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        let late = begun.elapsed() >= self.budget;
                        if seed >= end || late || look().as_ref().is_some_and(|r| r.seed < seed) {
                            return;
                        }
                        let report = run(&Plan::of(seed));
                        ran.fetch_add(1, Ordering::Relaxed);
                        let mut found = look();
                        let earlier = found.as_ref().is_none_or(|r| seed < r.seed);
                        if !report.is_well() && earlier {
                            *found = Some(report);
                        }
                    }
                });
            }
        });
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        (found, ran.into_inner())
    }
}

/// What a report says first.
fn what(report: &Report) -> String {
    let said = report.violations.first().map(ToString::to_string);
    said.or_else(|| report.panics.first().cloned())
        .unwrap_or_else(|| "a change of ownership that is not in the table".to_owned())
}
