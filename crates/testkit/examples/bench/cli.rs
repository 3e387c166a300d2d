//! What an administrator waits for: the command line that starts, and a list of many volumes in a terminal.

use anyhow::{Result, ensure};
use vdvs_testkit::process::Cmd;

use crate::figures::{median, ms, timed};
use crate::world::World;

const ROUNDS: usize = 7;
/// Starts in a row, so that what is measured is the program and not the watching of it.
const STARTS: u32 = 20;
const LISTS: usize = 7;
const SHELL: &str = "/bin/sh";
/// Runs its arguments so many times and throws away what they say.
const AGAIN: &str =
    r#"n=$1; shift; while [ "$n" -gt 0 ]; do "$@" >/dev/null || exit; n=$((n-1)); done"#;

/// Milliseconds of one start.
fn start(program: &str, args: &[&str]) -> Result<f64> {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let starts = STARTS.to_string();
        let run = Cmd::new(SHELL)
            .args(["-c", AGAIN, "again", &starts, program])
            .args(args);
        let (took, _) = timed(|| run.run())?;
        times.push(ms(took) / f64::from(STARTS));
    }
    median(&times)
}

/// `vdvs --help`, beside a program that does nothing.
pub(crate) fn help(world: &World) -> Result<()> {
    let program = world.program()?;
    let program = program.to_string_lossy();
    let note = format!("{STARTS} starts in a row");
    world.figure("cli.help", start(&program, &["--help"])?, &note)?;
    world.figure("cli.nothing", start("/bin/true", &[])?, "")
}

/// `vdvs volume ls` with `planted` volumes there.
pub(crate) fn list(world: &World, planted: usize) -> Result<()> {
    let note = format!("{planted} volumes");
    for (key, output) in [("cli.list", "table"), ("cli.json", "json")] {
        let mut times = Vec::with_capacity(LISTS);
        for _ in 0..LISTS {
            let list = world.host().vdvs(["volume", "ls", "--output", output]);
            let (took, said) = timed(|| list.run())?;
            ensure!(
                said.matches("p-0").count() >= planted.min(1000),
                "vdvs volume ls shows too little: {} bytes",
                said.len()
            );
            times.push(ms(took));
        }
        world.figure(key, median(&times)?, &note)?;
    }
    Ok(())
}
