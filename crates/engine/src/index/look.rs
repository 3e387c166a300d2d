//! Keeping the index near the truth: looks at folders, when somebody asks and the last look is too old for that.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use vdvs_domain::{DatastoreName, Error, GroupId, VolumeName, VolumeRecord};

use super::{Entry, GOES, Indexed, Look, READS};
use crate::inner::{Inner, locked, unavailable};
use crate::layout::{self, Place};
use crate::ports::{DsPath, FolderStamp, StorageError};
use crate::records::{Folder, Stored};
use crate::swap::frame::Kind;

impl Inner {
    /// The volumes of a vmgroup on a datastore, also those being made or removed, no older than `age`.
    pub(crate) async fn indexed(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        age: Duration,
    ) -> Result<Vec<Indexed>, Error> {
        self.look_at_all(ds, age).await?;
        Ok(self.index.listed(ds, group))
    }

    /// Looks at all folders of a datastore: a volume may lie in another folder than its vmgroup's.
    async fn look_at_all(&self, ds: &DatastoreName, age: Duration) -> Result<Vec<GroupId>, Error> {
        let now = self.instant();
        let folders = match self.index.folders(ds, now.checked_sub(age)) {
            Some(known) if !age.is_zero() => known,
            _ => {
                let found = self.groups_on(ds).await?;
                let kept = (now, found.clone());
                locked(&self.index.0).folders.insert(ds.clone(), kept);
                found
            }
        };
        for folder in &folders {
            self.look_at_folder(ds, *folder, age).await?;
        }
        Ok(folders)
    }

    /// All volumes on a datastore, as of now.
    pub(crate) async fn indexed_on(&self, ds: &DatastoreName) -> Result<Vec<Indexed>, Error> {
        self.look_at_all(ds, Duration::ZERO).await?;
        let tables = locked(&self.index.0);
        let entries = tables.shelves(ds).flat_map(|(_, shelf)| &shelf.entries);
        Ok(entries.filter_map(Entry::indexed).collect())
    }

    /// The records on a datastore that `wanted` picks, read now.
    pub(crate) async fn records_where(
        &self,
        ds: &DatastoreName,
        wanted: impl Fn(&VolumeRecord) -> bool,
    ) -> Result<Vec<Stored>, Error> {
        let mut found = Vec::new();
        for indexed in self.indexed_on(ds).await? {
            if wanted(&indexed.record) {
                let read = self.read_record(&indexed.place).await?;
                found.extend(read.filter(|s| wanted(&s.record)));
            }
        }
        Ok(found)
    }

    /// Looks at a folder, unless somebody did within `age`.
    pub(crate) async fn look_at_folder(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        age: Duration,
    ) -> Result<(), Error> {
        let asked = self.instant();
        // A look that began after the question is new enough for it, however long the wait for a turn was.
        let enough =
            |look: &Look| look.at > asked || asked.saturating_duration_since(look.at) < age;
        if self.index.look(ds, group).as_ref().is_some_and(enough) {
            return Ok(());
        }
        let turn = self.index.turn(ds, group);
        let _turn = turn.lock().await;
        let last = self.index.look(ds, group);
        if last.as_ref().is_some_and(enough) {
            return Ok(());
        }
        let at = self.instant();
        let stamp = self.stamp(ds, group).await?;
        if let Some(last) = last
            && stamp.is_some()
            && last.stamp == stamp
        {
            self.index.looked(ds, group, Look { at, ..last });
            return Ok(());
        }
        let before = locked(&self.index.0).puts;
        let folder = self.folder(ds, group).await?;
        let moved = self.moved(&folder, before);
        self.read_moved(ds, moved).await?;
        // What could not be read now is looked for again, though the folder stays as it is.
        let stamp = match self.take_in_originals(&folder).await {
            true => stamp,
            false => None,
        };
        let alone = self.index.claims_alone(&folder);
        let unclaimed = self.index.claims_missing(&folder);
        let look = Look {
            at,
            stamp,
            alone,
            unclaimed,
        };
        self.index.looked(ds, group, look);
        Ok(())
    }

    async fn stamp(
        &self,
        ds: &DatastoreName,
        group: GroupId,
    ) -> Result<Option<FolderStamp>, Error> {
        let dir = layout::group_dir(group);
        let stamp = self.ports.datastores.folder_stamp(ds, &dir).await;
        stamp.map_err(|why| unavailable(ds, &why))
    }

