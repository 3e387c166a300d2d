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
//! * A volume lies in the folder it was made in, whichever vmgroup it belongs to now; a vmgroup's volumes may lie in any.
//! * Entries hold the record without the answers it keeps for retries, so an entry never equals a record.

mod look;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Mutex as Turn;
use tokio::time::Instant;
use vdvs_domain::{DatastoreName, GroupId, VolumeId, VolumeName, VolumeRecord};

use crate::inner::locked;
use crate::layout::Place;
use crate::ports::FolderStamp;
use crate::records::Folder;

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
    /// Its claim was seen whole since.
    claimed: bool,
}

/// The last look at a folder.
#[derive(Debug, Clone)]
struct Look {
    at: Instant,
    stamp: Option<FolderStamp>,
    /// Claims that had no record then.
    alone: Vec<VolumeName>,
    /// Volumes of the folder's own vmgroup that had no claim then.
    unclaimed: Vec<Arc<Place>>,
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
    shelves: HashMap<DatastoreName, BTreeMap<GroupId, Shelf>>,
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
            self.shelves.insert(ds.clone(), BTreeMap::new());
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
            claimed: false,
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

    /// The volumes of the original in their own vmgroup's folder that have a record, and whose claim nobody here looked
    /// at since that changed.
    pub(crate) fn adopted_unseen(&self, ds: &DatastoreName, folder: GroupId) -> Vec<Place> {
        let tables = locked(&self.0);
        let Some(shelf) = tables.shelf(ds, folder) else {
            return Vec::new();
        };
        let unseen = |(place, entry): &(&Arc<Place>, &Entry)| {
            let is_its = |r: &VolumeRecord| r.exists() && r.group == folder && r.moving.is_none();
            let its = entry.record.as_ref().is_some_and(|r| is_its(r));
            place.is_adopted() && entry.recorded && !entry.claimed && its
        };
        let unseen = shelf.entries.iter().filter(unseen);
        unseen.map(|(place, _)| (**place).clone()).collect()
    }

    /// The claim of the volume there is whole.
    pub(crate) fn claim_seen(&self, place: &Place) {
        let mut tables = locked(&self.0);
        let shelf = tables.shelf_mut(&place.ds, place.folder);
        if let Some(entry) = shelf.entries.get_mut(place) {
            entry.claimed = true;
        }
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

    /// Volumes of the folder's own vmgroup whose names nobody claims. Of the original's, `adopted_unseen` tells.
    fn claims_missing(&self, folder: &Folder) -> Vec<Arc<Place>> {
        let tables = locked(&self.0);
        let entries = tables.shelf(&folder.ds, folder.group);
        let entries = entries.into_iter().flat_map(|shelf| &shelf.entries);
        let is_its = |r: &VolumeRecord| r.exists() && r.group == folder.group && r.moving.is_none();
        let unclaimed = |(place, entry): &(&Arc<Place>, &Entry)| {
            let its = entry.record.as_ref().is_some_and(|r| is_its(r));
            // What was put since the folder was listed may have a claim that is as new.
            let listed = folder.slots.contains_key(&***place);
            its && listed && !place.is_adopted() && !folder.claims.contains(&place.name)
        };
        let unclaimed = entries.filter(unclaimed);
        unclaimed.map(|(place, _)| Arc::clone(place)).collect()
    }

    /// The volumes of a folder whose names nobody claimed at the last look.
    pub(crate) fn unclaimed(&self, ds: &DatastoreName, folder: GroupId) -> Vec<Arc<Place>> {
        self.look(ds, folder)
            .map_or_else(Vec::new, |look| look.unclaimed)
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
