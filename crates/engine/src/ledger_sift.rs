//! What a ledger says, compared with what is there.
//!
//! | found | done |
//! |---|---|
//! | an entry whose volume has no record in the vmgroup | removed: the record came first, so it is gone |
//! | a volume without an entry, also one of the original that nobody used yet | added, whatever the limit |
//! | a volume whose making or removal nobody is at any more | finished or undone, and with it its entry |
//! | a volume that somebody makes or removes, also one whose record went while it was looked for | counted, and said: its room may come back |
//!
//! The ledger is read first, then the records: a volume made in between cannot look like garbage. An entry added here
//! for a volume that another host removes at that moment becomes garbage, which the next look removes. A volume on its
//! way from one vmgroup to another may have entries in both, and counts in both until it has arrived.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use tokio::sync::Mutex as Turn;
use tokio::time::Instant;
use vdvs_domain::{DatastoreName, Error, GroupId, VolumeId, VolumeRecord};

use crate::index::Indexed;
use crate::inner::{Inner, locked};
use crate::keyed::Key;
use crate::layout::Place;
use crate::ledger::{At, Entry, Ledger};
use crate::records::Stored;

/// What a comparison found, and left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sifted {
    /// The sum of the ledger now.
    pub(crate) used: u64,
    /// What of it belongs to volumes that nobody is making or removing.
    pub(crate) settled: u64,
}

type Last = Arc<Turn<Option<(Instant, Sifted)>>>;

/// The last comparison of each ledger, so that many requests that find it full share one.
#[derive(Debug, Default)]
pub(crate) struct Sifts(Mutex<HashMap<At, Last>>);

impl Sifts {
    fn of(&self, at: &At) -> Last {
        Arc::clone(locked(&self.0).entry(at.clone()).or_default())
    }
}

/// Whether a volume counts for a vmgroup: it is its own, or leaves it, or comes to it.
pub(crate) fn concerns(record: &VolumeRecord, group: GroupId) -> bool {
    let moving = record.moving.as_ref();
    record.group == group || moving.is_some_and(|m| m.from == group || m.to == group)
}

/// Whether a volume without an entry is to get one here.
pub(crate) fn belongs(record: &VolumeRecord, group: GroupId) -> bool {
    record.group == group && record.moving.is_none() && record.exists()
}

impl Inner {
    /// Compares a ledger with what is there, and repairs it. A comparison that another request began after `since` is
    /// as good.
    pub(crate) async fn sift(&self, at: &At, since: Instant) -> Result<Sifted, Error> {
        let turn = self.ledgers.sifts.of(at);
        let mut last = turn.lock().await;
        if let Some((begun, sifted)) = *last
            && begun > since
        {
            return Ok(sifted);
        }
        let begun = self.instant();
        let sifted = self.compare(at).await?;
        *last = Some((begun, sifted));
        Ok(sifted)
    }

    async fn compare(&self, at: &At) -> Result<Sifted, Error> {
        let (ds, group) = (&at.0, at.1);
        let mut ledger = self.ledger(ds, group).await?;
        let volumes = self.indexed_on(ds).await?;
        let unread = self.unread_on(ds).await?;
        let mut changes = Self::garbage(at, &ledger, &volumes, &unread);
        for volume in volumes.iter().filter(|v| belongs(&v.record, group)) {
            if !ledger.entries.contains_key(&volume.record.id) {
                changes.extend(self.entry_for(volume, group).await?);
            }
        }
        let anything = !ledger.entries.is_empty() || !changes.is_empty();
        if !ledger.complete && (anything || !volumes.is_empty()) {
            changes.push(Entry::Counted);
        }
        if !changes.is_empty() {
            for change in &changes {
                ledger.apply(*change);
            }
            self.try_enter(at, changes).await?;
        }
        let under_way = |v: &&Indexed| {
            let is_settled = v.record.exists() && v.record.group == group;
            ledger.entries.contains_key(&v.record.id) && !is_settled
        };
        let (mut unsettled, mut resolved) = (0u64, false);
        for volume in volumes.iter().filter(under_way) {
            let bytes = ledger.entries.get(&volume.record.id).copied();
            // On its way to or from another vmgroup, it counts here for a moment only.
            let passes = volume.record.exists() && volume.record.group != group;
            if passes || self.is_under_way(volume).await? {
                unsettled = unsettled.saturating_add(bytes.unwrap_or(0));
            } else {
                resolved = true;
            }
        }
        for place in &unread {
            match self.read_record(place).await {
                Ok(Some(_)) => unsettled = unsettled.saturating_add(ledger.bytes_of(place)),
                // It went after the ledger was read, and with it its entry.
                Ok(None) => resolved = true,
                // Damaged: it takes room.
                Err(_) => {}
            }
        }
        let used = match resolved {
            // What was taken back has left the ledger.
            true => self.ledger(ds, group).await?.used(),
            false => ledger.used(),
        };
        let settled = used.saturating_sub(unsettled);
        Ok(Sifted { used, settled })
    }

