//! The crash matrix: the real code is stopped at every call to a port, in every operation, another one starts, and
//! nothing that was acknowledged is lost, nothing leaks, and the same request gets the same answer. And every call takes
//! its effect twice.
//!
//! Where an operation can be stopped is counted by running it once; nobody keeps a list. `VDVS_MATRIX=clone` runs the
//! operations whose name contains that.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on may panic; the figures are for people"
)]

mod agree;
mod arena;
mod guest;
mod ops;
mod strike;

use std::collections::VecDeque;
use std::env;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use vdvs_matrix::Score;

/// One operation and how it is struck.
struct Work {
    name: String,
    run: Box<dyn Fn(&mut Score) + Send>,
}

fn work() -> Vec<Work> {
    let engine = ops::all().map(|op| Work {
        name: format!("agent: {}", op.name),
        run: Box::new(move |score| strike::matrix(op, score)),
    });
    let plugin = guest::ALL.iter().map(|op| Work {
        name: format!("plugin: {}", op.name),
        run: Box::new(move |score| guest::matrix(op, score)),
    });
    engine.chain(plugin).collect()
}

#[test]
fn every_operation_survives_being_stopped_at_every_call_and_every_call_that_is_made_twice() {
    let only = env::var("VDVS_MATRIX").unwrap_or_default();
    let wanted = work().into_iter().filter(|w| w.name.contains(&only));
    let queue: Mutex<VecDeque<Work>> = Mutex::new(wanted.collect());
    let done: Mutex<Vec<(String, Score, Duration)>> = Mutex::default();
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = queue
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some(work) = next else { return };
                    let (begun, mut score) = (Instant::now(), Score::default());
                    (work.run)(&mut score);
                    let row = (work.name, score, begun.elapsed());
                    show(&row);
                    done.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(row);
                }
            });
        }
    });
    let mut rows = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    report(rows);
}

fn show((name, score, took): &(String, Score, Duration)) {
    let (points, runs, broken) = (score.points, score.runs, score.failures.len());
    let took = took.as_millis();
    println!("{name:<60} {points:>5} points {runs:>6} runs {took:>7} ms  {broken} broken");
}

fn report(rows: Vec<(String, Score, Duration)>) {
    let operations = rows.len();
    assert!(operations > 0, "there is no such operation");
    let mut all = Score::default();
    for (_, score, _) in rows {
        all.add(score);
    }
    let (points, runs) = (all.points, all.runs);
    println!("crash matrix: {operations} operations, {points} points, {runs} runs");
    let broken = all.failures;
    assert!(
        broken.is_empty(),
        "{} broke:\n{}",
        broken.len(),
        broken.join("\n")
    );
}
