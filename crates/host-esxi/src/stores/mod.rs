//! The engine's [`Datastores`] port: small files by plain file I/O on the datastore's own threads, disks by hostd.
//!
//! * A datastore that hangs blocks only itself ([`pool`]).
//! * *Not found* is said only when the datastore's own folder is there.
//! * What is reported written is durable, with its name.
//! * A disk that somebody has open is neither deleted nor copied.
//! * What tells a folder's entries now from later ones is not known: hosts that share a datastore stamp its folders with
//!   their own clocks. Lists read folders.

mod catalog;
mod disks;
mod folder;
mod moved;
mod names;
mod pool;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use vdvs_domain::DatastoreName;
use vdvs_engine::ports::{
    DatastoreInfo, Datastores, DiskLock, DiskPath, DiskSpec, DiskStat, DsPath, Entry, Progress,
    StorageError,
};

use crate::esx::Esx;
use crate::faults;
use crate::locks::Locks;
use catalog::Catalog;
use folder::Folder;
pub(crate) use folder::{extent, root_of};
use moved::Moved;
use names::Names;

/// A small file takes milliseconds.
const LIMIT: Duration = Duration::from_secs(20);

/// What is known of datastores and of the names of disks on them.
#[derive(Debug)]
pub(crate) struct Stores {
    pub(crate) catalog: Catalog,
    pub(crate) names: Names,
    pub(crate) moved: Moved,
}

impl Stores {
    pub(crate) fn new(esx: Arc<Esx>) -> Self {
        Self {
            catalog: Catalog::new(esx),
            names: Names::default(),
            moved: Moved::default(),
        }
    }
}

/// The datastores of an ESXi host.
#[derive(Debug)]
pub struct EsxDatastores {
    pub(crate) esx: Arc<Esx>,
    pub(crate) stores: Arc<Stores>,
    pub(crate) locks: Arc<Locks>,
}

impl EsxDatastores {
    async fn soon<T: Send + 'static>(
        &self,
        ds: &DatastoreName,
        act: impl FnOnce(&Folder) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.stores
            .catalog
            .run(ds, Instant::now() + LIMIT, act)
            .await
    }

    /// Makes the folder at the top of a datastore that takes no plain ones there.
    async fn make_top(&self, ds: &DatastoreName, top: String) -> Result<(), StorageError> {
        let store = self.stores.catalog.store(ds).await?;
        let name = top.clone();
        if store.plain_top || self.soon(ds, move |folder| folder.has_top(&name)).await? {
            return Ok(());
        }
        let deadline = Instant::now() + LIMIT;
        let client = &self.esx.client;
        let made = client
            .create_directory(&store.object, &top, None, None, deadline)
            .await;
        let place = format!("[{ds}] {top}");
        match made.map_err(|e| faults::storage(&e, &place)) {
            Ok(really) => {
                tracing::info!(datastore = %ds, really, "made the folder of volumes");
                Ok(())
            }
            Err(StorageError::AlreadyExists(_)) => Ok(()),
            // Another host may have been first, whatever this one's answer was.
            Err(why) => match self.soon(ds, move |folder| folder.has_top(&top)).await? {
                true => Ok(()),
                false => Err(why),
            },
        }
    }

    /// Success when nobody is known to have the disk open, or there is none. Where the host cannot tell, hostd decides:
    /// it opens a disk before it copies or deletes it.
    async fn nobody_has(&self, disk: &DiskPath) -> Result<(), StorageError> {
        match self.locks.of(disk).await {
            DiskLock::Held { by } => Err(StorageError::Busy(by)),
            DiskLock::Free | DiskLock::Unknown { .. } => Ok(()),
        }
    }
}

#[async_trait]
impl Datastores for EsxDatastores {
    async fn list(&self) -> Result<Vec<DatastoreInfo>, StorageError> {
        self.stores.catalog.describe().await
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

    async fn make_dir(&self, ds: &DatastoreName, dir: &DsPath) -> Result<(), StorageError> {
        let top = dir
            .as_str()
            .split('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        self.make_top(ds, top).await?;
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
        self.make_disk(ds, file, spec, progress).await
    }

    async fn clone_disk(
        &self,
        source: &DiskPath,
        target: &DiskPath,
        spec: &DiskSpec,
        progress: &Arc<Progress>,
    ) -> Result<(), StorageError> {
        self.nobody_has(source).await?;
        self.copy_disk(source, target, spec, progress).await?;
        // Whoever opened it meanwhile may have written what the copy holds only in part.
        match self.nobody_has(source).await {
            Ok(()) => Ok(()),
            Err(why) => {
                self.drop_disk(&target.datastore, &target.path).await?;
                Err(why)
            }
        }
    }

    async fn delete_disk(&self, ds: &DatastoreName, file: &DsPath) -> Result<bool, StorageError> {
        let there = self.soon(ds, {
            let file = file.clone();
            move |folder| folder.has_disk(&file)
        });
        if !there.await? {
            return Ok(false);
        }
        self.nobody_has(&DiskPath {
            datastore: ds.clone(),
            path: file.clone(),
        })
        .await?;
        self.drop_disk(ds, file).await
    }

    async fn stat_disk(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
    ) -> Result<Option<DiskStat>, StorageError> {
        let file = file.clone();
        self.soon(ds, move |folder| folder.stat_disk(&file)).await
    }

    async fn allocated_each(
        &self,
        ds: &DatastoreName,
        files: &[DsPath],
    ) -> Result<Vec<u64>, StorageError> {
        let files = files.to_vec();
        let look = move |folder: &Folder| Ok(files.iter().map(|f| folder.allocated(f)).collect());
        self.soon(ds, look).await
    }
}
