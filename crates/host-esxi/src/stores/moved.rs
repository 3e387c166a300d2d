//! Disks that a storage migration of their VM gave another path. Such a disk is still its volume's: it has the UUID that
//! was given to it, and no disk is left at the volume's own path.
//!
//! A disk's UUID is made of its volume's id, and the volume's path carries the id's last digits: the volume is looked
//! for by those, on every datastore, and its record's whole id compared. Most disks with such a UUID are the VMs' own;
//! what was looked for once is remembered, and a volume's place looked at again each time: without its record nobody
//! could tell that the disk, which is not there, is alive elsewhere.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use uuid::Uuid;
use vdvs_engine::ports::{DiskPath, DsPath, StorageError};
use vdvs_vmdk::DiskUuid;

use super::catalog::Catalog;
use super::folder::Folder;
use super::names::TOP;

/// How UUIDs of disks begin.
const PREFIX: &str = "6000c29";
/// Digits of a volume's id in its disk's path.
const DIGITS: usize = 8;
/// For looking through one datastore.
const LOOK: Duration = Duration::from_secs(5);
/// Largest record read.
const RECORD: usize = 256 * 1024;
/// UUIDs remembered. More than any host has disks.
const MOST: usize = 8192;
/// A disk that is no volume's now is looked at again after this time.
const AGAIN: Duration = Duration::from_secs(600);

/// What UUIDs were found to be.
#[derive(Debug, Default)]
pub(crate) struct Moved(Mutex<HashMap<String, (Instant, Option<DiskPath>)>>);

/// As much of a record as says whose it is.
#[derive(Deserialize)]
struct Record {
    id: Uuid,
}

impl Moved {
    fn held(&self) -> MutexGuard<'_, HashMap<String, (Instant, Option<DiskPath>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path by which a volume knows the disk that now lies at `path`.
    pub(crate) async fn original(&self, catalog: &Catalog, path: DiskPath, uuid: &str) -> DiskPath {
        if path.path.as_str().starts_with("dockvols/") || !uuid.starts_with(PREFIX) {
            return path;
        }
        let known = self
            .held()
            .get(uuid)
            .filter(|(at, found)| found.is_some() || at.elapsed() < AGAIN)
            .cloned();
        let known = match known {
            Some((_, Some(original))) if is_over(catalog, &original).await => None,
            other => other,
        };
        let found = match known {
            Some((_, found)) => found,
            None => {
                let Ok(found) = search(catalog, uuid).await else {
                    return path;
                };
                let mut all = self.held();
                if all.len() >= MOST {
                    all.clear();
                }
                all.insert(uuid.to_owned(), (Instant::now(), found.clone()));
                found
            }
        };
        match found {
            Some(original) => {
                tracing::info!(now = %path, volume = %original, "a volume's disk was moved with its VM");
                original
            }
            None => path,
        }
    }
}

/// Whether a disk that had moved is not the volume's any more: that has no record now, or a disk at its own place. What
/// cannot be looked at is as it was.
async fn is_over(catalog: &Catalog, original: &DiskPath) -> bool {
    let disk = original.path.clone();
    let look = move |folder: &Folder| stands_empty(folder, &disk).map(|empty| !empty);
    let looked = catalog.run(&original.datastore, Instant::now() + LOOK, look);
    looked.await.unwrap_or(false)
}

/// Whether a volume has a record and no disk at its place.
fn stands_empty(folder: &Folder, disk: &DsPath) -> Result<bool, StorageError> {
    let (dir, name) = disk.as_str().rsplit_once('/').unwrap_or_default();
    let start = format!("{}.vdvs.", name.strip_suffix(".vmdk").unwrap_or(name));
    let dir = DsPath::new(dir).map_err(|e| StorageError::Io(e.to_string()))?;
    Ok(!folder.read_dir(&dir, &start)?.is_empty() && !folder.has_disk(disk)?)
}

/// The volume with a disk of this UUID whose own place is empty.
async fn search(catalog: &Catalog, uuid: &str) -> Result<Option<DiskPath>, StorageError> {
    for store in catalog.stores().await? {
        let wanted = uuid.to_owned();
        let look = move |folder: &Folder| in_folder(folder, &wanted);
        let found = catalog
            .run(&store.name, Instant::now() + LOOK, look)
            .await?;
        if let Some(path) = found {
            return Ok(Some(DiskPath {
                datastore: store.name.clone(),
                path,
            }));
        }
    }
    Ok(None)
}

