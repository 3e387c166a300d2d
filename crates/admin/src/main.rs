//! The program `vdvs`. Everything is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use vdvs_admin::args::Cli;
use vdvs_admin::run;

fn main() -> ExitCode {
    // `--help`, `--version` and mistakes on the command line end here, with exit code 0 or 2.
    ExitCode::from(run::run(&Cli::parse()))
}
