//! `cargo xtask demo`: PostgreSQL in a real swarm survives a power cut, told as it happens.
//!
//! Acts: the machine is prepared; a swarm of three nodes comes up over one lab host; the stack is deployed and filled;
//! the worker is shut down in order; then, with a client writing, the worker loses its power, once per round. After
//! each round every row the client was told is committed must be in the table. The very last line is
//! `demo: PASS ...` or `demo: FAIL <why>`, and the exit code agrees with it.

mod report;
mod story;
mod timeline;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use report::Report;
use timeline::Timeline;

/// The main job: PostgreSQL in a swarm of three survives an orderly shutdown and a power cut.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Leave the lab up at the end, with hints how to play.
    #[arg(long)]
    keep: bool,
    /// Write the figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Power cuts to measure, one after the other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
}

/// Runs the demo; `Ok(false)` when it ended in FAIL.
pub(crate) fn run(args: &DemoArgs) -> Result<bool> {
    let timeline = Timeline::start();
    let mut report = Report::default();
    let told = story::tell(&timeline, args.rounds, args.keep, &mut report);
    let written = args.json.as_ref().map_or(Ok(()), |file| {
        let text = serde_json::to_string_pretty(&report)?;
        fs::write(file, text).with_context(|| format!("write {}", file.display()))
    });
    match told.and(written) {
        Ok(()) => {
            timeline.act("figures");
            timeline.line(&report.table());
            match report.verdict() {
                Ok(line) => {
                    timeline.line(&line);
                    Ok(true)
                }
                Err(why) => {
                    timeline.line(&format!("demo: FAIL {why}"));
                    Ok(false)
                }
            }
        }
        Err(error) => {
            // One line: the chain, outermost first.
            timeline.line(&format!(
                "demo: FAIL {}",
                format!("{error:#}").replace('\n', " | ")
            ));
            Ok(false)
        }
    }
}
