//! The crash matrix: the real code is stopped at every call to a port, in every operation, another one starts, and
//! nothing that was acknowledged is lost, nothing leaks, and the same request gets the same answer. And every call takes
//! its effect twice.
//!
//! Where an operation can be stopped is counted by running it once; nobody keeps a list.
//! * `VDVS_MATRIX=clone` runs the operations whose name contains that.
//! * `VDVS_MATRIX_FIRST=1` ends at the first that breaks, and `VDVS_MATRIX_SECONDS=60` begins nothing after that time:
//!   for hunting a mistake that was planted. Without them everything runs.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on may panic; the figures are for people"
)]

mod agree;
mod arena;
mod guest;
mod ops;
mod strike;

use std::process;
use std::thread;
use std::time::{Duration, Instant};
use std::{env, panic};

use vdvs_matrix::{Limits, Row, Work};

fn works() -> Vec<Work> {
    let engine = ops::all().map(|op| Work {
        name: format!("agent: {}", op.name),
        count: Box::new(move || strike::points(op)),
    });
    let plugin = guest::ALL.iter().map(|op| Work {
        name: format!("plugin: {}", op.name),
        count: Box::new(move || guest::points(op)),
    });
    engine.chain(plugin).collect()
}

fn limits(begun: Instant) -> Limits {
    let seconds = env::var("VDVS_MATRIX_SECONDS").ok();
    let seconds = seconds.map(|s| Duration::from_secs(s.parse().unwrap()));
    Limits {
        threads: thread::available_parallelism().map_or(2, usize::from),
        until: seconds.map(|s| begun + s),
        first: env::var_os("VDVS_MATRIX_FIRST").is_some(),
    }
}

#[test]
fn every_operation_survives_being_stopped_at_every_call_and_every_call_that_is_made_twice() {
    let only = env::var("VDVS_MATRIX").unwrap_or_default();
    let mut works = works();
    works.retain(|w| w.name.contains(&only));
    assert!(!works.is_empty(), "there is no such operation");
    // What breaks is told at the end, once.
    panic::set_hook(Box::new(|_| {}));
    let begun = Instant::now();
    let rows = vdvs_matrix::run(works, limits(begun), &|name| {
        eprintln!("{name}: it turns in a circle");
        process::exit(3);
    });
    drop(panic::take_hook());
    report(&rows, begun.elapsed());
}

fn report(rows: &[Row], took: Duration) {
    for row in rows {
        let (points, runs, broken) = (row.points, row.runs, row.failures.len());
        let (name, took) = (&row.name, row.took.as_millis());
        println!("{name:<60} {points:>5} points {runs:>6} runs {took:>7} ms  {broken} broken");
    }
    let (operations, took) = (rows.len(), took.as_secs());
    let points: usize = rows.iter().map(|r| r.points).sum();
    let runs: usize = rows.iter().map(|r| r.runs).sum();
    println!("crash matrix: {operations} operations, {points} points, {runs} runs, {took} s");
    let left: usize = rows.iter().map(|r| r.left).sum();
    if left > 0 {
        println!("{left} runs were left out");
    }
    let broken: Vec<&str> = rows
        .iter()
        .flat_map(|r| r.failures.iter().map(String::as_str))
        .collect();
    assert!(
        broken.is_empty(),
        "{} broke:\n{}",
        broken.len(),
        broken.join("\n")
    );
}
