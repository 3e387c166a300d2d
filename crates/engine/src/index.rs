//! The catalogue index: what this agent remembers of the records it saw, and how that is kept near the truth.
//!
//! ```text
//!   own change ───────────────────────────────► entry
//!   who asks, at most so often ─► stamp of the folder ─┬─ as before ─► nothing to do
//!                                                      └─ moved ─► list it ─► read the records whose slot moved
//! ```
//! * A hint. Listings are answered from it, at most [`LISTED`] old; everything that decides (*not found*, create,
//!   attach, release, *held by nobody*) reads the record itself, which the index makes cheap: it knows the place of a
//!   name or id, and the slot to ask for (see `swap`).
//! * Nothing runs by itself. An agent that nobody asks looks once a sweep, and that is one stamp while nothing changes.
//! * It is rebuilt from the datastores: a folder's first look lists it and reads every record.
//! * Entries hold the record without the answers it keeps for retries, so an entry never equals a record.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::Mutex as Turn;
use tokio::time::Instant;
use vdvs_domain::{DatastoreName, Error, GroupId, VolumeId, VolumeName, VolumeRecord};

use crate::inner::{Inner, locked, unavailable};
use crate::layout::{self, Place};
use crate::ports::{DsPath, FolderStamp};
use crate::records::{Folder, Stored};
use crate::swap::frame::Kind;

/// A listing is at most this old. Another host's volume shall be seen within five seconds.
pub(crate) const LISTED: Duration = Duration::from_secs(3);
/// Records read in one go while a folder is looked at: enough to spare the hops, few enough that nobody waits long.
const READS: usize = 128;
/// Such goes under way together: one is read while the other is understood.
const GOES: usize = 2;

/// A volume as the index knows it.
#[derive(Debug, Clone)]
pub(crate) struct Indexed {
    pub(crate) place: Arc<Place>,
    /// Without the answers it keeps.
    pub(crate) record: Arc<VolumeRecord>,
    /// False: a volume of the original, and the record is as it would be.
    pub(crate) recorded: bool,
}

#[derive(Debug)]
struct Entry {
    /// Slot of the newest version seen; 0: none is known.
    seq: u64,
    /// None: no version of it is whole, or it could not be understood.
    record: Option<Arc<VolumeRecord>>,
    /// When it was put here, in changes of this index.
    put: u64,
    /// There is a file of it.
    recorded: bool,
    /// What its disk occupied, and when that was seen.
    allocated: Option<(Instant, u64)>,
}

/// The last look at a folder.
#[derive(Debug, Clone)]
struct Look {
    at: Instant,
    stamp: Option<FolderStamp>,
    /// Claims that had no record then.
    alone: Vec<VolumeName>,
}

/// A vmgroup's folder on a datastore.
#[derive(Debug, Default)]
struct Shelf {
    entries: BTreeMap<Arc<Place>, Entry>,
    look: Option<Look>,
    /// Who looks at the folder, so that two do not at once.
    turn: Arc<Turn<()>>,
}

#[derive(Debug, Default)]
struct Tables {
    shelves: HashMap<DatastoreName, HashMap<GroupId, Shelf>>,
    places: HashMap<VolumeId, Arc<Place>>,
    /// The vmgroups' folders, and when they were looked up.
    folders: HashMap<DatastoreName, (Instant, Vec<GroupId>)>,
    /// Counts what is put here.
    puts: u64,
}

/// Where records were seen last, and what they said.
#[derive(Debug, Default)]
pub(crate) struct Index(Mutex<Tables>);

impl Entry {
    fn indexed((place, entry): (&Arc<Place>, &Self)) -> Option<Indexed> {
        Some(Indexed {
            place: Arc::clone(place),
            record: Arc::clone(entry.record.as_ref()?),
            recorded: entry.recorded,
        })
    }

    /// The vmgroup of what lies in a folder; that of the folder, while nobody knows more.
    fn group(&self, folder: GroupId) -> GroupId {
        self.record.as_ref().map_or(folder, |r| r.group)
    }
}

impl Shelf {
    /// The names that finished records give to volumes of a vmgroup.
    fn borne_in(&self, group: GroupId) -> impl Iterator<Item = &VolumeName> {
        let is_its = move |entry: &Entry| entry.record.as_ref().is_some_and(|r| r.group == group);
        let borne = self.entries.iter().filter(move |(_, e)| is_its(e));
        borne.map(|(place, _)| &place.name)
    }
}

