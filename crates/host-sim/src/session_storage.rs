//! The datastores' port and the host's own store.

use std::future::pending;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};
use uuid::Uuid;
use vdvs_domain::policy::PolicyExpression;
use vdvs_domain::{DatastoreName, RequestId, VolumeId};
use vdvs_engine::ports::{
    AuditEntry, AuditPage, AuditQuery, AuditRow, DatastoreInfo, Datastores, DiskLock, DiskPath,
    DiskSpec, DiskStat, DsPath, Entry, KeptConfig, Progress, StorageError, Store, StoreError,
};

use crate::fault::When;
use crate::observe::Event;
use crate::session::{Broken, Session};
use crate::state::{Bytes, Datastore};
use crate::world::WORK_STEP;

impl From<Broken> for StorageError {
    fn from(broken: Broken) -> Self {
        Self::Io(match broken {
            Broken::Failed => "simulated I/O error".to_owned(),
            Broken::NoAnswer => "simulated time-out".to_owned(),
        })
    }
}

impl From<Broken> for StoreError {
    fn from(_: Broken) -> Self {
        Self("simulated failure".to_owned())
    }
}

/// How often a call that hangs looks whether its datastore answers again.
const HANG_STEP: Duration = Duration::from_millis(500);

impl Session {
    fn hangs(&self, ds: &DatastoreName) -> bool {
        let state = self.world.state();
        let host = state.hosts.get(&self.host);
        host.is_some_and(|h| h.hanging.contains(ds))
    }

    /// One call to a datastore this host reaches.
    async fn on<T: Send>(
        &self,
        verb: &'static str,
        ds: &DatastoreName,
        mut effect: impl FnMut(&mut Datastore, When) -> Result<T, StorageError> + Send,
    ) -> Result<T, StorageError> {
        while self.hangs(ds) {
            if self.is_dead() {
                return pending().await;
            }
            sleep(HANG_STEP).await;
        }
        self.call(verb, |state, when| {
            let reached = state.reaches(self.host, ds);
            let found = state.datastores.get_mut(ds).filter(|_| reached);
            let Some(found) = found else {
                return Err(StorageError::Io(format!("datastore {ds} is not reachable")));
            };
            let result = effect(found, when);
            let happened = mem::take(&mut found.happened);
            happened.iter().for_each(|event| state.tell(event));
            result
        })
        .await?
    }
}

