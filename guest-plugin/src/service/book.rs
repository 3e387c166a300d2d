//! What the service knows, and every decision about it that needs no effect.
//!
//! Mutating code here does not wait; waiting code elsewhere does not mutate.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tracing::warn;
use vdvs_domain::{Epoch, Timestamp, VolumeAddress, VolumeId};

use super::job::Job;
use crate::agent::Volume;
use crate::clock::age;
use crate::journal::{Change, Count, Held, Known, MAX_IDS, MAX_KNOWN, Stage};

/// Live interest in a volume, and the job at work on it.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Mount requests whose callers are still there.
    pub(super) claims: usize,
    /// What is being done.
    pub(super) job: Option<Job>,
}

/// What an Unmount did to the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Uncounted {
    /// Nothing is counted under that ID: a late message about something that is over.
    Unknown,
    /// Somebody else still counts.
    StillUsed,
    /// That was the last one.
    LastGone,
    /// The last one of a volume that the host took away.
    LostGone,
}

/// The state of the service.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Grows with each change of `held`.
    pub(super) version: u64,
    /// Volumes in this guest.
    pub(super) held: BTreeMap<VolumeId, Held>,
    /// Volumes ever seen.
    pub(super) known: BTreeMap<VolumeId, Known>,
    /// Those of which the disk does not say the same: learnt or forgotten, and not written yet.
    unwritten: BTreeSet<VolumeId>,
    /// Volumes somebody works on.
    pub(super) work: HashMap<VolumeId, Work>,
    /// Said once that [`MAX_KNOWN`] is reached.
    full: bool,
    /// Answers of the host on their way that say what is attached here.
    awaited: usize,
    /// Attachments that ended meanwhile: such an answer may still show them.
    over: BTreeMap<VolumeId, Epoch>,
}

impl Book {
    /// Counts one Mount. False: too many IDs, nothing changed.
    pub(super) fn count(&mut self, volume: VolumeId, id: &str, now: Timestamp) -> bool {
        let Some(held) = self.held.get_mut(&volume) else {
            return false;
        };
        if held.counts.len() >= MAX_IDS && !held.counts.contains_key(id) {
            return false;
        }
        let count = held.counts.entry(id.to_owned()).or_insert(Count {
            count: 0,
            last: now,
        });
        count.count = count.count.saturating_add(1);
        count.last = now;
        self.changed();
        true
    }

    /// Takes one Mount back.
    pub(super) fn uncount(&mut self, volume: VolumeId, id: &str) -> Uncounted {
        let Some(held) = self.held.get_mut(&volume) else {
            return Uncounted::Unknown;
        };
        let Some(count) = held.counts.get_mut(id) else {
            return Uncounted::Unknown;
        };
        count.count = count.count.saturating_sub(1);
        if count.count == 0 {
            held.counts.remove(id);
        }
        let effect = match (held.counts.is_empty(), held.stage) {
            (false, _) => Uncounted::StillUsed,
            (true, Stage::Lost) => Uncounted::LostGone,
            (true, Stage::Mounted | Stage::Attached) => Uncounted::LastGone,
        };
        if effect == Uncounted::LostGone {
            self.held.remove(&volume);
        }
        self.changed();
        effect
    }

    /// Records a change of `held`.
    pub(super) fn changed(&mut self) {
        self.version = self.version.saturating_add(1);
    }

    /// Changes a held volume; false when it is not held.
    pub(super) fn update(&mut self, volume: VolumeId, change: impl FnOnce(&mut Held)) -> bool {
        let Some(held) = self.held.get_mut(&volume) else {
            return false;
        };
        change(held);
        self.changed();
        true
    }

    /// Forgets an attachment of which the host said that it is over.
    pub(super) fn left(&mut self, volume: VolumeId) {
        let Some(held) = self.held.remove(&volume) else {
            return;
        };
        if self.awaited > 0 {
            self.over.insert(volume, held.epoch);
        }
        self.changed();
    }

