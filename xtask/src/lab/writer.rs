//! `cargo xtask lab writer-check`: the watcher on a lab, or on disks attached wrongly by hand.

use anyhow::{Result, ensure};
use clap::Args;
use vdvs_testkit::lab::Lab;

use crate::program;

/// Arguments of `lab writer-check`.
#[derive(Debug, Args)]
pub(super) struct WriterArgs {
    /// Attaches disks by hand, rightly and wrongly, and looks whether the watcher finds what it should.
    #[arg(long)]
    self_test: bool,
}

/// Watches the lab until it is interrupted, or tests the watcher.
pub(super) fn run(name: &str, args: &WriterArgs) -> Result<()> {
    let run = ["run", "--locked", "--package", "writer-check", "--"];
    if args.self_test {
        let ran = program::cargo(&[&run[..], &["self-test"]].concat(), &[])?;
        ensure!(ran.ok, "the watcher does not see what it should");
        return Ok(());
    }
    let lab = Lab::open(name)?;
    let root = lab.layout().root().display().to_string();
    let ran = program::cargo(&[&run[..], &["watch", "--lab", &root]].concat(), &[])?;
    ensure!(ran.ok, "a disk had two writers, or nobody could tell");
    Ok(())
}
