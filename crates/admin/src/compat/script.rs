//! The face `vmdkops_admin.py`: the original's script, for hands and scripts that know it.
//!
//! Exit codes are the original's: 0 done; 1 the agent cannot be reached; 2 a mistake on the command line, or the command
//! failed; 3 no command. Unlike the original's, help needs no agent, and a failure is XML where XML was asked for.

use std::io::{self, Write};

use rustix::stdio;
use rustix::termios::tcgetwinsize;

use super::argparse::{Parsed, Stop, parse};
use super::rows;
use super::tree::Act;
use super::verbs::{self, Report};
use super::{Connection, table, xml};
use crate::failure::Failure;
use crate::ops::work::follow;
use crate::render::printable;

/// The agent cannot be reached.
const UNREACHABLE: u8 = 1;
/// A mistake, or the command failed.
const FAILED: u8 = 2;
/// No command was given.
const NO_COMMAND: u8 = 3;

/// Columns of a terminal that does not say.
const TERMINAL: usize = 80;

/// Where the original's script is told that there is no service to talk to.
const NO_AGENT: &str = "Unable to connect to the host-agent on this host, ensure the ESXi host agent is running \
                        before retrying.";

/// What a run prints, and its exit code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// For standard output.
    pub(crate) out: String,
    /// For standard error.
    pub(crate) err: String,
    /// The exit code.
    pub(crate) code: u8,
}

impl Said {
    /// Prints; the exit code is left.
    pub(crate) fn say(self) -> u8 {
        // A reader that has gone away (`| head`) had enough.
        io::stdout().lock().write_all(self.out.as_bytes()).ok();
        io::stderr().lock().write_all(self.err.as_bytes()).ok();
        self.code
    }
}

/// Runs the script with the arguments after its name.
pub(crate) fn run(args: &[String], connection: &Connection) -> Said {
    match parse(args) {
        Ok(parsed) => connection
            .block_on(command(&parsed, connection))
            .unwrap_or_else(|e| failed(&e, parsed.xml)),
        Err(stop) => stopped(stop),
    }
}

fn stopped(stop: Stop) -> Said {
    match stop {
        Stop::Help(out) => Said {
            out,
            ..Said::default()
        },
        Stop::NoCommand(out) => Said {
            out,
            code: NO_COMMAND,
            ..Said::default()
        },
        Stop::Mistake(err) => Said {
            err: printable(&err),
            code: FAILED,
            ..Said::default()
        },
    }
}

async fn command(parsed: &Parsed, connection: &Connection) -> Result<Said, Failure> {
    let mut agent = match connection.agent().await {
        Ok(agent) => agent,
        Err(failure) => return Ok(unreachable(parsed, &failure)),
    };
    let report = verbs::run(&mut agent, &parsed.verb, &parsed.given).await?;
    let report = match report {
        // The original waited for the end, whatever it took.
        Report::Changed(changed) => Report::Changed(follow(&mut agent, changed, &mut ()).await?),
        report => report,
    };
    Ok(show(&report, parsed.xml, terminal_width()))
}

/// A stopped service is something that `status` can show; anything else needs it.
fn unreachable(parsed: &Parsed, failure: &Failure) -> Said {
    let advice = printable(&failure.text);
    if parsed.verb.act == Act::Status {
        let lines = rows::status(None, parsed.given.has("fast"));
        let said = show(&Report::Message(lines), parsed.xml, TERMINAL);
        return Said {
            err: advice + "\n",
            ..said
        };
    }
    let text = format!("{NO_AGENT} {advice}");
    let said = Said {
        code: UNREACHABLE,
        ..Said::default()
    };
    if parsed.xml {
        return Said {
            out: xml::message(&text),
            ..said
        };
    }
    Said {
        err: text + "\n",
        ..said
    }
}

/// The answer as text or XML.
pub(crate) fn show(report: &Report, as_xml: bool, width: usize) -> Said {
    let said = |lines: &[String]| {
        let text = lines.join("\n");
        if as_xml {
            xml::message(&text)
        } else {
            printable(&text) + "\n"
        }
    };
    let (out, notes) = match report {
        Report::Table {
            header,
            rows,
            notes,
        } if as_xml => (xml::list(header, rows), &notes[..]),
        // The original printed the table with its last line end, and one more.
        Report::Table {
            header,
            rows,
            notes,
        } => (table::render(header, rows, width) + "\n", &notes[..]),
        Report::Message(lines) => (said(lines), &[][..]),
        Report::Changed(changed) => (said(&verbs::lines(changed)), &[][..]),
    };
    let err = notes
        .iter()
        .map(|n| format!("Warning: {}\n", printable(n)))
        .collect();
    Said { out, err, code: 0 }
}

fn failed(failure: &Failure, as_xml: bool) -> Said {
    let text = format!("ERROR:{}", printable(&failure.text));
    let out = if as_xml {
        xml::message(&text)
    } else {
        text + "\n"
    };
    Said {
        out,
        code: FAILED,
        ..Said::default()
    }
}

/// As `stty size` saw it: the terminal that is typed on.
fn terminal_width() -> usize {
    let columns = tcgetwinsize(stdio::stdin()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { TERMINAL } else { columns }
}
