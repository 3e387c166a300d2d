//! pyvmomi, asked what is really there (`tests/vcsim/witness.py`).

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::build::Peers;
use crate::process::Cmd;

/// An independent client. Killed when dropped.
#[derive(Debug)]
pub struct Witness {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Witness {
    pub(super) fn start(peers: &Peers, address: &str, volumes: &Path) -> Result<Self> {
        let (host, port) = address
            .rsplit_once(':')
            .context("an address without port")?;
        let mut child = Cmd::new(&peers.python)
            .arg(&peers.witness)
            .args([host, port])
            .arg(volumes)
            .command()?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the witness")?;
        let (Some(questions), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the witness has no pipes");
        };
        Ok(Self {
            child,
            questions,
            answers: BufReader::new(stdout),
        })
    }

    /// Asks, or has something done. An object with `do` and what that takes.
    ///
    /// # Errors
    /// It fails, in its words.
    pub fn ask(&mut self, question: &Value) -> Result<Value> {
        writeln!(self.questions, "{question}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let mut answer: Value =
            serde_json::from_str(&line).with_context(|| format!("the witness said '{line}'"))?;
        match answer.get_mut("is") {
            Some(is) => Ok(is.take()),
            None => bail!("{question}: {answer}"),
        }
    }

    /// The files of a VM's disks, `[datastore] path`.
    ///
    /// # Errors
    /// As [`Witness::ask`].
    pub fn disks(&mut self, vm: &str) -> Result<Vec<Value>> {
        match self.ask(&json!({"do": "disks", "vm": vm}))? {
            Value::Array(disks) => Ok(disks),
            other => bail!("no list: {other}"),
        }
    }

    /// Whether a VM has a disk of this file.
    ///
    /// # Errors
    /// As [`Witness::ask`].
    pub fn has_disk(&mut self, vm: &str, file: &str) -> Result<bool> {
        let is_it = |d: &Value| d.get("file").and_then(Value::as_str) == Some(file);
        Ok(self.disks(vm)?.iter().any(is_it))
    }

    /// Has a VM powered `on` or `off`, or suspended (`suspend`).
    ///
    /// # Errors
    /// As [`Witness::ask`].
    pub fn power(&mut self, vm: &str, to: &str) -> Result<()> {
        self.ask(&json!({"do": "power", "vm": vm, "to": to}))
            .map(drop)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // At the end of a test there is nobody to tell.
        self.child.kill().and_then(|()| self.child.wait()).ok();
    }
}
