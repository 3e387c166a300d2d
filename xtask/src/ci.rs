//! `cargo xtask ci`: checks of the sources, cheapest first, then everything `test` does.

use anyhow::Result;

use crate::check;
use crate::program;
use crate::report::{Budget, Report};
use crate::suites;

/// Runs every stage and reports all failures at the end. False: something failed.
pub(crate) fn run(sources_only: bool) -> Result<bool> {
    let mut report = Report::default();
    report.cargo("format", Budget::Checks, || {
        program::cargo(&["fmt", "--all", "--check"], &[])
    });
    report.check("layering", check::layering);
    report.check("unused dependencies", check::unused_dependencies);
    report.check("file length", check::file_length);
    report.check("hosts and paths", check::hosts_and_paths);
    report.cargo("clippy", Budget::Build, || {
        let args = [
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        program::cargo(&args, &[])
    });
    if !sources_only {
        suites::stages(&mut report, &[]);
    }
    Ok(report.finish("ci"))
}
