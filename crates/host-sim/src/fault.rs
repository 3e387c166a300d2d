//! What can go wrong at a call.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Which part of a call's effect happens before things go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum When {
    /// Nothing.
    Before,
    /// A write leaves half its bytes, a disk is left half-made; any other call takes its effect.
    Half,
    /// All of it.
    After,
}

/// What goes wrong at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The agent dies. Neither this call nor any later one of its session returns.
    Crash(When),
    /// The call fails and says so; it had no effect.
    Fail,
    /// No answer. The effect took place or did not.
    NoAnswer(When),
    /// The call takes so long before it has its effect.
    Slow(Duration),
    /// No answer, and the host goes on: a change of a VM's disks takes its effect so long after everybody stopped
    /// waiting, whether or not the agent lives. Any other call has no effect.
    Late(Duration),
    /// The effect takes place twice, as when a request is repeated below the agent; the answer is the second one.
    Twice,
}

/// A call to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Called {
    /// The port's verb.
    pub verb: &'static str,
    /// It can stop in the middle ([`When::Half`] is a case of its own).
    pub divisible: bool,
    /// When it had its effect, or was found to have none.
    pub at: Instant,
    /// Something that survives an agent was different afterwards.
    pub changed: bool,
}

impl Called {
    /// Verbs whose effect can be cut in the middle.
    const DIVISIBLE: [&str; 4] = ["write", "create_disk", "clone_disk", "delete_disk"];

    pub(crate) fn of(verb: &'static str) -> Self {
        Self {
            verb,
            divisible: Self::DIVISIBLE.contains(&verb),
            at: Instant::now(),
            changed: false,
        }
    }
}

/// The faults of one session, by number of call, counted from 1.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    planned: BTreeMap<u64, Fault>,
    /// What goes wrong with the next call of a verb.
    aimed: Vec<(&'static str, Fault)>,
    /// What goes wrong with every call that nothing else is planned for.
    pub(crate) always: Option<Fault>,
    /// The calls since somebody wanted to know them.
    pub(crate) traced: Option<Vec<Called>>,
    pub(crate) calls: u64,
    pub(crate) crashed: bool,
}

impl Faults {
    pub(crate) fn plan(&mut self, call: u64, fault: Fault) {
        self.planned.insert(call, fault);
    }

    pub(crate) fn aim(&mut self, verb: &'static str, fault: Fault) {
        self.aimed.push((verb, fault));
    }

    pub(crate) fn forget(&mut self) {
        self.planned.clear();
        self.aimed.clear();
        self.always = None;
    }

    /// Counts a call and says what goes wrong with it.
    pub(crate) fn next(&mut self, verb: &'static str) -> Option<Fault> {
        self.calls += 1;
        if let Some(traced) = &mut self.traced {
            traced.push(Called::of(verb));
        }
        let aimed = self.aimed.iter().position(|(at, _)| *at == verb);
        let aimed = aimed.map(|at| self.aimed.remove(at).1);
        aimed
            .or_else(|| self.planned.remove(&self.calls))
            .or(self.always)
    }
}
