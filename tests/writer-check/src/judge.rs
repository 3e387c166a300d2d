//! What a row of looks at devices and files proves. Pure: no look is made here.
//!
//! ```text
//!   bound ──► live: writable, capacity > 0, its node lives ──┬─► fenced: capacity 0 ──────────────► gone
//!                                                            ├─► dead: its node ended ────────────► gone
//!                                                            └────────────────────────────────────► gone
//! ```
//! * Two live bindings of one file are two writers. A look takes time and is no snapshot, so a pair counts when two looks
//!   in a row saw both: all of the second was read after all of the first, so in between both were live at once.
//! * A binding nobody was shown yet is live only after [`GRACE`]: a host binds first and looks then whether it may.
//! * A fenced binding writes nothing. What had been accepted before the fence may still fail, or land behind the file's
//!   old end, which its counters show until [`SETTLE`] is over and nothing is under way.
//! * It may get its capacity back (a VM that was suspended is resumed), but not once another binding was live: then it is
//!   superseded for good.
//! * A dead node's binding may flush until another binding of the file is live, and not any more then.
//! * Without any binding that has capacity, a file stays as it is, [`SETTLE`] after the last one went. A change just before
//!   a new binding comes is the new one's doing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::nodes::{Node, Seen};
use crate::sysfs::{Binding, Loop};

/// Time for what was under way when a device was fenced or closed.
const SETTLE: Duration = Duration::from_secs(1);
/// The longest that a host waits for requests under way.
const DRAIN: Duration = Duration::from_secs(20);
/// How long a binding may exist that no node sees.
const GRACE: Duration = Duration::from_secs(1);
/// How long before a binding appears its file may change.
const BEFORE_BINDING: Duration = Duration::from_millis(1500);

/// One look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Look {
    /// When it began.
    pub(crate) at: Duration,
    pub(crate) loops: Vec<Loop>,
    /// Living nodes.
    pub(crate) nodes: Vec<Seen>,
    /// When known files last changed.
    pub(crate) changes: BTreeMap<PathBuf, Duration>,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) kind: &'static str,
    pub(crate) at: Duration,
    pub(crate) evidence: String,
}

/// What is known of a binding.
#[derive(Debug)]
struct Known {
    first: Duration,
    owners: BTreeSet<Node>,
    fenced: Option<Duration>,
    /// Another binding of the file was live after that.
    superseded: bool,
    /// It had capacity once: one that is just being made has none either.
    complete: bool,
    /// Sectors it may not exceed any more.
    limit: Option<u64>,
    reported: bool,
}

/// A file nobody has bound with capacity.
#[derive(Debug)]
struct Resting {
    since: Duration,
    change: Option<Duration>,
    /// It changed; when that was seen.
    suspect: Option<Duration>,
}

/// Remembers what earlier looks showed.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    bindings: BTreeMap<Binding, Known>,
    /// Files that had a live binding, and since when they have none.
    files: BTreeMap<PathBuf, Option<Resting>>,
    /// Pairs that were live in the look before.
    pairs: BTreeSet<(Binding, Binding)>,
    reported_pairs: BTreeSet<(Binding, Binding)>,
    counts: Counts,
}

/// For the summary.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) loops: usize,
    pub(crate) fenced: usize,
}

impl Judge {
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.keys()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// A pair is waiting for a second look, which should come at once.
    pub(crate) fn in_doubt(&self) -> bool {
        self.pairs.difference(&self.reported_pairs).next().is_some()
    }

    /// Takes a look into account.
    pub(crate) fn look(&mut self, look: &Look) -> Vec<Finding> {
        self.note(look);
        let mut found = self.two_writers(look);
        for device in &look.loops {
            found.extend(self.fenced(look, device));
            found.extend(self.dead(look, device));
        }
        found.extend(self.resting(look));
        let there: BTreeSet<Binding> = look.loops.iter().map(|device| device.binding).collect();
        self.bindings.retain(|binding, _| there.contains(binding));
        found
    }

    fn note(&mut self, look: &Look) {
        for device in &look.loops {
            let counts = &mut self.counts;
            let known = self.bindings.entry(device.binding).or_insert_with(|| {
                counts.loops += 1;
                Known {
                    first: look.at,
                    owners: BTreeSet::new(),
                    fenced: None,
                    superseded: false,
                    complete: false,
                    limit: None,
                    reported: false,
                }
            });
            let owners = look
                .nodes
                .iter()
                .filter(|seen| seen.devices.contains(&device.binding.number));
            known.owners.extend(owners.map(|seen| seen.node.clone()));
        }
        for device in &look.loops {
            if self.is_live(look, device) {
                self.files.entry(device.file.clone()).or_default();
            }
        }
    }

    fn is_live(&self, look: &Look, device: &Loop) -> bool {
        let Some(known) = self.bindings.get(&device.binding) else {
            return false;
        };
        let shown_to_living = look
            .nodes
            .iter()
            .any(|seen| known.owners.contains(&seen.node));
        let shown_to_nobody =
            known.owners.is_empty() && look.at.saturating_sub(known.first) >= GRACE;
        has_capacity(device) && (shown_to_living || shown_to_nobody)
    }

