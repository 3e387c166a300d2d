//! Runs schedules of the simulation from the command line: `cargo xtask sim` builds it and hands its arguments on.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command line tool talks on stdout")]

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use vdvs_sim::schedule::{Coverage, Plan, Report, Sum, Wanted, many, run, run_told, shrink};

/// How many schedules a failure may cost while it is made smaller.
const SHRINKS: usize = 400;
/// With so many schedules every edge of the ownership table must have been taken.
const COVERS: u64 = 400;
/// Fresh first seeds are below this, so that a person can type them.
const FRESH: u64 = 1_000_000_000;

/// Schedules of the simulated world, and one of them again.
#[derive(Debug, Parser)]
#[command(name = "vdvs-sim")]
struct Args {
    /// This many schedules, whatever time they take.
    #[arg(long, value_name = "N", default_value_t = 500)]
    seeds: u64,
    /// As many more as begin within this time.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    budget: u64,
    /// The first seed; a fresh one if none is given.
    #[arg(long, value_name = "SEED")]
    first: Option<u64>,
    /// Replays one schedule and tells its story.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "budget", "first"])]
    seed: Option<u64>,
    /// With `--seed`: what the programs log, too.
    #[arg(long)]
    logs: bool,
    /// Runs each schedule twice and compares the traces.
    #[arg(long)]
    twice: bool,
    /// Threads.
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::new(2).expect("two is not zero"))]
    jobs: NonZeroUsize,
    /// Plants each known mistake and shows that it is found.
    #[arg(long)]
    planted: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let well = match args.seed {
        _ if args.planted => planted(&args),
        Some(seed) => replay(seed, args.logs),
        None => run_many(&args),
    };
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn planted(_args: &Args) -> bool {
    eprintln!("the planted mistakes are not built yet");
    false
}

fn replay(seed: u64, logs: bool) -> bool {
    if logs {
        vdvs_sim::schedule::tell_logs();
    }
    let plan = Plan::of(seed);
    print!("{plan}");
    let report = run_told(&plan);
    for line in &report.story {
        println!("{line}");
    }
    tell_broken(&report);
    println!(
        "trace {:016x}, {} events, {} s simulated",
        report.hash,
        report.events,
        report.simulated.as_secs()
    );
    report.is_well()
}

fn run_many(args: &Args) -> bool {
    let fresh = RandomState::new().hash_one(0u8) % FRESH;
    let wanted = Wanted {
        first: args.first.unwrap_or(fresh),
        at_least: args.seeds,
        budget: Duration::from_secs(args.budget),
        threads: args.jobs,
        twice: args.twice,
    };
    println!(
        "simulation: at least {} schedules and {} s, first seed {}, {} threads",
        wanted.at_least,
        args.budget,
        wanted.first,
        wanted.threads
    );
    let begun = Instant::now();
    let sum = many(wanted, &|done| {
        if done % 500 == 0 {
            println!("  {done} schedules, {} s", begun.elapsed().as_secs());
        }
    });
    tell_sum(&sum, begun.elapsed());
    let covered = tell_coverage(&sum.coverage, sum.seeds);
    match &sum.failed {
        None => covered,
        Some(report) => {
            tell_failure(report);
            false
        }
    }
}

fn tell_sum(sum: &Sum, took: Duration) {
    println!(
        "{} schedules, {} days of simulated time, {} events, {:.1} s",
        sum.seeds,
        sum.simulated.as_secs() / 86_400,
        sum.events,
        took.as_secs_f64()
    );
    for ((death, fenced), slowest) in &sum.takeovers {
        let failover = if *fenced { "fence" } else { "wait" };
        println!(
            "  takeover {death:?} with failover={failover}: {} measured, slowest {:.1} s (seed {})",
            slowest.count,
            slowest.took.as_secs_f64(),
            slowest.seed
        );
    }
}

fn tell_coverage(coverage: &Coverage, seeds: u64) -> bool {
    println!("edges of the ownership table:");
    let mut missing = 0;
    for (edge, count) in coverage.edges() {
        println!("  {edge:<34} {count:>9}");
        missing += usize::from(count == 0);
    }
    println!(
        "  {} other pairs of state and event, all refused; forbidden changes found in records: {}",
        Coverage::refused(),
        coverage.forbidden().len()
    );
    for change in coverage.forbidden() {
        println!("  FORBIDDEN {change}");
    }
    if missing > 0 && seeds >= COVERS {
        println!("FAILED: {missing} edges were never taken in {seeds} schedules");
    }
    coverage.forbidden().is_empty() && (missing == 0 || seeds < COVERS)
}

fn tell_broken(report: &Report) {
    for violation in &report.violations {
        println!("BROKEN {violation}");
    }
    for panic in &report.panics {
        println!("PANIC {panic}");
    }
    if let Some(other) = report.differs {
        println!(
            "NOT DETERMINISTIC: trace {:016x} the first time, {other:016x} the second",
            report.hash
        );
    }
}

fn tell_failure(report: &Report) {
    let plan = Plan::of(report.seed);
    println!("\nFAILED: seed {}", report.seed);
    tell_broken(report);
    if !report.violations.is_empty() {
        println!("making it smaller …");
        let shrunk = shrink(&plan, run(&plan), SHRINKS);
        println!(
            "{} of {} steps, found with {} schedules:",
            shrunk.plan.steps.len(),
            plan.steps.len(),
            shrunk.tries
        );
        print!("{}", shrunk.plan);
        tell_broken(&shrunk.report);
        for line in run_told(&shrunk.plan).story.iter().rev().take(60).rev() {
            println!("  {line}");
        }
    }
    println!("\nreplay it: cargo xtask sim --seed {}", report.seed);
}
