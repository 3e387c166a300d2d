//! Where lines go: stderr, and a file that never grows beyond its bound.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
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

/// Sends lines that `filter` lets through to stderr and, if given, to `file`.
///
/// # Errors
/// [`LogError`].
pub fn init(filter: &str, file: Option<&Path>) -> Result<(), LogError> {
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
    let to_file = file.map(|f| fmt::layer().with_ansi(false).with_writer(Mutex::new(f)));
    tracing_subscriber::registry()
        .with(targets)
        .with(fmt::layer().with_ansi(false).with_writer(io::stderr))
        .with(to_file)
        .try_init()?;
    Ok(())
}

/// The HTTP/2 library warns of every peer that breaks its rules, so one VM could fill the log with its own mistakes. What
/// it does about them, closing the connection, does not depend on the line. A filter that names the library hears it.
fn hush_peers(targets: Targets) -> Targets {
    const LIBRARY: &str = "h2";
    let named = targets.iter().any(|(target, _)| target.starts_with(LIBRARY));
    if named {
        targets
    } else {
        targets.with_target(LIBRARY, LevelFilter::OFF)
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
