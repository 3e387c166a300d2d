//! The program `vdvs`. Everything is in the library.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

use vdvs_admin::run;

fn main() -> ExitCode {
    ExitCode::from(run::program(env::args_os()))
}
