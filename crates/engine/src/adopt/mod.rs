//! Volumes of the archived vSphere Docker Volume Service, found where they lie: `dockvols/<vmgroup>/<volume>.vmdk`.
//!
//! ```text
//!   list, get ─► descriptor, size, metadata file: read, never written ─► a record as it would be
//!   attach, delete, clone ─► adopt: record ─► claim ─► ledger ─► from here on a volume like any other
//! ```
//! Disk, metadata file and the folder's symbolic links stay as they are until the volume is deleted. An adopted volume
//! has layout *root*, and a file system in state *unknown*: nobody ever formats it. The record comes before the claim,
//! so that no leftover of an adoption can look like a leftover of a create, whose disk is garbage.

pub(crate) mod original;

use uuid::Uuid;
use vdvs_domain::error::full_name;
use vdvs_domain::record::{Created, FORMAT, NameClaim};
use vdvs_domain::{
    DatastoreName, Epoch, Error, Filesystem, FilesystemState, GroupId, Layout, Ownership,
    RequestId, VmId, VmRef, VolumeName, VolumeRecord,
};

use self::original::{MAX_FILE, Metadata};
use crate::api::Actor;
use crate::inner::{Inner, unavailable};
use crate::keyed::Key;
use crate::layout::{self, Place};
use crate::ledger::Entry;
use crate::leftovers::is_damage;
use crate::ports::{DsPath, StorageError};
use crate::records::{Claim, Stored};
use crate::swap::frame::{self, Kind};

/// The slot of a record that is nowhere yet. Slots are counted from 1.
pub(crate) const UNRECORDED: u64 = 0;

impl Stored {
    /// Found in place, with no record of ours so far.
    pub(crate) const fn is_unrecorded(&self) -> bool {
        self.seq == UNRECORDED
    }
}

impl Inner {
    /// A volume of the original by this name, as its record would be. `None`: there is none, or it is ours already and
    /// its record was not seen.
    pub(crate) async fn original(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
    ) -> Result<Option<Stored>, Error> {
        let place = Place::adopted(ds, group, name);
        let path = place.disk().path;
        let Some(bytes) = self.read_small(ds, &path).await? else {
            return Ok(None);
        };
        let descriptor = String::from_utf8_lossy(&bytes);
        if !original::is_descriptor(&descriptor) {
            return Ok(None);
        }
        let stat = self.ports.datastores.stat_disk(ds, &path).await;
        let Some(stat) = stat.map_err(|why| unavailable(ds, &why))? else {
            return Ok(None);
        };
        let Some(datastore) = self.datastore_id(ds).await? else {
            return Ok(None);
        };
        let metadata = self.metadata_of(&place, &descriptor).await?;
        let id = original::volume_id(datastore, group, name, original::disk_uuid(&descriptor));
        let fstype = original::fstype(&metadata);
        let record = VolumeRecord {
            format: FORMAT,
            id,
            name: name.clone(),
            // The original knew short names on the default datastore only.
            short_name: false,
            group,
            folder: None,
            moving: None,
            protected: false,
            rebuilt: false,
            policy_version: None,
            capacity: stat.capacity,
            layout: Layout::Root,
            created: Created {
                at: metadata.created,
                by: (!metadata.created_by.is_empty()).then(|| by_name_only(&metadata.created_by)),
                host: self.host,
            },
            filesystem: Filesystem {
                fstype,
                state: FilesystemState::Unknown,
            },
            options: metadata.options.resolve(),
            ownership: Ownership::Free,
            epoch: Epoch::default(),
            claim: None,
            operation: None,
            making: None,
            results: Vec::new(),
            history: Vec::new(),
        };
        let seq = UNRECORDED;
        Ok(Some(Stored { place, record, seq }))
    }

