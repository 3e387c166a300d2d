//! Where log lines go: standard error, which the service manager keeps (standard output, where dockerd does); or a
//! file, turned over by size as the
//! original's was.
//!
//! Lines that only repeat are folded on their way ([`Folding`]).
//!
//! A file that cannot be written loses lines and stops nothing: a full log file system must not stop a database.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp as Moment;
use jiff::fmt::strtime::format;
use jiff::tz::TimeZone;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::fmt::{MakeWriter, layer as lines};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;
use tracing_subscriber::util::SubscriberInitExt;

use crate::clock::{Clock, SystemClock};
use crate::folding::Folding;
use crate::settings::LogFile;

const DAY_MS: u64 = 86_400_000;

/// The stream for log lines that go to no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console {
    /// Standard output. dockerd keeps a managed plugin's standard error as errors, whatever it says.
    Output,
    /// Standard error.
    Error,
}

/// Starts logging. What other libraries say is shown from one level further up.
///
/// # Errors
/// The file cannot be opened.
pub fn start(level: LevelFilter, file: Option<&LogFile>, console: Console) -> io::Result<()> {
    let others = level.min(LevelFilter::WARN);
    let targets = Targets::new()
        .with_default(others)
        .with_target("vdvs", level);
    let layer = lines().with_target(false);
    match file {
        None => registry()
            .with(targets)
            .with(
                layer
                    .with_writer(Folding::new(console.writer()))
                    .with_ansi(false),
            )
            .init(),
        Some(file) => {
            let turned = Turned::open(file.clone())?;
            registry()
                .with(targets)
                .with(
                    layer
                        .with_writer(Folding::new(Shared(Arc::new(Mutex::new(turned)))))
                        .with_ansi(false),
                )
                .init();
        }
    }
    Ok(())
}

impl Console {
    fn writer(self) -> BoxMakeWriter {
        match self {
            Self::Output => BoxMakeWriter::new(io::stdout),
            Self::Error => BoxMakeWriter::new(io::stderr),
        }
    }
}

/// A log file that is turned over.
#[derive(Debug)]
struct Turned {
    settings: LogFile,
    file: File,
    size: u64,
}

impl Turned {
    fn open(settings: LogFile) -> io::Result<Self> {
        let file = open(&settings.path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            settings,
            file,
            size,
        })
    }

    fn turn_over(&mut self) -> io::Result<()> {
        let now = SystemClock.now().millis();
        rename(&self.settings.path, &stamped(&self.settings.path, now))?;
        self.file = open(&self.settings.path)?;
        self.size = 0;
        prune(&self.settings, now)
    }
}

impl Write for Turned {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.size > 0 && self.size.saturating_add(more) > self.settings.max_bytes {
            // On failure the old file grows on; the next line tries again.
            if let Err(e) = self.turn_over() {
                writeln!(io::stderr(), "the log file cannot be turned over: {e}")?;
            }
        }
        let written = self.file.write(bytes)?;
        self.size = self
            .size
            .saturating_add(u64::try_from(written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[derive(Debug, Clone)]
struct Shared(Arc<Mutex<Turned>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut turned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turned.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut turned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turned.flush()
    }
}

impl<'a> MakeWriter<'a> for Shared {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
}

/// `v.log` → `v-2026-01-31T10-20-30.123.log`
fn stamped(path: &Path, now: u64) -> PathBuf {
    let moment = i64::try_from(now)
        .ok()
        .and_then(|ms| Moment::from_millisecond(ms).ok())
        .unwrap_or_default();
    let stamp = format("%Y-%m-%dT%H-%M-%S%.3f", &moment.to_zoned(TimeZone::UTC))
        .unwrap_or_else(|_| now.to_string());
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let end = path
        .extension()
        .map(|e| format!(".{}", e.to_string_lossy()))
        .unwrap_or_default();
    path.with_file_name(format!("{stem}-{stamp}{end}"))
}

/// Removes what is too old or too much. The stamp sorts by time.
fn prune(settings: &LogFile, now: u64) -> io::Result<()> {
    let (Some(folder), Some(stem)) = (settings.path.parent(), settings.path.file_stem()) else {
        return Ok(());
    };
    let prefix = format!("{}-2", stem.to_string_lossy());
    let mut old: Vec<PathBuf> = fs::read_dir(folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
                && path.extension() == settings.path.extension()
        })
        .collect();
    old.sort();
    let keep = usize::try_from(settings.max_files).unwrap_or(usize::MAX);
    let surplus = old.len().saturating_sub(keep);
    let oldest = now.saturating_sub(settings.max_days.saturating_mul(DAY_MS));
    let limit = stamped(&settings.path, oldest);
    for (number, path) in old.iter().enumerate() {
        if number < surplus || *path < limit {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a log file is turned over, not written crash-safely"
)]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_turned_over_and_only_so_many_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let settings = LogFile {
            path: folder.path().join("v.log"),
            max_bytes: 100,
            max_days: 28,
            max_files: 2,
        };
        for name in ["v-2001-01-01T00-00-00.000.log", "other-2001.log"] {
            fs::write(folder.path().join(name), b"old").unwrap();
        }
        let mut log = Turned::open(settings).unwrap();
        for _ in 0..5 {
            log.write_all(&[b'x'; 60]).unwrap();
        }
        let names: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        let turned = names.iter().filter(|n| n.starts_with("v-2")).count();
        assert!(turned <= 2, "{names:?}");
        assert!(names.contains(&"other-2001.log".to_owned()));
        assert!(!names.contains(&"v-2001-01-01T00-00-00.000.log".to_owned()));
        assert_eq!(fs::read(folder.path().join("v.log")).unwrap().len(), 60);
    }
}
