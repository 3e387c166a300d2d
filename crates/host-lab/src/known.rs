//! The list of VMs, kept while labhv is bound to tell of every change.
//!
//! Somebody nearly always waits for labhv's generation to move on from the present one: the reconciler and whoever
//! listens for guests. A list that was read at that generation is what labhv would answer, until the wait returns; the
//! waiter drops the list before anybody else can act on the news. With no such wait under way the list is not used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vdvs_engine::ports::Vm;

#[derive(Debug, Default)]
struct State {
    /// Waits under way, by the generation they began with.
    waits: HashMap<u64, usize>,
    list: Option<(u64, Arc<Vec<Vm>>)>,
}

/// What labhv said last, if it still stands.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<State>);

/// A wait under way.
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    known: &'a Known,
    generation: u64,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut state = self.known.state();
        if let Some(count) = state.waits.get_mut(&self.generation) {
            *count -= 1;
            if *count == 0 {
                state.waits.remove(&self.generation);
            }
        }
    }
}

impl Known {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The list, while somebody waits for what makes it old.
    pub(crate) fn now(&self) -> Option<Arc<Vec<Vm>>> {
        let state = self.state();
        let (generation, vms) = state.list.as_ref()?;
        (state.waits.contains_key(generation)).then(|| Arc::clone(vms))
    }

    /// A list that was read after labhv said `generation`.
    pub(crate) fn learn(&self, generation: u64, vms: &Arc<Vec<Vm>>) {
        self.state().list = Some((generation, Arc::clone(vms)));
    }

    /// Something changed, or labhv does not answer.
    pub(crate) fn forget(&self) {
        self.state().list = None;
    }

    /// A wait for the end of `generation` begins.
    pub(crate) fn wait(&self, generation: u64) -> Wait<'_> {
        *self.state().waits.entry(generation).or_default() += 1;
        Wait {
            known: self,
            generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_used_only_while_somebody_waits_for_its_end() {
        let known = Known::default();
        known.learn(7, &Arc::default());
        assert!(known.now().is_none(), "nobody would hear of a change");
        let other = known.wait(6);
        assert!(
            known.now().is_none(),
            "that wait ends at once, for an older change"
        );
        let (first, second) = (known.wait(7), known.wait(7));
        assert!(known.now().is_some());
        drop((first, other));
        assert!(known.now().is_some());
        known.forget();
        assert!(known.now().is_none());
        known.learn(7, &Arc::default());
        drop(second);
        assert!(known.now().is_none());
    }
}
