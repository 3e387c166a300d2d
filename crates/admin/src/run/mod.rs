//! One command, start to end.
//!
//! What needs no agent ends first: help, mistakes on the command line, completions, manual pages. Only then is there a
//! runtime and a connection.

mod changes;
mod config;
mod damage;
pub(crate) mod files;
mod print;

use std::ffi::OsString;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind as ClapKind;
use tokio::runtime::Builder;
use tokio::signal::ctrl_c;
use vdvs_api::v1::change_members::How as MembersHow;
use vdvs_api::v1::change_policy_request::How as PolicyHow;
use vdvs_api::v1::change_privilege::How as PrivilegeHow;
use vdvs_domain::ErrorKind;

use crate::agent::Agent;
use crate::args::{
    AccessCommand, AuditCommand, Cli, Command, DatastoreCommand, Doctor, Global, GroupCommand,
    HostCommand, MemberCommand, Output, PolicyCommand, VmCommand, VolumeCommand, WorkCommand,
};
use crate::failure::Failure;
use crate::ops::{audit, doctor, group, inventory, policy, volume, work};
use crate::progress::Line;
use crate::view::Work;
use crate::{pages, render};
use changes::Changes;
use print::{Printer, stderr};

/// Exit code when a person answered no.
const DECLINED: u8 = 1;
/// Exit code of a status with warnings.
const WARNED: u8 = 1;

/// Reads the command line, runs the command, prints, and returns the exit code.
#[must_use]
pub fn program(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    match Cli::try_parse_from(&args) {
        Ok(cli) => run(&cli),
        Err(e) => mistaken(&e, asked_output(&args)),
    }
}

/// Runs the command, prints, and returns the exit code.
#[must_use]
pub fn run(cli: &Cli) -> u8 {
    let printer = Printer::new(&cli.global);
    let done = match &cli.command {
        Command::Completions { shell } => pages::completions(*shell),
        Command::Man { command, dir } => pages::manual(command, dir.as_deref()),
        command => Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Failure::new(ErrorKind::Internal, format!("cannot start: {e}")))
            .and_then(|runtime| runtime.block_on(execute(command, &cli.global, &printer))),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            stderr(&failure.render(cli.global.output));
            failure.exit_code()
        }
    }
}

/// Help and version are answers; everything else is a mistake, told in the form that was asked for.
fn mistaken(e: &clap::Error, output: Output) -> u8 {
    let help = matches!(e.kind(), ClapKind::DisplayHelp | ClapKind::DisplayVersion);
    if help || output == Output::Table {
        // When nobody reads, the exit code still speaks.
        e.print().ok();
        return if help { 0 } else { 2 };
    }
    let text = e.render().to_string();
    let text = text.trim().trim_start_matches("error: ");
    let failure = Failure::new(ErrorKind::InvalidArgument, text);
    stderr(&failure.render(output));
    failure.exit_code()
}

/// The form of output that a command line which cannot be read asks for.
fn asked_output(args: &[OsString]) -> Output {
    let words = args.iter().filter_map(|a| a.to_str());
    let mut asked = None;
    let mut next = false;
    for word in words {
        let value = if next {
            Some(word)
        } else {
            let short = word.strip_prefix("-o").filter(|_| !word.starts_with("--"));
            word.strip_prefix("--output=")
                .or_else(|| short.filter(|v| !v.is_empty()))
        };
        next = matches!(word, "-o" | "--output");
        asked = value.map(|v| v.trim_start_matches('=')).or(asked);
    }
    match asked {
        Some("json") => Output::Json,
        Some("xml") => Output::Xml,
        Some("csv") => Output::Csv,
        _ => Output::Table,
    }
}

async fn connect(global: &Global) -> Result<Agent, Failure> {
    Agent::connect(&global.socket, Duration::from_secs(global.timeout)).await
}

async fn execute(command: &Command, global: &Global, printer: &Printer) -> Result<u8, Failure> {
    // What can be wrong with a command is found before anybody is asked.
    match command {
        Command::Status { .. } => {
            let status = inventory::status(&mut connect(global).await?).await?;
            printer.print(&status)?;
            return Ok(if status.warnings.is_empty() {
                0
            } else {
                WARNED
            });
        }
        Command::Volume(command) => return volumes(command, global, printer).await,
        Command::Vmgroup(command) => return groups(command, global, printer).await,
        Command::Policy(command) => return policies(command, global, printer).await,
        Command::Config(command) => return config::run(command, global, printer).await,
        Command::Audit(command) => return audits(command, global, printer).await,
        Command::Work(command) => return works(command, global, printer).await,
        Command::Doctor(what) => return examine(what, global, printer).await,
        Command::Fsck(what) => return damage::run(what, global, printer).await,
        Command::Vm(VmCommand::Ls(listing)) => {
            let which = listing.arrangement()?;
            printer.print(&inventory::vms(&mut connect(global).await?, &which).await?)?;
        }
        Command::Vm(VmCommand::Prepare {
            vms,
            vm,
            controllers,
        }) => {
            let mut agent = connect(global).await?;
            let changed = inventory::prepare(&mut agent, vms, vm.as_deref(), *controllers).await;
            return Changes { global, printer }.end(&mut agent, changed).await;
        }
        Command::Host(HostCommand::Ls(listing)) => {
            let which = listing.arrangement()?;
            printer.print(&inventory::hosts(&mut connect(global).await?, &which).await?)?;
        }
        Command::Datastore(DatastoreCommand::Ls(listing)) => {
            let which = listing.arrangement()?;
            printer.print(&inventory::datastores(&mut connect(global).await?, &which).await?)?;
        }
        // Both were done without a runtime.
        Command::Completions { .. } | Command::Man { .. } => {}
    }
    Ok(0)
}

