//! What is about a datastore as a whole: marker, configuration document, ledgers, what hosts tell.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde_json::Value;
use tokio::time::sleep;
use uuid::Uuid;
use vdvs_domain::{DatastoreName, Error, GroupId, HostId, VolumeId};

use super::BETWEEN_LOOKS;
use super::catalog::{Catalog, Read};
use super::findings::{FsckFinding, FsckKind, FsckState};
use crate::governance::FilesStand;
use crate::inner::{Inner, unavailable};
use crate::layout;
use crate::ledger::{Entry, Ledger};
use crate::ports::StorageError;
use crate::swap::frame::{self, Kind};
use crate::swap::{SharedFile, slot_of};

/// What of a ledger is not as the records say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Unlike {
    /// Volumes without an entry.
    missing: Vec<VolumeId>,
    /// Entries without a volume.
    garbage: Vec<VolumeId>,
    /// Entries of another size than their volume's, with that.
    sizes: Vec<(VolumeId, u64)>,
}

impl Unlike {
    fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    fn text(&self) -> String {
        let mut parts = Vec::new();
        let mut part = |n: usize, what: &str| {
            if n > 0 {
                parts.push(format!("{n} {what}"));
            }
        };
        part(self.missing.len(), "volumes are not in it");
        part(self.garbage.len(), "entries have no volume");
        part(
            self.sizes.len(),
            "entries have another size than their volume",
        );
        parts.join(", ")
    }
}

fn finding(ds: &DatastoreName, kind: FsckKind, path: String, what: String) -> FsckFinding {
    FsckFinding {
        datastore: ds.clone(),
        kind,
        path,
        volume: String::new(),
        what,
        action: String::new(),
        state: FsckState::Left,
    }
}

impl Inner {
    /// Marker, document, hosts' files. `true`: nothing else may be looked at or touched.
    pub(super) async fn fsck_whole(
        &self,
        ds: &DatastoreName,
        repair: bool,
    ) -> Result<(Vec<FsckFinding>, bool), Error> {
        let mut stand = self.answering(ds, self.files_stand(ds)).await?;
        if matches!(stand, FilesStand::NoMarker(..) | FilesStand::NoDocument(_)) {
            // Somebody may be at it.
            sleep(self.settings.poll.saturating_mul(BETWEEN_LOOKS)).await;
            stand = self.answering(ds, self.files_stand(ds)).await?;
        }
        let (marker, config) = (layout::marker().to_string(), layout::config(ds));
        let config = format!("{}/{}", config.dir, config.stem);
        let mut findings = Vec::new();
        match stand {
            FilesStand::Nothing => return Ok((findings, false)),
            FilesStand::Newer(why) => {
                let mut newer = finding(ds, FsckKind::NewerFormat, marker, why);
                newer.action =
                    "nothing on this datastore was touched; upgrade this host".to_owned();
                return Ok((vec![newer], true));
            }
            FilesStand::Whole => {}
            FilesStand::NoDocument(why) => {
                let mut lost = finding(ds, FsckKind::DamagedConfig, config, why);
                if repair {
                    self.keep_all(&layout::config(ds)).await?;
                }
                lost.action = format!(
                    "bring it back from a backup (vdvs config restore FILE), or from the copy kept on this host: vdvs config init --force --datastore {ds}"
                );
                findings.push(lost);
            }
            FilesStand::NoMarker(why, from) => {
                let mut lost = finding(ds, FsckKind::DamagedMarker, marker, why);
                (lost.state, lost.action) = match from {
                    None => (
                        FsckState::Left,
                        format!(
                            "no document beside it says what it said; see: vdvs config init --datastore {ds}"
                        ),
                    ),
                    Some(from) if !repair => (
                        FsckState::Repairable,
                        format!(
                            "it would name configuration {} on {}",
                            from.config, from.home
                        ),
                    ),
                    Some(from) => {
                        self.keep_all(&layout::markers(ds)).await?;
                        self.put_aside(ds, &layout::marker()).await?;
                        match self.mend_marker(ds, &from).await? {
                            true => (
                                FsckState::Repaired,
                                format!("it names configuration {} on {}", from.config, from.home),
                            ),
                            false => (FsckState::Left, "another host was first".to_owned()),
                        }
                    }
                };
                findings.push(lost);
            }
        }
        findings.extend(self.fsck_host_files(ds, repair).await?);
        Ok((findings, false))
    }

    /// Keeps the bytes of all slots of a file.
    async fn keep_all(&self, file: &SharedFile) -> Result<(), Error> {
        let failed = |why: StorageError| unavailable(&file.ds, &why);
        let start = format!("{}.", file.stem);
        let store = &*self.ports.datastores;
        let entries = match store.read_dir_starting(&file.ds, &file.dir, &start).await {
            Ok(entries) => entries,
            Err(StorageError::NotFound(_)) => Vec::new(),
            Err(why) => return Err(failed(why)),
        };
        for seq in entries.iter().filter_map(|e| slot_of(&e.name, &file.stem)) {
            self.put_aside(&file.ds, &file.slot(seq).map_err(failed)?)
                .await?;
        }
        Ok(())
    }

