//! Many seeds, on several threads: each seed is a world of its own, so they share nothing but the count.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::coverage::Coverage;
use super::plan::Plan;
use super::run::{Report, run};
use super::step::Death;

/// No schedule takes so long, on any machine: some thousand times what it takes. Its code turns in a circle and never
/// waits, so that the simulated clock stands.
const NEVER: Duration = Duration::from_secs(300);

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

/// Who hears of it while it runs.
pub struct Listener<'a> {
    /// So many are done.
    pub done: &'a (dyn Fn(u64) + Sync),
    /// This seed never ends. It cannot be stopped either: the program had better end.
    pub stuck: &'a (dyn Fn(u64) + Sync),
}

impl fmt::Debug for Listener<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

/// Seeds that run now, and since when.
type UnderWay = Mutex<BTreeMap<u64, Instant>>;

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs seeds until enough ran, the time is up, or one failed. The least number runs whatever time it takes; the budget
/// bounds only what is beyond it.
pub fn many(wanted: Wanted, listener: &Listener<'_>) -> Sum {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (sum, under_way) = (Mutex::new(Sum::default()), UnderWay::default());
    let begun = Instant::now();
    let work = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let enough = number >= wanted.at_least && begun.elapsed() >= wanted.budget;
        if enough || stop.load(Ordering::Relaxed) {
            return;
        }
        let seed = wanted.first.wrapping_add(number);
        locked(&under_way).insert(seed, Instant::now());
        let report = once(seed, wanted.twice);
        locked(&under_way).remove(&seed);
        if !report.is_well() && !wanted.keep_going {
            stop.store(true, Ordering::Relaxed);
        }
        let mut sum = locked(&sum);
        sum.add(report);
        (listener.done)(sum.seeds);
    };
    let (over, is_over) = channel();
    thread::scope(|scope| {
        scope.spawn(|| watch(&under_way, is_over, listener.stuck));
        thread::scope(|workers| {
            for _ in 0..wanted.threads.get() {
                workers.spawn(work);
            }
        });
        drop(over);
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn once(seed: u64, twice: bool) -> Report {
    let plan = Plan::of(seed);
    let mut report = run(&plan);
    if twice {
        report.compare(&run(&plan));
    }
    report
}

fn watch(under_way: &UnderWay, is_over: Receiver<()>, stuck: &(dyn Fn(u64) + Sync)) {
    while is_over.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
        let late = |(_, since): &(&u64, &Instant)| since.elapsed() > NEVER;
        let seed = locked(under_way).iter().find(late).map(|(seed, _)| *seed);
        if let Some(seed) = seed {
            stuck(seed);
        }
    }
}