    /// The host is asked what is attached here. One `answered` for each.
    pub(super) fn asked(&mut self) {
        self.awaited = self.awaited.saturating_add(1);
    }

    /// Its answer is dealt with, or does not come.
    pub(super) fn answered(&mut self) {
        self.awaited = self.awaited.saturating_sub(1);
        if self.awaited == 0 {
            self.over.clear();
        }
    }

    /// Whether an attachment ended while an answer that shows it was on its way. Epochs only grow.
    pub(super) fn is_over(&self, volume: VolumeId, epoch: Epoch) -> bool {
        self.over.get(&volume).is_some_and(|over| epoch <= *over)
    }

    /// Nobody works on the volume and no Mount waits for it.
    pub(super) fn is_idle(&self, volume: VolumeId) -> bool {
        self.work
            .get(&volume)
            .is_none_or(|work| work.job.is_none() && work.claims == 0)
    }

    /// Mount requests of the volume under way.
    pub(super) fn claims(&self, volume: VolumeId) -> usize {
        self.work.get(&volume).map_or(0, |work| work.claims)
    }

    /// Whether the volume should leave this guest: it is here, and nobody wants or counts it.
    pub(super) fn is_unwanted(&self, volume: VolumeId) -> bool {
        self.is_idle(volume)
            && self
                .held
                .get(&volume)
                .is_some_and(|held| held.counts.is_empty() && held.stage != Stage::Lost)
    }

    /// Nothing is younger than now: a clock that was set back must not make counts believed for ever.
    pub(super) fn not_after(&mut self, now: Timestamp) {
        for held in self.held.values_mut() {
            held.since = held.since.min(now);
            for count in held.counts.values_mut() {
                count.last = count.last.min(now);
            }
        }
    }

    /// Volumes whose counts are old enough to be compared with reality: mounted ones, and those whose mount went
    /// without us.
    pub(super) fn due(&self, now: Timestamp, believe: Duration) -> Vec<VolumeId> {
        self.doubted(now, believe, |held| match held.stage {
            Stage::Mounted => true,
            Stage::Attached => !held.counts.is_empty(),
            Stage::Lost => false,
        })
    }

    /// Lost volumes whose counts are as old as that.
    pub(super) fn lost_due(&self, now: Timestamp, believe: Duration) -> Vec<VolumeId> {
        self.doubted(now, believe, |held| held.stage == Stage::Lost)
    }

    fn doubted(
        &self,
        now: Timestamp,
        believe: Duration,
        which: impl Fn(&Held) -> bool,
    ) -> Vec<VolumeId> {
        let believe = u64::try_from(believe.as_millis()).unwrap_or(u64::MAX);
        let old = |held: &Held| {
            age(held.since, now) >= believe
                && held
                    .counts
                    .values()
                    .all(|count| age(count.last, now) >= believe)
        };
        self.held
            .values()
            .filter(|held| which(held) && self.is_idle(held.volume) && old(held))
            .map(|held| held.volume)
            .collect()
    }

    /// Volumes that are counted as mounted and are not.
    pub(super) fn counted_unmounted(&self) -> Vec<VolumeId> {
        let counted = |held: &&Held| held.stage == Stage::Attached && !held.counts.is_empty();
        let counted = self.held.values().filter(counted);
        counted.map(|held| held.volume).collect()
    }

    /// Forgets volumes that were lost so long ago that no Unmount of theirs is expected; it would be acknowledged
    /// all the same.
    pub(super) fn forget_lost(&mut self, now: Timestamp, after: Duration) {
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        let before = self.held.len();
        self.held
            .retain(|_, held| held.stage != Stage::Lost || age(held.since, now) < after);
        if self.held.len() != before {
            self.changed();
        }
    }

    /// The held volume that a name means, if the name is one of ours.
    pub(super) fn held_named(&self, address: &VolumeAddress) -> Vec<VolumeId> {
        self.held
            .values()
            .filter(|held| VolumeAddress::parse(&held.name).is_ok_and(|full| means(address, &full)))
            .map(|held| held.volume)
            .collect()
    }

