//! One command of `vdvs` for esxcli: the same calls, no prompt, no waiting for long work, and one document as answer.

use vdvs_api::v1;
use vdvs_api::v1::change_config_request::Change;
use vdvs_domain::ErrorKind;

use super::super::verbs::Report;
use crate::agent::Agent;
use crate::args::{
    AuditCommand, Command, ConfigCommand, DatastoreCommand, Doctor, Fsck, GroupCommand,
    HostCommand, VmCommand, VolumeCommand, WorkCommand,
};
use crate::arrange::Arrangement;
use crate::failure::Failure;
use crate::grid::{Grid, Row};
use crate::ops::{audit, config, doctor, fsck, group, inventory, volume, work};
use crate::render::Text;
use crate::run::files::read;
use crate::view::Tabular;

/// Runs the command.
///
/// # Errors
/// [`Failure`].
pub(crate) async fn answer(agent: &mut Agent, command: &Command) -> Result<Report, Failure> {
    let all = Arrangement::default();
    match command {
        Command::Volume(command) => of_volume(agent, command).await,
        Command::Vmgroup(GroupCommand::Show(name)) => {
            Ok(text(&group::show(agent, &name.get()?).await?))
        }
        Command::Config(command) => of_config(agent, command).await,
        Command::Vm(VmCommand::Ls(_)) => Ok(list(&inventory::vms(agent, &all).await?.grid())),
        Command::Vm(VmCommand::Prepare {
            vms,
            vm,
            controllers,
        }) => {
            let prepared = inventory::prepare(agent, vms, vm.as_deref(), *controllers).await?;
            Ok(Report::Changed(prepared))
        }
        Command::Host(HostCommand::Ls(_)) => Ok(list(&inventory::hosts(agent, &all).await?.grid())),
        Command::Datastore(DatastoreCommand::Ls(_)) => {
            Ok(list(&inventory::datastores(agent, &all).await?.grid()))
        }
        Command::Audit(command) => of_audit(agent, command).await,
        Command::Work(WorkCommand::Ls(_)) => Ok(list(&work::list(agent, &all).await?.grid())),
        Command::Work(WorkCommand::Show { id, .. }) => {
            let work = work::show(agent, id, 0).await?;
            // As a failure, so that whoever polls sees it in the exit code.
            work::failure_of(&work).map_or_else(|| Ok(text(&work)), Err)
        }
        Command::Doctor(what) => of_doctor(agent, what).await,
        Command::Fsck(what) => of_fsck(agent, what).await,
        _ => Err(not_here()),
    }
}

/// esxcli takes an answer with findings for an answer: its exit code says only whether there is one.
async fn of_doctor(agent: &mut Agent, what: &Doctor) -> Result<Report, Failure> {
    let (all, object) = (Arrangement::default(), what.object.as_deref());
    Ok(match &what.fix {
        None => list(&doctor::look(agent, object, &all).await?.grid()),
        Some(name) => {
            let repairs = doctor::repair(agent, name, object, what.dry_run, &all).await?;
            list(&repairs.grid())
        }
    })
}

/// A repair that takes long is named, and looked at with `work show`.
async fn of_fsck(agent: &mut Agent, what: &Fsck) -> Result<Report, Failure> {
    let ask = fsck::Ask {
        datastore: what.datastore.as_deref(),
        repair: what.repair,
        nobody_has: &what.nobody_has,
    };
    Ok(match fsck::begin(agent, &ask).await? {
        Ok(damage) => list(&damage.grid()),
        Err(work) => text(&work),
    })
}

async fn of_volume(agent: &mut Agent, command: &VolumeCommand) -> Result<Report, Failure> {
    Ok(match command {
        VolumeCommand::Inspect(name) => text(&volume::inspect(agent, &name.address()?).await?),
        VolumeCommand::Why(name) => text(&volume::why(agent, &name.address()?).await?),
        VolumeCommand::Rm(name) => text(&volume::remove(agent, &name.address()?).await?),
        VolumeCommand::Move(what) => {
            let (address, to) = what.what_and_where()?;
            Report::Changed(volume::move_to(agent, &address, &to, what.force).await?)
        }
        VolumeCommand::Adopt(what) => {
            let (address, to) = what.what_and_where()?;
            Report::Changed(volume::adopt(agent, &address, &to, what.force).await?)
        }
        VolumeCommand::Detach {
            volume: name,
            force,
        } => Report::Changed(volume::detach(agent, &name.address()?, *force).await?),
        VolumeCommand::Protect(name) => {
            Report::Changed(volume::protect(agent, &name.address()?, true).await?)
        }
        VolumeCommand::Unprotect(name) => {
            Report::Changed(volume::protect(agent, &name.address()?, false).await?)
        }
        VolumeCommand::Ls(_) | VolumeCommand::Set { .. } => return Err(not_here()),
    })
}

async fn of_config(agent: &mut Agent, command: &ConfigCommand) -> Result<Report, Failure> {
    let all = Arrangement::default();
    let (change, dry_run) = match command {
        ConfigCommand::History(_) => {
            return Ok(list(&config::history(agent, &all).await?.grid()));
        }
        // The answer is the document; a shell keeps it where it is wanted.
        ConfigCommand::Backup { .. } => {
            return Ok(Report::Message(vec![config::backup(agent).await?]));
        }
        ConfigCommand::Restore { file, dry_run } => {
            let json = String::from_utf8(read(file)?).map_err(|_| {
                let text = format!("{} is no backup: it is no text", file.display());
                Failure::new(ErrorKind::InvalidArgument, text)
            })?;
            (Change::Restore(v1::RestoreConfig { json }), *dry_run)
        }
        ConfigCommand::Import {
            file,
            datastore,
            dry_run,
        } => {
            let import = v1::ImportConfig {
                database: read(file)?,
                datastore: datastore.clone().unwrap_or_default(),
            };
            (Change::Import(import), *dry_run)
        }
        ConfigCommand::Init { .. }
        | ConfigCommand::Rm { .. }
        | ConfigCommand::Mv { .. }
        | ConfigCommand::Status => return Err(not_here()),
    };
    Ok(Report::Changed(
        config::change(agent, change, dry_run).await?,
    ))
}

async fn of_audit(agent: &mut Agent, command: &AuditCommand) -> Result<Report, Failure> {
    let rows = match command {
        AuditCommand::Ls {
            question,
            limit,
            before,
        } => {
            let question = v1::ListAuditRequest {
                limit: *limit,
                before: *before,
                ..question.message()?
            };
            audit::list(agent, question).await?
        }
        AuditCommand::Export { question, .. } => audit::export(agent, question.message()?).await?,
    };
    Ok(list(&rows.grid()))
}

/// A view as people read it, without a terminal to fit.
fn text(view: &impl Text) -> Report {
    Report::Message(view.text(None).lines().map(str::to_owned).collect())
}

fn list(grid: &Grid) -> Report {
    let cells = |row: &Row| row.cells.iter().map(|cell| cell.shown("")).collect();
    Report::Table {
        header: grid.columns.iter().map(|c| c.title).collect(),
        rows: grid.rows.iter().map(cells).collect(),
        notes: Vec::new(),
    }
}

/// The commands that the original had are answered as it did, not here.
fn not_here() -> Failure {
    Failure::new(
        ErrorKind::Internal,
        "this command has no answer for esxcli; use vdvs itself",
    )
}
