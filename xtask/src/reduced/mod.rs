//! `xtask reduced PROGRAM ARGS…`: runs a program on a kernel that lacks what a hypervisor's lacks.
//!
//! A seccomp filter answers *not implemented* for [`calls::ABSENT`], lets through what `allowed.txt` names, and asks a
//! supervisor about everything else. The supervisor answers *not implemented* as well, writes the call's name into the
//! report, and a line that any suite takes for a complaint onto the program's stderr: a dependency that begins to use a new
//! call cannot do so unseen. The program keeps our process id, so whoever started us kills and measures the program.
//!
//! ```text
//!   fork ──┬─ parent: filter on, tells its listener's number ─► exec PROGRAM
//!          └─ child:  takes the listener over ─► for each call nobody listed: report, ENOSYS ─► until PROGRAM ends
//! ```
//! The filter stands in for ESXi's holes as far as they are known; on other points the kernel is Linux's.

mod calls;
mod filter;
#[allow(unsafe_code, reason = "system calls that nobody wraps; see the module")]
mod sys;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::dist;
use crate::program;

#[derive(Debug, Args)]
pub(crate) struct ReducedArgs {
    /// Calls that are not on the list are written here, one a line
    #[arg(long)]
    report: PathBuf,
    /// What runs, with its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// The calls the agent may make, one a line; what is behind a '#' says why.
const ALLOWED: &str = include_str!("allowed.txt");

/// Becomes the program. Returns only when it cannot.
pub(crate) fn run(args: &ReducedArgs) -> Result<bool> {
    let allowed = calls::numbers(ALLOWED)?;
    let filter = filter::program(&calls::absent(), &allowed);
    let Some((name, rest)) = args.command.split_first() else {
        bail!("which program?");
    };
    sys::supervised(&filter, |call| note(&args.report, call))?;
    Err(program::become_program(name, rest))
}

/// A call that nobody listed.
fn note(report: &Path, number: i64) {
    let name = calls::name(number).map_or_else(|| format!("number {number}"), str::to_owned);
    let text = format!("{name}\n");
    let file = OpenOptions::new().create(true).append(true).open(report);
    // A report that cannot be written shows as the line below.
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .ok();
    eprintln!(
        "0000-00-00T00:00:00Z ERROR reduced kernel: system call {name} is not in xtask/src/reduced/allowed.txt; \
         see docs/adr/0096"
    );
}

/// The shipped agent as the suites start it, and where new calls are reported.
pub(crate) fn launcher() -> Result<(PathBuf, PathBuf)> {
    let agent = dist::agent()?;
    let folder = agent.parent().context("it lies in a folder")?;
    let (script, report) = (folder.join("vdvsd-reduced"), folder.join("new-calls.txt"));
    let own = program::own_path()?;
    let text = format!(
        "#!/bin/sh\nexec '{}' reduced --report '{}' -- '{}' \"$@\"\n",
        own.display(),
        report.display(),
        agent.display()
    );
    fs::write(&script, text).with_context(|| format!("write {}", script.display()))?;
    program::make_executable(&script)?;
    if report.exists() {
        fs::remove_file(&report)?;
    }
    Ok((script, report))
}

/// Calls that were made and are not on the list.
pub(crate) fn new_calls(report: &Path) -> Vec<String> {
    let said = fs::read_to_string(report).unwrap_or_default();
    let names: BTreeSet<&str> = said.lines().collect();
    names
        .into_iter()
        .map(|name| {
            format!(
                "system call {name} is new: add it to xtask/src/reduced/allowed.txt with its reason, or do without it"
            )
        })
        .collect()
}
