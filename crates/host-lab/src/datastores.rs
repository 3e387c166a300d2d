//! The engine's [`Datastores`] port: plain file calls below the datastores' folders, on threads of their own.
//!
//! * A datastore that hangs blocks only itself: each has [`SLOTS`] calls at once, and a call that does not end within
//!   [`LIMIT`] is answered with an error while its thread waits on.
//! * *Not found* is said only when the datastore's own folder is there.
//! * What is reported written is durable, with its name.
//! * A disk that somebody has open is not deleted, as on a real host.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use nix::sys::statvfs::statvfs;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};
use vdvs_domain::policy::PolicyExpression;
use vdvs_domain::{DatastoreName, DiskFormat};
use vdvs_engine::ports::{
    DatastoreInfo, Datastores, DiskPath, DiskSpec, DiskStat, DsPath, Entry, FolderStamp, Progress,
    StorageError,
};

use crate::client::{ClientError, LabClient};
use crate::config::{ConfigError, DatastoreConfig, Watched};
use crate::folder::Folder;
use crate::host;
use crate::protocol::{LabErrorKind, LockState};

/// Calls on one datastore at once. Enough to keep a disk busy; a few hanging datastores do not use up all threads.
const SLOTS: usize = 16;
/// Disks being written on one datastore at once: more of them only take turns.
const LONG_SLOTS: usize = 4;
/// A small file takes milliseconds.
const LIMIT: Duration = Duration::from_secs(20);
/// A look at a datastore's folder takes microseconds. Every request looks at all of them, so one that hangs may not
/// take the time of requests for the others.
const LOOK: Duration = Duration::from_secs(1);
/// Sizes and free room are shown to people; they need not be newer.
const LATELY: Duration = Duration::from_secs(1);

/// The datastores of a lab host.
#[derive(Debug)]
pub struct LabDatastores {
    config: Arc<Watched>,
    labhv: LabClient,
    slots: Slots,
    long_slots: Slots,
    looked: Mutex<HashMap<DatastoreName, (Instant, DatastoreInfo)>>,
}

impl LabDatastores {
    /// The datastores that `<host_dir>/host.json` names.
    ///
    /// # Errors
    /// When it cannot be used now. It is read again at each call: datastores come and go.
    pub fn new(host_dir: &Path) -> Result<Self, ConfigError> {
        Ok(Self {
            config: Arc::new(Watched::load(host_dir)?),
            labhv: host::client(host_dir),
            slots: Mutex::default(),
            long_slots: Mutex::default(),
            looked: Mutex::default(),
        })
    }

    /// Runs `act` with the datastore's folder on a thread of its own.
    async fn run<T: Send + 'static>(
        &self,
        ds: &DatastoreName,
        deadline: Instant,
        act: impl FnOnce(&Folder) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let slots = places(&self.slots, ds, SLOTS);
        let work = on_a_thread(slots, Arc::clone(&self.config), ds.clone(), act);
        timeout_at(deadline, work).await.unwrap_or_else(|_| {
            Err(StorageError::Io(format!(
                "datastore '{ds}' did not answer in time"
            )))
        })
    }

    /// What a datastore is now; not accessible when it does not say so soon.
    async fn look(&self, name: DatastoreName, config: DatastoreConfig) -> DatastoreInfo {
        if let Some(known) = self.looked_lately(&name) {
            return known;
        }
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
        let info = look.await.unwrap_or(silent);
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        match info.accessible {
            true => drop(looked.insert(name, (Instant::now(), info.clone()))),
            false => drop(looked.remove(&name)),
        }
        info
    }

    /// What was seen within [`LATELY`] of a datastore that could be read. If it cannot any more, whoever reads there finds
    /// out; of one that could not be read, that is looked at each time.
    fn looked_lately(&self, name: &DatastoreName) -> Option<DatastoreInfo> {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, info) = looked.get(name)?;
        (at.elapsed() < LATELY).then(|| info.clone())
    }

    async fn soon<T: Send + 'static>(
        &self,
        ds: &DatastoreName,
        act: impl FnOnce(&Folder) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.run(ds, Instant::now() + LIMIT, act).await
    }

    /// Runs what takes as long as it takes. It has places of its own, so that it keeps nobody waiting.
    async fn long<T: Send + 'static>(
        &self,
        ds: &DatastoreName,
        act: impl FnOnce(&Folder) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let slots = places(&self.long_slots, ds, LONG_SLOTS);
        on_a_thread(slots, Arc::clone(&self.config), ds.clone(), act).await
    }

    /// Success when nobody has the disk open, or there is none.
    async fn nobody_has(&self, disk: &DiskPath) -> Result<(), StorageError> {
        let asked = host::asked(disk);
        match self.labhv.lock(&asked, Instant::now() + LIMIT).await {
            Ok((LockState::Free, _)) => Ok(()),
            Ok((LockState::Held, holder)) => Err(StorageError::Busy(
                holder.unwrap_or_else(|| "another program".to_owned()),
            )),
            Ok((LockState::Unknown, _)) => Err(StorageError::Io(format!(
                "cannot tell whether disk {disk} is in use"
            ))),
            // Nothing to be in use; the datastore's folder says what is there.
            Err(ClientError::Refused(e)) if e.kind == LabErrorKind::NoSuchDisk => Ok(()),
            Err(e) => Err(StorageError::Io(format!(
                "cannot tell whether disk {disk} is in use: {e}"
            ))),
        }
    }
}

type Slots = Mutex<HashMap<DatastoreName, Arc<Semaphore>>>;

/// The places for calls on one datastore.
fn places(slots: &Slots, ds: &DatastoreName, count: usize) -> Arc<Semaphore> {
    let mut all = slots.lock().unwrap_or_else(PoisonError::into_inner);
    let new = || Arc::new(Semaphore::new(count));
    Arc::clone(all.entry(ds.clone()).or_insert_with(new))
}

