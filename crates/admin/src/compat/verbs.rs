//! One command of the original's, from its options to what is printed.

use vdvs_domain::ErrorKind;

use super::argparse::Given;
use super::requests::{Change, change};
use super::rows::{self, Rows};
use super::tree::{Act, Answer, Verb};
use crate::agent::Agent;
use crate::arrange::Arrangement;
use crate::failure::Failure;
use crate::ops::{config, group, inventory, policy, volume};
use crate::view::Changed;

/// What a command answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    /// A table; the notes are for people and stand beside it.
    Table {
        /// The columns.
        header: Vec<&'static str>,
        /// The cells.
        rows: Rows,
        /// What is missing in it.
        notes: Vec<String>,
    },
    /// A text.
    Message(Vec<String>),
    /// A change, perhaps with work that goes on.
    Changed(Changed),
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] with the text to print.
pub(crate) async fn run(agent: &mut Agent, verb: &Verb, given: &Given) -> Result<Report, Failure> {
    let wrong = |text: String| Failure::new(ErrorKind::InvalidArgument, text);
    match change(verb.act, given).map_err(wrong)? {
        Some(change) => send(agent, change, given).await.map(Report::Changed),
        None => ask(agent, verb, given).await,
    }
}

async fn send(agent: &mut Agent, change: Change, given: &Given) -> Result<Changed, Failure> {
    match change {
        Change::Volume(address, vmgroup, options) => {
            let done = volume::set(agent, &address, Some(&vmgroup), options).await;
            // Every refusal of this command is wrapped.
            done.map_err(|failure| {
                Failure::new(
                    failure.kind,
                    volume::refused(&given.text("options"), &address, &failure.text),
                )
            })
        }
        Change::Policy(how, name, content) => policy::change(agent, how, &name, &content).await,
        Change::CreateGroup(request) => group::create(agent, request).await,
        Change::UpdateGroup(request) => group::update(agent, request).await,
        Change::RemoveGroup(request) => group::remove(agent, request).await,
        Change::Members(request) => group::members(agent, request).await,
        Change::Privilege(request) => group::privilege(agent, request).await,
        Change::Config(request) => config::change(agent, request, false).await,
    }
}

/// A change's lines: the original's sentence first, then what the agent has to add.
pub(crate) fn lines(changed: &Changed) -> Vec<String> {
    let mut lines = vec![changed.message.clone()];
    lines.extend(
        changed
            .lines
            .iter()
            .filter(|l| **l != changed.message)
            .cloned(),
    );
    lines.extend(changed.warnings.iter().map(|w| format!("Warning: {w}")));
    lines
}

async fn ask(agent: &mut Agent, verb: &Verb, given: &Given) -> Result<Report, Failure> {
    let all = Arrangement::default();
    let rows = match verb.act {
        Act::VolumeLs => return volumes(agent, given).await,
        Act::Status => {
            let (status, config) = (inventory::status(agent).await?, config::show(agent).await?);
            let lines = rows::status(Some((&status, &config)), given.has("fast"));
            return Ok(Report::Message(lines));
        }
        Act::PolicyLs => rows::policies(&policy::list(agent, &all).await?),
        Act::GroupLs => rows::groups(&group::list(agent, &all).await?.groups),
        Act::VmLs => rows::members(&group::list_members(agent, &given.text("name")).await?),
        Act::AccessLs => {
            rows::privileges(&group::list_privileges(agent, &given.text("name")).await?)
        }
        // Of those that only ask, this one is left.
        _ => {
            return Ok(Report::Message(rows::config(Some(
                &config::show(agent).await?,
            ))));
        }
    };
    let header = match verb.answer {
        Answer::Table(header) | Answer::Shown(header, _) => header.to_vec(),
        Answer::Message => Vec::new(),
    };
    Ok(Report::Table {
        header,
        rows,
        notes: Vec::new(),
    })
}

async fn volumes(agent: &mut Agent, given: &Given) -> Result<Report, Failure> {
    let all = Arrangement::default();
    let list = volume::list(agent, given.get("vmgroup").unwrap_or("*"), &all).await?;
    let datastores = inventory::datastores(agent, &all).await?;
    let (header, rows) = rows::columns(given, rows::volumes(&list.volumes, &datastores));
    let unread = list.unreadable_datastores.into_iter();
    let notes = unread
        .map(|ds| format!("datastore {ds} cannot be read now: its volumes are not listed here"))
        .collect();
    Ok(Report::Table {
        header,
        rows,
        notes,
    })
}
