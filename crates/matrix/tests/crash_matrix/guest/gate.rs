//! The gate of a plugin's ports: it counts the calls to the journal, the devices and the agent, and lets something go
//! wrong at one of them. What stands behind it survives.

use std::fmt;
use std::fs;
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use vdvs_plugin::journal::{Change, FileJournal, Held, JournalStore, Known, Loaded};

/// What goes wrong at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The plugin dies before the call's effect.
    DiesBefore,
    /// A file of the journal is written in half.
    DiesTorn,
    /// A file of the journal is written, and has not taken the place of the old one yet.
    DiesBeforeRename,
    /// It dies after the effect.
    DiesAfter,
    /// The effect takes place twice; the answer is the second one.
    Twice,
}

/// A call to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) verb: &'static str,
    pub(crate) port: Port,
    /// It replaced a file, or added to one.
    pub(crate) writes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    Journal,
    Devices,
    Agent,
}

#[derive(Debug, Default)]
struct State {
    calls: u64,
    planned: Option<(u64, Wrong)>,
    always: bool,
    traced: Vec<Call>,
}

/// One life of a plugin.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    died: watch::Sender<bool>,
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            died: watch::Sender::new(false),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At the call that comes after `later` others from now.
    pub(crate) fn plan(&self, later: u64, wrong: Wrong) {
        let mut state = self.state();
        state.planned = Some((state.calls + later, wrong));
    }

    /// Every call of journal and devices takes its effect twice from now on, or none does.
    pub(crate) fn twice(&self, always: bool) {
        self.state().always = always;
    }

    pub(crate) fn begin_trace(&self) {
        self.state().traced.clear();
    }

    pub(crate) fn end_trace(&self) -> Vec<Call> {
        self.state().traced.drain(..).collect()
    }

    pub(crate) fn kill(&self) {
        self.died.send_replace(true);
    }

    pub(crate) fn is_dead(&self) -> bool {
        *self.died.borrow()
    }

    pub(crate) async fn died(&self) {
        drop(self.died.subscribe().wait_for(|died| *died).await);
    }

    /// Counts a call and says what goes wrong with it.
    fn next(&self, verb: &'static str, port: Port) -> Option<Wrong> {
        let mut state = self.state();
        let at = state.calls;
        state.calls += 1;
        state.traced.push(Call {
            verb,
            port,
            writes: false,
        });
        match state.planned {
            Some((planned, wrong)) if planned == at => Some(wrong),
            _ if state.always && port != Port::Agent => Some(Wrong::Twice),
            _ => None,
        }
    }

    /// One call of a port that waits.
    pub(crate) async fn call<T, F>(
        &self,
        verb: &'static str,
        port: Port,
        effect: impl Fn() -> F,
    ) -> T
    where
        F: Future<Output = T>,
    {
        if self.is_dead() {
            return pending().await;
        }
        match self.next(verb, port) {
            None => {
                let done = effect().await;
                // It died meanwhile.
                match self.is_dead() {
                    true => pending().await,
                    false => done,
                }
            }
            Some(Wrong::Twice) => {
                drop(effect().await);
                effect().await
            }
            Some(Wrong::DiesBefore) => {
                self.kill();
                pending().await
            }
            Some(Wrong::DiesTorn | Wrong::DiesBeforeRename | Wrong::DiesAfter) => {
                drop(effect().await);
                self.kill();
                pending().await
            }
        }
    }
}

/// The real journal behind a gate.
pub(crate) struct GatedJournal {
    gate: Arc<Gate>,
    folder: PathBuf,
    /// None: its process is dead, and the folder's lock is free.
    journal: Mutex<Option<FileJournal>>,
}

impl fmt::Debug for GatedJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatedJournal").finish_non_exhaustive()
    }
}

type Files = Vec<(PathBuf, Vec<u8>)>;

fn files(folder: &Path) -> io::Result<Files> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let bytes = fs::read(&path)?;
        all.push((path, bytes));
    }
    all.sort();
    Ok(all)
}

/// The file as it was, if it was there.
fn was<'a>(before: &'a Files, path: &Path) -> Option<&'a [u8]> {
    let found = before.iter().find(|(p, _)| p == path);
    found.map(|(_, bytes)| bytes.as_slice())
}

impl GatedJournal {
    pub(crate) fn open(gate: &Arc<Gate>, folder: &Path) -> io::Result<Self> {
        Ok(Self {
            gate: Arc::clone(gate),
            folder: folder.to_owned(),
            journal: Mutex::new(Some(FileJournal::open(folder)?)),
        })
    }

    /// The process ended.
    pub(crate) fn close(&self) {
        drop(
            self.journal
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }

    /// One call. What a death in its middle leaves follows from what the whole call changed: a file that grew may have
    /// grown by half, a file that was replaced is the old one still, with half of the new one or all of it beside it.
    fn call<T>(
        &self,
        verb: &'static str,
        effect: impl Fn(&FileJournal) -> io::Result<T>,
    ) -> io::Result<T> {
        let dead = || io::Error::other("the plugin is dead");
        if self.gate.is_dead() {
            return Err(dead());
        }
        let wrong = self.gate.next(verb, Port::Journal);
        if wrong == Some(Wrong::DiesBefore) {
            self.gate.kill();
            return Err(dead());
        }
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(journal) = journal.as_ref() else {
            return Err(dead());
        };
        let before = files(&self.folder)?;
        let done = effect(journal);
        let after = files(&self.folder)?;
        let changed: Vec<_> = after
            .iter()
            .filter(|(path, bytes)| was(&before, path) != Some(bytes.as_slice()))
            .collect();
        if let Some(call) = self.gate.state().traced.last_mut() {
            call.writes = !changed.is_empty();
        }
        match wrong {
            None => return done,
            Some(Wrong::Twice) => return effect(journal),
            Some(Wrong::DiesBefore | Wrong::DiesAfter) => {}
            Some(wrong) => {
                for (path, bytes) in changed {
                    tear(&before, path, bytes, wrong)?;
                }
            }
        }
        self.gate.kill();
        Err(dead())
    }
}

fn tear(before: &Files, path: &Path, bytes: &[u8], wrong: Wrong) -> io::Result<()> {
    let old = was(before, path);
    if let Some(grown) = old.and_then(|old| bytes.strip_prefix(old)) {
        let kept = bytes.len() - grown.len() / 2 - 1;
        return fs::write(path, &bytes[..kept]);
    }
    match old {
        Some(old) => fs::write(path, old)?,
        None => fs::remove_file(path)?,
    }
    let half = match wrong {
        Wrong::DiesTorn => bytes.len() / 2,
        _ => bytes.len(),
    };
    fs::write(path.with_extension("new"), &bytes[..half])
}

impl JournalStore for GatedJournal {
    fn may_block(&self) -> bool {
        false
    }

    fn load(&self) -> io::Result<Loaded> {
        self.call("load", FileJournal::load)
    }

    fn save_held(&self, version: u64, held: &[Held]) -> io::Result<()> {
        self.call("save_held", |j| j.save_held(version, held))
    }

    fn append_known(&self, changes: &[Change]) -> io::Result<usize> {
        self.call("append_known", |j| j.append_known(changes))
    }

    fn rewrite_known(&self, known: &[Known]) -> io::Result<()> {
        self.call("rewrite_known", |j| j.rewrite_known(known))
    }
}
