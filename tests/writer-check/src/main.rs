//! `writer-check`: looks from outside whether a disk ever has two writers.
//!
//! It knows the kernel's files (`/sys/block`, `/proc`) and the lines of its own writers, and nothing of the programs it
//! judges: no line of them is compiled into it, no socket of them is asked.
//!
//! ```text
//! writer-check watch --lab DIR | --nodes FILE  [--under DIR] [--parent PID] [--writer-file data/writes.log]
//!                    [--interval-ms 50] [--tail-ms 500]
//! writer-check write FILE --node NAME [--interval-ms 10] [--lines N]
//! writer-check script                        prints the same writer for a busybox shell: sh -s FILE NAME [PAUSE_US]
//! writer-check verify FILE [--acknowledged FILE]
//! writer-check self-test
//! ```
//!
//! **watch** prints `watching …` after its first look and runs until TERM or INT, or until the process `--parent` ends.
//! It prints each finding at once, one line `FINDING <kind> at <seconds since its start>: …`, and a summary at the end:
//! `summary: samples=… longest_gap_ms=… extents=… loops=… nodes=… fenced=… turns=… lines=… findings=…`. Exit 0: none;
//! 1: findings; 2: it could not look. Nodes come from `vm.json` of every VM of a lab (`DIR/hosts/*/vms/*/vm.json`,
//! `init: {pid, start_time}`), or from a file of lines `NAME PID START_TIME` that may be replaced at any time. Only loop
//! devices whose backing file lies below `--under` (with `--lab`: `DIR/datastores`) are looked at.
//!
//! What is found:
//! * `two-writers`: two writable loop devices of one file, both with capacity, both in a living node, in two looks one
//!   after the other ([`judge`]).
//! * `superseded-write`: a device that was fenced (capacity 0), or whose node is dead while another has the disk, writes;
//!   a fenced device has its capacity back after another had the disk; or the file changes while no device with
//!   capacity is bound to it.
//! * `interleaved`: lines of a writer's turn that are younger than the beginning of a later turn, or stand behind it.
//! * `hole`: a sequence in a writer's file that does not go up by one.
//! * `lost-line`: a line that was flushed (the next one was begun) and that a later mount of the disk does not show.
//!
//! **write** appends lines `NODE TURN SEQUENCE TIME`, flushes each, then prints its sequence: printed is acknowledged.
//! The turn is the time of the writer's start, so turns have an order and need no book-keeping; times are nanoseconds of
//! the machine's uptime, one clock for all nodes. Exit 0: asked to stop, or all lines written; 5: an I/O error, which is
//! what a fenced writer sees; 1: anything else.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program that speaks to its caller")]

mod clock;
mod judge;
mod lines;
mod nodes;
mod self_test;
mod stop;
mod sysfs;
mod tail;
mod verify;
mod watch;
mod write;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Looks from outside whether a disk ever has two writers.
#[derive(Debug, Parser)]
#[command(name = "writer-check", version)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Watches until TERM.
    Watch(watch::Arguments),
    /// Writes numbered lines, each flushed before it is acknowledged.
    Write(write::Arguments),
    /// Prints the writer as a script for a busybox shell.
    Script,
    /// Judges a writer's file after the fact.
    Verify {
        /// The file.
        file: PathBuf,
        /// Sequences that were acknowledged, one a line; each must be there.
        #[arg(long)]
        acknowledged: Option<PathBuf>,
    },
    /// Attaches one disk twice by hand and looks whether that is found.
    SelfTest,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().action {
        Action::Watch(arguments) => watch::run(&arguments),
        Action::Write(arguments) => write::run(&arguments),
        Action::Script => {
            print!("{}", write::SCRIPT);
            Ok(ExitCode::SUCCESS)
        }
        Action::Verify { file, acknowledged } => verify::run(&file, acknowledged.as_deref()),
        Action::SelfTest => self_test::run(),
    };
    done.unwrap_or_else(|error: anyhow::Error| {
        eprintln!("writer-check: {error:#}");
        ExitCode::from(2)
    })
}

/// What every command returns.
type Ended = Result<ExitCode>;
