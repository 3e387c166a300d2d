//! Reading and changing records and claims, and finding them on a datastore.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vdvs_domain::error::{by_id, full_name};
use vdvs_domain::history::Ending;
use vdvs_domain::record::{FORMAT, NameClaim};
use vdvs_domain::{
    DatastoreName, Error, GroupId, VolumeAddress, VolumeId, VolumeName, VolumeRecord,
};

use crate::inner::{Inner, unavailable};
use crate::layout::{self, Found, Place};
use crate::ports::{Entry, StorageError};
use crate::swap::frame::{self, Kind};
use crate::swap::{Seen, Swapped, slot_of};

/// Times a change is tried again because another host was first. Each means that somebody else succeeded.
const ATTEMPTS: usize = 10;

/// What is said of a disk that no whole record explains.
pub(crate) const RECORD_LOST: &str =
    "its disk is there and no version of it is whole; rebuild it with: vdvs fsck --repair";

/// A record as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) place: Place,
    pub(crate) record: VolumeRecord,
    /// The slot it was read from or written to.
    pub(crate) seq: u64,
}

impl Stored {
    pub(crate) fn name(&self) -> VolumeAddress {
        full_name(&self.record.name, &self.place.ds)
    }
}

/// What a step makes of a record.
#[derive(Debug)]
pub(crate) enum Change {
    /// Write this.
    To(Box<VolumeRecord>),
    /// Write this: its owner lost it, whatever was being done to it.
    Taken(Box<VolumeRecord>),
    /// It is as it should be already.
    Keep,
}

impl From<VolumeRecord> for Change {
    fn from(record: VolumeRecord) -> Self {
        Self::To(Box::new(record))
    }
}

/// A claim as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// No file.
    Absent,
    /// A file that is not whole: its maker is between two steps, or died there.
    Torn,
    /// A claim.
    Of(NameClaim),
}

/// Everything of ours in one vmgroup's folder.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) ds: DatastoreName,
    pub(crate) group: GroupId,
    pub(crate) claims: BTreeSet<VolumeName>,
    /// Slots of each record.
    pub(crate) slots: BTreeMap<Place, Vec<u64>>,
    /// What looks like a disk of the original.
    pub(crate) originals: BTreeSet<VolumeName>,
}

impl Folder {
    fn new(ds: &DatastoreName, group: GroupId) -> Self {
        Self {
            ds: ds.clone(),
            group,
            claims: BTreeSet::new(),
            slots: BTreeMap::new(),
            originals: BTreeSet::new(),
        }
    }

    /// Adds what a listing shows.
    fn add(&mut self, entries: Vec<Entry>) {
        for entry in entries.into_iter().filter(|e| !e.is_dir) {
            match layout::classify(&entry.name) {
                Found::Claim(name) => drop(self.claims.insert(name)),
                Found::RecordSlot(name, id8) => {
                    let place = Place {
                        ds: self.ds.clone(),
                        folder: self.group,
                        name,
                        id8,
                    };
                    let seq = slot_of(&entry.name, &place.record().stem);
                    self.slots.entry(place).or_default().extend(seq);
                }
                Found::Original(name) => drop(self.originals.insert(name)),
                Found::Disk(..) | Found::Other => {}
            }
        }
        for slots in self.slots.values_mut() {
            slots.sort_unstable();
            slots.dedup();
        }
    }

    /// Whether there is a claim on a name of which there is no record.
    fn has_claims_alone(&self) -> bool {
        let recorded: BTreeSet<&VolumeName> = self.slots.keys().map(|place| &place.name).collect();
        self.claims.iter().any(|name| !recorded.contains(name))
    }

    /// Whether there is a volume, or the beginning of one.
    pub(crate) fn holds(&self, place: &Place) -> bool {
        let original = place.is_adopted() && self.originals.contains(&place.name);
        original || self.slots.contains_key(place)
    }
}