async fn on_a_thread<T: Send + 'static>(
    slots: Arc<Semaphore>,
    config: Arc<Watched>,
    name: DatastoreName,
    act: impl FnOnce(&Folder) -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    let slot = slots
        .acquire_owned()
        .await
        .map_err(|e| StorageError::Io(e.to_string()))?;
    let done = spawn_blocking(move || {
        // Kept to the end of the work even when nobody waits for it any more.
        let _slot = slot;
        act(&Folder::find(&config, name)?)
    });
    done.await.map_err(|e| StorageError::Io(e.to_string()))?
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
        let config = self
            .config
            .now()
            .map_err(|e| StorageError::Io(e.to_string()))?;
        let mut looks = Vec::new();
        for ds in &config.datastores {
            let name = DatastoreName::new(&ds.name).map_err(|e| StorageError::Io(e.to_string()))?;
            looks.push(self.look(name, ds.clone()));
        }
        Ok(join_all(looks).await)
    }

    async fn read_dir(&self, ds: &DatastoreName, dir: &DsPath) -> Result<Vec<Entry>, StorageError> {
        let dir = dir.clone();
        self.soon(ds, move |folder| folder.read_dir(&dir, "")).await
    }

    async fn read_dir_starting(
        &self,
        ds: &DatastoreName,
        dir: &DsPath,
        start: &str,
    ) -> Result<Vec<Entry>, StorageError> {
        let (dir, start) = (dir.clone(), start.to_owned());
        self.soon(ds, move |folder| folder.read_dir(&dir, &start))
            .await
    }

    async fn folder_stamp(
        &self,
        ds: &DatastoreName,
        dir: &DsPath,
    ) -> Result<Option<FolderStamp>, StorageError> {
        let dir = dir.clone();
        self.soon(ds, move |folder| folder.stamp(&dir)).await
    }

    async fn read_each(
        &self,
        ds: &DatastoreName,
        files: &[DsPath],
        max: usize,
    ) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        let files = files.to_vec();
        self.soon(ds, move |folder| folder.read_each(&files, max))
            .await
    }

    async fn allocated_each(
        &self,
        ds: &DatastoreName,
        files: &[DsPath],
    ) -> Result<Vec<u64>, StorageError> {
        let files = files.to_vec();
        let look = move |folder: &Folder| {
            let bytes = |file| folder.disk(file).ok()?.allocated().ok();
            Ok(files.iter().map(|f| bytes(f).unwrap_or(0)).collect())
        };
        self.soon(ds, look).await
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

    async fn read_unless(
        &self,
        ds: &DatastoreName,
        newer: &DsPath,
        file: &DsPath,
        max: usize,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        let (newer, file) = (newer.clone(), file.clone());
        self.soon(ds, move |folder| folder.read_unless(&newer, &file, max))
            .await
    }

    async fn discard(&self, ds: &DatastoreName, file: &DsPath) -> Result<bool, StorageError> {
        let file = file.clone();
        self.soon(ds, move |folder| folder.discard(&file)).await
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
        progress: &Arc<Progress>,
    ) -> Result<(), StorageError> {
        let (file, spec, progress) = (file.clone(), spec.clone(), Arc::clone(progress));
        let thin = spec.format == DiskFormat::Thin;
        let act = move |folder: &Folder| folder.create_disk(&file, &spec, &progress);
        match thin {
            // A descriptor and an empty file. A delete after the time-out finds the maker's lock on it.
            true => self.soon(ds, act).await,
            false => self.long(ds, act).await,
        }
    }

    async fn clone_disk(
        &self,
        source: &DiskPath,
        target: &DiskPath,
        spec: &DiskSpec,
        progress: &Arc<Progress>,
    ) -> Result<(), StorageError> {
        self.nobody_has(source).await?;
        let from = source.path.clone();
        let files = self.soon(&source.datastore, move |folder| folder.disk(&from));
        let files = files.await?;
        let (file, spec, progress) = (target.path.clone(), spec.clone(), Arc::clone(progress));
        let act = move |folder: &Folder| folder.clone_disk(&files, &file, &spec, &progress);
        self.long(&target.datastore, act).await?;
        // Whoever opened it meanwhile may have written what the copy holds only in part.
        match self.nobody_has(source).await {
            Ok(()) => Ok(()),
            Err(why) => {
                self.delete_disk(&target.datastore, &target.path).await?;
                Err(why)
            }
        }
    }

    async fn delete_disk(&self, ds: &DatastoreName, file: &DsPath) -> Result<bool, StorageError> {
        let disk = DiskPath {
            datastore: ds.clone(),
            path: file.clone(),
        };
        self.nobody_has(&disk).await?;
        let file = file.clone();
        self.soon(ds, move |folder| {
            let deleted = folder.disk(&file)?.delete();
            let deleted = deleted.map_err(|e| folder.disk_fault(&file, &e))?;
            folder.forget_policy(&file)?;
            Ok(deleted)
        })
        .await
    }

    async fn set_policy(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
        policy: &PolicyExpression,
    ) -> Result<(), StorageError> {
        let config = self
            .config
            .now()
            .map_err(|e| StorageError::Io(e.to_string()))?;
        let hosts = config.storage_hosts(ds.as_str());
        let (file, policy) = (file.clone(), policy.clone());
        self.soon(ds, move |folder| folder.set_policy(&file, &policy, hosts))
            .await
    }

    async fn policy(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
    ) -> Result<Option<PolicyExpression>, StorageError> {
        let file = file.clone();
        self.soon(ds, move |folder| folder.policy(&file)).await
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
