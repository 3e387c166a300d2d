//! The program `vdvs`. Everything is in the library.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

use vdvs_admin::{compat, run};

fn main() -> ExitCode {
    // By another name, or behind `esxcli`, it has another face.
    let other = compat::run(env::args_os());
    ExitCode::from(other.unwrap_or_else(|| run::program(env::args_os())))
}