    /// Takes out what the folder does not hold any more; says which records have another newest slot than is known.
    /// What was put after `before` is newer than the listing.
    fn moved(&self, folder: &Folder, before: u64) -> Vec<(Place, Vec<u64>)> {
        let mut tables = locked(&self.index.0);
        let shelf = tables.shelf_mut(&folder.ds, folder.group);
        // Of a volume of the original that nobody began to adopt any more its disk is left, and is taken in anew.
        let is_gone = |place: &Place, e: &Entry| {
            !folder.holds(place) || (e.recorded && !folder.slots.contains_key(place))
        };
        let gone: Vec<Arc<Place>> = shelf
            .entries
            .iter()
            .filter(|(place, e)| e.put <= before && is_gone(place, e))
            .map(|(place, _)| Arc::clone(place))
            .collect();
        let is_new = |(place, slots): &(&Place, &Vec<u64>)| {
            let known = shelf.entries.get(*place);
            known.is_none_or(|e| e.put <= before && slots.last() != Some(&e.seq))
        };
        let moved = folder.slots.iter().filter(is_new);
        let moved = moved.map(|(place, slots)| (place.clone(), slots.clone()));
        let moved = moved.collect();
        for place in gone {
            tables.forget(&place);
        }
        moved
    }

    async fn read_moved(
        &self,
        ds: &DatastoreName,
        moved: Vec<(Place, Vec<u64>)>,
    ) -> Result<(), Error> {
        let goes: Vec<_> = moved.chunks(READS).map(<[_]>::to_vec).collect();
        let mut goes = stream::iter(goes)
            .map(async |go| (self.read_newest(ds, &go).await, go))
            .buffered(GOES);
        while let Some((read, go)) = goes.next().await {
            for ((place, slots), bytes) in go.iter().zip(read?) {
                self.take_in(place, slots, bytes).await?;
            }
        }
        Ok(())
    }

    /// The newest slot of each, in one go; `None` for one that is gone.
    async fn read_newest(
        &self,
        ds: &DatastoreName,
        go: &[(Place, Vec<u64>)],
    ) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let newest = |(place, slots): &(Place, Vec<u64>)| {
            place.record().slot(slots.last().copied().unwrap_or(1))
        };
        let failed = |why| unavailable(ds, &why);
        let files: Vec<DsPath> = go
            .iter()
            .map(newest)
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let max = Kind::Record.max_bytes();
        let store = &self.ports.datastores;
        let read = store.read_each(ds, &files, max).await;
        if !matches!(read, Err(StorageError::TooLarge(_))) {
            return read.map_err(failed);
        }
        // One of them is no record, and spoils its own volume only: the whole way finds out which.
        let mut each = Vec::with_capacity(files.len());
        for file in &files {
            each.push(match store.read(ds, file, max).await {
                Ok(bytes) => Some(bytes),
                Err(StorageError::NotFound(_) | StorageError::TooLarge(_)) => None,
                Err(why) => return Err(failed(why)),
            });
        }
        Ok(each)
    }

    /// Puts a record into the index whose newest slot held these bytes.
    async fn take_in(
        &self,
        place: &Place,
        slots: &[u64],
        bytes: Option<Vec<u8>>,
    ) -> Result<(), Error> {
        let seq = slots.last().copied().unwrap_or(0);
        match self.understood(place, seq, bytes) {
            Ok(Some(())) => return Ok(()),
            // Torn, pruned meanwhile: the whole way.
            Ok(None) => match self.read_listed(place, slots).await {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => {}
                Err(why) => self.not_understood(place, why)?,
            },
            Err(why) => self.not_understood(place, why)?,
        }
        locked(&self.index.0).put(place, seq, None);
        Ok(())
    }

    /// Volumes of the original have no record until they are used: what lies beside their disks is read once. `false`:
    /// some could not be read yet, also for want of a configuration, without which a volume has no identity.
    async fn take_in_originals(&self, folder: &Folder) -> bool {
        let (ds, group) = (&folder.ds, folder.group);
        let is_new = |name: &&VolumeName| {
            let place = Place::adopted(ds, group, name);
            locked(&self.index.0).entry(&place).is_none()
        };
        let new = folder.originals.iter().filter(is_new).cloned();
        let new: Vec<_> = new.collect();
        if new.is_empty() {
            return true;
        }
        if !matches!(self.datastore_id(ds).await, Ok(Some(_))) {
            return false;
        }
        let (found, all) = self.originals(ds, group, new).await;
        for original in found {
            self.index
                .saw(&original.place, &original.record, original.seq);
        }
        all
    }

    fn not_understood(&self, place: &Place, why: Error) -> Result<(), Error> {
        match why {
            Error::Damaged { .. } | Error::NewerFormat { .. } => {
                self.said.once(place.what(), &why.to_string());
                Ok(())
            }
            other => Err(other),
        }
    }

    fn understood(
        &self,
        place: &Place,
        seq: u64,
        bytes: Option<Vec<u8>>,
    ) -> Result<Option<()>, Error> {
        let Some(bytes) = bytes else { return Ok(None) };
        let Some(record) = Self::record_in(place, &bytes)? else {
            return Ok(None);
        };
        let mut record = record;
        record.results = Vec::new();
        locked(&self.index.0).put(place, seq, Some(Arc::new(record)));
        Ok(Some(()))
    }
}
