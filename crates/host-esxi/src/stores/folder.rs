//! A datastore's folder, for the time of one call: plain file calls, each of which may take as long as it takes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use vdvs_domain::DatastoreName;
use vdvs_engine::ports::{DiskStat, DsPath, Entry, StorageError};
use vdvs_vmdk::Descriptor;

use crate::files::sync_dir;

/// Shared by root of several hosts, nobody else's.
const MODE: u32 = 0o600;
/// Larger than most records: read with one call.
const USUAL: usize = 2048;
/// Largest descriptor read. Real ones have a kilobyte.
const DESCRIPTOR: usize = 64 * 1024;
/// What a block of `stat` counts.
const BLOCK: u64 = 512;

/// A datastore's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) name: DatastoreName,
    pub(crate) root: PathBuf,
}

impl Folder {
    pub(crate) fn at(&self, path: &DsPath) -> PathBuf {
        self.root.join(path.as_str())
    }

    pub(crate) fn place(&self, path: &DsPath) -> String {
        format!("[{}] {path}", self.name)
    }

    /// The meaning of a failure at `path`. That something is missing may only be said of a datastore that is there.
    pub(crate) fn fault(&self, path: &DsPath, error: &io::Error) -> StorageError {
        let place = || self.place(path);
        match error.kind() {
            ErrorKind::NotFound if self.root.is_dir() => StorageError::NotFound(place()),
            ErrorKind::NotFound => {
                StorageError::Io(format!("datastore '{}' cannot be read", self.name))
            }
            ErrorKind::AlreadyExists => StorageError::AlreadyExists(place()),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StorageError::NoSpace,
            _ => StorageError::Io(format!("{}: {error}", place())),
        }
    }

    fn sync_parent(&self, path: &DsPath) -> Result<(), StorageError> {
        let full = self.at(path);
        sync_dir(full.parent().unwrap_or(&self.root)).map_err(|e| self.fault(path, &e))
    }

