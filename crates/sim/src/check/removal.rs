//! Removals that are under way.
//!
//! A removal that was asked for takes its effect at some time until it is over: while its asker may still send it, and
//! while any agent that lives runs it. Whoever finds the volume there meanwhile has not brought it back; who finds it
//! there afterwards may rely on it.

use std::sync::{Arc, Mutex, PoisonError};

use super::state::{Asked, State, split};

/// One that is under way, until it and all its copies are dropped: an asker has one, and each request that an agent has.
#[must_use]
#[derive(Debug)]
pub struct Removal {
    state: Arc<Mutex<State>>,
    volume: String,
}

/// What is known of the removals of a name.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Removals {
    under_way: u64,
    /// As how many removals had ended when the last of them did.
    ended: u64,
}

impl Removal {
    /// Under way from now on.
    pub(super) fn begun(state: Arc<Mutex<State>>, volume: &str) -> Self {
        let volume = split(volume).0.to_owned();
        let mut known = state.lock().unwrap_or_else(PoisonError::into_inner);
        known.removals.entry(volume.clone()).or_default().under_way += 1;
        drop(known);
        Self { state, volume }
    }
}

impl Clone for Removal {
    fn clone(&self) -> Self {
        Self::begun(Arc::clone(&self.state), &self.volume)
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.removals_ended += 1;
        let ended = state.removals_ended;
        if let Some(it) = state.removals.get_mut(&self.volume) {
            it.under_way = it.under_way.saturating_sub(1);
            it.ended = ended;
        }
    }
}

impl State {
    /// Whether a removal of this name was under way at any moment since somebody asked.
    pub(crate) fn removal_since(&self, short: &str, asked: Asked) -> bool {
        let it = self.removals.get(short);
        it.is_some_and(|it| it.under_way > 0 || it.ended > asked.removals)
    }
}