    /// What hosts tell decides nothing: a damaged file is put away, and its host writes it anew.
    async fn fsck_host_files(
        &self,
        ds: &DatastoreName,
        repair: bool,
    ) -> Result<Vec<FsckFinding>, Error> {
        let mut broken = self.broken_host_files(ds).await?;
        if !broken.is_empty() {
            sleep(self.settings.poll.saturating_mul(BETWEEN_LOOKS)).await;
            let again = self.broken_host_files(ds).await?;
            broken.retain(|host, _| again.contains_key(host));
        }
        let mut findings = Vec::new();
        for (file, newer, why) in broken.into_values() {
            let path = format!("{}/{}", file.dir, file.stem);
            let kind = match newer {
                true => FsckKind::NewerFormat,
                false => FsckKind::DamagedHostFile,
            };
            let mut found = finding(ds, kind, path, why);
            (found.state, found.action) = match (newer, repair) {
                (true, _) => (
                    FsckState::Left,
                    "it was not touched; what that host tells is not shown here until this one is upgraded"
                        .to_owned(),
                ),
                (false, false) => (
                    FsckState::Repairable,
                    "it would be put aside; its host writes it anew".to_owned(),
                ),
                (false, true) => {
                    self.keep_all(&file).await?;
                    let removed = file.remove(&*self.ports.datastores).await;
                    removed.map_err(|why| unavailable(ds, &why))?;
                    (
                        FsckState::Repaired,
                        "it was put aside; its host writes it anew".to_owned(),
                    )
                }
            };
            findings.push(found);
        }
        Ok(findings)
    }

    async fn broken_host_files(
        &self,
        ds: &DatastoreName,
    ) -> Result<BTreeMap<HostId, (SharedFile, bool, String)>, Error> {
        let store = &*self.ports.datastores;
        let entries = match store
            .read_dir_starting(ds, &layout::own_dir(), "host.")
            .await
        {
            Ok(entries) => entries,
            Err(StorageError::NotFound(_)) => Vec::new(),
            Err(why) => return Err(unavailable(ds, &why)),
        };
        let host = |name: &str| {
            let (stem, _) = name.rsplit_once('.')?;
            let id = Uuid::try_parse(stem.strip_prefix("host.")?).ok()?;
            slot_of(name, stem).map(|_| (HostId::new(id), stem.to_owned()))
        };
        let files: BTreeMap<_, _> = entries.iter().filter_map(|e| host(&e.name)).collect();
        let mut broken = BTreeMap::new();
        for (host, stem) in files {
            let file = SharedFile {
                ds: ds.clone(),
                dir: layout::own_dir(),
                stem,
                max: Kind::Host.max_bytes(),
            };
            let read: Read<Value> = match file.read(store).await {
                Ok(seen) => {
                    let what = || format!("what host {host} tells on {ds}");
                    let bytes = seen.bytes.as_deref();
                    let told = bytes.map(|b| frame::decode(Kind::Host, b, what));
                    Read::of(told.transpose().map(Option::flatten))?
                }
                Err(StorageError::TooLarge(_)) => Read::Damaged("it is too large".to_owned()),
                Err(why) => return Err(unavailable(ds, &why)),
            };
            if let Some(why) = read.fault() {
                broken.insert(host, (file, read.is_newer(), why.to_owned()));
            }
        }
        Ok(broken)
    }

