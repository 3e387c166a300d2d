//! The ledger of a vmgroup on a datastore: which volume takes how many bytes of its total.
//!
//! ```text
//!   enter ─► queue ─► whoever holds the key writes for all ─┬─ Done
//!                                                           ├─ Incomplete ─► count what is there (see `ledger_sift`) ─► again
//!                                                           └─ Full ─► sift: was that garbage, or on its way out? ─► again, or refuse
//! ```
//! * One file per vmgroup and real datastore, changed by *swap*: of all creators on all hosts each sees the sum that
//!   the one before it wrote, so the total is exact to the byte.
//! * A record comes before its entry, and goes after it. So an entry without a record is garbage, and whoever finds it
//!   may remove it; a volume without an entry is added, whatever the limit: it is there.
//! * **A limit is not asked of a ledger that never counted what is there**: volumes of the original, volumes from
//!   before there was a ledger. The mark `complete` says that this was done once.
//! * **A refusal is checked before it is said** (docs/adr/0063).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::mem;
use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::sleep;
use vdvs_domain::{DatastoreName, Error, GroupId, VolumeId};

use crate::inner::{Inner, locked, unavailable};
use crate::keyed::Key;
use crate::layout::{self, Place};
use crate::ledger_sift::Sifts;
use crate::swap::Swapped;
use crate::swap::frame::{self, Kind};

/// A change is tried again for so long because another host was first. Each time somebody else succeeded; a host that
/// is slower than the others may lose many times.
const PATIENCE: Duration = Duration::from_secs(20);
/// Losing so often in a row, a host lets some time pass, a little more each time.
const PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// How long a request waits for room that volumes hold which are being made or removed.
const FOR_ROOM: Duration = Duration::from_secs(5);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);

/// A vmgroup's volumes on one datastore.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// Bytes by volume.
    pub(crate) entries: BTreeMap<VolumeId, u64>,
    /// What was there without an entry has been counted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) complete: bool,
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

/// A change to a ledger. Each may be made twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A volume takes so many bytes, if the total allows it.
    Add {
        volume: VolumeId,
        bytes: u64,
        limit: Option<u64>,
    },
    /// A volume takes nothing any more.
    Remove { volume: VolumeId },
    /// All that was there is counted.
    Counted,
}

/// What came of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entered {
    /// It is so now.
    Done,
    /// The limit cannot be asked of this ledger yet.
    Incomplete,
    /// The total would be exceeded.
    Full { used: u64 },
}

struct Pending {
    entries: Vec<Entry>,
    reply: oneshot::Sender<Result<Entered, Error>>,
}

/// A vmgroup on a real datastore.
pub(crate) type At = (DatastoreName, GroupId);

/// Changes that wait for the one who writes, and what was last found out about ledgers.
#[derive(Default)]
pub(crate) struct Combiner {
    queues: Mutex<HashMap<At, Vec<Pending>>>,
    pub(crate) sifts: Sifts,
}

impl fmt::Debug for Combiner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Combiner")
            .field(&locked(&self.queues).len())
            .finish()
    }
}