    /// A small file; `None` when it is absent, or too large to be one.
    async fn read_small(
        &self,
        ds: &DatastoreName,
        path: &DsPath,
    ) -> Result<Option<Vec<u8>>, Error> {
        match self.ports.datastores.read(ds, path, MAX_FILE).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StorageError::NotFound(_) | StorageError::TooLarge(_)) => Ok(None),
            Err(why) => Err(unavailable(ds, &why)),
        }
    }

    /// The metadata beside a disk; what cannot be read is as good as absent, as it was for the original.
    async fn metadata_of(&self, place: &Place, descriptor: &str) -> Result<Metadata, Error> {
        let named = original::metadata_file(descriptor, &place.name);
        let file = match named {
            Some(file) => Some(file),
            None => self.metadata_files(place).await?.into_iter().next(),
        };
        let dir = layout::group_dir(place.folder);
        let Some(path) = file.and_then(|f| dir.join(&f).ok()) else {
            return Ok(Metadata::default());
        };
        let bytes = self.read_small(&place.ds, &path).await?;
        Ok(bytes
            .and_then(|b| original::metadata(&b))
            .unwrap_or_default())
    }

    /// Names of a volume's metadata files.
    async fn metadata_files(&self, place: &Place) -> Result<Vec<String>, Error> {
        let entries = self.entries_beside(place).await?;
        let is = |entry: &String| original::is_metadata_file(entry, &place.name);
        Ok(entries.into_iter().filter(is).collect())
    }

    async fn entries_beside(&self, place: &Place) -> Result<Vec<String>, Error> {
        let dir = layout::group_dir(place.folder);
        match self.ports.datastores.read_dir(&place.ds, &dir).await {
            Ok(entries) => Ok(entries.into_iter().map(|e| e.name).collect()),
            Err(StorageError::NotFound(_)) => Ok(Vec::new()),
            Err(why) => Err(unavailable(&place.ds, &why)),
        }
    }

    /// Makes a volume found in place one of ours. Hosts that adopt it at the same time write the same identity, and one
    /// of them the first version of the record.
    pub(crate) async fn adopt(&self, found: Stored) -> Result<Stored, Error> {
        if !found.is_unrecorded() {
            return Ok(found);
        }
        let (place, name) = (&found.place, found.name());
        let key = Key::Name(place.ds.clone(), found.record.group, place.name.clone());
        let _key = self.keys.hold(key, "adopt").await;
        let entries = self.entries_beside(place).await?;
        if let Some(delta) = entries.iter().find(|e| is_delta(e, &place.name)) {
            return Err(Error::Damaged {
                what: format!("volume {name}"),
                why: format!(
                    "a snapshot of a VM pins it ({delta}); delete the VM's snapshots and try again"
                ),
            });
        }
        let contended = match self.first_record(place, &found.record).await {
            Ok(()) => None,
            // Another host was first.
            Err(why @ Error::Contended { .. }) => Some(why),
            Err(why) => return Err(why),
        };
        let stored = match (self.read_existing(place).await, contended) {
            // Or nobody was: the disk is there all the same.
            (Err(Error::VolumeNotFound { .. }), Some(why)) => return Err(why),
            (read, _) => read?,
        };
        self.claim_adopted(&stored).await?;
        let entry = Entry::Add {
            volume: stored.record.id,
            bytes: stored.record.capacity.bytes(),
            // It is there already, whatever the limit.
            limit: None,
        };
        self.enter(&place.ds, stored.record.group, entry).await?;
        let detail = "a volume of the original, found in place".to_owned();
        let (id, name) = (Some(stored.record.id), name.to_string());
        self.audit(Actor::Reconciler, "adopt", name, id, detail)
            .await;
        Ok(stored)
    }

    /// Claims its name. The claim says the same whoever makes it, so that one which nobody finished can be written by
    /// anybody.
    async fn claim_adopted(&self, stored: &Stored) -> Result<(), Error> {
        let (place, record) = (&stored.place, &stored.record);
        let store = &*self.ports.datastores;
        let path = layout::claim(record.group, &place.name);
        match store.create_new(&place.ds, &path).await {
            Ok(()) => {}
            Err(StorageError::AlreadyExists(_)) => {
                let claim = self
                    .read_claim(&place.ds, record.group, &place.name)
                    .await?;
                return match claim {
                    Claim::Of(claim) if claim.id != record.id => Err(Error::Ambiguous {
                        name: place.name.clone(),
                        datastores: format!(
                            "{}: a volume of the original and {}",
                            place.ds, claim.id
                        ),
                    }),
                    // Its maker is at it, or died: the record counts also without it, and a sweep finishes it.
                    Claim::Of(_) | Claim::Torn | Claim::Absent => Ok(()),
                };
            }
            Err(why) => return Err(unavailable(&place.ds, &why)),
        }
        self.write_adopted_claim(stored).await
    }

    async fn write_adopted_claim(&self, stored: &Stored) -> Result<(), Error> {
        let (place, record) = (&stored.place, &stored.record);
        let claim = NameClaim {
            format: FORMAT,
            id: record.id,
            name: place.name.clone(),
            folder: record.folder,
            request: RequestId::new(record.id.uuid()),
            host: record.created.host,
            at: record.created.at,
        };
        let bytes = frame::encode(Kind::Claim, &claim)?;
        let path = layout::claim(record.group, &place.name);
        let written = self.ports.datastores.write(&place.ds, &path, &bytes).await;
        written.map_err(|why| unavailable(&place.ds, &why))
    }

    /// Finishes adoptions in a folder whose agent died between the record and the claim.
    pub(crate) async fn finish_adoptions(
        &self,
        ds: &DatastoreName,
        group: GroupId,
    ) -> Result<(), Error> {
        for place in self.index.adopted_unseen(ds, group) {
            match self.finish_adoption(&place).await {
                Err(why @ Error::Ambiguous { .. }) => {
                    self.said.once(place.what(), &why.to_string());
                }
                Err(why) if is_damage(&why) => self.said.once(place.what(), &why.to_string()),
                other => other?,
            }
        }
        Ok(())
    }

    async fn finish_adoption(&self, place: &Place) -> Result<(), Error> {
        let key = Key::Name(place.ds.clone(), place.folder, place.name.clone());
        let _key = self.keys.hold(key, "adopt").await;
        let Some(stored) = self.read_record(place).await? else {
            return Ok(());
        };
        let record = &stored.record;
        if !record.exists() || record.group != place.folder || record.moving.is_some() {
            return Ok(());
        }
        let claim = self
            .read_claim(&place.ds, record.group, &place.name)
            .await?;
        match claim {
            Claim::Absent => return self.claim_adopted(&stored).await,
            // Another host may be at it.
            Claim::Torn => {
                let subject = format!("unfinished claim of {}", place.what());
                return match self.is_ripe(&subject) {
                    true => self.write_adopted_claim(&stored).await,
                    false => Ok(()),
                };
            }
            Claim::Of(claim) if claim.id == record.id => {}
            Claim::Of(claim) => {
                return Err(Error::Ambiguous {
                    name: place.name.clone(),
                    datastores: format!("{}: a volume of the original and {}", place.ds, claim.id),
                });
            }
        }
        self.index.claim_seen(place);
        Ok(())
    }

    /// With its disk goes the metadata that the original kept beside it.
    pub(crate) async fn remove_metadata(&self, place: &Place) -> Result<(), Error> {
        if !place.is_adopted() {
            return Ok(());
        }
        let dir = layout::group_dir(place.folder);
        for file in self.metadata_files(place).await? {
            let Ok(path) = dir.join(&file) else { continue };
            let removed = self.ports.datastores.remove(&place.ds, &path).await;
            removed.map_err(|why| unavailable(&place.ds, &why))?;
        }
        Ok(())
    }

    /// The originals among the files of a folder, as their records would be. One that cannot be read is logged, and
    /// the answer is `false`.
    pub(crate) async fn originals(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        names: impl IntoIterator<Item = VolumeName>,
    ) -> (Vec<Stored>, bool) {
        let (mut found, mut all) = (Vec::new(), true);
        for name in names {
            match self.original(ds, group, &name).await {
                Ok(original) => found.extend(original),
                Err(why) => {
                    let subject = format!("volume of the original {}", full_name(&name, ds));
                    self.said.once(subject, &why.to_string());
                    all = false;
                }
            }
        }
        (found, all)
    }
}

/// The original kept a VM's name only.
fn by_name_only(name: &str) -> VmRef {
    VmRef {
        id: VmId {
            instance_uuid: Uuid::nil(),
            config_path: String::new(),
        },
        name: name.to_owned(),
    }
}

/// `<volume>-000001.vmdk`: a snapshot's delta on this disk.
fn is_delta(entry: &str, name: &VolumeName) -> bool {
    let digits = entry
        .strip_prefix(name.as_str())
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|rest| rest.strip_suffix(".vmdk"));
    digits.is_some_and(|d| d.len() == 6 && d.bytes().all(|b| b.is_ascii_digit()))
}
