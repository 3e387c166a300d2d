//! One look at everything of ours in the vmgroups' folders of a datastore, without a judgement.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};
use vdvs_domain::record::NameClaim;
use vdvs_domain::{Capacity, DatastoreName, Error, GroupId, VolumeName, VolumeRecord};

use super::aside::MAX_ASIDE;
use crate::api::Teller;
use crate::inner::{Inner, unavailable};
use crate::layout::{self, Found, Place};
use crate::ledger::Ledger;
use crate::ports::{DsPath, StorageError};
use crate::records::Claim;
use crate::swap::frame::{self, Kind};
use crate::swap::slot_of;

/// Files read at once: enough to hide a network's delay, few enough to leave the datastore to its guests.
const AT_ONCE: usize = 16;

/// A file as it could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Read<T> {
    /// Whole.
    Is(T),
    /// No version of it is whole.
    Torn,
    /// Whole, and not what belongs there; or too large to be it.
    Damaged(String),
    /// Of a newer program.
    Newer(String),
}

impl<T> Read<T> {
    pub(super) const fn is(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            _ => None,
        }
    }

    pub(super) const fn is_newer(&self) -> bool {
        matches!(self, Self::Newer(_))
    }

    /// Damage as a person reads it; none: it is whole.
    pub(super) fn fault(&self) -> Option<&str> {
        match self {
            Self::Is(_) => None,
            Self::Torn => Some("no version of it is whole"),
            Self::Damaged(why) | Self::Newer(why) => Some(why),
        }
    }

    /// What reading it came to; other errors mean that nobody can say.
    pub(super) fn of(read: Result<Option<T>, Error>) -> Result<Self, Error> {
        Ok(match read {
            Ok(Some(value)) => Self::Is(value),
            Ok(None) => Self::Torn,
            Err(newer @ Error::NewerFormat { .. }) => Self::Newer(newer.to_string()),
            Err(Error::Damaged { why, .. }) => Self::Damaged(why),
            Err(why) => return Err(why),
        })
    }
}

/// Everything of ours in the vmgroups' folders.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) ds: DatastoreName,
    /// Read first: what is made while the rest is read cannot look like garbage in them.
    pub(super) ledgers: BTreeMap<GroupId, Read<Ledger>>,
    /// The newest whole version of each record.
    pub(super) records: BTreeMap<Place, Read<VolumeRecord>>,
    pub(super) claims: BTreeMap<(GroupId, VolumeName), Read<NameClaim>>,
    /// Disks by their descriptors, those of the original included.
    pub(super) disks: BTreeSet<Place>,
    /// Disks by their extents.
    pub(super) extents: BTreeSet<Place>,
    /// Sizes of the disks that have a whole record.
    pub(super) sizes: BTreeMap<Place, Result<Capacity, String>>,
}

/// What a folder's names say.
#[derive(Debug, Default)]
struct Names {
    slots: BTreeMap<Place, Vec<u64>>,
    claims: BTreeSet<(GroupId, VolumeName)>,
    disks: BTreeSet<Place>,
    extents: BTreeSet<Place>,
}

impl Names {
    fn take(&mut self, ds: &DatastoreName, group: GroupId, entry: &str) {
        let place = |name: VolumeName, id8: String| Place {
            ds: ds.clone(),
            folder: group,
            name,
            id8,
        };
        match layout::classify(entry) {
            Found::Claim(name) => drop(self.claims.insert((group, name))),
            Found::RecordSlot(name, id8) => {
                let place = place(name, id8);
                let seq = slot_of(entry, &place.record().stem);
                self.slots.entry(place).or_default().extend(seq);
            }
            Found::Disk(name, id8) => drop(self.disks.insert(place(name, id8))),
            Found::Original(name) => {
                self.disks.insert(Place::adopted(ds, group, &name));
            }
            Found::Other => {
                let descriptor = entry
                    .strip_suffix("-flat.vmdk")
                    .map(|stem| format!("{stem}.vmdk"));
                if let Some(Found::Disk(name, id8)) = descriptor.as_deref().map(layout::classify) {
                    self.extents.insert(place(name, id8));
                }
            }
        }
    }
}

