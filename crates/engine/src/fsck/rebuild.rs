//! The repairs: a record made anew, a claim, a size.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;
use vdvs_domain::history::{Happened, REBUILT};
use vdvs_domain::options::{GivenOptions, check_mount_options};
use vdvs_domain::record::{Created, FORMAT, NameClaim};
use vdvs_domain::{
    Epoch, Error, Filesystem, FilesystemState, GroupId, Layout, Ownership, RequestId, VolumeId,
    VolumeName, VolumeRecord,
};

use super::catalog::{Catalog, Read};
use super::evidence::{Evidence, Whose};
use super::findings::{FsckFinding, FsckKind, FsckState};
use super::verdict::{self, Fix, Suspicion};
use crate::adopt::original;
use crate::inner::{Inner, unavailable};
use crate::keyed::Key;
use crate::layout::{self, Place};
use crate::ports::StorageError;
use crate::records::{Change, Claim};
use crate::swap::Swapped;
use crate::swap::frame::{self, Kind};

/// Times a repair is tried again because another host was first.
const ATTEMPTS: usize = 5;

/// What a repair came to.
type Done = Result<(FsckState, String), Error>;

fn repaired(text: impl Into<String>) -> Done {
    Ok((FsckState::Repaired, text.into()))
}

fn left(text: impl Into<String>) -> Done {
    Ok((FsckState::Left, text.into()))
}

/// What became of it while this host looked.
const BY_OTHERS: &str = "somebody else changed it meanwhile; nothing was done";

impl Inner {
    /// Repairs one thing, or says what would be done. A failure is the finding's, and the rest goes on.
    pub(super) async fn act_on_one(
        self: &Arc<Self>,
        repair: bool,
        catalog: &Catalog,
        evidence: &BTreeMap<Place, Evidence>,
        suspicion: &Suspicion,
    ) -> Result<FsckFinding, Error> {
        let would = |text: &str| Ok((FsckState::Repairable, text.to_owned()));
        let (mut kind, place) = (suspicion.kind, suspicion.place.as_ref());
        let done: Done = match (&suspicion.fix, place) {
            (Fix::Nobody(todo), _) => left(todo.clone()),
            (Fix::Record, Some(place)) => {
                let known = evidence.get(place);
                match self.plan_record(catalog, place, known).await? {
                    Planned::Left(other, why) => {
                        kind = other.unwrap_or(kind);
                        left(why)
                    }
                    Planned::To(record) if !repair => {
                        would(&format!("a record would be made: {}", said(&record)))
                    }
                    Planned::To(record) => self.write_record(place, *record).await,
                }
            }
            (Fix::Claim(..), _) if !repair => would("the claim would be written anew"),
            (Fix::Claim(group, name, record), Some(place)) => {
                self.write_claim(place, *group, name, record).await
            }
            (Fix::Size(size), _) if !repair => {
                would(&format!("the record's size would become {size}"))
            }
            (Fix::Size(size), Some(place)) => {
                let changed = self.change(place, |record| {
                    let mut next = record.clone();
                    next.capacity = *size;
                    match record.operation.is_some() || record.capacity == *size {
                        true => Ok(Change::Keep),
                        false => Ok(next.into()),
                    }
                });
                match changed.await {
                    Ok(_) => repaired(format!("the record's size is {size}")),
                    Err(why) => Err(why),
                }
            }
            (Fix::Away, _) if !repair => would("its bytes would be kept elsewhere"),
            (Fix::Away, Some(place)) => self.move_record_away(place).await,
            (_, None) => left(""),
        };
        let (state, action) = done.unwrap_or_else(|why| (FsckState::Left, why.to_string()));
        Ok(FsckFinding {
            datastore: catalog.ds.clone(),
            kind,
            path: suspicion.path.clone(),
            volume: suspicion.volume.clone(),
            what: suspicion.what.clone(),
            action,
            state,
        })
    }

