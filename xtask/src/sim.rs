//! `cargo xtask sim`: schedules of the simulated world, a failing one again, the known mistakes, the exhaustive search.
//!
//! All of it runs in the profile `sim`: optimised, because a CI has minutes for hundreds of schedules, and with overflow
//! checks and debug assertions, because finding mistakes is what it is for.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::planted;
use crate::program::{self, Ran};
use crate::report::Budget;

/// The least number of schedules that a CI runs, whatever the machine and whatever time it takes there.
const AT_LEAST: u32 = 500;
/// Beyond that, as many as begin within so much time: some thousand on two cores that have nothing else to do. A machine
/// that is slow runs fewer of these, and fails nothing.
const MOST: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub(crate) struct SimArgs {
    /// This many schedules.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// As many more as begin within this time.
    #[arg(long, value_name = "SECONDS")]
    budget: Option<u64>,
    /// The first seed; a fresh one if none is given.
    #[arg(long, value_name = "SEED")]
    first: Option<u64>,
    /// Replays one schedule and tells its story.
    #[arg(long, value_name = "SEED")]
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
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Plants each known mistake and shows that it is found.
    #[arg(long)]
    planted: bool,
    /// With `--planted`: only the mistake of this number.
    #[arg(long, value_name = "NUMBER")]
    mistake: Option<usize>,
    /// Every interleaving of small worlds instead of schedules.
    #[arg(long)]
    exhaustive: bool,
}

/// Runs what was asked for. False: something failed.
pub(crate) fn run(args: &SimArgs) -> Result<bool> {
    if args.exhaustive {
        return Ok(tool("vdvs-explore", &["--all"])?.ok);
    }
    if args.planted {
        return Ok(planted::run(args.mistake)?.ok);
    }
    let mut given: Vec<String> = Vec::new();
    let numbers = [
        ("--seeds", args.seeds),
        ("--budget", args.budget),
        ("--first", args.first),
        ("--seed", args.seed),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            given.extend([name.to_owned(), number.to_string()]);
        }
    }
    if let Some(jobs) = args.jobs {
        given.extend(["--jobs".to_owned(), jobs.to_string()]);
    }
    let flags = [
        ("--logs", args.logs),
        ("--twice", args.twice),
        ("--keep-going", args.keep_going),
    ];
    let flags = flags.iter().filter(|(_, set)| *set);
    given.extend(flags.map(|(name, _)| (*name).to_owned()));
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    Ok(tool("vdvs-sim", &given)?.ok)
}

/// What runs in the profile `sim`. Built as one, so that no crate is built again with the features that a part needs.
pub(crate) const PACKAGES: [&str; 6] = [
    "--package",
    "vdvs-sim",
    "--package",
    "vdvs-explore",
    "--package",
    "vdvs-matrix",
];
/// The crash matrix among it.
pub(crate) const MATRIX: [&str; 2] = ["--test", "crash_matrix"];

/// Builds all of it, so that a stage's time is that of its schedules.
pub(crate) fn build() -> Result<Ran> {
    let args = ["build", "--locked", "--profile", "sim", "--bins"];
    program::cargo(&[&args[..], &PACKAGES, &MATRIX].concat(), &[])
}

/// What every CI runs: fresh seeds, the least number of them and as many more as begin within what is left of the stage's
/// ceiling when building took `built`.
pub(crate) fn fresh(built: Duration) -> Result<Ran> {
    let budget = left_for_schedules(built).as_secs();
    let (seeds, budget) = (AT_LEAST.to_string(), budget.to_string());
    tool("vdvs-sim", &["--seeds", &seeds, "--budget", &budget])
}

/// The small worlds come after the schedules, and take half as long as building did: 100 and 220 seconds on two cores, and
/// both grow with whatever else the machine does.
fn left_for_schedules(built: Duration) -> Duration {
    let taken = built + built / 2;
    Budget::Simulation.ceiling().saturating_sub(taken).min(MOST)
}

/// Every order of events in small worlds, each to its end.
pub(crate) fn small_worlds() -> Result<Ran> {
    tool("vdvs-explore", &[])
}

fn tool(name: &str, given: &[&str]) -> Result<Ran> {
    let built = build()?;
    if !built.ok {
        return Ok(built);
    }
    let mut ran = program::built("sim", name, given).context("run the simulation")?;
    if !ran.ok {
        ran.failures
            .push(format!("{name}: its last lines are above"));
    }
    Ok(ran)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_machine_runs_fewer_schedules_and_stays_within_its_ceiling() {
        let left = |built: u64| left_for_schedules(Duration::from_secs(built)).as_secs();
        assert_eq!(left(0), 120, "all of it was built before");
        assert_eq!(left(220), 120);
        assert_eq!(left(290), 45);
        assert_eq!(left(330), 0, "then only the least number runs");
        for built in 0..=320 {
            assert!(built + built / 2 + left(built) <= 480, "{built}");
        }
    }
}