impl Inner {
    /// Looks at a datastore's folders.
    pub(super) async fn catalog(
        &self,
        ds: &DatastoreName,
        tell: &Teller,
    ) -> Result<Catalog, Error> {
        let groups = self.groups_on(ds).await?;
        let mut ledgers = BTreeMap::new();
        for group in self.groups_with_ledgers(ds).await? {
            ledgers.insert(group, self.read_ledger(ds, group).await?);
        }
        let mut names = Names::default();
        for group in groups {
            let dir = layout::group_dir(group);
            let entries = match self.ports.datastores.read_dir(ds, &dir).await {
                Ok(entries) => entries,
                Err(StorageError::NotFound(_)) => Vec::new(),
                Err(why) => return Err(unavailable(ds, &why)),
            };
            for entry in entries.iter().filter(|e| !e.is_dir) {
                names.take(ds, group, &entry.name);
            }
        }
        for slots in names.slots.values_mut() {
            slots.sort_unstable();
        }
        tell.total(u64::try_from(names.slots.len()).unwrap_or(0));
        let mut records = BTreeMap::new();
        // Streams own what they read: borrowed items make a future that no task may carry.
        let mut reads = stream::iter(names.slots)
            .map(async |(place, slots)| {
                let read = self.read_slots(&place, &slots).await;
                (place, read)
            })
            .buffered(AT_ONCE);
        while let Some((place, read)) = reads.next().await {
            records.insert(place, read?);
            tell.one_more();
        }
        drop(reads);
        let mut claims = BTreeMap::new();
        let mut reads = stream::iter(names.claims)
            .map(async |(group, name)| {
                let read = self.claim_at(ds, group, &name).await;
                ((group, name), read)
            })
            .buffered(AT_ONCE);
        while let Some((at, read)) = reads.next().await {
            // Gone since the listing: somebody removed its volume.
            if let Some(read) = read? {
                claims.insert(at, read);
            }
        }
        drop(reads);
        let sizes = self.sizes(&records, &names.disks).await;
        Ok(Catalog {
            ds: ds.clone(),
            ledgers,
            records,
            claims,
            disks: names.disks,
            extents: names.extents,
            sizes,
        })
    }

    async fn sizes(
        &self,
        records: &BTreeMap<Place, Read<VolumeRecord>>,
        disks: &BTreeSet<Place>,
    ) -> BTreeMap<Place, Result<Capacity, String>> {
        let is_whole = |place: &&Place| records.get(*place).is_some_and(|r| r.is().is_some());
        let whole: Vec<Place> = disks.iter().filter(is_whole).cloned().collect();
        let mut stats = stream::iter(whole)
            .map(async |place| {
                let disk = place.disk();
                let stat = self
                    .ports
                    .datastores
                    .stat_disk(&disk.datastore, &disk.path)
                    .await;
                (place, stat)
            })
            .buffered(AT_ONCE);
        let mut sizes = BTreeMap::new();
        while let Some((place, stat)) = stats.next().await {
            match stat {
                Ok(Some(stat)) => drop(sizes.insert(place, Ok(stat.capacity))),
                // Gone since the listing.
                Ok(None) => {}
                Err(why) => drop(sizes.insert(place, Err(why.to_string()))),
            }
        }
        sizes
    }

    /// The newest whole slot of a record. A slot that is larger than any of ours is damage, not a reason to stop.
    async fn read_slots(&self, place: &Place, slots: &[u64]) -> Result<Read<VolumeRecord>, Error> {
        let file = place.record();
        let failed = |why: StorageError| unavailable(&place.ds, &why);
        for seq in slots.iter().rev() {
            let slot = file.slot(*seq).map_err(failed)?;
            match self.ports.datastores.read(&place.ds, &slot, file.max).await {
                Ok(bytes) if frame::is_whole(&bytes) => {
                    return Read::of(Self::record_in(place, &bytes));
                }
                Ok(_) => {}
                Err(StorageError::TooLarge(_)) => {
                    return Ok(Read::Damaged(format!("{slot} is too large to be a record")));
                }
                // Pruned since the listing: there is a newer one.
                Err(StorageError::NotFound(_)) => {
                    let now = self.read_record(place).await;
                    return Read::of(now.map(|s| s.map(|s| s.record)));
                }
                Err(why) => return Err(failed(why)),
            }
        }
        Ok(Read::Torn)
    }

