//! The crash matrix: the real code is stopped at every call to a port, in every operation (docs/adr/0112). The matrix is
//! this crate's test; here is how its worlds are shared out among threads, counted, and what broke is kept.
//!
//! ```text
//!   work ── counted: run undisturbed ──► points, and a case for each way in which one of them goes wrong
//!   cases of all works, in turns ──► threads ──► a row for each work
//! ```
#![forbid(unsafe_code)]

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// An operation that breaks so often is not struck any further: the first tell enough.
const ENOUGH: usize = 5;
/// No world takes so long: many hundred times what the slowest takes. Its code turns in a circle without waiting.
const NEVER: Duration = Duration::from_secs(150);

/// One world in which something goes wrong.
pub struct Case {
    /// What, and where.
    pub name: String,
    /// Panics if something breaks.
    pub run: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

/// Where something can go wrong.
#[derive(Debug, Default)]
pub struct Points {
    /// How many calls there are.
    pub number: usize,
    /// What goes wrong at them.
    pub cases: Vec<Case>,
}

/// One operation.
pub struct Work {
    /// Its name.
    pub name: String,
    /// Runs it undisturbed. Panics if that breaks.
    pub count: Box<dyn FnOnce() -> Points + Send>,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Work").field(&self.name).finish()
    }
}

/// How far it goes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Worlds at a time.
    pub threads: usize,
    /// No world begins later.
    pub until: Option<Instant>,
    /// Nothing begins after the first that breaks.
    pub first: bool,
}

/// What became of an operation.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// The operation.
    pub name: String,
    /// Calls at which something can go wrong.
    pub points: usize,
    /// Worlds in which something did.
    pub runs: usize,
    /// Worlds for which there was no time.
    pub left: usize,
    /// How long all of them took.
    pub took: Duration,
    /// What broke, and how.
    pub failures: Vec<String>,
}

struct Board<'a> {
    limits: Limits,
    rows: Mutex<Vec<Row>>,
    /// What runs now, by its number.
    under_way: Mutex<BTreeMap<usize, (String, Instant)>>,
    stuck: &'a (dyn Fn(&str) + Sync),
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs all of it. A world that never ends cannot be stopped: `stuck` is told its name, and had better end the program.
pub fn run(works: Vec<Work>, limits: Limits, stuck: &(dyn Fn(&str) + Sync)) -> Vec<Row> {
    let named = |w: &Work| Row {
        name: w.name.clone(),
        ..Row::default()
    };
    let board = Board {
        limits,
        rows: Mutex::new(works.iter().map(named).collect()),
        under_way: Mutex::default(),
        stuck,
    };
    let (over, is_over) = channel();
    thread::scope(|scope| {
        let board = &board;
        scope.spawn(move || board.watch(&is_over));
        let cases: Mutex<Vec<(usize, usize, Case)>> = Mutex::default();
        board.each(works.into_iter().enumerate().collect(), |(row, work)| {
            let counted = board.attempt(row, &work.name, work.count);
            let Points {
                number,
                cases: found,
            } = counted.unwrap_or_default();
            board.change(row, |r| r.points = number);
            let found = found.into_iter().enumerate();
            locked(&cases).extend(found.map(|(at, case)| (at, row, case)));
        });
        let mut cases = locked(&cases).drain(..).collect::<Vec<_>>();
        // In turns, so that what breaks anywhere is seen soon.
        cases.sort_by_key(|(at, row, _)| (*at, *row));
        board.each(cases, |(_, row, case)| {
            if board.is_enough(row) {
                return board.change(row, |r| r.left += 1);
            }
            board.change(row, |r| r.runs += 1);
            board.attempt(row, &case.name, case.run);
        });
        drop(over);
    });
    board
        .rows
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
}

impl Board<'_> {
    fn each<T: Send>(&self, items: Vec<T>, doing: impl Fn(T) + Sync) {
        let queue = Mutex::new(VecDeque::from(items));
        thread::scope(|scope| {
            for _ in 0..self.limits.threads {
                scope.spawn(|| {
                    loop {
                        let next = locked(&queue).pop_front();
                        let Some(item) = next else { return };
                        doing(item);
                    }
                });
            }
        });
    }

    fn change(&self, row: usize, change: impl FnOnce(&mut Row)) {
        if let Some(row) = locked(&self.rows).get_mut(row) {
            change(row);
        }
    }

    fn is_enough(&self, row: usize) -> bool {
        let rows = locked(&self.rows);
        let late = self
            .limits
            .until
            .is_some_and(|until| Instant::now() > until);
        let broke = |r: &Row| r.failures.len();
        late || rows.get(row).is_some_and(|r| broke(r) >= ENOUGH)
            || (self.limits.first && rows.iter().any(|r| broke(r) > 0))
    }

    /// Does it. What breaks is kept with what it was.
    fn attempt<T>(&self, row: usize, name: &str, run: impl FnOnce() -> T) -> Option<T> {
        let begun = Instant::now();
        let number = {
            let mut under_way = locked(&self.under_way);
            let number = under_way.keys().next_back().map_or(0, |last| last + 1);
            under_way.insert(number, (name.to_owned(), begun));
            number
        };
        let done = catch_unwind(AssertUnwindSafe(run));
        locked(&self.under_way).remove(&number);
        self.change(row, |r| r.took += begun.elapsed());
        match done {
            Ok(done) => Some(done),
            Err(payload) => {
                let failure = format!("{name}\n    {}", said(&*payload));
                self.change(row, |r| r.failures.push(failure));
                None
            }
        }
    }

    fn watch(&self, is_over: &Receiver<()>) {
        while is_over.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
            let under_way = locked(&self.under_way);
            let stuck = under_way
                .values()
                .find(|(_, since)| since.elapsed() > NEVER);
            if let Some((name, _)) = stuck {
                (self.stuck)(name);
            }
        }
    }
}

/// What a panic said.
fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()));
    text.unwrap_or_else(|| "a panic without a text".to_owned())
}