fn parent(path: &DsPath) -> &str {
    path.as_str().rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// In which part of a listing a name is: a number's successor is mostly in the other one.
fn is_early(name: &str) -> bool {
    name.bytes().fold(0, |sum: u8, byte| sum ^ byte) & 1 == 1
}

fn not_found(path: &DsPath) -> StorageError {
    StorageError::NotFound(path.to_string())
}

impl Session {
    /// Long work goes on for as long as the world lets it.
    async fn work(&self, spec: &DiskSpec, progress: &Progress) -> Result<(), StorageError> {
        let total = spec.capacity.bytes();
        while let Some(percent) = self.world.slow_work() {
            progress.set(total.saturating_mul(percent).div_ceil(100), total);
            if progress.is_stopped() {
                return Err(StorageError::Stopped);
            }
            if self.is_dead() {
                return pending().await;
            }
            sleep(WORK_STEP).await;
        }
        Ok(())
    }

    /// What a disk holds, if nobody has it open.
    async fn read_source(&self, source: &DiskPath) -> Result<Bytes, StorageError> {
        let lock = self.call("read_source", |state, _| state.lock(source, Instant::now()));
        if let DiskLock::Held { by } = lock.await? {
            return Err(StorageError::Busy(by));
        }
        self.on("read_source", &source.datastore, |ds, _| {
            let disk = ds.disks.get(source.path.as_str());
            disk.filter(|d| d.complete)
                .map(|d| d.bytes.clone())
                .ok_or_else(|| not_found(&source.path))
        })
        .await
    }
}

#[async_trait]
impl Datastores for Session {
    async fn list(&self) -> Result<Vec<DatastoreInfo>, StorageError> {
        let list = self.call("list", |state, _| {
            let infos = state.datastores.iter().map(|(name, ds)| DatastoreInfo {
                name: name.clone(),
                kind: ds.kind,
                accessible: state.reaches(self.host, name),
                capacity_bytes: ds.capacity,
                free_bytes: ds.capacity.saturating_sub(ds.used()),
            });
            infos.collect()
        });
        Ok(list.await?)
    }

    async fn read_dir(&self, ds: &DatastoreName, dir: &DsPath) -> Result<Vec<Entry>, StorageError> {
        let entries = self.on("read_dir", ds, |ds, _| ds.entries(dir.as_str()));
        let mut entries = entries.await?;
        if self.world.state().lists_in_parts {
            let later = self.on("read_dir", ds, |ds, _| ds.entries(dir.as_str()));
            let later = later.await?.into_iter().filter(|e| !is_early(&e.name));
            entries.retain(|e| is_early(&e.name));
            entries.extend(later);
        }
        Ok(entries)
    }

    async fn make_dir(&self, ds: &DatastoreName, dir: &DsPath) -> Result<(), StorageError> {
        self.on("make_dir", ds, |ds, _| {
            ds.make_dirs(dir.as_str());
            Ok(())
        })
        .await
    }

    async fn create_new(&self, ds: &DatastoreName, file: &DsPath) -> Result<(), StorageError> {
        self.on("create_new", ds, |ds, _| {
            if ds.exists(file.as_str()) {
                return Err(StorageError::AlreadyExists(file.to_string()));
            }
            if !ds.dirs.contains(parent(file)) {
                return Err(not_found(file));
            }
            if ds.is_full() {
                return Err(StorageError::NoSpace);
            }
            ds.files.insert(file.as_str().to_owned(), Vec::new());
            Ok(())
        })
        .await
    }

    async fn write(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        self.on("write", ds, |found, when| {
            if found.is_full() {
                return Err(StorageError::NoSpace);
            }
            let content = found
                .files
                .get_mut(file.as_str())
                .ok_or_else(|| not_found(file))?;
            let reached = if when == When::Half {
                bytes.len() / 2
            } else {
                bytes.len()
            };
            *content = bytes.iter().take(reached).copied().collect();
            let filed = Event::Filed {
                host: self.host,
                datastore: ds.clone(),
                path: file.as_str().to_owned(),
                bytes: content.clone(),
            };
            found.happened.push(filed);
            Ok(())
        })
        .await
    }

    async fn read(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
        max: usize,
    ) -> Result<Vec<u8>, StorageError> {
        self.on("read", ds, |ds, _| {
            let content = ds.files.get(file.as_str()).ok_or_else(|| not_found(file))?;
            if content.len() > max {
                return Err(StorageError::TooLarge(file.to_string()));
            }
            Ok(content.clone())
        })
        .await
    }

    async fn remove(&self, ds: &DatastoreName, file: &DsPath) -> Result<bool, StorageError> {
        self.on("remove", ds, |ds, _| {
            Ok(ds.files.remove(file.as_str()).is_some())
        })
        .await
    }

    async fn create_disk(
        &self,
        ds_name: &DatastoreName,
        file: &DsPath,
        spec: &DiskSpec,
        progress: &Arc<Progress>,
    ) -> Result<(), StorageError> {
        self.work(spec, progress).await?;
        self.on("create_disk", ds_name, |ds, when| {
            ds.make_disk(file, spec, &Bytes::default(), when)?;
            ds.made(ds_name, file, None);
            Ok(())
        })
        .await
    }

    async fn clone_disk(
        &self,
        source: &DiskPath,
        target: &DiskPath,
        spec: &DiskSpec,
        progress: &Arc<Progress>,
    ) -> Result<(), StorageError> {
        let read = self.read_source(source).await?;
        self.work(spec, progress).await?;
        if self.read_source(source).await? != read {
            return Err(StorageError::Busy("a writer".to_owned()));
        }
        self.on("clone_disk", &target.datastore, |ds, when| {
            ds.make_disk(&target.path, spec, &read, when)?;
            ds.made(&target.datastore, &target.path, Some(source));
            Ok(())
        })
        .await
    }

    async fn delete_disk(
        &self,
        ds_name: &DatastoreName,
        file: &DsPath,
    ) -> Result<bool, StorageError> {
        self.on("delete_disk", ds_name, |ds, when| {
            let Some(disk) = ds.disks.get_mut(file.as_str()) else {
                return Ok(false);
            };
            let was_whole = mem::replace(&mut disk.complete, false);
            if when != When::Half {
                ds.disks.remove(file.as_str());
                // Its descriptor, where somebody wrote one.
                ds.files.remove(file.as_str());
            }
            if was_whole {
                ds.unmade(ds_name, file);
            }
            Ok(true)
        })
        .await
    }

    async fn set_policy(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
        policy: &PolicyExpression,
    ) -> Result<(), StorageError> {
        self.on("set_policy", ds, |ds, _| ds.set_policy(file, policy))
            .await
    }

    async fn policy(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
    ) -> Result<Option<PolicyExpression>, StorageError> {
        self.on("policy", ds, |ds, _| {
            let disk = ds.disks.get(file.as_str()).filter(|d| d.complete);
            let disk = disk.ok_or_else(|| not_found(file))?;
            Ok(disk.policy.clone())
        })
        .await
    }

    async fn stat_disk(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
    ) -> Result<Option<DiskStat>, StorageError> {
        self.on("stat_disk", ds, |ds, _| {
            let disk = ds.disks.get(file.as_str()).filter(|d| d.complete);
            Ok(disk.map(|d| DiskStat {
                capacity: d.capacity,
                allocated_bytes: d.allocated,
            }))
        })
        .await
    }
}

#[async_trait]
impl Store for Session {
    async fn audit(&self, entry: AuditEntry) -> Result<(), StoreError> {
        let done = self.call("audit", |state, _| {
            if let Some(host) = state.hosts.get_mut(&self.host) {
                host.audit.push(entry.clone());
            }
        });
        Ok(done.await?)
    }

    async fn audit_page(&self, query: AuditQuery) -> Result<AuditPage, StoreError> {
        let page = self.call("audit_page", |state, _| {
            let written = state.hosts.get(&self.host).map(|h| h.audit.as_slice());
            let numbered = (1u64..).zip(written.unwrap_or_default());
            let rows = numbered.map(|(number, entry)| AuditRow::of(number, entry));
            let mut rows: Vec<_> = rows.filter(|r| query.fits(r)).collect();
            rows.reverse();
            let more = rows.len() > query.limit;
            rows.truncate(query.limit);
            AuditPage { rows, more }
        });
        Ok(page.await?)
    }

    async fn keep_config(&self, id: Uuid, config: KeptConfig) -> Result<(), StoreError> {
        let done = self.call("keep_config", |state, _| {
            if let Some(host) = state.hosts.get_mut(&self.host) {
                let kept = host.kept.entry(id).or_insert_with(|| config.clone());
                if (kept.seq, kept.confirmed) < (config.seq, config.confirmed) {
                    *kept = config.clone();
                }
            }
        });
        Ok(done.await?)
    }

    async fn kept_config(&self, id: Uuid) -> Result<Option<KeptConfig>, StoreError> {
        let kept = self.call("kept_config", |state, _| {
            state.hosts.get(&self.host)?.kept.get(&id).cloned()
        });
        Ok(kept.await?)
    }

    async fn kept_configs(&self) -> Result<Vec<Uuid>, StoreError> {
        let kept = self.call("kept_configs", |state, _| {
            let host = state.hosts.get(&self.host);
            host.map(|h| h.kept.keys().copied().collect())
        });
        Ok(kept.await?.unwrap_or_default())
    }

    async fn remember_deleted(
        &self,
        request: RequestId,
        volume: VolumeId,
    ) -> Result<(), StoreError> {
        self.call("remember_deleted", |state, _| {
            if let Some(host) = state.hosts.get_mut(&self.host) {
                host.deleted.insert(request, volume);
            }
        })
        .await?;
        Ok(())
    }

    async fn recall_deleted(&self, request: RequestId) -> Result<Option<VolumeId>, StoreError> {
        let found = self.call("recall_deleted", |state, _| {
            state.hosts.get(&self.host)?.deleted.get(&request).copied()
        });
        Ok(found.await?)
    }
}
