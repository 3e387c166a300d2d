//! The engine's [`Datastores`] port: plain file calls below the datastores' folders, on threads of their own.
//!
//! * A datastore that hangs blocks only itself: each has [`SLOTS`] calls at once, and a call that does not end within
//!   [`LIMIT`] is answered with an error while its thread waits on.
//! * *Not found* is said only when the datastore's own folder is there.
//! * What is reported written is durable, with its name.
//! * A disk that somebody has open is not deleted, as on a real host.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use nix::sys::statvfs::statvfs;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};
use vdvs_domain::{DatastoreName, DiskFormat};
use vdvs_engine::ports::{
    DatastoreInfo, Datastores, DiskPath, DiskSpec, DiskStat, DsPath, Entry, StorageError,
};
use vdvs_vmdk::{Adapter, DiskFiles, DiskUuid, Error as VmdkError, NewDisk, Provisioning};

use crate::client::{ClientError, LabClient};
use crate::config::{ConfigError, DatastoreConfig, HostConfig};
use crate::files::sync_dir;
use crate::host;
use crate::protocol::{LabErrorKind, LockState};

/// Calls on one datastore at once. Enough to keep a disk busy; a few hanging datastores do not use up all threads.
const SLOTS: usize = 16;
/// A small file takes milliseconds.
const LIMIT: Duration = Duration::from_secs(20);
/// A look at a datastore's folder takes microseconds. Every request looks at all of them, so one that hangs may not
/// take the time of requests for the others.
const LOOK: Duration = Duration::from_secs(1);
/// Shared by root of several hosts, nobody else's.
const MODE: u32 = 0o600;

/// The datastores of a lab host.
#[derive(Debug)]
pub struct LabDatastores {
    host_dir: PathBuf,
    labhv: LabClient,
    slots: Mutex<HashMap<DatastoreName, Arc<Semaphore>>>,
}

impl LabDatastores {
    /// The datastores that `<host_dir>/host.json` names.
    ///
    /// # Errors
    /// When it cannot be used now. It is read again at each call: datastores come and go.
    pub fn new(host_dir: &Path) -> Result<Self, ConfigError> {
        HostConfig::load(host_dir)?;
        Ok(Self {
            host_dir: host_dir.to_owned(),
            labhv: host::client(host_dir),
            slots: Mutex::default(),
        })
    }

    /// Runs `act` with the datastore's folder on a thread of its own.
    async fn run<T: Send + 'static>(
        &self,
        ds: &DatastoreName,
        deadline: Instant,
        act: impl FnOnce(&Folder) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let slots = {
            let mut all = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Semaphore::new(SLOTS));
            Arc::clone(all.entry(ds.clone()).or_insert_with(new))
        };
        let (host_dir, name) = (self.host_dir.clone(), ds.clone());
        let work = async move {
            let slot = slots
                .acquire_owned()
                .await
                .map_err(|e| StorageError::Io(e.to_string()))?;
            let done = spawn_blocking(move || {
                // Kept to the end of the work even when nobody waits for it any more.
                let _slot = slot;
                act(&Folder::find(&host_dir, name)?)
            });
            done.await.map_err(|e| StorageError::Io(e.to_string()))?
        };
        timeout_at(deadline, work).await.unwrap_or_else(|_| {
            Err(StorageError::Io(format!(
                "datastore '{ds}' did not answer in time"
            )))
        })
    }

    /// What a datastore is now; not accessible when it does not say so soon.
    async fn look(&self, name: DatastoreName, config: DatastoreConfig) -> DatastoreInfo {
        let silent = DatastoreInfo {
            name: name.clone(),
            kind: config.kind.into(),
            accessible: false,
            capacity_bytes: 0,
            free_bytes: 0,
        };
        let own = name.clone();
        let look = self.run(&name, Instant::now() + LOOK, move |_| {
            Ok(describe(own, &config))
        });
        look.await.unwrap_or(silent)
    }

    async fn soon<T: Send + 'static>(
        &self,
        ds: &DatastoreName,
        act: impl FnOnce(&Folder) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.run(ds, Instant::now() + LIMIT, act).await
    }
}

