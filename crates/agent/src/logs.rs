//! Where lines go: stderr, and a file that never grows beyond its bound. A line that comes again and again is written
//! once, with a count.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// One file of the log; there are two, the one being written and the one before. Ten megabytes are weeks of a host's
/// changes and fit the smallest scratch partition.
const MAX_FILE: u64 = 5 * 1024 * 1024;

/// Logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is malformed.
    #[error(
        "--log '{0}' is no filter: write a level, or levels by module, as in info,vdvs_engine=debug"
    )]
    Filter(String),
    /// The file cannot be opened.
    #[error("cannot open the log {0}")]
    File(PathBuf, #[source] io::Error),
    /// Somebody set up logging before.
    #[error("logging is set up already")]
    Twice(#[from] TryInitError),
}

/// Sends lines that `filter` lets through to stderr, unless `quiet`, and, if given, to `file`.
///
/// # Errors
/// [`LogError`].
pub fn init(filter: &str, file: Option<&Path>, quiet: bool) -> Result<(), LogError> {
    let targets: Targets = filter
        .parse()
        .map_err(|_| LogError::Filter(filter.to_owned()))?;
    // A bare module list would silence everything else, warnings included.
    let targets = match targets.default_level() {
        None | Some(LevelFilter::OFF) => targets.with_default(LevelFilter::WARN),
        Some(_) => targets,
    };
    let targets = hush_peers(targets);
    let file = file
        .map(|path| Rotating::open(path).map_err(|e| LogError::File(path.to_owned(), e)))
        .transpose()?;
    let to = |writer| fmt::layer().with_ansi(false).with_writer(writer);
    let to_file = file.map(|f| {
        fmt::layer()
            .with_ansi(false)
            .with_writer(Mutex::new(Folded::new(f)))
    });
    tracing_subscriber::registry()
        .with(targets)
        .with((!quiet).then(|| to(Mutex::new(Folded::new(io::stderr())))))
        .with(to_file)
        .try_init()?;
    Ok(())
}

/// The HTTP/2 library warns of every peer that breaks its rules, so one VM could fill the log with its own mistakes. What
/// it does about them, closing the connection, does not depend on the line. A filter that names the library hears it.
fn hush_peers(targets: Targets) -> Targets {
    const LIBRARY: &str = "h2";
    let named = targets
        .iter()
        .any(|(target, _)| target.starts_with(LIBRARY));
    if named {
        targets
    } else {
        targets.with_target(LIBRARY, LevelFilter::OFF)
    }
}

/// A count is written at the latest after so many lines, so that one that never ends shows that it goes on.
const COUNTED: u32 = 1000;

/// A writer that counts a line that is the same as the one before, its time apart.
#[derive(Debug)]
struct Folded<W> {
    inner: W,
    last: String,
    again: u32,
}

impl<W: Write> Folded<W> {
    const fn new(inner: W) -> Self {
        Self {
            inner,
            last: String::new(),
            again: 0,
        }
    }

    fn say_count(&mut self, time: &str) -> io::Result<()> {
        match mem::take(&mut self.again) {
            0 => Ok(()),
            again => writeln!(
                self.inner,
                "{time}  INFO the line before came {again} more times"
            ),
        }
    }
}

impl<W: Write> Write for Folded<W> {
    /// Takes one whole line: that is how the formatter writes.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let (time, rest) = text.split_once(' ').unwrap_or(("", &text));
        if self.last == rest {
            self.again = self.again.saturating_add(1);
            if self.again >= COUNTED {
                self.say_count(time)?;
            }
            return Ok(line.len());
        }
        self.say_count(time)?;
        rest.clone_into(&mut self.last);
        self.inner.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A file that is renamed to `<name>.1` when it is full.
#[derive(Debug)]
struct Rotating {
    path: PathBuf,
    file: File,
    written: u64,
    most: u64,
}

impl Rotating {
    fn open(path: &Path) -> io::Result<Self> {
        Self::open_bounded(path, MAX_FILE)
    }

    fn open_bounded(path: &Path, most: u64) -> io::Result<Self> {
        let file = append(path)?;
        let written = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            written,
            most,
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a log is not a record: losing its last lines in a power cut is fine, waiting for a disk is not"
    )]
    fn rotate(&mut self) -> io::Result<()> {
        let mut before = self.path.clone().into_os_string();
        before.push(".1");
        fs::rename(&self.path, before)?;
        self.file = append(&self.path)?;
        self.written = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

impl Write for Rotating {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.written.saturating_add(length) > self.most && self.written > 0 {
            // If it cannot be rotated the lines are still on stderr; the bound holds either way.
            self.rotate()?;
        }
        let n = self.file.write(line)?;
        self.written = self
            .written
            .saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_line_that_comes_again_is_a_count_before_the_next_one() {
        let mut log = Folded::new(Vec::new());
        for n in 0..2500 {
            log.write_all(format!("{n} WARN no host\n").as_bytes())
                .unwrap();
        }
        log.write_all(b"2500 INFO the host is there\n").unwrap();
        log.write_all(b"2501 WARN no host\n").unwrap();
        let text = String::from_utf8(log.inner).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "0 WARN no host",
                "1000  INFO the line before came 1000 more times",
                "2000  INFO the line before came 1000 more times",
                "2500  INFO the line before came 499 more times",
                "2500 INFO the host is there",
                "2501 WARN no host",
            ]
        );
    }

    #[test]
    fn two_files_hold_the_newest_lines_and_no_more() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("vdvsd.log");
        let mut log = Rotating::open_bounded(&path, 100).unwrap();
        for n in 0..100 {
            writeln!(log, "line {n}").unwrap();
        }
        drop(log);
        let mut again = Rotating::open_bounded(&path, 100).unwrap();
        writeln!(again, "after a restart").unwrap();
        let (now, before) = (
            fs::read_to_string(&path).unwrap(),
            fs::read_to_string(dir.path().join("vdvsd.log.1")).unwrap(),
        );
        assert!(now.ends_with("after a restart\n"), "{now}");
        assert!(format!("{before}{now}").contains("line 98\nline 99\nafter"));
        assert!(now.len() <= 100 && before.len() <= 100);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_peers_mistakes_are_heard_only_by_those_who_listen_for_them() {
        use tracing::Level;
        let hears = |filter: &str| {
            let targets = hush_peers(filter.parse().unwrap());
            targets.would_enable("h2::proto::streams::recv", &Level::WARN)
        };
        assert!(!hears("info"));
        assert!(!hears("debug"));
        assert!(hears("info,h2=debug"));
        assert!(hush_peers("info".parse().unwrap()).would_enable("vdvsd", &Level::INFO));
    }
}
