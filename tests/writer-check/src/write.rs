//! The writer: one line, one flush, one acknowledgement.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;

use crate::lines::{Line, whole_lines};
use crate::stop::Stop;
use crate::{Ended, clock};

/// The same for the shell of a container: `sh -s FILE NODE [PAUSE_US]`.
pub(crate) const SCRIPT: &str = include_str!("writer.sh");
/// The device answers with errors.
const IO_ERROR: u8 = 5;

/// Arguments of `writer-check write`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Lines are appended here.
    file: PathBuf,
    /// Who writes.
    #[arg(long)]
    node: String,
    /// Pause between lines.
    #[arg(long, default_value_t = 10)]
    interval_ms: u64,
    /// Stop after so many; otherwise at TERM.
    #[arg(long)]
    lines: Option<u64>,
}

/// Writes until it is told to stop or cannot.
pub(crate) fn run(arguments: &Arguments) -> Ended {
    let stop = Stop::on_signals()?;
    match write(arguments, &stop) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("writer-check: {error:#}");
            let io = error.downcast_ref::<io::Error>();
            // A file system that was cut off its disk answers either.
            let cut = [Errno::EIO as i32, Errno::EROFS as i32];
            let cut = io
                .and_then(io::Error::raw_os_error)
                .is_some_and(|code| cut.contains(&code));
            Ok(ExitCode::from(if cut { IO_ERROR } else { 1 }))
        }
    }
}

fn write(arguments: &Arguments, stop: &Stop) -> Result<()> {
    let turn = clock::nanoseconds()?;
    let (mut file, mut sequence) = open(&arguments.file)?;
    let mut left = arguments.lines;
    while !stop.asked() && left != Some(0) {
        sequence = sequence
            .checked_add(1)
            .context("the last number there is")?;
        let line = Line {
            node: arguments.node.clone(),
            turn,
            sequence,
            time: clock::nanoseconds()?,
        };
        file.write_all(format!("{line}\n").as_bytes())
            .with_context(|| format!("write line {sequence}"))?;
        file.sync_data()
            .with_context(|| format!("flush line {sequence}"))?;
        println!("{sequence}");
        io::stdout().flush().context("acknowledge")?;
        left = left.map(|left| left.saturating_sub(1));
        thread::sleep(Duration::from_millis(arguments.interval_ms));
    }
    Ok(())
}

/// Opens the file, takes off what a power cut tore at its end, and says which sequence is its last.
fn open(path: &PathBuf) -> Result<(File, u64)> {
    let mut options = OpenOptions::new();
    let file = options.read(true).append(true).create(true).open(path);
    let file = file.with_context(|| format!("open {}", path.display()))?;
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let whole = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    if whole < bytes.len() {
        file.set_len(u64::try_from(whole)?)
            .context("take off a torn line")?;
        file.sync_data().context("take off a torn line")?;
    }
    let last = whole_lines(&bytes).into_iter().rev().flatten().next();
    Ok((file, last.map_or(0, |line| line.sequence)))
}