async fn volumes(
    command: &VolumeCommand,
    global: &Global,
    printer: &Printer,
) -> Result<u8, Failure> {
    let changes = Changes { global, printer };
    match command {
        VolumeCommand::Ls(what) => {
            let which = what.listing.arrangement()?;
            let mut agent = connect(global).await?;
            let list = volume::list(&mut agent, &what.vmgroup, &which).await?;
            match what.chosen() {
                None => printer.print(&list),
                Some(chosen) => printer.print_columns(&list, &chosen, |width| {
                    render::volume_columns(&list, &chosen, width)
                }),
            }
        }
        VolumeCommand::Inspect(name) => {
            let address = name.address()?;
            printer.print(&volume::inspect(&mut connect(global).await?, &address).await?)
        }
        VolumeCommand::Why(name) => {
            let address = name.address()?;
            printer.print(&volume::why(&mut connect(global).await?, &address).await?)
        }
        VolumeCommand::Set {
            volume,
            words,
            options,
            vmgroup,
        } => {
            let (address, words) = volume.address_and(words)?;
            let typed: Vec<&str> = words.iter().chain(options).map(String::as_str).collect();
            let not_updated = |failure: Failure| {
                if typed.is_empty() {
                    return failure;
                }
                let text = volume::refused(&typed.join(","), &address, &failure.text);
                Failure::new(failure.kind, text)
            };
            let options = volume::options(typed.iter().copied()).map_err(not_updated)?;
            let mut agent = connect(global).await?;
            let changed = volume::set(&mut agent, &address, vmgroup.as_deref(), options).await;
            changes.end(&mut agent, changed.map_err(not_updated)).await
        }
        VolumeCommand::Rm(name) => changes.remove_volume(&name.address()?).await,
        VolumeCommand::Move(to) => {
            let (address, group) = to.what_and_where()?;
            let mut agent = connect(global).await?;
            let changed = volume::move_to(&mut agent, &address, &group, to.force).await;
            changes.end(&mut agent, changed).await
        }
        VolumeCommand::Adopt(to) => {
            let (address, group) = to.what_and_where()?;
            let mut agent = connect(global).await?;
            let changed = volume::adopt(&mut agent, &address, &group, to.force).await;
            changes.end(&mut agent, changed).await
        }
        VolumeCommand::Detach { volume, force } => {
            changes.detach_volume(&volume.address()?, *force).await
        }
        VolumeCommand::Protect(name) => changes.protect(&name.address()?, true).await,
        VolumeCommand::Unprotect(name) => changes.protect(&name.address()?, false).await,
    }
}

async fn groups(command: &GroupCommand, global: &Global, printer: &Printer) -> Result<u8, Failure> {
    let changes = Changes { global, printer };
    match command {
        GroupCommand::Ls(listing) => {
            let which = listing.arrangement()?;
            printer.print(&group::list(&mut connect(global).await?, &which).await?)
        }
        GroupCommand::Show(name) => {
            let name = name.get()?;
            printer.print(&group::show(&mut connect(global).await?, &name).await?)
        }
        GroupCommand::Create { .. } => {
            let message = command.creation()?;
            let mut agent = connect(global).await?;
            let changed = group::create(&mut agent, message).await;
            changes.end(&mut agent, changed).await
        }
        GroupCommand::Update { .. } => {
            let message = command.modification()?;
            let mut agent = connect(global).await?;
            let changed = group::update(&mut agent, message).await;
            changes.end(&mut agent, changed).await
        }
        GroupCommand::Rm {
            group,
            remove_volumes,
            force,
        } => {
            changes
                .remove_group(&group.get()?, *remove_volumes, *force)
                .await
        }
        GroupCommand::Vm(command) => {
            let message = match command {
                MemberCommand::Ls(name) => {
                    let name = name.get()?;
                    let mut agent = connect(global).await?;
                    return printer.print(&group::list_members(&mut agent, &name).await?);
                }
                MemberCommand::Add(m) => m.message(MembersHow::Add)?,
                MemberCommand::Rm(m) => m.message(MembersHow::Remove)?,
                MemberCommand::Replace(m) => m.message(MembersHow::Replace)?,
            };
            let mut agent = connect(global).await?;
            let changed = group::members(&mut agent, message).await;
            changes.end(&mut agent, changed).await
        }
        GroupCommand::Access(command) => {
            let message = match command {
                AccessCommand::Ls(name) => {
                    let name = name.get()?;
                    let mut agent = connect(global).await?;
                    return printer.print(&group::list_privileges(&mut agent, &name).await?);
                }
                AccessCommand::Add(limits) => limits.message(PrivilegeHow::Add)?,
                AccessCommand::Set(limits) => limits.message(PrivilegeHow::Set)?,
                AccessCommand::Rm(place) => place.message(PrivilegeHow::Remove)?,
            };
            let mut agent = connect(global).await?;
            let changed = group::privilege(&mut agent, message).await;
            changes.end(&mut agent, changed).await
        }
    }
}

