//! The agent's program. See the library for what it does.
#![forbid(unsafe_code)]

use std::env;
use std::error::Error as StdError;
use std::io::{self, Write};
use std::process::ExitCode;

use tokio_util::sync::CancellationToken;
use vdvs_agent::config::{self, Command, Config};
use vdvs_agent::hosts::chain;
use vdvs_agent::{PROGRAM, logs, probe, run, signals};

/// Exit code for a command line that cannot be meant, as in the table of error codes.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let command = match config::read(env::args_os().skip(1)) {
        Ok(command) => command,
        Err(e) => return fail(&e, USAGE),
    };
    match command {
        Command::Help => say(config::USAGE),
        Command::Version => say(&format!("{PROGRAM}\n")),
        Command::Probe(asked) => say(&probe::report(&asked)),
        Command::Run(config) => match start(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => fail(e.as_ref(), 1),
        },
    }
}

fn start(config: &Config) -> Result<(), Box<dyn StdError>> {
    // Before any thread exists, so that every thread leaves the signals to the one that waits for them.
    signals::block()?;
    run::prepare(&config.state)?;
    logs::init(&config.log, Some(&config.log_file()), config.quiet)?;
    let stop = CancellationToken::new();
    signals::watch(stop.clone())?;
    run::run(config, &stop)?;
    Ok(())
}

fn say(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(error: &dyn StdError, code: u8) -> ExitCode {
    // Nobody is left to tell when stderr is gone.
    writeln!(io::stderr(), "vdvsd: {}", chain(error)).ok();
    ExitCode::from(code)
}
