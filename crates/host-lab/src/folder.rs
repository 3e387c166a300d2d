//! A datastore's folder, for the time of one call: plain file calls, each of which may take as long as it takes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::thread::scope;

use vdvs_domain::{DatastoreName, DiskFormat};
use vdvs_engine::ports::{DiskSpec, DiskStat, DsPath, Entry, FolderStamp, Progress, StorageError};
use vdvs_vmdk::{Adapter, DiskFiles, DiskUuid, Error as VmdkError, NewDisk, Provisioning};

use crate::config::{Watched, is_settled};
use crate::files::sync_dir;

/// Shared by root of several hosts, nobody else's.
const MODE: u32 = 0o600;
/// Larger than most records: read with one call.
const USUAL: usize = 2048;

/// A datastore's folder, for the time of one call.
pub(crate) struct Folder {
    name: DatastoreName,
    root: PathBuf,
}

impl Folder {
    pub(crate) fn find(config: &Watched, name: DatastoreName) -> Result<Self, StorageError> {
        let config = config.now().map_err(|e| StorageError::Io(e.to_string()))?;
        match config.folder(name.as_str()) {
            Some(root) => Ok(Self {
                root: root.to_owned(),
                name,
            }),
            None => Err(StorageError::Io(format!(
                "this host has no datastore '{name}'"
            ))),
        }
    }

    pub(crate) fn at(&self, path: &DsPath) -> PathBuf {
        self.root.join(path.as_str())
    }

    /// The meaning of a failure at `path`. That something is missing may only be said of a datastore that is there.
    pub(crate) fn fault(&self, path: &DsPath, error: &io::Error) -> StorageError {
        let place = || format!("[{}] {path}", self.name);
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

    pub(crate) fn disk_fault(&self, path: &DsPath, error: &VmdkError) -> StorageError {
        let place = format!("[{}] {path}", self.name);
        match error {
            VmdkError::Exists(_) => StorageError::AlreadyExists(place),
            VmdkError::NotFound(_) if self.root.is_dir() => StorageError::NotFound(place),
            VmdkError::NoSpace { .. } => StorageError::NoSpace,
            VmdkError::Cancelled(_) => StorageError::Stopped,
            VmdkError::SourceChanged(_) => StorageError::Busy("a writer".to_owned()),
            VmdkError::Io { source, doing, .. } => match self.fault(path, source) {
                StorageError::Io(_) => {
                    StorageError::Io(format!("cannot {doing} {place}: {source}"))
                }
                known => known,
            },
            VmdkError::Damaged { source, .. } => StorageError::Io(format!("{error}: {source}")),
            other => StorageError::Io(other.to_string()),
        }
    }

    pub(crate) fn disk(&self, path: &DsPath) -> Result<DiskFiles, StorageError> {
        DiskFiles::new(&self.at(path)).map_err(|e| self.disk_fault(path, &e))
    }

    pub(crate) fn sync_parent(&self, path: &DsPath) -> Result<(), StorageError> {
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

    /// A folder whose entries changed a moment ago may change again without its time stamp showing it.
    pub(crate) fn stamp(&self, dir: &DsPath) -> Result<Option<FolderStamp>, StorageError> {
        let found = match fs::metadata(self.at(dir)) {
            Ok(found) => found,
            Err(e) => match self.fault(dir, &e) {
                StorageError::NotFound(_) => return Ok(None),
                other => return Err(other),
            },
        };
        Ok(is_settled(&found).then(|| FolderStamp {
            inode: found.ino(),
            changed: (found.mtime(), found.mtime_nsec()),
        }))
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

    pub(crate) fn make_dir(&self, dir: &DsPath) -> Result<(), StorageError> {
        if !self.root.is_dir() {
            return Err(self.fault(dir, &ErrorKind::NotFound.into()));
        }
        let mut here = self.root.clone();
        for component in dir.as_str().split('/') {
            let parent = here.clone();
            here.push(component);
            match fs::create_dir(&here) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists && here.is_dir() => {}
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
            io::Result::Ok(open)
        };
        let open = put().map_err(|e| self.fault(file, &e))?;
        // Content and name, together: a journalling file system makes one commit of the two.
        let (content, name) = scope(|both| {
            let name = both.spawn(|| self.sync_parent(file));
            (open.sync_all(), name.join())
        });
        content.map_err(|e| self.fault(file, &e))?;
        name.unwrap_or_else(|_| Err(StorageError::Io("syncing a folder panicked".to_owned())))
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
            return Err(StorageError::TooLarge(format!("[{}] {file}", self.name)));
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

    pub(crate) fn create_disk(
        &self,
        file: &DsPath,
        spec: &DiskSpec,
        progress: &Progress,
    ) -> Result<(), StorageError> {
        let made = self
            .disk(file)?
            .create(&new_disk(spec), &mut |p| told(progress, p));
        made.map(drop).map_err(|e| self.disk_fault(file, &e))
    }

    pub(crate) fn clone_disk(
        &self,
        source: &DiskFiles,
        file: &DsPath,
        spec: &DiskSpec,
        progress: &Progress,
    ) -> Result<(), StorageError> {
        let made = self
            .disk(file)?
            .clone_from(source, &new_disk(spec), &mut |p| told(progress, p));
        made.map(drop).map_err(|e| self.disk_fault(file, &e))
    }

    pub(crate) fn stat_disk(&self, file: &DsPath) -> Result<Option<DiskStat>, StorageError> {
        match self.disk(file)?.stat() {
            Ok(stat) => Ok(Some(DiskStat {
                capacity: stat.capacity,
                allocated_bytes: stat.allocated,
            })),
            Err(e) => match (self.disk_fault(file, &e), e) {
                (StorageError::NotFound(_), VmdkError::NotFound(_)) => Ok(None),
                (other, _) => Err(other),
            },
        }
    }
}

fn new_disk(spec: &DiskSpec) -> NewDisk {
    NewDisk {
        capacity: spec.capacity,
        provisioning: match spec.format {
            DiskFormat::Thin => Provisioning::Thin,
            DiskFormat::ZeroedThick => Provisioning::ZeroedThick,
            DiskFormat::EagerZeroedThick => Provisioning::EagerZeroedThick,
        },
        adapter: Adapter::LsiLogic,
        uuid: DiskUuid::from_random(spec.uuid.into_bytes()),
        // Any number will do that differs from disk to disk.
        content_id: spec.uuid.as_u128().rotate_left(64),
    }
}

/// Passes on how far the work has come, and whether it shall go on.
fn told(progress: &Progress, p: vdvs_vmdk::Progress) -> ControlFlow<()> {
    progress.set(p.done, p.total);
    if progress.is_stopped() {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}
