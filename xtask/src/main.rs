//! The house's own tools: `cargo xtask <command>`.
//!
//! `ci` is what must pass before a change lands, `test` is its second half, `codegen` writes the generated code.
//! Everything a person or a machine does to this clone beyond plain cargo is a command here, so there is one place
//! to read how it is done. No command needs anything but the toolchain, the registry and Debian's packages.

#![deny(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command line tool talks on stdout")]

mod bench;
mod check;
mod ci;
mod demo;
mod dist;
mod fuzz;
mod lab;
mod planted;
mod program;
mod reduced;
mod report;
mod sim;
mod suites;
mod vib;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, checks and plays with vDVS.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything that must pass before a change lands: checks of the sources, then all of `test`.
    Ci {
        /// Only look at the sources: format, layering, dependencies, file rules, clippy.
        #[arg(long)]
        sources_only: bool,
    },
    /// Builds, then runs every suite stage by stage. Needs root: the suites make namespaces, mounts and loop devices.
    Test {
        /// Run only these stages (see CONTRIBUTING.md for their names).
        #[arg(long = "stage", value_name = "NAME", value_enum)]
        stages: Vec<suites::Name>,
    },
    /// What is installed in a guest: the managed plugin's root file system and the service's archive, in target/dist.
    Dist(dist::DistArgs),
    /// The package for ESXi hosts and its offline bundle, in target/dist/esxi.
    Vib(vib::VibArgs),
    /// Writes the Rust code generated from `proto/`.
    Codegen,
    /// The main job, told as it happens: PostgreSQL in a swarm of three survives a power cut. Needs root.
    Demo(demo::DemoArgs),
    /// Every parser of outside bytes under the fuzzer, a while each. Needs the nightly toolchain, and skips without it.
    Fuzz(fuzz::FuzzArgs),
    /// Schedules of the simulated world from seeds, a failing one again, the known mistakes, the exhaustive search.
    Sim(sim::SimArgs),
    /// What the product costs beside what it may cost: budgets and figures. Needs root.
    Bench(bench::BenchArgs),
    /// Runs a program on a kernel that lacks what a hypervisor's lacks.
    #[command(hide = true)]
    Reduced(reduced::ReducedArgs),
    /// Virtual machines with real engines on this machine, to play with. Needs root.
    Lab(lab::LabArgs),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How the command ended; one that failed has said what is wrong.
fn run(command: Command) -> Result<ExitCode> {
    let passed = match command {
        Command::Ci { sources_only } => ci::run(sources_only),
        Command::Test { stages } => suites::run(&stages),
        Command::Dist(args) => dist::run(&args),
        Command::Vib(args) => vib::run(&args),
        Command::Codegen => codegen(),
        Command::Demo(args) => demo::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Reduced(args) => reduced::run(&args),
        Command::Lab(args) => return lab::run(args),
    };
    passed.map(|passed| match passed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The generator lives in the drift test, so that writing and checking cannot differ and no ordinary build pays for it.
fn codegen() -> Result<bool> {
    let args = [
        "test",
        "--locked",
        "--package",
        "vdvs-api",
        "--test",
        "drift",
    ];
    Ok(program::cargo(&args, &[("VDVS_BLESS", "1")])?.ok)
}
