//! The search: every choice at every state, each state once.
//!
//! A state cannot be copied, for it is tasks in the middle of real code. It is reached again by running the same choices
//! from the beginning. From each new state one way on is walked at once, as long as it leads to new states; the other
//! ways are kept for later, in the order of how often they turn from the way that would have been walked. So the first
//! schedule that breaks a promise is one that turns least often.
//!
//! Two states are one when [`Run::state`] says the same number: whatever the future depends on must be in it.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, available_parallelism};
use std::time::{Duration, Instant};

/// A path longer than this has no end: something is waited for that never comes.
const LONGEST: usize = 4000;

/// One execution, from the beginning up to where it was driven.
pub trait Run {
    /// How many choices there are now. 0: it has ended.
    fn choices(&mut self) -> usize;
    /// Takes one of them.
    fn take(&mut self, choice: usize);
    /// What the last choice was, in words.
    fn last(&self) -> String;
    /// All that the future depends on, as a number.
    fn state(&self) -> u64;
    /// The promise that is broken now.
    fn broken(&mut self) -> Option<String>;
    /// The promise that is broken by ending so.
    fn broken_at_the_end(&mut self) -> Option<String>;
}

/// What is searched.
pub trait Case: Sync {
    /// Its executions.
    type Run: Run;
    /// The beginning.
    fn begin(&self) -> Self::Run;
}

/// A search that ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explored {
    /// States, each counted once.
    pub states: u64,
    /// Steps taken, those that led to a state again included.
    pub steps: u64,
    /// States in which nothing is left to do.
    pub ends: u64,
    /// Steps of the longest schedule.
    pub longest: u64,
    /// How long it took.
    pub took: Duration,
    /// It was stopped at its limit, with more to search: nothing is broken in what was seen.
    pub cut: bool,
}

/// A schedule that breaks a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The promise.
    pub why: String,
    /// The choices that lead there.
    pub path: Vec<u8>,
    /// The same in words.
    pub schedule: Vec<String>,
    /// States seen until then.
    pub states: u64,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (after {} states)", self.why, self.states)?;
        for (n, step) in (1u32..).zip(&self.schedule) {
            writeln!(f, "  {n:3}. {step}")?;
        }
        Ok(())
    }
}

/// What the threads share.
struct Work {
    open: VecDeque<Vec<u8>>,
    /// Threads that may still open more.
    busy: usize,
}

/// How far a search goes.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// States.
    pub states: u64,
    /// Time.
    pub time: Duration,
}

struct Search<'a, C> {
    case: &'a C,
    limit: Limit,
    begun: Instant,
    cut: AtomicBool,
    work: Mutex<Work>,
    more: Condvar,
    seen: Mutex<HashSet<u64>>,
    found: Mutex<Option<Broken>>,
    stop: AtomicBool,
    steps: AtomicU64,
    ends: AtomicU64,
    longest: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Searches all of `case`, or as much as the limit allows, which [`Explored::cut`] says.
///
/// # Errors
/// The schedule that breaks a promise.
pub fn search<C: Case>(case: &C, limit: Limit) -> Result<Explored, Broken> {
    let begun = Instant::now();
    let search = Search {
        case,
        limit,
        begun,
        cut: AtomicBool::new(false),
        work: Mutex::new(Work {
            open: [Vec::new()].into(),
            busy: 0,
        }),
        more: Condvar::new(),
        seen: Mutex::default(),
        found: Mutex::default(),
        stop: AtomicBool::new(false),
        steps: AtomicU64::new(0),
        ends: AtomicU64::new(0),
        longest: AtomicU64::new(0),
    };
    let threads = available_parallelism().map_or(1, NonZeroUsize::get);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| search.work());
        }
    });
    if let Some(broken) = locked(&search.found).take() {
        return Err(broken);
    }
    Ok(Explored {
        states: search.states(),
        steps: search.steps.load(Ordering::Relaxed),
        ends: search.ends.load(Ordering::Relaxed),
        longest: search.longest.load(Ordering::Relaxed),
        took: begun.elapsed(),
        cut: search.cut.load(Ordering::Relaxed),
    })
}

/// Runs one schedule and tells each of its steps.
pub fn replay<C: Case>(case: &C, path: &[u8]) -> Vec<String> {
    let mut run = case.begin();
    let mut told = Vec::new();
    for choice in path {
        run.take(usize::from(*choice));
        told.push(run.last());
    }
    told
}

/// The schedule that turns nowhere: what happens when nothing interferes.
pub fn straight<C: Case>(case: &C) -> Vec<String> {
    let mut run = case.begin();
    let mut told = Vec::new();
    while told.len() < LONGEST && run.choices() > 0 {
        run.take(0);
        told.push(run.last());
    }
    told
}

impl<C: Case> Search<'_, C> {
    fn states(&self) -> u64 {
        u64::try_from(locked(&self.seen).len()).unwrap_or(u64::MAX)
    }

    fn work(&self) {
        while let Some(path) = self.next() {
            self.walk(path);
            let mut work = locked(&self.work);
            work.busy -= 1;
            drop(work);
            self.more.notify_all();
        }
    }

    fn next(&self) -> Option<Vec<u8>> {
        let mut work = locked(&self.work);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(path) = work.open.pop_front() {
                work.busy += 1;
                return Some(path);
            }
            if work.busy == 0 {
                return None;
            }
            work = self.more.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Runs to where `path` leads, and on from there.
    fn walk(&self, mut path: Vec<u8>) {
        let mut run = self.case.begin();
        for choice in &path {
            run.take(usize::from(*choice));
        }
        loop {
            if let Some(why) = run.broken() {
                return self.report(why, path);
            }
            let new = {
                let mut seen = locked(&self.seen);
                let new = seen.insert(run.state());
                let states = u64::try_from(seen.len()).unwrap_or(u64::MAX);
                if states >= self.limit.states || self.begun.elapsed() > self.limit.time {
                    self.cut.store(true, Ordering::Relaxed);
                    self.stop.store(true, Ordering::Relaxed);
                }
                new
            };
            if !new {
                return;
            }
            if path.len() > LONGEST {
                return self.report("a wait does not end".to_owned(), path);
            }
            let choices = u8::try_from(run.choices()).expect("nobody has 256 choices at once");
            let length = u64::try_from(path.len()).unwrap_or(u64::MAX);
            self.longest.fetch_max(length, Ordering::Relaxed);
            if choices == 0 {
                self.ends.fetch_add(1, Ordering::Relaxed);
                if let Some(why) = run.broken_at_the_end() {
                    self.report(why, path);
                }
                return;
            }
            if choices > 1 {
                let others = (1..choices).map(|c| path.iter().copied().chain([c]).collect());
                locked(&self.work).open.extend(others);
                self.more.notify_all();
            }
            run.take(0);
            path.push(0);
            self.steps.fetch_add(1, Ordering::Relaxed);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    fn report(&self, why: String, path: Vec<u8>) {
        let mut found = locked(&self.found);
        if found.is_none() {
            *found = Some(Broken {
                why,
                schedule: replay(self.case, &path),
                path,
                states: self.states(),
            });
        }
        self.stop.store(true, Ordering::Relaxed);
        drop(found);
        self.more.notify_all();
    }
}
