//! The ledger of a vmgroup on a datastore: which volume takes how many bytes of its total.
//!
//! Any agent may repair it: an entry without a record is garbage, a record without an entry is added. Many creates at
//! once are one change: requests queue up, the first to hold the ledger's key writes for all that are queued.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use vdvs_domain::{DatastoreName, Error, GroupId, VolumeId};

use crate::inner::{Inner, locked, unavailable};
use crate::keyed::Key;
use crate::layout;
use crate::swap::Swapped;
use crate::swap::frame::{self, Kind};

/// Times a change is tried again because another host was first.
const ATTEMPTS: usize = 20;

/// A vmgroup's volumes on one datastore.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// Bytes by volume.
    pub(crate) entries: BTreeMap<VolumeId, u64>,
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
}

struct Pending {
    entry: Entry,
    reply: oneshot::Sender<Result<(), Error>>,
}

type Queues = HashMap<(DatastoreName, GroupId), Vec<Pending>>;

/// Changes that wait for the one who writes.
#[derive(Default)]
pub(crate) struct Combiner(Mutex<Queues>);

impl fmt::Debug for Combiner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Combiner")
            .field(&locked(&self.0).len())
            .finish()
    }
}

impl Ledger {
    /// Makes one change; `false`: it was so already.
    pub(crate) fn apply(&mut self, entry: Entry) -> Result<bool, Error> {
        match entry {
            Entry::Remove { volume } => Ok(self.entries.remove(&volume).is_some()),
            Entry::Add { volume, .. } if self.entries.contains_key(&volume) => Ok(false),
            Entry::Add {
                volume,
                bytes,
                limit,
            } => {
                let used = self
                    .entries
                    .values()
                    .fold(0u64, |a, b| a.saturating_add(*b));
                if let Some(limit) = limit.filter(|l| used.saturating_add(bytes) > *l) {
                    return Err(Error::QuotaExceeded {
                        used,
                        limit,
                        asked: bytes,
                    });
                }
                self.entries.insert(volume, bytes);
                Ok(true)
            }
        }
    }
}

impl Inner {
    /// Makes one change, together with all that are waiting.
    pub(crate) async fn enter(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        entry: Entry,
    ) -> Result<(), Error> {
        let at = (ds.clone(), group);
        let (reply, mut answer) = oneshot::channel();
        locked(&self.ledgers.0)
            .entry(at.clone())
            .or_default()
            .push(Pending { entry, reply });
        let _key = self
            .keys
            .hold(Key::Ledger(ds.clone(), group), "ledger")
            .await;
        // Whoever held the key before may have written this change along with its own.
        if let Ok(done) = answer.try_recv() {
            return done;
        }
        let batch = locked(&self.ledgers.0).remove(&at).unwrap_or_default();
        let (batch, replies): (Vec<Entry>, Vec<_>) =
            batch.into_iter().map(|p| (p.entry, p.reply)).unzip();
        let results = self.change_ledger(ds, group, &batch).await;
        for (at, reply) in replies.into_iter().enumerate() {
            let result = match &results {
                Ok(results) => results.get(at).cloned().unwrap_or(Ok(())),
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
        batch: &[Entry],
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let file = layout::ledger(ds, group);
        let store = &*self.ports.datastores;
        let mut unsettled = false;
        for _ in 0..ATTEMPTS {
            let seen = file
                .read(store)
                .await
                .map_err(|why| unavailable(ds, &why))?;
            let mut ledger = Self::ledger_in(ds, group, seen.bytes.as_deref())?;
            let mut changed = unsettled;
            let results: Vec<_> = batch
                .iter()
                .map(|entry| ledger.apply(*entry).map(|c| changed |= c))
                .collect();
            if !changed {
                return Ok(results);
            }
            let bytes = frame::encode(Kind::Ledger, &ledger)?;
            match file.swap(store, &seen, bytes).await {
                Ok(Swapped::Done(_)) => return Ok(results),
                Ok(Swapped::Conflict) => {}
                Ok(Swapped::Unknown) => unsettled = true,
                Err(why) => return Err(unavailable(ds, &why)),
            }
        }
        Err(Error::DatastoreUnavailable {
            datastore: ds.clone(),
            why: "other hosts kept changing the ledger first".to_owned(),
        })
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

    #[test]
    fn the_total_is_exact_at_the_boundary_and_a_repeated_entry_counts_once() {
        let mut ledger = Ledger::default();
        assert!(ledger.apply(add(1, 60, Some(100))).unwrap());
        assert!(!ledger.apply(add(1, 60, Some(100))).unwrap());
        assert!(ledger.apply(add(2, 41, Some(100))).is_err());
        assert!(ledger.apply(add(2, 40, Some(100))).unwrap());
        let volume = VolumeId::new(Uuid::from_u128(1));
        assert!(ledger.apply(Entry::Remove { volume }).unwrap());
        assert!(!ledger.apply(Entry::Remove { volume }).unwrap());
        assert!(ledger.apply(add(3, u64::MAX, None)).unwrap());
        assert!(ledger.apply(add(4, 1, Some(10))).is_err(), "no overflow");
    }
}