/// What of a record an entry keeps.
fn kept(record: &VolumeRecord) -> Arc<VolumeRecord> {
    let mut record = record.clone();
    record.results = Vec::new();
    record.history = Vec::new();
    Arc::new(record)
}

impl Tables {
    fn shelf(&self, ds: &DatastoreName, folder: GroupId) -> Option<&Shelf> {
        self.shelves.get(ds)?.get(&folder)
    }

    fn shelves(&self, ds: &DatastoreName) -> impl Iterator<Item = (&GroupId, &Shelf)> {
        self.shelves.get(ds).into_iter().flatten()
    }

    fn shelf_mut(&mut self, ds: &DatastoreName, folder: GroupId) -> &mut Shelf {
        if !self.shelves.contains_key(ds) {
            self.shelves.insert(ds.clone(), HashMap::new());
        }
        let folders = self.shelves.entry(ds.clone()).or_default();
        folders.entry(folder).or_default()
    }

    fn entry(&self, place: &Place) -> Option<&Entry> {
        self.shelf(&place.ds, place.folder)?.entries.get(place)
    }

    fn put(&mut self, place: &Place, seq: u64, record: Option<Arc<VolumeRecord>>) {
        self.puts += 1;
        let put = self.puts;
        let id = record.as_ref().map(|r| r.id);
        let shelf = self.shelf_mut(&place.ds, place.folder);
        let known = shelf.entries.get_key_value(place);
        let place = known.map_or_else(|| Arc::new(place.clone()), |(place, _)| Arc::clone(place));
        let recorded = seq > 0;
        let entry = Entry {
            seq,
            record,
            put,
            recorded,
            allocated: None,
        };
        shelf.entries.insert(Arc::clone(&place), entry);
        if let Some(id) = id {
            self.places.insert(id, place);
        }
    }

    fn forget(&mut self, place: &Place) {
        let shelf = self.shelf_mut(&place.ds, place.folder);
        if let Some(entry) = shelf.entries.remove(place)
            && let Some(record) = entry.record
            && self.places.get(&record.id).is_some_and(|p| **p == *place)
        {
            self.places.remove(&record.id);
        }
    }
}

impl Index {
    /// A record was read or written there.
    pub(crate) fn saw(&self, place: &Place, record: &VolumeRecord, seq: u64) {
        let mut tables = locked(&self.0);
        let known = tables.entry(place);
        if known.is_none_or(|e| e.seq != seq || e.record.is_none() || seq == 0) {
            tables.put(place, seq, Some(kept(record)));
        }
    }

    /// The slot its value was seen in last.
    pub(crate) fn slot(&self, place: &Place) -> Option<u64> {
        let slot = locked(&self.0).entry(place)?.seq;
        (slot > 0).then_some(slot)
    }

    /// What is known of its slots did not help.
    pub(crate) fn doubt(&self, place: &Place) {
        let mut tables = locked(&self.0);
        let shelf = tables.shelf_mut(&place.ds, place.folder);
        if let Some(entry) = shelf.entries.get_mut(place) {
            entry.seq = 0;
        }
    }

    /// What its disk occupied when that was looked up, if that was after `since`.
    pub(crate) fn allocated(&self, place: &Place, since: Option<Instant>) -> Option<u64> {
        let (at, bytes) = locked(&self.0).entry(place)?.allocated?;
        since.is_none_or(|since| at > since).then_some(bytes)
    }

    /// What its disk occupies now.
    pub(crate) fn occupies(&self, place: &Place, at: Instant, bytes: u64) {
        let mut tables = locked(&self.0);
        let shelf = tables.shelf_mut(&place.ds, place.folder);
        if let Some(entry) = shelf.entries.get_mut(place) {
            entry.allocated = Some((at, bytes));
        }
    }

    /// Where a volume was seen last.
    pub(crate) fn place(&self, id: VolumeId) -> Option<Place> {
        locked(&self.0).places.get(&id).map(|p| (**p).clone())
    }

    /// The places where volumes of that name were seen in a vmgroup, whichever folder they lie in.
    pub(crate) fn named(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
    ) -> Vec<Place> {
        let tables = locked(&self.0);
        let mut found = Vec::new();
        for (folder, shelf) in tables.shelves(ds) {
            let first = Place {
                ds: ds.clone(),
                folder: *folder,
                name: name.clone(),
                id8: String::new(),
            };
            let named = shelf.entries.range::<Place, _>(first..);
            let named = named.take_while(|(place, _)| place.name == *name);
            let is_its = |(_, entry): &(&Arc<Place>, &Entry)| entry.group(*folder) == group;
            found.extend(named.filter(is_its).map(|(place, _)| (**place).clone()));
        }
        found
    }