impl Ledger {
    /// The sum of all entries.
    pub(crate) fn used(&self) -> u64 {
        let bytes = self.entries.values();
        bytes.fold(0u64, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// What the volume at a place takes.
    pub(crate) fn bytes_of(&self, place: &Place) -> u64 {
        let mut entries = self.entries.iter();
        let its = entries.find(|(id, _)| id.id8() == place.id8);
        its.map_or(0, |(_, bytes)| *bytes)
    }

    /// Makes one change; with it whether anything is different now.
    pub(crate) fn apply(&mut self, entry: Entry) -> (Entered, bool) {
        let changed = match entry {
            Entry::Remove { volume } => self.entries.remove(&volume).is_some(),
            Entry::Counted => !mem::replace(&mut self.complete, true),
            Entry::Add { volume, .. } if self.entries.contains_key(&volume) => false,
            Entry::Add { limit: Some(_), .. } if !self.complete => {
                return (Entered::Incomplete, false);
            }
            Entry::Add {
                volume,
                bytes,
                limit,
            } => {
                let used = self.used();
                if limit.is_some_and(|limit| used.saturating_add(bytes) > limit) {
                    return (Entered::Full { used }, false);
                }
                self.entries.insert(volume, bytes);
                true
            }
        };
        (Entered::Done, changed)
    }

    /// Makes changes in their order, up to the first that cannot be.
    fn apply_all(&mut self, entries: &[Entry]) -> (Entered, bool) {
        let mut any = false;
        for entry in entries {
            let (entered, changed) = self.apply(*entry);
            any |= changed;
            if entered != Entered::Done {
                return (entered, any);
            }
        }
        (Entered::Done, any)
    }
}

impl Inner {
    /// Makes one change. With a limit: it is refused only after the ledger was compared with what is there, and nothing
    /// in it was garbage, nor on its way out.
    pub(crate) async fn enter(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        entry: Entry,
    ) -> Result<(), Error> {
        let at = (ds.clone(), group);
        let begun = self.instant();
        loop {
            let asked = self.instant();
            match self.try_enter(&at, vec![entry]).await? {
                Entered::Done => return Ok(()),
                Entered::Incomplete => {
                    Box::pin(self.sift(&at, asked)).await?;
                    continue;
                }
                Entered::Full { .. } => {}
            }
            let Entry::Add {
                bytes,
                limit: Some(limit),
                ..
            } = entry
            else {
                return Err(Error::Internal(
                    "a ledger without limit was full".to_owned(),
                ));
            };
            let found = Box::pin(self.sift(&at, asked)).await?;
            let fits = |used: u64| used.saturating_add(bytes) <= limit;
            let is_late = self.instant().saturating_duration_since(begun) >= FOR_ROOM;
            match () {
                // There was garbage, or somebody gave room back.
                () if fits(found.used) => {}
                () if fits(found.settled) && !is_late => sleep(LOOK).await,
                () => {
                    return Err(Error::QuotaExceeded {
                        used: found.used,
                        limit,
                        asked: bytes,
                    });
                }
            }
        }
    }

    /// Refuses what has no room for certain, before anything is written.
    pub(crate) async fn has_room(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        bytes: u64,
        limit: Option<u64>,
    ) -> Result<(), Error> {
        let Some(limit) = limit else { return Ok(()) };
        let asked_at = self.instant();
        let ledger = self.ledger(ds, group).await?;
        if ledger.complete && ledger.used().saturating_add(bytes) <= limit {
            return Ok(());
        }
        let found = Box::pin(self.sift(&(ds.clone(), group), asked_at)).await?;
        if found.settled.saturating_add(bytes) <= limit {
            return Ok(());
        }
        Err(Error::QuotaExceeded {
            used: found.used,
            limit,
            asked: bytes,
        })
    }

    /// Makes changes in one go, together with all that are waiting.
    pub(crate) async fn try_enter(&self, at: &At, entries: Vec<Entry>) -> Result<Entered, Error> {
        let (ds, group) = at;
        let (reply, mut answer) = oneshot::channel();
        locked(&self.ledgers.queues)
            .entry(at.clone())
            .or_default()
            .push(Pending { entries, reply });
        let key = Key::Ledger(ds.clone(), *group);
        let _key = self.keys.hold(key, "ledger").await;
        // Whoever held the key before may have written this change along with its own.
        if let Ok(done) = answer.try_recv() {
            return done;
        }
        let batch = locked(&self.ledgers.queues).remove(at).unwrap_or_default();
        let (batch, replies): (Vec<Vec<Entry>>, Vec<_>) =
            batch.into_iter().map(|p| (p.entries, p.reply)).unzip();
        let results = self.change_ledger(ds, *group, &batch).await;
        for (at, reply) in replies.into_iter().enumerate() {
            let result = match &results {
                Ok(results) => Ok(results.get(at).copied().unwrap_or(Entered::Done)),
                Err(why) => Err(why.clone()),
            };
            // A requester that is gone leaves a change that its volume's record explains.
            drop(reply.send(result));
        }
        // Missing only when another holder of the key died with this change in its hands.
        answer
            .try_recv()
            .unwrap_or_else(|_| Err(Error::Internal("a ledger change got no answer".to_owned())))
    }

    async fn change_ledger(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        batch: &[Vec<Entry>],
    ) -> Result<Vec<Entered>, Error> {
        let file = layout::ledger(ds, group);
        let store = &*self.ports.datastores;
        let failed = |why| unavailable(ds, &why);
        let (mut unsettled, mut pause, mut failed_with) = (false, PAUSE, None);
        let begun = self.instant();
        while self.instant().saturating_duration_since(begun) < PATIENCE {
            let seen = file.read(store).await.map_err(failed)?;
            let mut ledger = Self::ledger_in(ds, group, seen.bytes.as_deref())?;
            let mut changed = unsettled;
            let results: Vec<_> = batch
                .iter()
                .map(|entries| {
                    let (entered, any) = ledger.apply_all(entries);
                    changed |= any;
                    entered
                })
                .collect();
            if !changed {
                return Ok(results);
            }
            let bytes = frame::encode(Kind::Ledger, &ledger)?;
            match file.swap(store, &seen, bytes).await {
                Ok(Swapped::Done(_)) => return Ok(results),
                Ok(Swapped::Conflict) => {}
                Ok(Swapped::Unknown(why)) => (unsettled, failed_with) = (true, why),
                Err(why) => return Err(failed(why)),
            }
            sleep(self.part_of(pause)).await;
            pause = LONGEST_PAUSE.min(pause.saturating_mul(2));
        }
        Err(Error::DatastoreUnavailable {
            datastore: ds.clone(),
            why: failed_with.map_or_else(
                || "other hosts kept changing the ledger first".to_owned(),
                |why| format!("its ledger cannot be written: {why}"),
            ),
        })
    }

    /// A part of a time, by chance: hosts that met do not meet again at once.
    fn part_of(&self, time: Duration) -> Duration {
        let [.., byte] = self.ports.ids.uuid().into_bytes();
        time.saturating_mul(u32::from(byte) + 1) / 256
    }

    fn ledger_in(
        ds: &DatastoreName,
        group: GroupId,
        bytes: Option<&[u8]>,
    ) -> Result<Ledger, Error> {
        let what = || format!("ledger of vmgroup {group} on {ds}");
        let ledger = bytes.map(|b| frame::decode(Kind::Ledger, b, what));
        Ok(ledger.transpose()?.flatten().unwrap_or_default())
    }

    /// The ledger now.
    pub(crate) async fn ledger(&self, ds: &DatastoreName, group: GroupId) -> Result<Ledger, Error> {
        let file = layout::ledger(ds, group);
        let seen = file
            .read(&*self.ports.datastores)
            .await
            .map_err(|why| unavailable(ds, &why))?;
        Self::ledger_in(ds, group, seen.bytes.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn add(n: u128, bytes: u64, limit: Option<u64>) -> Entry {
        Entry::Add {
            volume: VolumeId::new(Uuid::from_u128(n)),
            bytes,
            limit,
        }
    }

    const DONE: (Entered, bool) = (Entered::Done, true);
    const AS_BEFORE: (Entered, bool) = (Entered::Done, false);

    #[test]
    fn the_total_is_exact_at_the_boundary_and_a_repeated_entry_counts_once() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.apply(Entry::Counted), DONE);
        assert_eq!(ledger.apply(add(1, 60, Some(100))), DONE);
        assert_eq!(ledger.apply(add(1, 60, Some(100))), AS_BEFORE);
        let full = |used| (Entered::Full { used }, false);
        assert_eq!(ledger.apply(add(2, 41, Some(100))), full(60));
        assert_eq!(ledger.apply(add(2, 40, Some(100))), DONE);
        let volume = VolumeId::new(Uuid::from_u128(1));
        assert_eq!(ledger.apply(Entry::Remove { volume }), DONE);
        assert_eq!(ledger.apply(Entry::Remove { volume }), AS_BEFORE);
        assert_eq!(ledger.apply(add(3, u64::MAX, None)), DONE);
        assert_eq!(
            ledger.apply(add(4, 1, Some(10))),
            full(u64::MAX),
            "no overflow"
        );
    }

    #[test]
    fn no_limit_is_asked_of_a_ledger_that_was_never_completed() {
        let mut ledger = Ledger::default();
        let limited = add(2, 1, Some(100));
        assert_eq!(ledger.apply(limited), (Entered::Incomplete, false));
        assert_eq!(ledger.apply(add(1, 100, None)), DONE);
        let all = [Entry::Counted, limited, add(3, 1, None)];
        assert_eq!(ledger.apply_all(&all), (Entered::Full { used: 100 }, true));
        assert!(ledger.complete && ledger.entries.len() == 1, "{ledger:?}");
        let old: Ledger = serde_json::from_str(r#"{"entries":{}}"#).unwrap();
        assert!(!old.complete, "a ledger of before");
    }
}