/// A datastore's folder, for the time of one call.
struct Folder {
    name: DatastoreName,
    root: PathBuf,
}

impl Folder {
    fn find(host_dir: &Path, name: DatastoreName) -> Result<Self, StorageError> {
        let config = HostConfig::load(host_dir).map_err(|e| StorageError::Io(e.to_string()))?;
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

    fn at(&self, path: &DsPath) -> PathBuf {
        self.root.join(path.as_str())
    }

    /// The meaning of a failure at `path`. That something is missing may only be said of a datastore that is there.
    fn fault(&self, path: &DsPath, error: &io::Error) -> StorageError {
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

    fn disk_fault(&self, path: &DsPath, error: &VmdkError) -> StorageError {
        let place = format!("[{}] {path}", self.name);
        match error {
            VmdkError::Exists(_) => StorageError::AlreadyExists(place),
            VmdkError::NotFound(_) if self.root.is_dir() => StorageError::NotFound(place),
            VmdkError::NoSpace { .. } => StorageError::NoSpace,
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

    fn disk(&self, path: &DsPath) -> Result<DiskFiles, StorageError> {
        DiskFiles::new(&self.at(path)).map_err(|e| self.disk_fault(path, &e))
    }

    fn sync_parent(&self, path: &DsPath) -> Result<(), StorageError> {
        let full = self.at(path);
        sync_dir(full.parent().unwrap_or(&self.root)).map_err(|e| self.fault(path, &e))
    }

    fn read_dir(&self, dir: &DsPath) -> Result<Vec<Entry>, StorageError> {
        let io = |e: io::Error| self.fault(dir, &e);
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.at(dir)).map_err(io)? {
            let entry = entry.map_err(io)?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let kind = entry.file_type().map_err(io)?;
            // A link, as the original left one for each group's name, is what it points to.
            let is_dir = kind.is_dir() || (kind.is_symlink() && entry.path().is_dir());
            entries.push(Entry { name, is_dir });
        }
        Ok(entries)
    }

    fn make_dir(&self, dir: &DsPath) -> Result<(), StorageError> {
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

    fn create_new(&self, file: &DsPath) -> Result<(), StorageError> {
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(self.at(file));
        made.map(drop).map_err(|e| self.fault(file, &e))
    }

    fn write(&self, file: &DsPath, bytes: &[u8]) -> Result<(), StorageError> {
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

    fn read(&self, file: &DsPath, max: usize) -> Result<Vec<u8>, StorageError> {
        let get = || {
            let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
            let mut bytes = Vec::new();
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

    fn remove(&self, file: &DsPath) -> Result<bool, StorageError> {
        match fs::remove_file(self.at(file)).map_err(|e| self.fault(file, &e)) {
            Ok(()) => self.sync_parent(file).map(|()| true),
            Err(StorageError::NotFound(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    fn create_disk(
        &self,
        file: &DsPath,
        spec: &DiskSpec,
        deadline: Instant,
    ) -> Result<(), StorageError> {
        let disk = NewDisk {
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
        };
        let made = self.disk(file)?.create(&disk, &mut |_| {
            if Instant::now() < deadline {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        made.map(drop).map_err(|e| self.disk_fault(file, &e))
    }

    fn stat_disk(&self, file: &DsPath) -> Result<Option<DiskStat>, StorageError> {
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

/// What a datastore is now.
fn describe(name: DatastoreName, config: &DatastoreConfig) -> DatastoreInfo {
    let mut info = DatastoreInfo {
        name,
        kind: config.kind.into(),
        accessible: config.path.is_dir(),
        capacity_bytes: 0,
        free_bytes: 0,
    };
    match statvfs(&config.path) {
        Ok(s) => {
            info.capacity_bytes = s.blocks().saturating_mul(s.fragment_size());
            info.free_bytes = s.blocks_available().saturating_mul(s.fragment_size());
        }
        Err(_) => info.accessible = false,
    }
    info
}

#[async_trait]
impl Datastores for LabDatastores {
    async fn list(&self) -> Result<Vec<DatastoreInfo>, StorageError> {
        let config =
            HostConfig::load(&self.host_dir).map_err(|e| StorageError::Io(e.to_string()))?;
        let mut looks = Vec::new();
        for ds in config.datastores {
            let name = DatastoreName::new(&ds.name).map_err(|e| StorageError::Io(e.to_string()))?;
            looks.push(self.look(name, ds));
        }
        Ok(join_all(looks).await)
    }

    async fn read_dir(&self, ds: &DatastoreName, dir: &DsPath) -> Result<Vec<Entry>, StorageError> {
        let dir = dir.clone();
        self.soon(ds, move |folder| folder.read_dir(&dir)).await
    }

    async fn make_dir(&self, ds: &DatastoreName, dir: &DsPath) -> Result<(), StorageError> {
        let dir = dir.clone();
        self.soon(ds, move |folder| folder.make_dir(&dir)).await
    }

    async fn create_new(&self, ds: &DatastoreName, file: &DsPath) -> Result<(), StorageError> {
        let file = file.clone();
        self.soon(ds, move |folder| folder.create_new(&file)).await
    }

    async fn write(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        let (file, bytes) = (file.clone(), bytes.to_owned());
        self.soon(ds, move |folder| folder.write(&file, &bytes))
            .await
    }

    async fn read(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
        max: usize,
    ) -> Result<Vec<u8>, StorageError> {
        let file = file.clone();
        self.soon(ds, move |folder| folder.read(&file, max)).await
    }

    async fn remove(&self, ds: &DatastoreName, file: &DsPath) -> Result<bool, StorageError> {
        let file = file.clone();
        self.soon(ds, move |folder| folder.remove(&file)).await
    }

    async fn create_disk(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
        spec: &DiskSpec,
        deadline: Instant,
    ) -> Result<(), StorageError> {
        let (file, spec) = (file.clone(), spec.clone());
        // Its thread ends at the deadline by itself, and takes back what it made. Waited for, so that nobody removes
        // the disk while it still grows.
        let end = deadline.checked_add(LIMIT).unwrap_or(deadline);
        self.run(ds, end, move |folder| {
            folder.create_disk(&file, &spec, deadline)
        })
        .await
    }

    async fn delete_disk(&self, ds: &DatastoreName, file: &DsPath) -> Result<bool, StorageError> {
        let disk = DiskPath {
            datastore: ds.clone(),
            path: file.clone(),
        };
        match self
            .labhv
            .lock(&host::asked(&disk), Instant::now() + LIMIT)
            .await
        {
            Ok((LockState::Free, _)) => {}
            Ok((LockState::Held, holder)) => {
                let holder = holder.as_deref().unwrap_or("another program");
                return Err(StorageError::Io(format!(
                    "disk {disk} is locked by {holder}"
                )));
            }
            Ok((LockState::Unknown, _)) => {
                return Err(StorageError::Io(format!(
                    "cannot tell whether disk {disk} is in use"
                )));
            }
            // Nothing to be in use; the datastore's folder says what is there.
            Err(ClientError::Refused(e)) if e.kind == LabErrorKind::NoSuchDisk => {}
            Err(e) => {
                let why = format!("cannot tell whether disk {disk} is in use: {e}");
                return Err(StorageError::Io(why));
            }
        }
        let file = file.clone();
        self.soon(ds, move |folder| {
            folder
                .disk(&file)?
                .delete()
                .map_err(|e| folder.disk_fault(&file, &e))
        })
        .await
    }

    async fn stat_disk(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
    ) -> Result<Option<DiskStat>, StorageError> {
        let file = file.clone();
        self.soon(ds, move |folder| folder.stat_disk(&file)).await
    }
}
