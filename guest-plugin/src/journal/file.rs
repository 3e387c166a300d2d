//! The journal in a folder.
//!
//! ```text
//! held        replaced whole: temp, fsync, rename, fsync folder
//! known       appended with fsync
//! lock        locked while the plugin runs, so that two never share a folder
//! ```
//! What the files hold is said in [`super::format`].
//!
//! A crash leaves `held` old or new, never half; the last line of `known` may be torn, and is cut off at the next
//! start. Any other damage sets the file aside as `<name>.damaged-<n>`.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::format::{held_bytes, known_bytes, line, parse_held, parse_known};
use super::{Change, Held, JournalStore, Known, Loaded};

const HELD: &str = "held";
const KNOWN: &str = "known";

/// Largest file read back; far above what the bounds of the model allow.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// How many damaged copies are kept before the oldest name is reused.
const MAX_ASIDE: u32 = 9;

#[derive(Debug)]
struct State {
    version: u64,
    log: Option<File>,
    /// Length of the log without what a failed write may have left behind it.
    good: u64,
    lines: usize,
}

/// A journal in a folder of its own.
#[derive(Debug)]
pub struct FileJournal {
    folder: PathBuf,
    state: Mutex<State>,
    _lock: File,
}

/// What a journal in this folder holds now. Changes nothing, and works while a plugin uses it.
///
/// # Errors
/// It cannot be read, or is damaged. None written yet is an empty one.
pub fn peek(folder: &Path) -> io::Result<Vec<Held>> {
    match fs::read(folder.join(HELD)) {
        Ok(bytes) => parse_held(&bytes).map_err(io::Error::other),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

impl FileJournal {
    /// Takes the folder, making it if it is not there.
    ///
    /// # Errors
    /// It cannot be made, or another plugin has it.
    pub fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(folder.join("lock"))?;
        lock.try_lock().map_err(|e| {
            io::Error::new(
                ErrorKind::AlreadyExists,
                format!(
                    "another vdvs-plugin uses {} ({e}); stop it, or give this one another --state",
                    folder.display()
                ),
            )
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            state: Mutex::new(State {
                version: 0,
                log: None,
                good: 0,
                lines: 0,
            }),
            _lock: lock,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_aside(&self, name: &str, why: &str) -> io::Result<String> {
        let free = (1..MAX_ASIDE)
            .map(|n| format!("{name}.damaged-{n}"))
            .find(|to| !self.folder.join(to).exists())
            .unwrap_or_else(|| format!("{name}.damaged-{MAX_ASIDE}"));
        rename(&self.folder.join(name), &self.folder.join(&free))?;
        sync_folder(&self.folder)?;
        Ok(format!("{}/{free}: {why}", self.folder.display()))
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.folder.join(name);
        match fs::metadata(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
            Ok(meta) if meta.len() > MAX_BYTES => {
                return Err(io::Error::other(format!(
                    "{} has {} bytes, which no plugin wrote; move it away",
                    path.display(),
                    meta.len()
                )));
            }
            Ok(_) => {}
        }
        fs::read(&path).map(Some)
    }

    /// Opens the log for appending, cut to its first `good` bytes.
    fn open_log(&self, good: u64) -> io::Result<File> {
        let path = self.folder.join(KNOWN);
        if good == 0 {
            replace(&self.folder, KNOWN, &known_bytes(&[])?)?;
        }
        let file = OpenOptions::new().append(true).open(path)?;
        if good > 0 && file.metadata()?.len() != good {
            file.set_len(good)?;
            file.sync_all()?;
        }
        Ok(file)
    }
}

impl JournalStore for FileJournal {
    fn load(&self) -> io::Result<Loaded> {
        let mut loaded = Loaded::default();
        if let Some(bytes) = self.read(HELD)? {
            match parse_held(&bytes) {
                Ok(held) => loaded.held = held,
                Err(why) => loaded.set_aside.push(self.set_aside(HELD, &why)?),
            }
        }
        let mut state = self.state();
        let mut good = 0;
        if let Some(bytes) = self.read(KNOWN)? {
            let log = parse_known(&bytes);
            loaded.known = log.known;
            match log.damage {
                Some(why) => loaded.set_aside.push(self.set_aside(KNOWN, &why)?),
                None => good = log.good,
            }
        }
        let log = self.open_log(good)?;
        state.good = log.metadata()?.len();
        state.log = Some(log);
        state.lines = 0;
        drop(state);
        if good == 0 && !loaded.known.is_empty() {
            self.rewrite_known(&loaded.known)?;
        }
        Ok(loaded)
    }

    fn save_held(&self, version: u64, held: &[Held]) -> io::Result<()> {
        let mut state = self.state();
        if version <= state.version {
            return Ok(());
        }
        replace(&self.folder, HELD, &held_bytes(held)?)?;
        state.version = version;
        Ok(())
    }

    fn append_known(&self, changes: &[Change]) -> io::Result<usize> {
        let mut state = self.state();
        let mut bytes = Vec::new();
        for change in changes {
            line(&mut bytes, change)?;
        }
        let log = match state.log.take() {
            Some(log) => log,
            None => self.open_log(state.good)?,
        };
        let before = log.metadata()?.len();
        let written = (&log).write_all(&bytes).and_then(|()| log.sync_data());
        if let Err(e) = written {
            // A torn line in the middle would damage what follows it. If even this fails, the next write or start cuts.
            let cut = log.set_len(before);
            state.good = before;
            if cut.is_ok() {
                state.log = Some(log);
            }
            return Err(e);
        }
        state.good = log.metadata()?.len();
        state.log = Some(log);
        state.lines = state.lines.saturating_add(changes.len());
        Ok(state.lines)
    }

    fn rewrite_known(&self, known: &[Known]) -> io::Result<()> {
        let bytes = known_bytes(known)?;
        let mut state = self.state();
        replace(&self.folder, KNOWN, &bytes)?;
        // The former handle is of the file that was replaced, whatever comes of the next lines.
        state.log = None;
        state.good = u64::try_from(bytes.len()).map_err(io::Error::other)?;
        state.lines = 0;
        state.log = Some(self.open_log(state.good)?);
        Ok(())
    }
}

/// Temp, fsync, rename, fsync folder.
fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temp = folder.join(format!("{name}.new"));
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    rename(&temp, &folder.join(name))?;
    sync_folder(folder)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the crate's crash-safe write helper"
)]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
