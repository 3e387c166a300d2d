//! Printing a view in the form that was asked for.

use std::io::{self, ErrorKind as IoKind, Write};

use rustix::stdio;
use rustix::termios::{isatty, tcgetwinsize};
use serde::Serialize;
use vdvs_domain::ErrorKind;

use crate::args::{Global, Output};
use crate::failure::Failure;
use crate::grid::Grid;
use crate::render::{Text, csv, xml_list, xml_message};
use crate::view::{AuditList, Changed, Tabular};

/// How to print.
#[derive(Debug, Clone, Copy)]
pub(super) struct Printer {
    output: Output,
    width: Option<u16>,
}

impl Printer {
    pub(super) fn new(global: &Global) -> Self {
        Self {
            output: global.output,
            width: match global.width {
                Some(0) => None,
                Some(width) => Some(width),
                None => terminal_width(),
            },
        }
    }

    /// Prints a view; the exit code is 0.
    pub(super) fn print<T: Serialize + Tabular + Text>(&self, view: &T) -> Result<u8, Failure> {
        let text = match self.output {
            Output::Table => view.text(self.width),
            Output::Json => json(view)?,
            Output::Xml => {
                let grid = view.grid();
                xml_list(&grid, &all(&grid))
            }
            Output::Csv => {
                let grid = view.grid();
                csv(&grid, &all(&grid))
            }
        };
        stdout(&text)?;
        Ok(0)
    }

    /// Prints these columns only; JSON holds everything always.
    pub(super) fn print_columns<T: Serialize + Tabular>(
        &self,
        view: &T,
        chosen: &[&'static str],
        text: impl FnOnce(Option<u16>) -> String,
    ) -> Result<u8, Failure> {
        let some =
            |grid: &Grid| -> Vec<_> { chosen.iter().filter_map(|key| grid.column(key)).collect() };
        let text = match self.output {
            Output::Table => text(self.width),
            Output::Json => json(view)?,
            Output::Xml => {
                let grid = view.grid();
                xml_list(&grid, &some(&grid))
            }
            Output::Csv => {
                let grid = view.grid();
                csv(&grid, &some(&grid))
            }
        };
        stdout(&text)?;
        Ok(0)
    }

    /// Prints what a change did; in XML it is one message.
    pub(super) fn changed(&self, changed: &Changed) -> Result<u8, Failure> {
        if self.output != Output::Xml {
            return self.print(changed);
        }
        let text = changed.text(None);
        stdout(&xml_message(text.trim_end()))?;
        Ok(0)
    }

    /// An export of the audit: JSON lines, unless another form was asked for.
    pub(super) fn export(&self, list: &AuditList) -> Result<String, Failure> {
        let grid = list.grid();
        match self.output {
            Output::Table => {
                let line = |entry| Ok(serde_json::to_string(entry).map_err(unwritable)? + "\n");
                list.entries.iter().map(line).collect()
            }
            Output::Json => json(list),
            Output::Xml => Ok(xml_list(&grid, &all(&grid))),
            Output::Csv => Ok(csv(&grid, &all(&grid))),
        }
    }
}

fn all(grid: &Grid) -> Vec<usize> {
    (0..grid.columns.len()).collect()
}

fn json<T: Serialize>(view: &T) -> Result<String, Failure> {
    Ok(serde_json::to_string_pretty(view).map_err(unwritable)? + "\n")
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn unwritable(e: serde_json::Error) -> Failure {
    Failure::new(ErrorKind::Internal, format!("cannot write JSON: {e}"))
}

/// Writes an answer.
pub(super) fn stdout(text: &str) -> Result<(), Failure> {
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

/// Writes a remark. When even standard error is gone, the exit code still speaks.
pub(super) fn stderr(text: &str) {
    io::stderr().write_all(text.as_bytes()).ok();
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