    /// What the record would say; or why nobody can say.
    async fn plan_record(
        &self,
        catalog: &Catalog,
        place: &Place,
        evidence: Option<&Evidence>,
    ) -> Result<Planned, Error> {
        let newer = catalog.claims.iter().any(|((group, name), claim)| {
            claim.is_newer() && *group == place.folder && *name == place.name
        });
        if newer {
            let why = "its claim is a newer program's; upgrade this host".to_owned();
            return Ok(Planned::Left(Some(FsckKind::NewerFormat), why));
        }
        let Some(Evidence { whose, salvage }) = evidence else {
            return Ok(Planned::Left(None, BY_OTHERS.to_owned()));
        };
        let disk = place.disk();
        let stat = self.ports.datastores.stat_disk(&disk.datastore, &disk.path);
        let size = match stat.await {
            Ok(Some(stat)) => stat.capacity,
            Ok(None) => return Ok(Planned::Left(None, BY_OTHERS.to_owned())),
            Err(why) => {
                let why = format!("its disk cannot be looked at: {why}");
                return Ok(Planned::Left(Some(FsckKind::UnreadableDisk), why));
            }
        };
        let ownership = match whose {
            Whose::InDoubt(why) => return Ok(Planned::Left(None, why.clone())),
            Whose::Nobodys => Ownership::Free,
            Whose::Vm(owner) => Ownership::Attached {
                owner: (**owner).clone(),
            },
        };
        let Some(id) = self.id_of(catalog, place, salvage.id).await? else {
            let why = "without a configuration it has no identity; see: vdvs config status";
            return Ok(Planned::Left(None, why.to_owned()));
        };
        let known = |(at, read): (&Place, &Read<VolumeRecord>)| {
            at != place && read.is().is_some_and(|r| r.id == id)
        };
        if catalog.records.iter().any(known) {
            let why = format!(
                "volume {id} has another disk already: this one is a copy. Move it away, or give it another name"
            );
            return Ok(Planned::Left(Some(FsckKind::IdTwice), why));
        }
        let group = group_of(catalog, place, salvage.group);
        let mut options = salvage
            .options
            .clone()
            .unwrap_or_else(|| GivenOptions::default().resolve());
        let fstype = salvage
            .fstype
            .clone()
            .unwrap_or_else(|| options.fstype.clone());
        if check_mount_options(&fstype, &options.mount_options).is_err() {
            options.mount_options.clear();
        }
        let layout = match place.is_adopted() {
            true => Layout::Root,
            false => salvage.layout.unwrap_or(Layout::Data),
        };
        let short_name = match salvage.short_name {
            Some(said) => said,
            None => !place.is_adopted() && self.may_own_short_name(group, &place.name, id).await,
        };
        let attached = ownership.owner().is_some();
        let record = VolumeRecord {
            format: FORMAT,
            id,
            name: place.name.clone(),
            short_name,
            group,
            folder: (group != place.folder).then_some(place.folder),
            moving: None,
            protected: salvage.protected,
            rebuilt: attached,
            policy_version: None,
            capacity: size,
            options,
            layout,
            created: salvage
                .created
                .clone()
                .unwrap_or_else(|| self.made(catalog, place)),
            filesystem: Filesystem {
                fstype,
                state: FilesystemState::Unknown,
            },
            ownership,
            epoch: self.epoch_above(salvage.epoch),
            claim: None,
            operation: None,
            making: None,
            results: Vec::new(),
            history: Vec::new(),
        };
        Ok(Planned::To(Box::new(self.with_event(record))))
    }

    /// An epoch above every one there was: nobody attaches a volume more than once a second, also where the clock is
    /// wrong. A damaged number may be any, so one that no count can reach is not believed.
    fn epoch_above(&self, salvaged: Option<u64>) -> Epoch {
        const NO_CLOCK: u64 = 1 << 30;
        const BEYOND_COUNTING: u64 = 1 << 40;
        let last = salvaged.filter(|last| *last < BEYOND_COUNTING).unwrap_or(0);
        let seconds = (self.now().millis() / 1000).min(BEYOND_COUNTING);
        Epoch::new(seconds.max(NO_CLOCK).max(last.saturating_add(1)))
    }

    fn with_event(&self, mut record: VolumeRecord) -> VolumeRecord {
        let owner = record.ownership.owner();
        record.history.push(Happened {
            at: self.now(),
            host: self.host_name(self.host),
            kind: REBUILT.to_owned(),
            vm: owner.map(|o| o.vm.name.clone()).unwrap_or_default(),
            epoch: record.epoch,
        });
        record
    }