    async fn claim_at(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
    ) -> Result<Option<Read<NameClaim>>, Error> {
        let path = layout::claim(group, name);
        let max = Kind::Claim.max_bytes();
        if let Err(StorageError::TooLarge(_)) = self.ports.datastores.read(ds, &path, max).await {
            return Ok(Some(Read::Damaged(
                "it is too large to be a claim".to_owned(),
            )));
        }
        let claim = match self.read_claim(ds, group, name).await {
            Ok(Claim::Absent) => return Ok(None),
            Ok(Claim::Torn) => Ok(None),
            Ok(Claim::Of(claim)) if claim.name != *name => Err(Error::Damaged {
                what: path.to_string(),
                why: format!("it speaks of volume {} ({})", claim.name, claim.id),
            }),
            Ok(Claim::Of(claim)) => Ok(Some(claim)),
            Err(why) => Err(why),
        };
        Read::of(claim).map(Some)
    }

    async fn groups_with_ledgers(&self, ds: &DatastoreName) -> Result<BTreeSet<GroupId>, Error> {
        let store = &*self.ports.datastores;
        let entries = match store
            .read_dir_starting(ds, &layout::own_dir(), "ledger.")
            .await
        {
            Ok(entries) => entries,
            Err(StorageError::NotFound(_)) => Vec::new(),
            Err(why) => return Err(unavailable(ds, &why)),
        };
        let group = |name: &str| {
            let (stem, seq) = name.rsplit_once('.')?;
            seq.parse::<u64>().ok()?;
            layout::group_of_dir(stem.strip_prefix("ledger.")?)
        };
        let files = entries.iter().filter(|e| !e.is_dir);
        Ok(files.filter_map(|e| group(&e.name)).collect())
    }

    /// A ledger; one that is gone meanwhile, or of which nothing was ever whole, is torn.
    pub(super) async fn read_ledger(
        &self,
        ds: &DatastoreName,
        group: GroupId,
    ) -> Result<Read<Ledger>, Error> {
        let file = layout::ledger(ds, group);
        let seen = match file.read(&*self.ports.datastores).await {
            Ok(seen) => seen,
            Err(StorageError::TooLarge(what)) => {
                return Ok(Read::Damaged(format!("{what} is too large to be a ledger")));
            }
            Err(why) => return Err(unavailable(ds, &why)),
        };
        let what = || format!("ledger of vmgroup {group} on {ds}");
        let ledger = seen
            .bytes
            .as_deref()
            .map(|b| frame::decode(Kind::Ledger, b, what));
        Read::of(ledger.transpose().map(Option::flatten))
    }

    /// The bytes of the newest slot of a record that holds any.
    pub(super) async fn newest_bytes(&self, place: &Place) -> Result<Vec<u8>, Error> {
        for slot in self.slots_of(place).await?.into_iter().rev() {
            let read = self.ports.datastores.read(&place.ds, &slot, MAX_ASIDE);
            match read.await {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Ok(bytes),
                Err(StorageError::NotFound(_) | StorageError::TooLarge(_)) => {}
                Err(why) => return Err(unavailable(&place.ds, &why)),
            }
        }
        Ok(Vec::new())
    }

    /// A record's slots, lowest first.
    pub(super) async fn slots_of(&self, place: &Place) -> Result<Vec<DsPath>, Error> {
        let file = place.record();
        let failed = |why: StorageError| unavailable(&place.ds, &why);
        let store = &*self.ports.datastores;
        let start = format!("{}.", file.stem);
        let entries = match store.read_dir_starting(&place.ds, &file.dir, &start).await {
            Ok(entries) => entries,
            Err(StorageError::NotFound(_)) => Vec::new(),
            Err(why) => return Err(failed(why)),
        };
        let mut slots: Vec<u64> = entries
            .iter()
            .filter_map(|e| slot_of(&e.name, &file.stem))
            .collect();
        slots.sort_unstable();
        slots
            .into_iter()
            .map(|seq| file.slot(seq).map_err(failed))
            .collect()
    }
}