    /// The known volume that a name means. Several may bear a short name: the one it led to before, else the only
    /// one, else the oldest; in doubt the answer is the same for all of them, namely that it exists.
    pub(super) fn known_named(&self, address: &VolumeAddress) -> Option<&Known> {
        let mut found = self
            .known
            .values()
            .filter(|known| means(address, &known.volume.full_name()))
            .peekable();
        let first = *found.peek()?;
        if address.datastore.is_some() {
            return Some(first);
        }
        found.find(|known| known.short).or(Some(first))
    }

    /// All that is known under a full name: volumes that bore it one after the other.
    pub(super) fn known_as(&self, full: &VolumeAddress) -> Vec<VolumeId> {
        let known = self.known.values();
        let named = known.filter(|known| means(full, &known.volume.full_name()));
        named.map(|known| known.volume.id).collect()
    }

    /// Remembers what the agent told. Whether the disk does not say as much of it yet.
    pub(super) fn learn(
        &mut self,
        volumes: &[Volume],
        short: Option<VolumeId>,
        now: Timestamp,
    ) -> bool {
        for volume in volumes {
            let before = self.known.get(&volume.id);
            let entry = Known {
                volume: volume.clone(),
                short: short == Some(volume.id) || before.is_some_and(|known| known.short),
                seen: now,
            };
            if before.is_none() && self.known.len() >= MAX_KNOWN {
                if !self.full {
                    warn!(
                        "{MAX_KNOWN} volumes are known; further names cannot be answered while the agent is away"
                    );
                }
                self.full = true;
                continue;
            }
            if !before.is_some_and(|known| known.same_on_disk(&entry)) {
                self.unwritten.insert(volume.id);
            }
            self.known.insert(volume.id, entry);
        }
        volumes.iter().any(|v| self.unwritten.contains(&v.id))
    }

    /// Forgets volumes that are not held. Whether the disk still names one of them.
    pub(super) fn forget(&mut self, gone: &[VolumeId]) -> bool {
        for id in gone.iter().filter(|id| !self.held.contains_key(id)) {
            if self.known.remove(id).is_some() {
                self.unwritten.insert(*id);
            }
        }
        gone.iter().any(|id| self.unwritten.contains(id))
    }

    /// What has to be written for the disk to say what is known.
    pub(super) fn unwritten(&self) -> Vec<Change> {
        let change = |id: &VolumeId| match self.known.get(id) {
            Some(known) => Change::Put(Box::new(known.clone())),
            None => Change::Drop(*id),
        };
        self.unwritten.iter().map(change).collect()
    }

    /// The disk says this now; what has changed since is still to be written.
    pub(super) fn written(&mut self, changes: &[Change]) {
        for change in changes {
            let (id, still) = match change {
                Change::Put(put) => {
                    let id = put.volume.id;
                    let known = self.known.get(&id);
                    (id, known.is_some_and(|known| known.same_on_disk(put)))
                }
                Change::Drop(id) => (*id, !self.known.contains_key(id)),
            };
            if still {
                self.unwritten.remove(&id);
            }
        }
    }

    /// Known volumes last seen before `asked` that a complete list did not show.
    pub(super) fn missing_from(&self, listed: &[Volume], asked: Timestamp) -> Vec<VolumeId> {
        self.known
            .values()
            .filter(|known| known.seen < asked)
            .map(|known| known.volume.id)
            .filter(|id| !listed.iter().any(|volume| volume.id == *id))
            .collect()
    }
}

/// Whether `asked`, short or full, means the volume of this full name.
fn means(asked: &VolumeAddress, full: &VolumeAddress) -> bool {
    asked.name == full.name
        && match (&asked.datastore, &full.datastore) {
            (None, _) => true,
            (Some(asked), Some(has)) => asked.matches(has),
            (Some(_), None) => false,
        }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