/// What it means that a record could not be read. One that is larger than any of ours is damage: its own volume's, and no
/// reason to take the datastore for unreadable.
fn unread(place: &Place, why: &StorageError) -> Error {
    match why {
        StorageError::TooLarge(_) => Error::Damaged {
            what: place.what(),
            why: "it is larger than any record".to_owned(),
        },
        why => unavailable(&place.ds, why),
    }
}

/// Why a record did not change though it was tried often enough: others are at it, or its datastore takes no write.
fn unwritten(place: &Place, failed: Option<StorageError>) -> Error {
    let name = full_name(&place.name, &place.ds);
    match failed {
        None => Error::Contended { name },
        Some(why) => Error::Unwritten {
            name,
            why: why.to_string(),
        },
    }
}

impl Inner {
    fn record_of(place: &Place, seen: &Seen) -> Result<Option<VolumeRecord>, Error> {
        let bytes = seen.bytes.as_deref();
        bytes.map_or(Ok(None), |b| Self::record_in(place, b))
    }

    /// The record in a file at this place; `None` when the file is not whole.
    pub(crate) fn record_in(place: &Place, bytes: &[u8]) -> Result<Option<VolumeRecord>, Error> {
        let record: Option<VolumeRecord> = frame::decode(Kind::Record, bytes, || place.what())?;
        match record {
            Some(r) if r.format > FORMAT => Err(Error::NewerFormat {
                what: place.what(),
                found: r.format,
                known: FORMAT,
            }),
            Some(r)
                if r.name != place.name || r.id.id8() != place.id8 || r.home() != place.folder =>
            {
                Err(Error::Damaged {
                    what: place.what(),
                    why: format!("it speaks of volume {} ({})", r.name, r.id),
                })
            }
            other => Ok(other),
        }
    }

    async fn seen_record(&self, place: &Place) -> Result<(Seen, Option<VolumeRecord>), Error> {
        let known = self.index.slot(place);
        let seen = place
            .record()
            .read_known(&*self.ports.datastores, known)
            .await
            .map_err(|why| unread(place, &why))?;
        let record = Self::record_of(place, &seen)?;
        Ok((seen, record))
    }

    /// Whether anything was written to this record since it was read, or it is gone: two look-ups, no listing. An error
    /// means that nobody can say.
    pub(crate) async fn changed_since(&self, stored: &Stored) -> Result<bool, Error> {
        let file = stored.place.record();
        let still = file.still(&*self.ports.datastores, stored.seq).await;
        let still = still.map_err(|why| unavailable(&stored.place.ds, &why))?;
        Ok(still.is_none())
    }

    /// The record at a place. `None`: there is none, or its first version was never finished.
    pub(crate) async fn read_record(&self, place: &Place) -> Result<Option<Stored>, Error> {
        let (seen, record) = self.seen_record(place).await?;
        Ok(record.map(|record| self.stored(place, record, seen.seq)))
    }

    /// Whether there is a disk. Where that is asked of a place without a whole record, yes means that the record was
    /// damaged or lost: nothing of ours makes a disk before its record, or keeps it longer.
    pub(crate) async fn disk_is_there(&self, place: &Place) -> Result<bool, Error> {
        let disk = place.disk();
        let stat = self.ports.datastores.stat_disk(&disk.datastore, &disk.path);
        let stat = stat.await.map_err(|why| unavailable(&place.ds, &why))?;
        Ok(stat.is_some())
    }

    /// As [`Inner::read_record`], of a record whose slots a listing has just shown.
    pub(crate) async fn read_listed(
        &self,
        place: &Place,
        slots: &[u64],
    ) -> Result<Option<Stored>, Error> {
        let seen = place
            .record()
            .read_listed(&*self.ports.datastores, slots)
            .await
            .map_err(|why| unread(place, &why))?;
        let record = Self::record_of(place, &seen)?;
        Ok(record.map(|record| self.stored(place, record, seen.seq)))
    }