fn in_folder(folder: &Folder, uuid: &str) -> Result<Option<DsPath>, StorageError> {
    let Some(digits) = uuid.len().checked_sub(DIGITS).and_then(|at| uuid.get(at..)) else {
        return Ok(None);
    };
    let mark = format!(".{digits}.vdvs.");
    let path = |text: String| DsPath::new(&text).map_err(|e| StorageError::Io(e.to_string()));
    let groups = match folder.read_dir(&path(TOP.to_owned())?, "") {
        Ok(groups) => groups,
        Err(StorageError::NotFound(_)) => return Ok(None),
        Err(why) => return Err(why),
    };
    for group in groups.into_iter().filter(|g| g.is_dir) {
        let group = format!("{TOP}/{}", group.name);
        for entry in folder.read_dir(&path(group.clone())?, "")? {
            let Some((name, _)) = entry.name.rsplit_once(&mark) else {
                continue;
            };
            let record = folder.read(&path(format!("{group}/{}", entry.name))?, RECORD)?;
            let disk = path(format!("{group}/{name}.{digits}.vmdk"))?;
            if is_of(&record, uuid) && !folder.has_disk(&disk)? {
                return Ok(Some(disk));
            }
        }
    }
    Ok(None)
}

/// Whether a record is of the volume whose disk has this UUID. A record is a header line and JSON.
fn is_of(record: &[u8], uuid: &str) -> bool {
    let Some(end) = record.iter().position(|b| *b == b'\n') else {
        return false;
    };
    let body = record.get(end + 1..).unwrap_or_default();
    serde_json::from_slice::<Record>(body)
        .is_ok_and(|r| DiskUuid::from_random(r.id.into_bytes()).to_string() == uuid)
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, remove_file, write};

    use tempfile::tempdir;
    use vdvs_domain::DatastoreName;

    use super::*;

    #[test]
    fn a_disk_with_a_volumes_uuid_is_the_volumes_only_while_its_own_place_is_empty() {
        let dir = tempdir().unwrap();
        let group = dir
            .path()
            .join("dockvols/11111111-1111-1111-1111-111111111111");
        create_dir_all(&group).unwrap();
        let id = Uuid::parse_str("01920000-0000-7000-8000-0000deadbeef").unwrap();
        let record = format!("header\n{{\"id\":\"{id}\",\"name\":\"v\"}}");
        write(group.join("v.deadbeef.vdvs.7"), record).unwrap();
        write(group.join("v.deadbeef.vmdk"), "x").unwrap();
        let folder = Folder {
            name: DatastoreName::new("ds").unwrap(),
            root: dir.path().to_owned(),
        };
        let uuid = DiskUuid::from_random(id.into_bytes()).to_string();
        assert_eq!(in_folder(&folder, &uuid), Ok(None), "a copy of the disk");
        remove_file(group.join("v.deadbeef.vmdk")).unwrap();
        let found = in_folder(&folder, &uuid).unwrap().unwrap();
        assert_eq!(
            found.as_str(),
            "dockvols/11111111-1111-1111-1111-111111111111/v.deadbeef.vmdk"
        );
        let other = format!("6000c290{}deadbeef", "0".repeat(16));
        assert_eq!(
            in_folder(&folder, &other),
            Ok(None),
            "another volume's last digits"
        );
    }

    #[test]
    fn a_moved_disk_is_the_volumes_no_more_without_a_record_or_with_a_disk_at_the_volumes_place() {
        let dir = tempdir().unwrap();
        let group = dir.path().join("dockvols/g");
        create_dir_all(&group).unwrap();
        let record = group.join("v.deadbeef.vdvs.7");
        write(&record, "any").unwrap();
        let folder = Folder {
            name: DatastoreName::new("ds").unwrap(),
            root: dir.path().to_owned(),
        };
        let disk = DsPath::new("dockvols/g/v.deadbeef.vmdk").unwrap();
        assert_eq!(stands_empty(&folder, &disk), Ok(true));
        write(group.join("v.deadbeef.vmdk"), "x").unwrap();
        assert_eq!(stands_empty(&folder, &disk), Ok(false), "a disk");
        remove_file(group.join("v.deadbeef.vmdk")).unwrap();
        remove_file(&record).unwrap();
        assert_eq!(stands_empty(&folder, &disk), Ok(false), "no record");
    }
}
