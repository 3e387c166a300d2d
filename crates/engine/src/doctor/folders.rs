//! The vmgroups' folders: disks without record, records without disk, names without volume, ledgers.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use vdvs_domain::error::full_name;
use vdvs_domain::{DatastoreName, Error, GroupId, VolumeId};

use super::views::Views;
use super::{Found, Kind, Subject};
use crate::index::Indexed;
use crate::inner::{Inner, unavailable};
use crate::keyed::Key;
use crate::layout::{self, Found as File, Place};
use crate::ledger_sift::{belongs, concerns};
use crate::leftovers::is_damage;
use crate::swap::slot_of;

/// What lies in a vmgroup's folder.
#[derive(Debug, Default)]
struct Files {
    names: HashSet<String>,
    disks: BTreeSet<Place>,
    /// With the newest slot of each.
    records: BTreeMap<Place, u64>,
}

impl Inner {
    pub(super) async fn findings_of_folders(&self, views: &Views) -> Vec<Found> {
        let mut found = Vec::new();
        for ds in &views.read {
            match self.answering(ds, self.folders_on(views, ds)).await {
                Ok(more) => found.extend(more),
                Err(why) => {
                    let what = format!("folders on datastore {ds}");
                    found.push(Found::new(Kind::NotLookedAt, what, why.to_string()));
                }
            }
        }
        found
    }

    async fn folders_on(&self, views: &Views, ds: &DatastoreName) -> Result<Vec<Found>, Error> {
        let mut found = Vec::new();
        for group in self.groups_on(ds).await? {
            let files = self.files_in(ds, group).await?;
            found.extend(self.disks_alone(ds, group, &files).await?);
            found.extend(self.disks_missing(views, ds, group, &files).await);
            found.extend(self.records_unread(ds, group, &files).await?);
            found.extend(self.names_alone(ds, group).await?);
            found.extend(self.names_unclaimed(views, ds, group).await?);
            found.extend(self.ledger_differs(views, ds, group).await?);
        }
        Ok(found)
    }

    /// What lies in a vmgroup's folder, by name.
    async fn files_in(&self, ds: &DatastoreName, group: GroupId) -> Result<Files, Error> {
        let store = &self.ports.datastores;
        let entries = store.read_dir(ds, &layout::group_dir(group)).await;
        let entries = entries.map_err(|why| unavailable(ds, &why))?;
        let place = |name, id8| Place {
            ds: ds.clone(),
            folder: group,
            name,
            id8,
        };
        let mut files = Files::default();
        for entry in entries.into_iter().filter(|e| !e.is_dir) {
            match layout::classify(&entry.name) {
                File::Disk(name, id8) => drop(files.disks.insert(place(name, id8))),
                File::RecordSlot(name, id8) => {
                    let place = place(name, id8);
                    let seq = slot_of(&entry.name, &place.record().stem).unwrap_or(0);
                    let newest = files.records.entry(place).or_default();
                    *newest = seq.max(*newest);
                }
                File::Claim(_) | File::Original(_) | File::Other => {}
            }
            files.names.insert(entry.name);
        }
        Ok(files)
    }

    /// Disks without record. A record comes before its disk, so none of them is on its way.
    async fn disks_alone(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        files: &Files,
    ) -> Result<Vec<Found>, Error> {
        let mut found = Vec::new();
        let alone = files
            .disks
            .iter()
            .filter(|p| !files.records.contains_key(*p));
        let alone: Vec<_> = alone.collect();
        for place in alone {
            // It may be gone by now.
            let is_there = self.disk_there(place).await == Some(true);
            if is_there && self.read_record(place).await?.is_none() {
                let text = format!("a disk of vmgroup {group} has no record beside it");
                let command = format!("vdvs fsck --repair {}", super::shell_word(ds.as_str()));
                found.push(Found::new(Kind::DiskWithoutRecord, place.disk(), text).run(command));
            }
        }
        Ok(found)
    }

    /// Records without disk.
    async fn disks_missing(
        &self,
        views: &Views,
        ds: &DatastoreName,
        group: GroupId,
        files: &Files,
    ) -> Vec<Found> {
        let here = views.volumes.iter().filter(|v| {
            v.recorded && v.place.ds == *ds && v.place.folder == group && v.record.exists()
        });
        let mut found = Vec::new();
        let here: Vec<_> = here.collect();
        for volume in here {
            let disk = volume.place.disk();
            let missing = !files.names.contains(disk.path.file_name())
                && self.disk_there(&volume.place).await == Some(false)
                && self.still(volume).await;
            if missing {
                let text = format!("there is no {disk}");
                found.push(views.finding(Kind::RecordWithoutDisk, volume, text));
            }
        }
        found
    }

    /// Whether a volume's disk is there; `None`: nobody can say.
    async fn disk_there(&self, place: &Place) -> Option<bool> {
        let disk = place.disk();
        let stat = self.ports.datastores.stat_disk(&disk.datastore, &disk.path);
        stat.await.ok().map(|stat| stat.is_some())
    }

