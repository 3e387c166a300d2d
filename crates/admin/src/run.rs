//! One command, start to end.

use std::io::{self, ErrorKind as IoKind, Write};
use std::time::Duration;

use rustix::stdio;
use rustix::termios::{isatty, tcgetwinsize};
use serde::Serialize;
use tokio::runtime::Builder;
use vdvs_domain::ErrorKind;
use vdvs_domain::capacity::human;

use crate::agent::Agent;
use crate::args::{Cli, Command, DatastoreCommand, Global, Output, VmCommand, VolumeCommand};
use crate::failure::Failure;
use crate::view::{Datastore, Inspection, Removed, Status, Vm, VolumeList};
use crate::{confirm, render};

/// Exit code when a person answered no.
const DECLINED: u8 = 1;

/// Runs the command, prints, and returns the exit code.
#[must_use]
pub fn run(cli: &Cli) -> u8 {
    let done = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(ErrorKind::Internal, format!("cannot start: {e}")))
        .and_then(|runtime| runtime.block_on(execute(cli)));
    match done {
        Ok(code) => code,
        Err(failure) => {
            // When even standard error is gone, the exit code still speaks.
            io::stderr()
                .write_all(failure.render(cli.global.output).as_bytes())
                .ok();
            failure.exit_code()
        }
    }
}

async fn execute(cli: &Cli) -> Result<u8, Failure> {
    let global = &cli.global;
    let width = terminal_width();
    match &cli.command {
        Command::Status => {
            let status = Status::from(connect(global).await?.status().await?);
            print(global.output, &status, |s| render::status(s, width))
        }
        Command::Volume(VolumeCommand::Ls) => {
            let list = VolumeList::from(connect(global).await?.volumes().await?);
            print(global.output, &list, |l| render::volumes(l, width))
        }
        Command::Volume(VolumeCommand::Inspect { address }) => {
            let (volume, record) = connect(global).await?.inspect(address).await?;
            let inspection = Inspection::new(volume, &record);
            print(global.output, &inspection, render::inspection)
        }
        Command::Volume(VolumeCommand::Rm { address, yes }) => {
            return remove(global, address, *yes).await;
        }
        Command::Vm(VmCommand::Ls) => {
            let vms = connect(global).await?.vms().await?.into_iter();
            let vms: Vec<_> = vms.map(Vm::from).collect();
            print(global.output, &vms, |v| render::vms(v, width))
        }
        Command::Datastore(DatastoreCommand::Ls) => {
            let list = connect(global).await?.datastores().await?.into_iter();
            let list: Vec<_> = list.map(Datastore::from).collect();
            print(global.output, &list, |d| render::datastores(d, width))
        }
    }
    .map(|()| 0)
}

async fn connect(global: &Global) -> Result<Agent, Failure> {
    Agent::connect(&global.socket, Duration::from_secs(global.timeout)).await
}

async fn remove(global: &Global, address: &str, yes: bool) -> Result<u8, Failure> {
    if !yes && !isatty(stdio::stdin()) {
        return Err(Failure::new(
            ErrorKind::InvalidArgument,
            format!(
                "nobody can be asked whether to remove {address}: there is no terminal. Nothing was removed; say --yes to remove it"
            ),
        ));
    }
    let mut agent = connect(global).await?;
    let target = if yes {
        address.to_owned()
    } else {
        let (volume, _) = agent.inspect(address).await?;
        let v = &volume.volume;
        let question = render::printable(&format!(
            "Remove volume {} of group {} ({}, {} used, {}) and all its data?",
            v.full_name(),
            v.group,
            v.capacity,
            human(v.allocated_bytes),
            v.state
        ));
        let agreed = confirm::ask(&mut io::stdin().lock(), &mut io::stderr(), &question)
            .map_err(|e| Failure::new(ErrorKind::Internal, format!("cannot ask: {e}")))?;
        if !agreed {
            io::stderr().write_all(b"nothing was removed\n").ok();
            return Ok(DECLINED);
        }
        // By id: exactly the volume that was shown, whatever took its name meanwhile.
        v.id.to_string()
    };
    let (id, removed) = agent.remove(&target).await?;
    let view = Removed { removed, id };
    print(global.output, &view, |v| {
        format!("removed {}\n", render::printable(&v.removed))
    })?;
    Ok(0)
}

fn print<T: Serialize>(
    output: Output,
    view: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    let text = match output {
        Output::Table => table(view),
        Output::Json => serde_json::to_string_pretty(view)
            .map(|json| json + "\n")
            .map_err(|e| Failure::new(ErrorKind::Internal, format!("cannot write JSON: {e}")))?,
    };
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        // `vdvs volume ls | head`: the reader had enough.
        Err(e) if e.kind() == IoKind::BrokenPipe => Ok(()),
        Err(e) => Err(Failure::new(
            ErrorKind::Internal,
            format!("cannot write the answer: {e}"),
        )),
        Ok(()) => Ok(()),
    }
}

/// None: standard output is no terminal, or one that does not say.
fn terminal_width() -> Option<u16> {
    let out = stdio::stdout();
    if !isatty(out) {
        return None;
    }
    tcgetwinsize(out)
        .ok()
        .map(|size| size.ws_col)
        .filter(|w| *w > 0)
}
