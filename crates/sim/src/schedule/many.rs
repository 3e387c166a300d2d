//! Many seeds, on several threads: each seed is a world of its own, so they share nothing but the count.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::coverage::Coverage;
use super::plan::Plan;
use super::run::{Report, run};
use super::step::Death;

/// How many seeds.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The first one; the others follow it.
    pub first: u64,
    /// At least so many.
    pub at_least: u64,
    /// As many more as begin within this time.
    pub budget: Duration,
    /// On so many threads.
    pub threads: NonZeroUsize,
    /// Each twice, to see that it leaves the same trace.
    pub twice: bool,
    /// Goes on after a failure.
    pub keep_going: bool,
}

/// The slowest takeover of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slowest {
    /// How many were measured.
    pub count: u64,
    /// The longest, from the request to the running service.
    pub took: Duration,
    /// In which seed.
    pub seed: u64,
}

/// What came of them.
#[derive(Debug, Default)]
pub struct Sum {
    /// Seeds that ran to their end.
    pub seeds: u64,
    /// Simulated time of all of them.
    pub simulated: Duration,
    /// Events in their traces.
    pub events: u64,
    /// Edges of the ownership table taken.
    pub coverage: Coverage,
    /// Per kind of death, and whether the volume was fenced.
    pub takeovers: Vec<((Death, bool), Slowest)>,
    /// The first that failed.
    pub failed: Option<Report>,
    /// Each that failed, with the first thing that is wrong with it.
    pub failures: Vec<(u64, String)>,
}

impl Sum {
    fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.simulated = self.simulated.saturating_add(report.simulated);
        self.events = self.events.saturating_add(report.events);
        self.coverage.add(&report.coverage);
        for takeover in &report.takeovers {
            let key = (takeover.death, takeover.fenced);
            let found = self.takeovers.iter_mut().find(|(k, _)| *k == key);
            match found {
                Some((_, slowest)) => {
                    slowest.count += 1;
                    if takeover.took > slowest.took {
                        (slowest.took, slowest.seed) = (takeover.took, report.seed);
                    }
                }
                None => self.takeovers.push((
                    key,
                    Slowest {
                        count: 1,
                        took: takeover.took,
                        seed: report.seed,
                    },
                )),
            }
        }
        if !report.is_well() {
            self.failures.push((report.seed, report.first_words()));
        }
        let earlier = |failed: &Report| failed.seed < report.seed;
        if !report.is_well() && !self.failed.as_ref().is_some_and(earlier) {
            self.failed = Some(report);
        }
    }
}

/// Runs seeds until enough ran, the time is up, or one failed. `tell` hears how many are done, now and then.
pub fn many(wanted: Wanted, tell: &(dyn Fn(u64) + Sync)) -> Sum {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let sum = Mutex::new(Sum::default());
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..wanted.threads.get() {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let enough = number >= wanted.at_least && begun.elapsed() >= wanted.budget;
                    if enough || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let plan = Plan::of(wanted.first.wrapping_add(number));
                    let mut report = run(&plan);
                    if wanted.twice {
                        report.compare(&run(&plan));
                    }
                    if !report.is_well() && !wanted.keep_going {
                        stop.store(true, Ordering::Relaxed);
                    }
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    sum.add(report);
                    tell(sum.seeds);
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}
