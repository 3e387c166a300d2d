//! The plugin's journal on the guest's own disk: the real bytes, on a disk that can be full, that a power cut tears, and
//! that goes back with the machine to a snapshot.
//!
//! Every write of the real store is durable when it returns, so between calls there is nothing to lose. What can be cut
//! is a call: then the file that is replaced is the old or the new one, and the log has any part of its new lines. The
//! process that made the call ends there.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vdvs_plugin::journal::format::{held_bytes, known_bytes, line, parse_held, parse_known};
use vdvs_plugin::journal::{Change, Held, JournalStore, Known, Loaded};

use super::kernel::ENOSPC;
use super::life::Life;
use crate::schedule::Dice;

/// What goes wrong with the guest's own disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalFault {
    /// It is full, or has room again.
    Full(bool),
    /// The plugin dies in the middle of the write that comes after so many others.
    Tear(u64),
    /// The file of what is held is damaged, as by a bad sector.
    Damage,
}

/// The journal's files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    held: Option<Vec<u8>>,
    known: Vec<u8>,
}

/// A guest's own disk. Cloning gives the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct RootDisk(Arc<Mutex<Root>>);

#[derive(Debug, Default)]
struct Root {
    files: Files,
    full: bool,
    /// How often it has been.
    fulls: u64,
    /// Writes until one is torn.
    tear: Option<u64>,
    writes: u64,
}

impl RootDisk {
    fn root(&self) -> MutexGuard<'_, Root> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fault(&self, fault: JournalFault) {
        let mut root = self.root();
        match fault {
            JournalFault::Full(full) => {
                root.full = full;
                root.fulls += u64::from(full);
            }
            JournalFault::Tear(after) => root.tear = Some(after),
            JournalFault::Damage => {
                if let Some(last) = root.files.held.as_mut().and_then(|held| held.last_mut()) {
                    *last ^= 0x55;
                }
            }
        }
    }

    pub(crate) fn mend(&self) {
        let mut root = self.root();
        root.full = false;
        root.tear = None;
    }

    /// Whether it has room, and after how many times without: twice the same is room all the while.
    pub(crate) fn room(&self) -> Option<u64> {
        let root = self.root();
        (!root.full).then_some(root.fulls)
    }

    /// Writes made so far.
    pub(crate) fn writes(&self) -> u64 {
        self.root().writes
    }

    pub(crate) fn copy(&self) -> Files {
        self.root().files.clone()
    }

    pub(crate) fn restore(&self, files: &Files) {
        self.root().files.clone_from(files);
    }
}

/// How much of a write takes place.
enum Part {
    All,
    /// The process ends in it; what of it is on the disk was drawn.
    Cut(u64),
}

/// One plugin process's journal.
#[derive(Debug)]
pub(crate) struct SimJournal {
    disk: RootDisk,
    life: Life,
    dice: Arc<Mutex<Dice>>,
    state: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    version: u64,
    lines: usize,
}

impl SimJournal {
    pub(crate) fn new(disk: RootDisk, life: Life, dice: Arc<Mutex<Dice>>) -> Self {
        Self {
            disk,
            life,
            dice,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Written> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a write; the dead write nothing.
    fn begin(&self) -> io::Result<Part> {
        if self.life.is_over() {
            return Err(io::Error::other("the process has ended"));
        }
        let mut root = self.disk.root();
        if root.full {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        root.writes += 1;
        match root.tear {
            Some(0) => {
                root.tear = None;
                drop(root);
                self.life.end();
                let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(Part::Cut(dice.any()))
            }
            left => {
                root.tear = left.map(|left| left - 1);
                Ok(Part::All)
            }
        }
    }

    fn cut() -> io::Error {
        io::Error::other("the process ended in the middle of it")
    }
}

impl JournalStore for SimJournal {
    fn may_block(&self) -> bool {
        false
    }

    fn load(&self) -> io::Result<Loaded> {
        let mut loaded = Loaded::default();
        let mut root = self.disk.root();
        if let Some(bytes) = &root.files.held {
            match parse_held(bytes) {
                Ok(held) => loaded.held = held,
                Err(why) => {
                    loaded.set_aside.push(format!("held: {why}"));
                    root.files.held = None;
                }
            }
        }
        if root.files.known.is_empty() {
            root.files.known = known_bytes(&[])?;
        }
        let log = parse_known(&root.files.known);
        loaded.known = log.known;
        match log.damage {
            Some(why) => {
                loaded.set_aside.push(format!("known: {why}"));
                root.files.known = known_bytes(&loaded.known)?;
            }
            None => {
                let good = usize::try_from(log.good).unwrap_or(usize::MAX);
                root.files.known.truncate(good);
            }
        }
        Ok(loaded)
    }

    fn save_held(&self, version: u64, held: &[Held]) -> io::Result<()> {
        let mut state = self.state();
        if version <= state.version {
            return Ok(());
        }
        let bytes = held_bytes(held)?;
        match self.begin()? {
            Part::All => self.disk.root().files.held = Some(bytes),
            // Renamed, or not yet.
            Part::Cut(luck) => {
                if luck.is_multiple_of(2) {
                    self.disk.root().files.held = Some(bytes);
                }
                return Err(Self::cut());
            }
        }
        state.version = version;
        Ok(())
    }

    fn append_known(&self, changes: &[Change]) -> io::Result<usize> {
        let mut state = self.state();
        let mut bytes = Vec::new();
        for change in changes {
            line(&mut bytes, change)?;
        }
        match self.begin()? {
            Part::All => self.disk.root().files.known.extend(bytes),
            Part::Cut(luck) => {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                let reached = usize::try_from(luck % (length + 1)).unwrap_or(0);
                let reached = bytes.into_iter().take(reached);
                self.disk.root().files.known.extend(reached);
                return Err(Self::cut());
            }
        }
        state.lines = state.lines.saturating_add(changes.len());
        Ok(state.lines)
    }

    fn rewrite_known(&self, known: &[Known]) -> io::Result<()> {
        let bytes = known_bytes(known)?;
        match self.begin()? {
            Part::All => self.disk.root().files.known = bytes,
            Part::Cut(luck) => {
                if luck.is_multiple_of(2) {
                    self.disk.root().files.known = bytes;
                }
                return Err(Self::cut());
            }
        }
        self.state().lines = 0;
        Ok(())
    }
}