    fn stored(&self, place: &Place, record: VolumeRecord, seq: u64) -> Stored {
        self.index.saw(place, &record, seq);
        Stored {
            place: place.clone(),
            record,
            seq,
        }
    }

    /// Writes the first version of a record. Whatever else is there: `Contended`.
    pub(crate) async fn first_record(
        &self,
        place: &Place,
        record: &VolumeRecord,
    ) -> Result<(), Error> {
        // Its id is new: that there is no file need not be looked up, and shows when the slot is made.
        let (mut seen, mut found) = (Seen::nothing(), None);
        let mut failed = None;
        for _ in 0..ATTEMPTS {
            match &found {
                Some(found) if *found != *record => {
                    failed = None;
                    break;
                }
                _ => {}
            }
            match self.swap(place, &seen, record).await? {
                Swapped::Done(_) => return Ok(()),
                Swapped::Conflict => failed = None,
                Swapped::Unknown(why) => failed = why,
            }
            (seen, found) = self.seen_record(place).await?;
        }
        Err(unwritten(place, failed))
    }

    async fn swap(
        &self,
        place: &Place,
        seen: &Seen,
        record: &VolumeRecord,
    ) -> Result<Swapped, Error> {
        let bytes = frame::encode(Kind::Record, record)?;
        let swapped = place
            .record()
            .swap(&*self.ports.datastores, seen, bytes)
            .await
            .map_err(|why| match why {
                full @ StorageError::NoSpace => unwritten(place, Some(full)),
                other => unavailable(&place.ds, &other),
            })?;
        match &swapped {
            Swapped::Done(seen) => {
                self.index.saw(place, record, seen.seq);
                self.record_written(place, record);
            }
            // What is known of its slots did not help: list them.
            Swapped::Conflict | Swapped::Unknown(_) => self.index.doubt(place),
        }
        Ok(swapped)
    }

    /// Changes a record by `step`, which sees the present value, also one of its own earlier runs, and may refuse.
    /// Returns the record as it is then.
    pub(crate) async fn change(
        &self,
        place: &Place,
        step: impl Fn(&VolumeRecord) -> Result<Change, Error>,
    ) -> Result<Stored, Error> {
        // After `Unknown` a value of ours that can be read is not yet safe from being replaced: only a swap settles it.
        let (mut unsettled, mut failed) = (false, None);
        for _ in 0..ATTEMPTS {
            let (seen, found) = self.seen_record(place).await?;
            let Some(found) = found else {
                return Err(Error::VolumeNotFound {
                    address: full_name(&place.name, &place.ds).to_string(),
                    looked_on: place.ds.to_string(),
                });
            };
            let change = step(&found)?;
            let how = match change {
                Change::Taken(_) => Ending::Taken,
                Change::To(_) | Change::Keep => Ending::Asked,
            };
            let next = match change {
                Change::To(mut next) | Change::Taken(mut next) => {
                    next.note(&found, how, self.now(), &self.host_name(self.host));
                    *next
                }
                Change::Keep if unsettled => found,
                Change::Keep => return Ok(self.stored(place, found, seen.seq)),
            };
            match self.swap(place, &seen, &next).await? {
                Swapped::Done(now) => return Ok(self.stored(place, next, now.seq)),
                Swapped::Conflict => {}
                Swapped::Unknown(why) => (unsettled, failed) = (true, why),
            }
        }
        Err(unwritten(place, failed))
    }

    /// The claim on a name.
    pub(crate) async fn read_claim(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
    ) -> Result<Claim, Error> {
        let path = layout::claim(group, name);
        let max = Kind::Claim.max_bytes();
        let bytes = match self.ports.datastores.read(ds, &path, max).await {
            Ok(bytes) => bytes,
            Err(StorageError::NotFound(_)) => return Ok(Claim::Absent),
            Err(why) => return Err(unavailable(ds, &why)),
        };
        let claim: Option<NameClaim> =
            frame::decode(Kind::Claim, &bytes, || format!("claim [{ds}] {path}"))?;
        Ok(claim.map_or(Claim::Torn, Claim::Of))
    }