    /// Where there are records that could not be read.
    async fn unread_on(&self, ds: &DatastoreName) -> Result<Vec<Place>, Error> {
        let mut unread = Vec::new();
        for folder in self.groups_on(ds).await? {
            unread.extend(self.index.unfinished(ds, folder).0);
        }
        Ok(unread)
    }

    /// Entries that no record explains. A record that cannot be read is one: its volume takes room.
    fn garbage(at: &At, ledger: &Ledger, volumes: &[Indexed], unread: &[Place]) -> Vec<Entry> {
        let (ds, group) = (&at.0, at.1);
        let of_group = volumes.iter().filter(|v| concerns(&v.record, group));
        let known: HashSet<VolumeId> = of_group.map(|v| v.record.id).collect();
        let is_alone =
            |id: &VolumeId| !known.contains(id) && unread.iter().all(|p| p.id8 != id.id8());
        let removal = |volume: VolumeId| {
            tracing::info!(%volume, datastore = %ds, "a ledger entry without a volume is removed");
            Entry::Remove { volume }
        };
        let ids = ledger.entries.keys().copied();
        ids.filter(is_alone).map(removal).collect()
    }

    /// The entry of a volume that has none, unless it is gone by now.
    async fn entry_for(&self, volume: &Indexed, group: GroupId) -> Result<Option<Entry>, Error> {
        let still = match volume.recorded {
            // One of the original: it is there, and nobody changes it.
            false => true,
            true => {
                let now = self.read_record(&volume.place).await?;
                now.is_some_and(|s| belongs(&s.record, group))
            }
        };
        Ok(still.then(|| Entry::Add {
            volume: volume.record.id,
            bytes: volume.record.capacity.bytes(),
            limit: None,
        }))
    }

    /// Whether somebody is making or removing this volume; what nobody is at is finished or undone here and now.
    async fn is_under_way(&self, volume: &Indexed) -> Result<bool, Error> {
        let Some(now) = self.read_record(&volume.place).await? else {
            return Ok(false);
        };
        if now.record.exists() {
            return Ok(false);
        }
        if !self.may_resolve_making(&now) || !self.resolved_now(&now).await? {
            return Ok(true);
        }
        let left = self.read_record(&volume.place).await?;
        Ok(left.is_some_and(|s| !s.record.exists()))
    }

    /// Finishes or undoes what nobody is at. `false`: somebody here is; this waits for nobody.
    async fn resolved_now(&self, stored: &Stored) -> Result<bool, Error> {
        let (place, record) = (&stored.place, &stored.record);
        let name = Key::Name(place.ds.clone(), record.group, place.name.clone());
        let Some(_name) = self.keys.try_hold(name, "resolve") else {
            return Ok(false);
        };
        let Some(_key) = self.keys.try_hold(Key::Volume(record.id), "resolve") else {
            return Ok(false);
        };
        match self.read_record(place).await? {
            Some(now) if !now.record.exists() => match self.resolve_making(&now).await {
                Ok(()) => Ok(true),
                // Its room stays taken, and who asks for it hears so.
                Err(why) => {
                    self.said.once(Self::subject(&now.name()), &why.to_string());
                    Ok(false)
                }
            },
            _ => Ok(true),
        }
    }
}
