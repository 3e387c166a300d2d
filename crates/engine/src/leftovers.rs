//! What crashes leave in a vmgroup's folder, and the repair of its ledger.
//!
//! Claims without a record and records that no version of was ever finished are removed when they were seen unchanged
//! for [`Settings::orphan_age`](crate::api::Settings): their maker may be another host that is only slow.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;
use vdvs_domain::{DatastoreName, Error, GroupId, VolumeId, VolumeName};

use crate::inner::{Inner, locked, unavailable};
use crate::keyed::Key;
use crate::layout::{self, Place};
use crate::ledger::Entry;
use crate::records::{Claim, Stored};

/// Since when leftovers are being looked at.
#[derive(Debug, Default)]
pub(crate) struct Suspects(Mutex<HashMap<String, Instant>>);

impl Suspects {
    /// `true`: seen before, and for long enough.
    fn ripe(&self, what: &str, now: Instant, age: Duration) -> bool {
        let mut seen = locked(&self.0);
        let since = *seen.entry(what.to_owned()).or_insert(now);
        now.saturating_duration_since(since) >= age
    }

    fn clear(&self, what: &str) {
        locked(&self.0).remove(what);
    }
}

impl Inner {
    pub(crate) async fn sweep_leftovers(
        &self,
        ds: &DatastoreName,
        group: GroupId,
    ) -> Result<(), Error> {
        let folder = self.folder(ds, group).await?;
        for name in &folder.claims {
            let path = layout::claim(group, name).to_string();
            let alone = match self.read_claim(ds, group, name).await? {
                Claim::Absent => false,
                Claim::Torn => true,
                Claim::Of(claim) => {
                    let place = Place::of(ds, group, name, claim.id);
                    self.read_record(&place).await?.is_none()
                }
            };
            self.sweep_claim(ds, group, name, alone, &path).await?;
        }
        for place in &folder.places {
            self.sweep_unfinished(place).await?;
        }
        Ok(())
    }

    /// Whether a claim without record has been seen for long enough.
    pub(crate) fn is_abandoned(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
    ) -> bool {
        let subject = format!("[{ds}] {}", layout::claim(group, name));
        self.suspects
            .ripe(&subject, self.instant(), self.settings.orphan_age)
    }

    async fn sweep_claim(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
        alone: bool,
        path: &str,
    ) -> Result<(), Error> {
        let subject = format!("[{ds}] {path}");
        if !alone {
            self.suspects.clear(&subject);
            return Ok(());
        }
        if !self
            .suspects
            .ripe(&subject, self.instant(), self.settings.orphan_age)
        {
            return Ok(());
        }
        let key = Key::Name(ds.clone(), group, name.clone());
        let _key = self.keys.hold(key, "sweep").await;
        let claim = self.read_claim(ds, group, name).await?;
        self.bury_claim(ds, group, name, claim).await?;
        self.suspects.clear(&subject);
        Ok(())
    }

    /// A record of which no version was ever finished: nothing was acknowledged, and no disk was made yet.
    async fn sweep_unfinished(&self, place: &Place) -> Result<(), Error> {
        let subject = place.what();
        let finished = match self.read_record(place).await {
            Ok(found) => found.is_some(),
            // Damaged or newer: reported where it was read, and never removed.
            Err(Error::Damaged { .. } | Error::NewerFormat { .. }) => true,
            Err(why) => return Err(why),
        };
        let disk = place.disk();
        let stat = self
            .ports
            .datastores
            .stat_disk(&disk.datastore, &disk.path)
            .await;
        let stat = stat.map_err(|why| unavailable(&place.ds, &why))?;
        if finished || stat.is_some() {
            if !finished {
                self.said.once(
                    subject.clone(),
                    "no version of it is whole, and its disk exists: nothing was changed",
                );
            }
            self.suspects.clear(&subject);
            return Ok(());
        }
        if !self
            .suspects
            .ripe(&subject, self.instant(), self.settings.orphan_age)
        {
            return Ok(());
        }
        let key = Key::Name(place.ds.clone(), place.group, place.name.clone());
        let _key = self.keys.hold(key, "sweep").await;
        if self.read_record(place).await?.is_none() {
            let removed = place.record().remove(&*self.ports.datastores).await;
            removed.map_err(|why| unavailable(&place.ds, &why))?;
        }
        self.suspects.clear(&subject);
        Ok(())
    }

    /// An entry without a record is garbage; a record without an entry is added.
    pub(crate) async fn repair_ledger(
        &self,
        ds: &DatastoreName,
        group: GroupId,
    ) -> Result<(), Error> {
        // In this order: a record made meanwhile cannot look missing, since its entry comes after it.
        let ledger = self.ledger(ds, group).await?;
        let records = self.records_in(ds, group).await?;
        let known: BTreeMap<VolumeId, u64> = records
            .iter()
            .map(|s| (s.record.id, s.record.capacity.bytes()))
            .collect();
        for volume in ledger.entries.keys().filter(|id| !known.contains_key(id)) {
            tracing::info!(%volume, datastore = %ds, "a ledger entry without a record is removed");
            self.enter(ds, group, Entry::Remove { volume: *volume })
                .await?;
        }
        for stored in records.iter().filter(|s| s.record.exists()) {
            let (volume, bytes) = (stored.record.id, stored.record.capacity.bytes());
            if !ledger.entries.contains_key(&volume) {
                self.add_missing(stored, bytes).await?;
            }
        }
        Ok(())
    }

    /// Under the volume's key, so that a delete under way is not answered with a new entry.
    async fn add_missing(&self, stored: &Stored, bytes: u64) -> Result<(), Error> {
        let volume = stored.record.id;
        let _key = self.keys.hold(Key::Volume(volume), "ledger").await;
        let now = self.read_record(&stored.place).await?;
        if now.is_some_and(|s| s.record.exists()) {
            let limit = None;
            let entry = Entry::Add {
                volume,
                bytes,
                limit,
            };
            self.enter(&stored.place.ds, stored.place.group, entry)
                .await?;
        }
        Ok(())
    }
}