    /// What lies in a vmgroup's folder. A large one is not read in one moment: of a record that is replaced meanwhile it
    /// may show neither the old slot nor the new one, and then the claim seems to be alone. So where one is, the folder is
    /// listed once more, and what either listing shows is there.
    pub(crate) async fn folder(&self, ds: &DatastoreName, group: GroupId) -> Result<Folder, Error> {
        let mut folder = Folder::new(ds, group);
        folder.add(self.entries_of(ds, group).await?);
        if folder.has_claims_alone() {
            folder.add(self.entries_of(ds, group).await?);
        }
        Ok(folder)
    }

    async fn entries_of(&self, ds: &DatastoreName, group: GroupId) -> Result<Vec<Entry>, Error> {
        let dir = layout::group_dir(group);
        match self.ports.datastores.read_dir(ds, &dir).await {
            Ok(entries) => Ok(entries),
            Err(StorageError::NotFound(_)) => Ok(Vec::new()),
            Err(why) => Err(unavailable(ds, &why)),
        }
    }

    /// The vmgroups that have a folder on a datastore.
    pub(crate) async fn groups_on(&self, ds: &DatastoreName) -> Result<Vec<GroupId>, Error> {
        match self.ports.datastores.read_dir(ds, &layout::root()).await {
            Ok(entries) => Ok(entries
                .iter()
                .filter(|e| e.is_dir)
                .filter_map(|e| layout::group_of_dir(&e.name))
                .collect()),
            Err(StorageError::NotFound(_)) => Ok(Vec::new()),
            Err(why) => Err(unavailable(ds, &why)),
        }
    }

    /// The record of a volume of which only the id is known. `None` only after a fresh look at every datastore.
    pub(crate) async fn by_id(&self, id: VolumeId) -> Result<Option<Stored>, Error> {
        if let Some(place) = self.index.place(id)
            && let Some(stored) = self.answering(&place.ds, self.read_record(&place)).await?
        {
            return Ok(Some(stored));
        }
        let mut unreadable = None;
        for ds in self.datastores().await? {
            if !ds.accessible {
                unreadable = Some(Error::DatastoreUnavailable {
                    datastore: ds.name,
                    why: format!(
                        "it is not accessible, and volume {} may be on it",
                        by_id(id)
                    ),
                });
                continue;
            }
            match self.answering(&ds.name, self.search(&ds.name, id)).await {
                Ok(Some(stored)) => return Ok(Some(stored)),
                Ok(None) => {}
                Err(why) => unreadable = Some(why),
            }
        }
        unreadable.map_or(Ok(None), Err)
    }

    /// `None` may only be said of an id that no record can be which nobody could read.
    async fn is_unread(
        &self,
        ds: &DatastoreName,
        folder: GroupId,
        id: VolumeId,
    ) -> Result<(), Error> {
        let (unread, _) = self.index.unfinished(ds, folder);
        for place in unread.iter().filter(|place| place.id8 == id.id8()) {
            // The error of one that is damaged or newer; one that is torn is damaged if it has a disk.
            if self.read_record(place).await?.is_none() && self.disk_is_there(place).await? {
                return Err(Error::Damaged {
                    what: place.what(),
                    why: RECORD_LOST.to_owned(),
                });
            }
        }
        Ok(())
    }

    async fn search(&self, ds: &DatastoreName, id: VolumeId) -> Result<Option<Stored>, Error> {
        for group in self.groups_on(ds).await? {
            self.look_at_folder(ds, group, Duration::ZERO).await?;
            if let Some(place) = self.index.place(id)
                && place.ds == *ds
                && place.folder == group
                && let Some(stored) = self.read_record(&place).await?
                && stored.record.id == id
            {
                return Ok(Some(stored));
            }
            self.is_unread(ds, group, id).await?;
        }
        Ok(None)
    }
}