    pub(crate) fn read_dir(&self, dir: &DsPath, start: &str) -> Result<Vec<Entry>, StorageError> {
        let io = |e: io::Error| self.fault(dir, &e);
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.at(dir)).map_err(io)? {
            let entry = entry.map_err(io)?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if !name.starts_with(start) {
                continue;
            }
            let kind = entry.file_type().map_err(io)?;
            // A link, as the original left one for each group's name, is what it points to.
            let is_dir = kind.is_dir() || (kind.is_symlink() && entry.path().is_dir());
            entries.push(Entry { name, is_dir });
        }
        Ok(entries)
    }

    pub(crate) fn read_each(
        &self,
        files: &[DsPath],
        max: usize,
    ) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        let read = |file| match self.read(file, max) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StorageError::NotFound(_)) => Ok(None),
            Err(why) => Err(why),
        };
        files.iter().map(read).collect()
    }

    /// Whether the first component of a path is there.
    pub(crate) fn has_top(&self, top: &str) -> Result<bool, StorageError> {
        if !self.root.is_dir() {
            return Err(StorageError::Io(format!(
                "datastore '{}' cannot be read",
                self.name
            )));
        }
        Ok(self.root.join(top).is_dir())
    }

    /// Makes a folder and its parents, apart from the first where `below_top` is set.
    pub(crate) fn make_dir(&self, dir: &DsPath) -> Result<(), StorageError> {
        if !self.root.is_dir() {
            return Err(self.fault(dir, &ErrorKind::NotFound.into()));
        }
        let mut here = self.root.clone();
        for component in dir.as_str().split('/') {
            let parent = here.clone();
            here.push(component);
            match fs::create_dir(&here) {
                Err(_) if here.is_dir() => {}
                made => made
                    .and_then(|()| sync_dir(&parent))
                    .map_err(|e| self.fault(dir, &e))?,
            }
        }
        Ok(())
    }

    pub(crate) fn create_new(&self, file: &DsPath) -> Result<(), StorageError> {
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(self.at(file));
        made.map(drop).map_err(|e| self.fault(file, &e))
    }

    pub(crate) fn write(&self, file: &DsPath, bytes: &[u8]) -> Result<(), StorageError> {
        let put = || {
            let mut open = OpenOptions::new()
                .write(true)
                .truncate(true)
                .open(self.at(file))?;
            open.write_all(bytes)?;
            open.sync_all()
        };
        put().map_err(|e| self.fault(file, &e))?;
        self.sync_parent(file)
    }

    pub(crate) fn read(&self, file: &DsPath, max: usize) -> Result<Vec<u8>, StorageError> {
        let get = || {
            let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
            let mut bytes = Vec::with_capacity(USUAL.min(max));
            File::open(self.at(file))?
                .take(limit)
                .read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = get().map_err(|e| self.fault(file, &e))?;
        if bytes.len() > max {
            return Err(StorageError::TooLarge(self.place(file)));
        }
        Ok(bytes)
    }

    pub(crate) fn read_unless(
        &self,
        newer: &DsPath,
        file: &DsPath,
        max: usize,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        match fs::symlink_metadata(self.at(newer)).map_err(|e| self.fault(newer, &e)) {
            Err(StorageError::NotFound(_)) => self.read(file, max).map(Some),
            Ok(_) => Ok(None),
            Err(other) => Err(other),
        }
    }

    pub(crate) fn discard(&self, file: &DsPath) -> Result<bool, StorageError> {
        match fs::remove_file(self.at(file)).map_err(|e| self.fault(file, &e)) {
            Ok(()) => Ok(true),
            Err(StorageError::NotFound(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    pub(crate) fn remove(&self, file: &DsPath) -> Result<bool, StorageError> {
        let gone = self.discard(file)?;
        if gone {
            self.sync_parent(file)?;
        }
        Ok(gone)
    }

    /// A disk by its descriptor. One that is not complete (hostd was cut off while it made it) has no size.
    pub(crate) fn stat_disk(&self, file: &DsPath) -> Result<Option<DiskStat>, StorageError> {
        let bytes = match self.read(file, DESCRIPTOR) {
            Ok(bytes) => bytes,
            Err(StorageError::NotFound(_)) => return Ok(None),
            Err(other) => return Err(other),
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        let damaged = |why: String| StorageError::Io(format!("{}: {why}", self.place(file)));
        let descriptor = Descriptor::parse(&bytes).map_err(|e| damaged(e.to_string()))?;
        let capacity = descriptor.capacity().map_err(|e| damaged(e.to_string()))?;
        Ok(Some(DiskStat {
            capacity,
            allocated_bytes: self.allocated(file),
        }))
    }

    /// Bytes a disk's extent occupies; 0 where that is an object and no file, as on vSAN.
    pub(crate) fn allocated(&self, file: &DsPath) -> u64 {
        let extent = extent(file).map(|e| self.at(&e));
        let found = extent.and_then(|e| fs::metadata(e).ok());
        found.map_or(0, |m| m.blocks().saturating_mul(BLOCK))
    }

    /// Whether a descriptor or an extent is there.
    pub(crate) fn has_disk(&self, file: &DsPath) -> Result<bool, StorageError> {
        let there = |file: &DsPath| match fs::symlink_metadata(self.at(file))
            .map_err(|e| self.fault(file, &e))
        {
            Ok(_) => Ok(true),
            Err(StorageError::NotFound(_)) => Ok(false),
            Err(other) => Err(other),
        };
        Ok(there(file)? || extent(file).map_or(Ok(false), |e| there(&e))?)
    }

    /// Removes what hostd left of a disk: what it does not know as one any more.
    pub(crate) fn sweep_disk(&self, file: &DsPath) -> Result<bool, StorageError> {
        let extent = match extent(file) {
            Some(extent) => self.discard(&extent)?,
            None => false,
        };
        Ok(self.remove(file)? || extent)
    }

    /// Where a path really lies below this datastore: its folder with links followed.
    pub(crate) fn resolve(&self, path: &DsPath) -> Option<DsPath> {
        let root = self.root.canonicalize().ok()?;
        let full = root.join(path.as_str());
        let folder = full.parent()?.canonicalize().ok()?;
        let below = folder.strip_prefix(&root).ok()?;
        DsPath::new(below.join(path.file_name()).to_str()?).ok()
    }
}

/// The file of a disk's data, beside its descriptor.
pub(crate) fn extent(descriptor: &DsPath) -> Option<DsPath> {
    let stem = descriptor.as_str().strip_suffix(".vmdk")?;
    DsPath::new(&format!("{stem}-flat.vmdk")).ok()
}

/// The folder a datastore's url names: `/vmfs/volumes/<id>`, also as `ds:///vmfs/…` and `vsan:<id>`.
pub(crate) fn root_of(url: &str) -> Option<PathBuf> {
    let path = url
        .strip_prefix("ds://")
        .unwrap_or(url)
        .trim_end_matches('/');
    if path.starts_with("vsan:") || path.starts_with("vvol:") {
        return Some(Path::new("/vmfs/volumes").join(path));
    }
    path.starts_with('/').then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, write};
    use std::os::unix::fs::symlink;

    use tempfile::{TempDir, tempdir};

    use super::*;

    fn folder(dir: &TempDir) -> Folder {
        Folder {
            name: DatastoreName::new("ds").unwrap(),
            root: dir.path().to_owned(),
        }
    }

    fn path(text: &str) -> DsPath {
        DsPath::new(text).unwrap()
    }

    #[test]
    fn a_url_is_read_in_all_its_spellings() {
        for (url, root) in [
            ("/vmfs/volumes/4f-1/", "/vmfs/volumes/4f-1"),
            ("ds:///vmfs/volumes/vsan:52e-1/", "/vmfs/volumes/vsan:52e-1"),
            ("vsan:52e-1", "/vmfs/volumes/vsan:52e-1"),
        ] {
            assert_eq!(root_of(url), Some(PathBuf::from(root)), "{url}");
        }
        assert_eq!(root_of("nfs://server/share"), None);
    }

    #[test]
    fn missing_is_said_only_of_a_datastore_that_is_there() {
        let dir = tempdir().unwrap();
        let here = folder(&dir);
        let missing = here.read(&path("dockvols/x"), 10);
        assert!(
            matches!(missing, Err(StorageError::NotFound(_))),
            "{missing:?}"
        );
        drop(dir);
        let away = here.read(&path("dockvols/x"), 10);
        assert!(matches!(away, Err(StorageError::Io(_))), "{away:?}");
        let away = here.read_dir(&path("dockvols"), "");
        assert!(matches!(away, Err(StorageError::Io(_))), "{away:?}");
    }

    #[test]
    fn a_disk_cut_off_while_it_was_made_is_none_and_is_swept() {
        let dir = tempdir().unwrap();
        let (here, disk) = (folder(&dir), path("v.12345678.vmdk"));
        write(here.at(&disk), "").unwrap();
        write(dir.path().join("v.12345678-flat.vmdk"), "").unwrap();
        assert_eq!(here.stat_disk(&disk), Ok(None));
        assert_eq!(here.has_disk(&disk), Ok(true));
        assert_eq!(here.sweep_disk(&disk), Ok(true));
        assert_eq!(here.has_disk(&disk), Ok(false));
        assert_eq!(here.sweep_disk(&disk), Ok(false));
    }

    #[test]
    fn a_path_through_a_link_lies_where_the_link_leads() {
        let dir = tempdir().unwrap();
        create_dir_all(dir.path().join("5f-1/11111111")).unwrap();
        symlink("5f-1", dir.path().join("dockvols")).unwrap();
        symlink("11111111", dir.path().join("5f-1/_DEFAULT")).unwrap();
        let found = folder(&dir)
            .resolve(&path("dockvols/_DEFAULT/v.vmdk"))
            .unwrap();
        assert_eq!(found.as_str(), "5f-1/11111111/v.vmdk");
        assert_eq!(folder(&dir).resolve(&path("dockvols/nobody/v.vmdk")), None);
    }

    #[test]
    fn a_folder_is_made_with_its_parents_and_may_be_there() {
        let dir = tempdir().unwrap();
        let here = folder(&dir);
        here.make_dir(&path("dockvols/a/b")).unwrap();
        here.make_dir(&path("dockvols/a/b")).unwrap();
        assert!(dir.path().join("dockvols/a/b").is_dir());
        write(dir.path().join("file"), "").unwrap();
        assert!(here.make_dir(&path("file/a")).is_err());
    }
}
