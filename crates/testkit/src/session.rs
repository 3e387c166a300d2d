//! A program we talk to line by line while it runs: a client that sends a statement and waits for its answer.
//!
//! Its output is read by a thread into a bounded channel, so a program that says nothing never blocks the caller
//! past its time limit. Dropping the session kills the program: a client that lost its server must not linger.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::Cmd;

/// Lines kept before the reader waits for the caller.
const LINES: usize = 1024;

/// A running program with a conversation.
#[derive(Debug)]
pub struct Session {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Session {
    /// Starts the program; its standard error is thrown away.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(cmd: Cmd) -> Result<Self> {
        let text = cmd.describe();
        let mut command = cmd.command()?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("start {text}"))?;
        let stdin = child.stdin.take().context("the program's standard input")?;
        let stdout = child
            .stdout
            .take()
            .context("the program's standard output")?;
        let (sender, lines) = mpsc::sync_channel(LINES);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            stdin,
            lines,
        })
    }

    /// Sends one line and waits for one line back.
    ///
    /// # Errors
    /// The program ended, or said nothing within `limit`.
    pub fn ask(&mut self, line: &str, limit: Duration) -> Result<String> {
        self.stdin
            .write_all(line.as_bytes())
            .context("the program ended")?;
        self.stdin.write_all(b"\n").context("the program ended")?;
        self.stdin.flush().context("the program ended")?;
        match self.lines.recv_timeout(limit) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => bail!("no answer within {limit:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the program ended"),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Both may fail only because it ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
