//! What the guests were told, which must stay true: volumes that exist, lines that are flushed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Kept at about this number.
pub(crate) const VOLUMES: usize = 200;

/// A volume as its users know it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Volume {
    /// The highest line that was acknowledged.
    pub(crate) acknowledged: u64,
    /// Somebody removes it, or was not told whether it is removed: nobody else uses it, nothing is promised of it.
    pub(crate) leaving: bool,
    /// Nobody has the removal in hand any more, and how it ended is not known.
    pub(crate) in_doubt: bool,
}

/// Shared by all guests.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    volumes: BTreeMap<String, Volume>,
    /// Whether they were made was not told.
    unsure: Vec<String>,
    made: u64,
    tally: BTreeMap<String, u64>,
    longest_healing: Duration,
}

impl Known {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.state().volumes.len()
    }

    /// All names.
    pub(crate) fn names(&self) -> Vec<String> {
        self.state().volumes.keys().cloned().collect()
    }

    /// Names that are in nobody's way.
    pub(crate) fn usable(&self) -> Vec<String> {
        let state = self.state();
        let there = state.volumes.iter().filter(|(_, volume)| !volume.leaving);
        there.map(|(name, _)| name.clone()).collect()
    }

    /// A name that was never used.
    pub(crate) fn fresh(&self) -> String {
        let mut state = self.state();
        state.made += 1;
        format!("soak-{:05}", state.made)
    }

    /// It was acknowledged to be there.
    pub(crate) fn created(&self, name: &str) {
        let mut state = self.state();
        state.volumes.insert(name.to_owned(), Volume::default());
    }

    /// Whether it was made was not told, and it may still be under way.
    pub(crate) fn unsure(&self, name: &str) {
        self.state().unsure.push(name.to_owned());
    }

    /// All that may have been made and were not acknowledged.
    pub(crate) fn unsure_names(&self) -> Vec<String> {
        self.state().unsure.clone()
    }

    /// Claims a volume for removal. False: somebody else did.
    pub(crate) fn leaving(&self, name: &str) -> bool {
        let mut state = self.state();
        match state.volumes.get_mut(name) {
            Some(volume) if !volume.leaving => {
                volume.leaving = true;
                true
            }
            _ => false,
        }
    }

    /// It was refused: it is there as before.
    pub(crate) fn stays(&self, name: &str) {
        if let Some(volume) = self.state().volumes.get_mut(name) {
            volume.leaving = false;
        }
    }

    /// Whether it is gone was not told.
    pub(crate) fn in_doubt(&self, name: &str) {
        if let Some(volume) = self.state().volumes.get_mut(name) {
            volume.in_doubt = true;
        }
    }

    /// A volume whose removal ended in doubt, to be asked for again by whoever takes it.
    pub(crate) fn take_doubt(&self) -> Option<String> {
        let mut state = self.state();
        let (name, volume) = state.volumes.iter_mut().find(|(_, v)| v.in_doubt)?;
        volume.in_doubt = false;
        Some(name.clone())
    }

    /// It was acknowledged to be gone.
    pub(crate) fn removed(&self, name: &str) {
        self.state().volumes.remove(name);
    }

    /// What is promised of a volume; none: nothing.
    pub(crate) fn promised(&self, name: &str) -> Option<Volume> {
        let state = self.state();
        state.volumes.get(name).filter(|v| !v.leaving).cloned()
    }

    /// A line was acknowledged.
    pub(crate) fn acknowledged(&self, name: &str, line: u64) {
        if let Some(volume) = self.state().volumes.get_mut(name) {
            volume.acknowledged = volume.acknowledged.max(line);
        }
    }

    /// One more of these happened.
    pub(crate) fn count_one(&self, what: &str) {
        *self.state().tally.entry(what.to_owned()).or_default() += 1;
    }

    /// How long the last healing took.
    pub(crate) fn healed(&self, took: Duration) {
        let mut state = self.state();
        state.longest_healing = state.longest_healing.max(took);
    }

    /// Prints what was done, and what was killed.
    pub(crate) fn print(&self) {
        let state = self.state();
        for (what, times) in &state.tally {
            eprintln!("figure: {what}: {times}");
        }
        let lines: u64 = state.volumes.values().map(|v| v.acknowledged).sum();
        eprintln!("figure: lines acknowledged in the volumes that are there: {lines}");
        eprintln!("figure: longest healing: {:.1?}", state.longest_healing);
    }
}
