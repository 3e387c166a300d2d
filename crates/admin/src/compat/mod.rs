//! The program's two other faces, for hands and scripts that know the original.
//!
//! | face | chosen by | speaks |
//! |---|---|---|
//! | the original's script | the name `vmdkops_admin.py` | its commands, flags, tables, messages, exit codes |
//! | esxcli's back end | the first argument `esxcli` | every command of `vdvs`, answered in esxcli's XML |
//!
//! Either face may also be chosen by the program's first argument. They decide nothing: options become the agent's
//! messages, its answers become rows and lines, and refusals are the agent's own texts.
//!
//! | module | concept |
//! |---|---|
//! | `tree` | the original's commands, their options and columns |
//! | `argparse`, `usage` | the script's command line and its help |
//! | `requests`, `rows` | options to messages, answers to rows |
//! | `verbs` | one command against the agent |
//! | `table`, `xml`, `words` | how it is printed |
//! | `script` | the face `vmdkops_admin.py` |
//! | `esxcli` | the face behind `esxcli` |

mod argparse;
mod esxcli;
mod requests;
mod rows;
mod script;
pub(crate) mod table;
mod tree;
mod usage;
mod verbs;
mod words;
mod xml;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
pub use esxcli::definition;
use tokio::runtime::Builder;
use vdvs_domain::ErrorKind;

use crate::agent::Agent;
use crate::args::Cli;
use crate::failure::Failure;

/// Runs the program under another face when its name or its first argument says so, and returns the exit code.
#[must_use]
pub fn run(args: impl IntoIterator<Item = OsString>) -> Option<u8> {
    let args: Vec<OsString> = args.into_iter().collect();
    let (name, rest) = args.split_first()?;
    let name = Path::new(name).file_name().unwrap_or(name);
    let (face, rest): (Face, _) = match rest.split_first() {
        _ if name == usage::PROGRAM => (script::run, rest),
        Some((first, rest)) if first == usage::PROGRAM => (script::run, rest),
        Some((first, rest)) if first == ESXCLI => (esxcli::run, rest),
        _ => return None,
    };
    // What is not UTF-8 names nothing that exists here; it is shown as it can be.
    let rest: Vec<String> = rest
        .iter()
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    Some(face(&rest, &Connection::from_environment()).say())
}

/// The first argument that asks for esxcli's back end.
const ESXCLI: &str = "esxcli";

type Face = fn(&[String], &Connection) -> script::Said;

/// How the agent is reached: as `vdvs` reaches it without options.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    socket: PathBuf,
    timeout: Duration,
}

impl Connection {
    fn from_environment() -> Self {
        let global = Cli::parse_from(["vdvs", "status"]).global;
        Self {
            socket: global.socket,
            timeout: Duration::from_secs(global.timeout),
        }
    }

    #[cfg(test)]
    pub(crate) fn to(socket: PathBuf) -> Self {
        Self {
            socket,
            timeout: Duration::from_secs(30),
        }
    }

    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        Self::to(PathBuf::from("/nonexistent/admin.sock"))
    }

    async fn agent(&self) -> Result<Agent, Failure> {
        Agent::connect(&self.socket, self.timeout).await
    }

    /// Runs the command on a thread of its own making.
    fn block_on<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Failure::new(ErrorKind::Internal, format!("cannot start: {e}")))?
            .block_on(work)
    }
}
