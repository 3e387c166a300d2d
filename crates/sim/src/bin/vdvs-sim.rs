//! Runs schedules of the simulation from the command line: `cargo xtask sim` builds it and hands its arguments on.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command line tool talks on stdout")]

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, exit};
use std::time::{Duration, Instant};

use clap::Parser;
use vdvs_sim::planted;
use vdvs_sim::schedule::{
    Coverage, Listener, Plan, Report, Sum, Wanted, many, run, run_told, shrink, tell_logs,
};

/// How many schedules a failure may cost while it is made smaller.
const SHRINKS: usize = 400;
/// With so many schedules every edge of the ownership table must have been taken.
const COVERS: u64 = 2000;
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
    /// Goes on after a failure, and lists all of them.
    #[arg(long)]
    keep_going: bool,
    /// Threads.
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::new(2).expect("two is not zero"))]
    jobs: NonZeroUsize,
    /// In the copy that has the known mistakes: wakes each and runs schedules until one catches it.
    #[arg(long)]
    planted: bool,
    /// Writes that copy into this folder.
    #[arg(long, value_name = "FOLDER")]
    plant: Option<PathBuf>,
    /// With `--planted`: the numbers of those that no schedule catches go into this file.
    #[arg(long, value_name = "FILE")]
    left: Option<PathBuf>,
    /// With `--planted`: this mistake only.
    #[arg(long, value_name = "NUMBER")]
    mistake: Option<usize>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let well = match args.seed {
        _ if args.plant.is_some() => plant_copy(&args),
        _ if args.planted => hunt_all(&args),
        Some(seed) => replay(seed, args.logs),
        None => run_many(&args),
    };
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// How long one mistake is hunted.
const HUNT: Duration = Duration::from_secs(300);

fn plant_copy(args: &Args) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = root.parent().and_then(Path::parent);
    let Some((root, to)) = root.zip(args.plant.as_deref()) else {
        return false;
    };
    match planted::plant(root, to) {
        Ok(count) => {
            println!("{count} mistakes planted in {}", to.display());
            true
        }
        Err(why) => {
            eprintln!("the mistakes cannot be planted: {why:#}");
            false
        }
    }
}

/// Whether every mistake was caught, or the others could be written down for the crash matrix.
fn hunt_all(args: &Args) -> bool {
    if !planted::IS_PLANTED {
        eprintln!(
            "this program has no mistakes in it: cargo xtask sim --planted builds one that has"
        );
        return false;
    }
    let first = args.first.unwrap_or(1);
    let budget = match args.budget {
        0 => HUNT,
        seconds => Duration::from_secs(seconds),
    };
    let hunt = planted::Hunt::new(first, args.seeds, budget, args.jobs);
    let mut left = Vec::new();
    let all = (1..).zip(planted::MISTAKES);
    for (number, mistake) in all.filter(|(n, _)| args.mistake.is_none_or(|only| only == *n)) {
        let caught = hunt.hunt(number);
        let unsound = match caught.unsound {
            0 => String::new(),
            more => format!("; {more} schedules fail without it, too"),
        };
        match caught.by {
            Some((seed, why)) => println!(
                "{number:>3} {:<60} {:>4} schedules  seed {seed}: {why}{unsound}",
                mistake.name, caught.schedules
            ),
            None => {
                println!(
                    "{number:>3} {:<60} {:>4} schedules  not caught, made {} times{unsound}",
                    mistake.name, caught.schedules, caught.passed
                );
                left.push(number.to_string());
            }
        }
    }
    println!(
        "{} mistakes, {} not caught by schedules",
        planted::MISTAKES.len(),
        left.len()
    );
    match &args.left {
        None => left.is_empty(),
        Some(file) => fs::write(file, left.join(" ")).is_ok(),
    }
}

fn replay(seed: u64, logs: bool) -> bool {
    if logs {
        tell_logs();
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
        keep_going: args.keep_going,
    };
    println!(
        "simulation: at least {} schedules and {} s, first seed {}, {} threads",
        wanted.at_least, args.budget, wanted.first, wanted.threads
    );
    let begun = Instant::now();
    let listener = Listener {
        done: &|done| {
            if done % 500 == 0 {
                println!("  {done} schedules, {} s", begun.elapsed().as_secs());
            }
        },
        stuck: &|seed| {
            println!("FAILED seed {seed}: it turns in a circle and never ends");
            println!("\nreplay it: cargo xtask sim --seed {seed} --logs");
            exit(1);
        },
    };
    let sum = many(wanted, &listener);
    tell_sum(&sum, begun.elapsed());
    let covered = tell_coverage(&sum.coverage, sum.seeds);
    for (seed, words) in &sum.failures {
        println!("FAILED seed {seed}: {words}");
    }
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
