//! Runs the exhaustive search and prints what it saw. Never shipped.
#![expect(clippy::print_stdout, reason = "a program's output")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Parser;
use vdvs_explore::cases::{Case, MOST, cases, large, mistakes};
use vdvs_explore::search::Limit;

/// Every order of events in small configurations, over the code that ships.
#[derive(Debug, Parser)]
struct Args {
    /// Only cases whose names contain this.
    #[arg(long, default_value = "")]
    only: String,
    /// Give a case up that has more states.
    #[arg(long, default_value_t = MOST)]
    most: u64,
    /// Give a case up after so many seconds.
    #[arg(long, default_value_t = 1200)]
    seconds: u64,
    /// The cases that take minutes, too.
    #[arg(long)]
    all: bool,
    /// Tell states apart by all that an agent was answered, in one order.
    #[arg(long)]
    exact: bool,
    /// Only tells each case's schedule that turns nowhere.
    #[arg(long)]
    straight: bool,
}

const PROMISES: &str = "\
properties: swap: an acknowledged change stands in the value and is read by all who read later; every writer ends
            ownership: P1 one writer; P2 who was told that it has the volume has it, in the record and on the host, until it gives it
            back or loses power; the record changes only along the table, the epoch rises with every attach and never falls;
            every wait ends; P6 in the end no operation is left, record and device lists agree, the volume can be attached";

fn chosen(all: Vec<Case>, only: &str) -> impl Iterator<Item = Case> {
    let only = only.to_owned();
    all.into_iter().filter(move |c| c.name.contains(&only))
}

fn searched(args: &Args) -> Vec<Case> {
    let large = if args.all { large() } else { Vec::new() };
    let all = cases().into_iter().chain(large).collect();
    let all = chosen(all, &args.only);
    match args.exact {
        true => all.map(Case::exactly).collect(),
        false => all.collect(),
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let begun = Instant::now();
    if args.straight {
        for case in searched(&args) {
            println!("{}", case.name);
            let steps = case.straight();
            (1u32..)
                .zip(steps)
                .for_each(|(n, step)| println!("  {n:3}. {step}"));
        }
        return Ok(());
    }
    let limit = Limit {
        states: args.most,
        time: Duration::from_secs(args.seconds),
    };
    let (mut states, mut cut, mut failed) = (0, 0, 0);
    let mut edges = BTreeSet::new();
    println!(
        "{:>9} {:>9} {:>6} {:>7}  case",
        "states", "steps", "ends", "seconds"
    );
    for case in searched(&args) {
        match case.run(limit) {
            Ok(finished) => {
                let found = finished.explored;
                let (seconds, name) = (found.took.as_secs_f32(), case.name);
                let how = if found.cut {
                    "CUT OFF, not all of: "
                } else {
                    ""
                };
                cut += u32::from(found.cut);
                println!(
                    "{:>9} {:>9} {:>6} {seconds:>7.1}  {how}{name}",
                    found.states, found.steps, found.ends
                );
                states += found.states;
                edges.extend(finished.edges);
            }
            Err(broken) => {
                failed += 1;
                println!("BROKEN: {}: {broken}", case.name);
            }
        }
    }
    for case in chosen(mistakes(), &args.only) {
        match case.run(limit) {
            Err(broken) => println!(
                "   found in {:>7} states: {}: {}",
                broken.states, case.name, broken.why
            ),
            Ok(_) => {
                failed += 1;
                println!("NOT FOUND: {}", case.name);
            }
        }
    }
    println!("{PROMISES}");
    println!("changes of ownership gone through: {}", edges.len());
    for edge in &edges {
        println!("            {edge}");
    }
    let seconds = begun.elapsed().as_secs_f32();
    println!("explored {states} states in {seconds:.1} s");
    if failed > 0 || cut > 0 {
        bail!("{failed} searches did not end as they must, {cut} were cut off");
    }
    Ok(())
}
