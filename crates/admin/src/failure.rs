//! What went wrong, for people and for programs. The exit code and the machine string come from the table of the
//! domain (`docs/error-codes.md`).

use std::fmt;

use serde_json::json;
use vdvs_api::RemoteError;
use vdvs_domain::ErrorKind;

use crate::args::Output;
use crate::grid::{Cell, Column, Grid, number, text};
use crate::render::{csv, printable, xml_list};

/// A failed command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What programs decide on.
    pub kind: ErrorKind,
    /// What happened and what to do.
    pub text: String,
}

impl Failure {
    /// A failure of this kind.
    #[must_use]
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    /// The exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        self.kind.row().exit
    }

    /// What standard error gets, with its line end.
    #[must_use]
    pub fn render(&self, output: Output) -> String {
        match output {
            Output::Table => format!("vdvs: {}\n", printable(&self.text)),
            Output::Json => {
                let row = self.kind.row();
                let object = json!({ "error": {
                    "reason": row.reason,
                    "text": self.text,
                    "exit_code": row.exit,
                    "retry": row.retry,
                }});
                format!("{object}\n")
            }
            Output::Xml => {
                let grid = self.grid();
                xml_list(&grid, &[0, 1, 2, 3])
            }
            Output::Csv => {
                let grid = self.grid();
                csv(&grid, &[0, 1, 2, 3])
            }
        }
    }

    fn grid(&self) -> Grid {
        const ERROR: &[Column] = &[
            text("reason", "Reason"),
            number("exit-code", "Exit Code"),
            text("retry", "Retry"),
            text("text", "Error"),
        ];
        let row = self.kind.row();
        let cells = vec![
            Cell::text(row.reason),
            Cell::Count(row.exit.into()),
            Cell::Flag(row.retry),
            Cell::text(&self.text),
        ];
        Grid::new(ERROR, [cells])
    }
}

impl From<RemoteError> for Failure {
    fn from(e: RemoteError) -> Self {
        Self::new(e.kind, e.text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_the_tables_row_as_json() {
        let failure = Failure::new(ErrorKind::NotFound, "Volume \"v\" not found");
        assert_eq!(
            failure.render(Output::Json),
            "{\"error\":{\"exit_code\":3,\"reason\":\"NOT_FOUND\",\"retry\":false,\"text\":\"Volume \\\"v\\\" not found\"}}\n"
        );
        assert_eq!(failure.exit_code(), 3);
    }

    #[test]
    fn a_text_from_elsewhere_cannot_steer_the_terminal() {
        let failure = Failure::new(ErrorKind::Internal, "a\u{1b}[31mb\nc");
        assert_eq!(failure.render(Output::Table), "vdvs: a\u{fffd}[31mb\nc\n");
    }
}