async fn policies(
    command: &PolicyCommand,
    global: &Global,
    printer: &Printer,
) -> Result<u8, Failure> {
    let changes = Changes { global, printer };
    let (how, name, content) = match command {
        PolicyCommand::Ls(listing) => {
            let which = listing.arrangement()?;
            let mut agent = connect(global).await?;
            return printer.print(&policy::list(&mut agent, &which).await?);
        }
        PolicyCommand::Create(text) => {
            let (name, content) = text.get()?;
            (PolicyHow::Create, name, content)
        }
        PolicyCommand::Update(text) => {
            let (name, content) = text.get()?;
            (PolicyHow::Update, name, content)
        }
        PolicyCommand::Rm(name) => (PolicyHow::Remove, name.get()?, String::new()),
    };
    let mut agent = connect(global).await?;
    let changed = policy::change(&mut agent, how, &name, &content).await;
    changes.end(&mut agent, changed).await
}

async fn audits(command: &AuditCommand, global: &Global, printer: &Printer) -> Result<u8, Failure> {
    match command {
        AuditCommand::Ls {
            question,
            limit,
            before,
        } => {
            let mut message = question.message()?;
            message.limit = *limit;
            message.before = *before;
            printer.print(&audit::list(&mut connect(global).await?, message).await?)
        }
        AuditCommand::Export { question, file } => {
            let message = question.message()?;
            let text = |list: &_| printer.export(list);
            match file {
                None => {
                    let list = audit::export(&mut connect(global).await?, message).await?;
                    print::stdout(&text(&list)?)?;
                }
                Some(path) => {
                    let file = files::New::create(path)?;
                    let list = audit::export(&mut connect(global).await?, message).await?;
                    file.write(&text(&list)?)?;
                }
            }
            Ok(0)
        }
    }
}

async fn examine(what: &Doctor, global: &Global, printer: &Printer) -> Result<u8, Failure> {
    let which = what.listing.arrangement()?;
    let object = what.object.as_deref();
    let mut agent = connect(global).await?;
    match &what.fix {
        None => {
            let found = doctor::look(&mut agent, object, &which).await?;
            printer.print(&found)?;
            Ok(found.exit_code())
        }
        Some(name) => {
            let repairs = doctor::repair(&mut agent, name, object, what.dry_run, &which).await?;
            printer.print(&repairs)?;
            Ok(repairs.exit_code())
        }
    }
}

async fn works(command: &WorkCommand, global: &Global, printer: &Printer) -> Result<u8, Failure> {
    match command {
        WorkCommand::Ls(listing) => {
            let which = listing.arrangement()?;
            printer.print(&work::list(&mut connect(global).await?, &which).await?)
        }
        WorkCommand::Show { id, no_wait } => {
            let mut agent = connect(global).await?;
            let found = work::show(&mut agent, id, 0).await?;
            if *no_wait || !found.runs() {
                printer.print(&found)?;
                return Ok(work::failure_of(&found).map_or(0, |f| f.exit_code()));
            }
            let mut line = Line::default();
            let ended = watch(found.clone(), work::wait(&mut agent, found, &mut line)).await;
            line.wipe();
            printer.print(&ended?)
        }
    }
}

/// Waits for the end of a work, unless a person interrupts: the work goes on, and how to go on is said.
async fn watch<T>(work: Work, end: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        end = end => end,
        interrupted = ctrl_c() => match interrupted {
            Ok(()) => Err(Failure::new(
                ErrorKind::Unavailable,
                format!("interrupted: {}", work::go_on(&work)),
            )),
            Err(e) => Err(Failure::new(
                ErrorKind::Internal,
                format!("cannot listen for an interrupt: {e}. {}", work::go_on(&work)),
            )),
        },
    }
}