    /// Records that could not be read.
    async fn records_unread(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        files: &Files,
    ) -> Result<Vec<Found>, Error> {
        let (unread, _) = self.index.unfinished(ds, group);
        let unread: BTreeSet<Place> = unread.into_iter().collect();
        // What was understood once and is not any more, the index has as it was.
        let moved = |(place, newest): &(&Place, &u64)| self.index.slot(place) != Some(**newest);
        let moved = files.records.iter().filter(moved).map(|(place, _)| place);
        let suspects: BTreeSet<&Place> = moved.chain(&unread).collect();
        let mut found = Vec::new();
        for place in suspects {
            let name = full_name(&place.name, ds);
            let subject = || Subject::Volume(place.clone());
            let fsck = format!("vdvs fsck --repair {}", super::shell_word(ds.as_str()));
            match self.read_record(place).await {
                Ok(Some(_)) => {}
                Err(why @ Error::NewerFormat { .. }) => {
                    found.push(Found::new(Kind::NewerRecord, name, why.to_string()));
                }
                Err(why @ Error::Damaged { .. }) => {
                    found.push(Found::new(Kind::DamagedRecord, name, why.to_string()).run(fsck));
                }
                Err(why) => return Err(why),
                Ok(None) => match self.disk_there(place).await {
                    Some(false) if !self.is_ripe(&place.what()) => {}
                    Some(false) => {
                        let text = format!("no version of the {} is whole", place.what());
                        let kind = Kind::UnfinishedRecord;
                        found.push(Found::new(kind, name, text).with(subject()));
                    }
                    Some(true) => {
                        let text = format!(
                            "no version of the {} is whole, and its disk exists",
                            place.what()
                        );
                        found.push(Found::new(Kind::DamagedRecord, name, text).run(fsck));
                    }
                    None => {
                        let text = "nobody can say whether it has a disk";
                        found.push(Found::new(Kind::NotLookedAt, place.what(), text));
                    }
                },
            }
        }
        Ok(found)
    }

    /// Names that nobody's volume bears.
    async fn names_alone(&self, ds: &DatastoreName, group: GroupId) -> Result<Vec<Found>, Error> {
        let (_, alone) = self.index.unfinished(ds, group);
        let mut found = Vec::new();
        for name in alone {
            // Whoever makes a volume here holds the name's key.
            let key = Key::Name(ds.clone(), group, name.clone());
            let Some(_key) = self.keys.try_hold(key, "doctor") else {
                continue;
            };
            let claim = self.read_claim(ds, group, &name).await;
            let object = full_name(&name, ds).to_string();
            let claim = match claim {
                Ok(claim) => claim,
                Err(why) => {
                    let what = format!("name {object}");
                    found.push(Found::new(Kind::NotLookedAt, what, why.to_string()));
                    continue;
                }
            };
            match self.may_go(ds, group, &name, &claim).await {
                Ok(true) => {
                    let path = layout::claim(group, &name);
                    let text = format!("{path} claims it, and there is no such volume");
                    let subject = Subject::Name(ds.clone(), group, name.clone());
                    found.push(Found::new(Kind::StaleName, object, text).with(subject));
                }
                Ok(false) => {}
                // Said of its record.
                Err(why) if is_damage(&why) => {}
                Err(why) => return Err(why),
            }
        }
        Ok(found)
    }

    /// Volumes whose names nobody claims.
    async fn names_unclaimed(
        &self,
        views: &Views,
        ds: &DatastoreName,
        group: GroupId,
    ) -> Result<Vec<Found>, Error> {
        let unclaimed = self.index.unclaimed(ds, group);
        let mut found = Vec::new();
        for volume in views
            .volumes
            .iter()
            .filter(|v| unclaimed.contains(&v.place))
        {
            match self.without_claim(&volume.place).await {
                Ok(Some(_)) => {
                    let text = format!("there is no {}", layout::claim(group, &volume.place.name));
                    found.push(views.finding(Kind::UnclaimedName, volume, text));
                }
                Ok(None) => {}
                // Said of its record.
                Err(why) if is_damage(&why) => {}
                Err(why) => return Err(why),
            }
        }
        Ok(found)
    }

    /// Entries without volumes, and volumes without entries.
    async fn ledger_differs(
        &self,
        views: &Views,
        ds: &DatastoreName,
        group: GroupId,
    ) -> Result<Vec<Found>, Error> {
        let ledger = self.ledger(ds, group).await?;
        // After the ledger: what was made in between does not look like garbage.
        let volumes = self.indexed_on(ds).await?;
        let known: HashSet<VolumeId> = volumes
            .iter()
            .filter(|v| concerns(&v.record, group))
            .map(|v| v.record.id)
            .collect();
        let mut unread = Vec::new();
        for folder in self.groups_on(ds).await? {
            unread.extend(self.index.unfinished(ds, folder).0);
        }
        let of_group = self.group_shown(ds, group).await;
        let subject = || Subject::Ledger(ds.clone(), group);
        let mut found = Vec::new();
        for (id, bytes) in &ledger.entries {
            let explained = known.contains(id) || unread.iter().any(|p| p.id8 == id.id8());
            if !explained {
                let object = format!("{id} of vmgroup {of_group} on {ds}");
                let text = format!("{} MiB are counted for it", bytes >> 20);
                let kind = Kind::DanglingLedgerEntry;
                found.push(Found::new(kind, object, text).with(subject()));
            }
        }
        // A ledger that never counted anything is asked of no limit.
        let counted = volumes
            .iter()
            .filter(|v| ledger.complete && belongs(&v.record, group));
        let missing = counted.filter(|v| !ledger.entries.contains_key(&v.record.id));
        let missing: Vec<_> = missing.collect();
        for volume in missing {
            if !self.still_counts(volume, group).await? {
                continue;
            }
            let text = format!("the total of vmgroup {of_group} does not count it");
            let finding = views.finding(Kind::MissingLedgerEntry, volume, text);
            found.push(finding.with(subject()));
        }
        Ok(found)
    }

    async fn still_counts(&self, volume: &Indexed, group: GroupId) -> Result<bool, Error> {
        if !volume.recorded {
            return Ok(true);
        }
        let now = self.read_record(&volume.place).await?;
        Ok(now.is_some_and(|now| belongs(&now.record, group)))
    }
}