    /// The record is gone.
    pub(crate) fn forget(&self, place: &Place) {
        locked(&self.0).forget(place);
    }

    /// What a vmgroup had when the folders were looked at, and what changed here since.
    fn listed(&self, ds: &DatastoreName, group: GroupId) -> Vec<Indexed> {
        let tables = locked(&self.0);
        let mut listed = Vec::new();
        for (folder, shelf) in tables.shelves(ds) {
            let is_its = |(_, entry): &(&Arc<Place>, &Entry)| entry.group(*folder) == group;
            listed.extend(
                shelf
                    .entries
                    .iter()
                    .filter(is_its)
                    .filter_map(Entry::indexed),
            );
        }
        listed
    }

    /// The vmgroups' folders on a datastore, if somebody looked after `since`.
    fn folders(&self, ds: &DatastoreName, since: Option<Instant>) -> Option<Vec<GroupId>> {
        let tables = locked(&self.0);
        let (at, folders) = tables.folders.get(ds)?;
        since
            .is_none_or(|since| *at > since)
            .then(|| folders.clone())
    }

    /// Files of records of which no version was ever whole, and claims on names that no volume of the vmgroup bears, as
    /// of the last look.
    pub(crate) fn unfinished(
        &self,
        ds: &DatastoreName,
        group: GroupId,
    ) -> (Vec<Place>, Vec<VolumeName>) {
        let tables = locked(&self.0);
        let Some(shelf) = tables.shelf(ds, group) else {
            return (Vec::new(), Vec::new());
        };
        let unread = shelf.entries.iter().filter(|(_, e)| e.record.is_none());
        let places = unread.map(|(place, _)| (**place).clone()).collect();
        let alone = shelf.look.as_ref().map(|l| l.alone.as_slice());
        let elsewhere: HashSet<&VolumeName> = tables
            .shelves(ds)
            .filter(|(folder, _)| **folder != group)
            .flat_map(|(_, shelf)| shelf.borne_in(group))
            .collect();
        let alone = alone.unwrap_or_default().iter();
        let alone = alone.filter(|name| !elsewhere.contains(name));
        (places, alone.cloned().collect())
    }

    /// Claims on names that no finished record here bears for this vmgroup.
    fn claims_alone(&self, folder: &Folder) -> Vec<VolumeName> {
        let tables = locked(&self.0);
        let Some(shelf) = tables.shelf(&folder.ds, folder.group) else {
            return folder.claims.iter().cloned().collect();
        };
        let borne: HashSet<&VolumeName> = shelf.borne_in(folder.group).collect();
        let alone = folder.claims.iter().filter(|name| !borne.contains(name));
        alone.cloned().collect()
    }

    fn look(&self, ds: &DatastoreName, group: GroupId) -> Option<Look> {
        locked(&self.0).shelf(ds, group)?.look.clone()
    }

    fn looked(&self, ds: &DatastoreName, group: GroupId, look: Look) {
        locked(&self.0).shelf_mut(ds, group).look = Some(look);
    }

    fn turn(&self, ds: &DatastoreName, group: GroupId) -> Arc<Turn<()>> {
        Arc::clone(&locked(&self.0).shelf_mut(ds, group).turn)
    }
}

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
        self.take_in_originals(&folder).await;
        let alone = self.index.claims_alone(&folder);
        self.index.looked(ds, group, Look { at, stamp, alone });
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
        let gone: Vec<Arc<Place>> = shelf
            .entries
            .iter()
            .filter(|(place, e)| e.put <= before && !folder.holds(place))
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
        let read = self.ports.datastores.read_each(ds, &files, max).await;
        read.map_err(failed)
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

    /// Volumes of the original have no record until they are used: what lies beside their disks is read once.
    async fn take_in_originals(&self, folder: &Folder) {
        let (ds, group) = (&folder.ds, folder.group);
        let is_new = |name: &&VolumeName| {
            let place = Place::adopted(ds, group, name);
            locked(&self.index.0).entry(&place).is_none()
        };
        let new = folder.originals.iter().filter(is_new).cloned();
        for original in self.originals(ds, group, new.collect::<Vec<_>>()).await {
            self.index
                .saw(&original.place, &original.record, original.seq);
        }
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