    /// The ledgers, compared with the records as they are now.
    pub(super) async fn fsck_ledgers(
        self: &Arc<Self>,
        ds: &DatastoreName,
        repair: bool,
        catalog: &Catalog,
    ) -> Result<Vec<FsckFinding>, Error> {
        let mut findings = Vec::new();
        let of_records = catalog
            .records
            .values()
            .filter_map(Read::is)
            .map(|r| r.group);
        let mut groups: Vec<GroupId> = catalog.ledgers.keys().copied().chain(of_records).collect();
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            findings.extend(self.fsck_ledger(ds, group, repair, catalog).await?);
        }
        Ok(findings)
    }

    async fn fsck_ledger(
        self: &Arc<Self>,
        ds: &DatastoreName,
        group: GroupId,
        repair: bool,
        catalog: &Catalog,
    ) -> Result<Vec<FsckFinding>, Error> {
        let file = layout::ledger(ds, group);
        let path = format!("{}/{}", file.dir, file.stem);
        let mut findings = Vec::new();
        let mut read = self.read_ledger(ds, group).await?;
        let absent = || Read::Is(Ledger::default());
        if read == Read::Torn && self.is_absent(&file).await? {
            read = absent();
        }
        if let Some(why) = read.fault() {
            let kind = match read.is_newer() {
                true => FsckKind::NewerFormat,
                false => FsckKind::DamagedLedger,
            };
            let mut found = finding(ds, kind, path.clone(), why.to_owned());
            (found.state, found.action) = match (read.is_newer(), repair) {
                (true, _) => (
                    FsckState::Left,
                    "it was not touched; upgrade this host".to_owned(),
                ),
                (false, false) => (
                    FsckState::Repairable,
                    "it would be counted anew from the records".to_owned(),
                ),
                (false, true) => self.ledger_anew(&file, group).await?,
            };
            findings.push(found);
            return Ok(findings);
        }
        let unlike = self.unlike(ds, group, catalog).await?;
        if unlike.is_empty() {
            return Ok(findings);
        }
        sleep(self.settings.poll.saturating_mul(BETWEEN_LOOKS)).await;
        let again = self.unlike(ds, group, catalog).await?;
        if again != unlike {
            return Ok(findings);
        }
        let mut found = finding(ds, FsckKind::LedgerDiffers, path, unlike.text());
        (found.state, found.action) = match repair {
            false => (
                FsckState::Repairable,
                "it would say what the records say".to_owned(),
            ),
            true => {
                self.ledger_as_records(ds, group, &unlike).await?;
                (
                    FsckState::Repaired,
                    "it says what the records say".to_owned(),
                )
            }
        };
        findings.push(found);
        Ok(findings)
    }

    async fn is_absent(&self, file: &SharedFile) -> Result<bool, Error> {
        let seen = file.read(&*self.ports.datastores).await;
        let seen = seen.map_err(|why| unavailable(&file.ds, &why))?;
        Ok(seen.bytes.is_none() && seen.is_settled())
    }

    async fn ledger_anew(
        self: &Arc<Self>,
        file: &SharedFile,
        group: GroupId,
    ) -> Result<(FsckState, String), Error> {
        let store = &*self.ports.datastores;
        let failed = |why: StorageError| unavailable(&file.ds, &why);
        let seen = file.read(store).await;
        self.keep_all(file).await?;
        match seen {
            // A conflict: somebody wrote a whole one meanwhile, and the count repairs that just as well.
            Ok(seen) => {
                let empty = frame::encode(Kind::Ledger, &Ledger::default())?;
                file.swap(store, &seen, empty).await.map_err(failed)?;
            }
            Err(StorageError::TooLarge(_)) => drop(file.remove(store).await.map_err(failed)?),
            Err(why) => return Err(failed(why)),
        }
        let at = (file.ds.clone(), group);
        let counted = self.sift(&at, self.instant()).await?;
        let text = format!("counted anew from the records: {} bytes", counted.used);
        Ok((FsckState::Repaired, text))
    }

    async fn ledger_as_records(
        self: &Arc<Self>,
        ds: &DatastoreName,
        group: GroupId,
        unlike: &Unlike,
    ) -> Result<(), Error> {
        let at = (ds.clone(), group);
        self.sift(&at, self.instant()).await?;
        for (volume, bytes) in &unlike.sizes {
            let (volume, bytes) = (*volume, *bytes);
            let entries = vec![
                Entry::Remove { volume },
                Entry::Add {
                    volume,
                    bytes,
                    limit: None,
                },
            ];
            self.try_enter(&at, entries).await?;
        }
        Ok(())
    }

    /// The ledger first, then the records: a volume made in between cannot look like garbage.
    /// An entry may be of a disk whose record is lost: it stays, it says which volume that is.
    async fn unlike(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        catalog: &Catalog,
    ) -> Result<Unlike, Error> {
        let ledger = self.ledger(ds, group).await?;
        let volumes = self.indexed_on(ds).await?;
        let mut unlike = Unlike::default();
        let mut known = HashSet::new();
        for volume in &volumes {
            let record = &volume.record;
            let moving = record.moving.as_ref();
            if record.group == group || moving.is_some_and(|m| m.from == group || m.to == group) {
                known.insert(record.id);
            }
            let settled = record.exists() && moving.is_none() && record.operation.is_none();
            if record.group != group || !settled {
                continue;
            }
            match ledger.entries.get(&record.id) {
                None if volume.recorded => unlike.missing.push(record.id),
                // One of the original that nobody used yet is counted when a limit asks for it.
                None => {}
                Some(bytes) if *bytes != record.capacity.bytes() => {
                    unlike.sizes.push((record.id, record.capacity.bytes()));
                }
                Some(_) => {}
            }
        }
        let mut alone: Vec<VolumeId> = ledger.entries.keys().copied().collect();
        alone.retain(|id| !known.contains(id));
        alone.retain(|id| catalog.disks.iter().all(|place| place.id8 != id.id8()));
        if !alone.is_empty() {
            for folder in self.groups_on(ds).await? {
                let (unread, _) = self.index.unfinished(ds, folder);
                alone.retain(|id| unread.iter().all(|place| place.id8 != id.id8()));
            }
        }
        unlike.garbage = alone;
        unlike.missing.sort_unstable();
        unlike.sizes.sort_unstable();
        Ok(unlike)
    }
}