    fn two_writers(&mut self, look: &Look) -> Vec<Finding> {
        let live: Vec<&Loop> = look
            .loops
            .iter()
            .filter(|device| self.is_live(look, device))
            .collect();
        let mut pairs = BTreeSet::new();
        let mut found = Vec::new();
        for (at, one) in live.iter().enumerate() {
            for other in live
                .iter()
                .skip(at + 1)
                .filter(|other| other.file == one.file)
            {
                let pair = (one.binding, other.binding);
                pairs.insert(pair);
                if self.pairs.contains(&pair) && self.reported_pairs.insert(pair) {
                    let evidence = format!(
                        "{} is writable through {} and through {}",
                        one.file.display(),
                        self.describe(one),
                        self.describe(other)
                    );
                    found.push(Finding {
                        kind: "two-writers",
                        at: look.at,
                        evidence,
                    });
                }
            }
        }
        self.pairs = pairs;
        found
    }

    fn fenced(&mut self, look: &Look, device: &Loop) -> Option<Finding> {
        let what = self.describe(device);
        let heir = self.heir(look, device).is_some();
        let known = self.bindings.get_mut(&device.binding)?;
        known.complete |= device.size > 0;
        let Some(since) = known.fenced else {
            // One that is just being bound has no offset yet.
            if device.size == 0 && (known.complete || device.offset > 0) {
                known.fenced = Some(look.at);
                self.counts.fenced += 1;
            }
            return None;
        };
        let finding = |text: String| Finding {
            kind: "superseded-write",
            at: look.at,
            evidence: format!(
                "{what} of {} was fenced at {:.3} s and {text}",
                device.file.display(),
                since.as_secs_f64()
            ),
        };
        if device.size > 0 {
            if !known.superseded {
                known.fenced = None;
                known.limit = None;
                return None;
            }
            let first = !known.reported;
            known.reported = true;
            return first.then(|| finding("has its capacity back".to_owned()));
        }
        known.superseded |= heir;
        let age = look.at.saturating_sub(since);
        if age < SETTLE || (device.in_flight > 0 && age < DRAIN) {
            return None;
        }
        let limit = *known.limit.get_or_insert(device.written);
        (device.written > limit && !known.reported).then(|| {
            known.reported = true;
            finding(format!("wrote {} sectors since", device.written - limit))
        })
    }

    /// Another binding of the file that is live.
    fn heir<'a>(&self, look: &'a Look, device: &Loop) -> Option<&'a Loop> {
        look.loops.iter().find(|other| {
            other.file == device.file
                && other.binding != device.binding
                && self.is_live(look, other)
        })
    }

    fn dead(&mut self, look: &Look, device: &Loop) -> Option<Finding> {
        let known = self.bindings.get(&device.binding)?;
        let dead = has_capacity(device) && !known.owners.is_empty() && !self.is_live(look, device);
        let successor = self.heir(look, device);
        let (true, Some(successor)) = (dead, successor) else {
            return None;
        };
        let (what, heir) = (self.describe(device), self.describe(successor));
        let known = self.bindings.get_mut(&device.binding)?;
        let limit = *known.limit.get_or_insert(device.written);
        (device.written > limit && !known.reported).then(|| {
            known.reported = true;
            Finding {
                kind: "superseded-write",
                at: look.at,
                evidence: format!(
                    "{what} of {} wrote {} sectors after {heir} had taken over",
                    device.file.display(),
                    device.written - limit
                ),
            }
        })
    }

    fn resting(&mut self, look: &Look) -> Vec<Finding> {
        let mut found = Vec::new();
        self.files.retain(|file, resting| {
            let bound = look
                .loops
                .iter()
                .any(|device| device.file == *file && has_capacity(device));
            if bound {
                *resting = None;
                return true;
            }
            let Some(resting) = resting else {
                *resting = Some(Resting {
                    since: look.at,
                    change: None,
                    suspect: None,
                });
                return true;
            };
            // Removed: it is nobody's disk any more.
            let Some(change) = look.changes.get(file) else {
                return false;
            };
            if look.at.saturating_sub(resting.since) < SETTLE {
                return true;
            }
            let before = *resting.change.get_or_insert(*change);
            if before == *change {
                return true;
            }
            let suspect = *resting.suspect.get_or_insert(look.at);
            if look.at.saturating_sub(suspect) >= BEFORE_BINDING {
                found.push(Finding {
                    kind: "superseded-write",
                    at: suspect,
                    evidence: format!(
                        "{} changed although no device with capacity is bound to it since {:.3} s",
                        file.display(),
                        resting.since.as_secs_f64()
                    ),
                });
                resting.change = Some(*change);
                resting.suspect = None;
            }
            true
        });
        found
    }

    fn describe(&self, device: &Loop) -> String {
        let owners = self
            .bindings
            .get(&device.binding)
            .map(|known| &known.owners);
        let owners: Vec<String> = owners
            .into_iter()
            .flatten()
            .map(|node| format!("{} pid {}", node.name, node.pid))
            .collect();
        let owners = if owners.is_empty() {
            "no node".to_owned()
        } else {
            owners.join(", ")
        };
        format!(
            "loop{} (binding {}, in {owners}, {} sectors, offset {}, limit {}, written {}{})",
            device.binding.number,
            device.binding.generation,
            device.size,
            device.offset,
            device.size_limit,
            device.written,
            if device.autoclear { ", closing" } else { "" }
        )
    }
}

fn has_capacity(device: &Loop) -> bool {
    !device.read_only && device.size > 0
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