    /// The volume's identity: what claim, ledger or descriptor say, else what the damaged record says, else a new one
    /// that ends as the disk's name does. `None`: a volume of the original on a datastore without identity.
    async fn id_of(
        &self,
        catalog: &Catalog,
        place: &Place,
        salvaged: Option<VolumeId>,
    ) -> Result<Option<VolumeId>, Error> {
        if place.is_adopted() {
            let found = self.original(&place.ds, place.folder, &place.name).await?;
            return Ok(found.map(|s| s.record.id));
        }
        let fits = |id: &VolumeId| id.id8() == place.id8;
        let said = verdict::ids_of(catalog, place).into_iter().next();
        let said = match said {
            Some(id) => Some(id),
            None => self.id_in_descriptor(place).await?.filter(fits),
        };
        let tail = u128::from(u32::from_str_radix(&place.id8, 16).unwrap_or(0));
        let fresh = || {
            let fresh = self.ports.ids.volume_id().uuid().as_u128();
            VolumeId::new(Uuid::from_u128((fresh >> 32 << 32) | tail))
        };
        Ok(Some(said.or(salvaged.filter(fits)).unwrap_or_else(fresh)))
    }

    /// The descriptor names the volume, where the host lets us choose a disk's UUID.
    async fn id_in_descriptor(&self, place: &Place) -> Result<Option<VolumeId>, Error> {
        let path = place.disk().path;
        let store = &*self.ports.datastores;
        match store.read(&place.ds, &path, original::MAX_FILE).await {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                Ok(original::disk_uuid(&text).map(VolumeId::new))
            }
            Err(StorageError::NotFound(_) | StorageError::TooLarge(_)) => Ok(None),
            Err(why) => Err(unavailable(&place.ds, &why)),
        }
    }

    /// Who made it, as far as its claim tells.
    fn made(&self, catalog: &Catalog, place: &Place) -> Created {
        let claim = catalog.claims.iter().find_map(|((group, _), read)| {
            let claim = read.is()?;
            (Place::of_claim(&catalog.ds, *group, claim) == *place).then_some(claim)
        });
        Created {
            at: claim.map_or_else(|| self.now(), |c| c.at),
            by: None,
            host: claim.map_or(self.host, |c| c.host),
        }
    }

    /// Whether the short name is free to be this volume's: every datastore could be asked, and none says otherwise.
    async fn may_own_short_name(&self, group: GroupId, name: &VolumeName, id: VolumeId) -> bool {
        let Ok(datastores) = self.datastores().await else {
            return false;
        };
        for ds in datastores {
            let known = self.answering(&ds.name, self.indexed_on(&ds.name)).await;
            let (true, Ok(volumes)) = (ds.accessible, known) else {
                return false;
            };
            let other = volumes.iter().any(|v| {
                v.record.short_name
                    && v.record.name == *name
                    && v.record.group == group
                    && v.record.id != id
            });
            if other {
                return false;
            }
        }
        true
    }

    async fn write_record(self: &Arc<Self>, place: &Place, record: VolumeRecord) -> Done {
        let name = Key::Name(place.ds.clone(), place.folder, place.name.clone());
        let _name = self.keys.hold(name, "fsck").await;
        let _key = self.keys.hold(Key::Volume(record.id), "fsck").await;
        let store = &*self.ports.datastores;
        let failed = |why: StorageError| unavailable(&place.ds, &why);
        let bytes = frame::encode(Kind::Record, &record)?;
        for _ in 0..ATTEMPTS {
            let seen = match place.record().read(store).await {
                Ok(seen) => seen,
                Err(StorageError::TooLarge(_)) => {
                    self.move_slots_away(place).await?;
                    continue;
                }
                Err(why) => return Err(failed(why)),
            };
            let now = seen.bytes.as_deref().map(|b| Self::record_in(place, b));
            match Read::of(now.transpose().map(Option::flatten))? {
                Read::Is(now) if now != record => return left(BY_OTHERS),
                Read::Newer(why) => return left(why),
                // Ours, from an attempt whose outcome was not known: only a swap settles it.
                Read::Is(_) | Read::Torn | Read::Damaged(_) => {}
            }
            for slot in self.slots_of(place).await? {
                self.put_aside(&place.ds, &slot).await?;
            }
            match place.record().swap(store, &seen, bytes.clone()).await {
                Ok(Swapped::Done(seen)) => {
                    self.index.saw(place, &record, seen.seq);
                    self.claim_for(place, &record).await?;
                    self.notices.changed(record.id);
                    return repaired(format!("a record was made: {}", said(&record)));
                }
                Ok(Swapped::Conflict | Swapped::Unknown(None)) => {}
                Ok(Swapped::Unknown(Some(why))) => return Err(failed(why)),
                Err(why) => return Err(failed(why)),
            }
        }
        left(BY_OTHERS)
    }

    /// The claim of a record that was made anew, if it has none.
    async fn claim_for(&self, place: &Place, record: &VolumeRecord) -> Result<(), Error> {
        let claim = self.read_claim(&place.ds, record.group, &place.name).await;
        let fine = matches!(&claim, Ok(Claim::Of(_)) | Err(Error::NewerFormat { .. }));
        match (fine, claim) {
            // Its own; or another's, which the next look names.
            (true, _) => Ok(()),
            (false, Ok(_) | Err(Error::Damaged { .. })) => {
                self.put_claim(place, record.group, record).await.map(drop)
            }
            (false, Err(why)) => Err(why),
        }
    }

    async fn write_claim(
        &self,
        place: &Place,
        group: GroupId,
        name: &VolumeName,
        record: &VolumeRecord,
    ) -> Done {
        let key = Key::Name(place.ds.clone(), group, name.clone());
        let _name = self.keys.hold(key, "fsck").await;
        let now = self.read_record(place).await?;
        let same = now.is_some_and(|s| {
            s.record.id == record.id && s.record.group == group && s.record.moving.is_none()
        });
        match same {
            true => self.put_claim(place, group, record).await,
            false => left(BY_OTHERS),
        }
    }

    /// Writes a claim where there is none, or one that is damaged, whose bytes are kept.
    async fn put_claim(&self, place: &Place, group: GroupId, record: &VolumeRecord) -> Done {
        let path = layout::claim(group, &place.name);
        let store = &*self.ports.datastores;
        let failed = |why: StorageError| unavailable(&place.ds, &why);
        match store.create_new(&place.ds, &path).await {
            Ok(()) => {}
            Err(StorageError::AlreadyExists(_)) => {
                self.put_aside(&place.ds, &path).await?;
            }
            Err(why) => return Err(failed(why)),
        }
        let claim = NameClaim {
            format: FORMAT,
            id: record.id,
            name: place.name.clone(),
            folder: record.folder,
            request: RequestId::new(self.ports.ids.uuid()),
            host: self.host,
            at: record.created.at,
        };
        let bytes = frame::encode(Kind::Claim, &claim)?;
        store
            .write(&place.ds, &path, &bytes)
            .await
            .map_err(failed)?;
        repaired("the claim was written anew")
    }

    /// A record that is no record, and has no disk.
    async fn move_record_away(&self, place: &Place) -> Done {
        let name = Key::Name(place.ds.clone(), place.folder, place.name.clone());
        let _name = self.keys.hold(name, "fsck").await;
        if self.disk_is_there(place).await? {
            return left(BY_OTHERS);
        }
        let kept = self.move_slots_away(place).await?;
        self.index.forget(place);
        repaired(format!("its bytes are kept in {}", kept.join(", ")))
    }

    /// Keeps a record's bytes, and removes its slots. Returns where they are kept.
    async fn move_slots_away(&self, place: &Place) -> Result<Vec<String>, Error> {
        let mut kept = Vec::new();
        for slot in self.slots_of(place).await? {
            let to = self.put_aside(&place.ds, &slot).await?;
            kept.extend(to.map(|path| path.to_string()));
            let removed = self.ports.datastores.remove(&place.ds, &slot).await;
            removed.map_err(|why| unavailable(&place.ds, &why))?;
        }
        Ok(kept)
    }
}

/// A record that could be made.
enum Planned {
    /// This one.
    To(Box<VolumeRecord>),
    /// None, and why; the finding may be of another kind.
    Left(Option<FsckKind>, String),
}

/// A record in one line.
fn said(record: &VolumeRecord) -> String {
    let whose = match record.ownership.owner() {
        Some(owner) => format!("attached to VM {}", owner.vm.name),
        None => "nobody's".to_owned(),
    };
    format!(
        "volume {}, {}, {whose}; its file system is never formatted",
        record.id, record.capacity
    )
}

/// The vmgroup of a volume: that of its claim; of several, the one the record named; without one the folder's, unless
/// the record named another.
fn group_of(catalog: &Catalog, place: &Place, salvaged: Option<GroupId>) -> GroupId {
    let claimed = verdict::groups_of(catalog, place);
    match (claimed.as_slice(), salvaged) {
        ([one], _) => *one,
        ([], _) => place.folder,
        (several, Some(said)) if several.contains(&said) => said,
        (several, _) if several.contains(&place.folder) => place.folder,
        ([first, ..], _) => *first,
    }
}
