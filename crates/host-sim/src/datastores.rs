//! Shared datastores as one simulated host sees them.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;
use vdvs_domain::{DatastoreName, DiskFormat, HostId};
use vdvs_engine::ports::{
    DatastoreInfo, Datastores, DiskPath, DiskSpec, DiskStat, DsPath, Entry, StorageError,
};

use crate::faults::CallKind;
use crate::world::{Disk, State, World};

/// One host's view of the datastores.
#[derive(Debug)]
pub struct SimDatastores {
    world: Arc<World>,
    host: HostId,
}

impl SimDatastores {
    pub(crate) fn new(world: Arc<World>, host: HostId) -> Self {
        Self { world, host }
    }
}

fn refused(why: &'static str, _unknown: bool) -> StorageError {
    StorageError::Io(why.to_owned())
}

/// The component of `path` directly below `dir`, and whether there is more behind it.
fn child<'a>(path: &'a str, dir: &str) -> Option<(&'a str, bool)> {
    let rest = path.strip_prefix(dir)?.strip_prefix('/')?;
    Some(
        rest.split_once('/')
            .map_or((rest, false), |(first, _)| (first, true)),
    )
}

#[async_trait]
impl Datastores for SimDatastores {
    async fn list(&self) -> Result<Vec<DatastoreInfo>, StorageError> {
        let list = |state: &mut State, _: bool| {
            let all = state.datastores.iter().map(|(name, ds)| DatastoreInfo {
                name: name.clone(),
                kind: ds.kind,
                accessible: !ds.unreachable_from.contains(&self.host),
                capacity_bytes: ds.capacity,
                free_bytes: ds.capacity.saturating_sub(ds.used()),
            });
            Ok(all.collect())
        };
        self.world.call(CallKind::List, refused, list).await
    }

    async fn read_dir(&self, ds: &DatastoreName, dir: &DsPath) -> Result<Vec<Entry>, StorageError> {
        let read = |state: &mut State, _: bool| {
            let ds = state.datastore(self.host, ds)?;
            if !ds.dirs.contains(dir.as_str()) {
                return Err(StorageError::NotFound(dir.to_string()));
            }
            let extent = |disk: &String| disk.replace(".vmdk", "-flat.vmdk");
            let files = ds.files.keys().cloned();
            let disks = ds.disks.keys().flat_map(|d| [d.clone(), extent(d)]);
            let mut entries: Vec<Entry> = files
                .chain(disks)
                .filter_map(|path| match child(&path, dir.as_str()) {
                    Some((name, false)) => Some(Entry {
                        name: name.to_owned(),
                        is_dir: false,
                    }),
                    _ => None,
                })
                .collect();
            entries.extend(
                ds.dirs
                    .iter()
                    .filter_map(|path| match child(path, dir.as_str()) {
                        Some((name, false)) => Some(Entry {
                            name: name.to_owned(),
                            is_dir: true,
                        }),
                        _ => None,
                    }),
            );
            Ok(entries)
        };
        self.world.call(CallKind::ReadDir, refused, read).await
    }

    async fn make_dir(&self, ds: &DatastoreName, dir: &DsPath) -> Result<(), StorageError> {
        let make = |state: &mut State, _: bool| {
            let ds = state.datastore(self.host, ds)?;
            let mut path = String::new();
            for part in dir.as_str().split('/') {
                if !path.is_empty() {
                    path.push('/');
                }
                path.push_str(part);
                ds.dirs.insert(path.clone());
            }
            Ok(())
        };
        self.world.call(CallKind::MakeDir, refused, make).await
    }

    async fn create_new(&self, ds: &DatastoreName, file: &DsPath) -> Result<(), StorageError> {
        let create = |state: &mut State, _: bool| {
            let ds = state.datastore(self.host, ds)?;
            let dir = file.as_str().rsplit_once('/').map_or("", |(dir, _)| dir);
            if !dir.is_empty() && !ds.dirs.contains(dir) {
                return Err(StorageError::NotFound(dir.to_owned()));
            }
            if ds.files.contains_key(file.as_str()) {
                return Err(StorageError::AlreadyExists(file.to_string()));
            }
            ds.files.insert(file.as_str().to_owned(), Vec::new());
            Ok(())
        };
        self.world.call(CallKind::CreateNew, refused, create).await
    }

    async fn write(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        let write = |state: &mut State, torn: bool| {
            let ds = state.datastore(self.host, ds)?;
            let content = ds
                .files
                .get_mut(file.as_str())
                .ok_or_else(|| StorageError::NotFound(file.to_string()))?;
            let kept = if torn { bytes.len() / 2 } else { bytes.len() };
            *content = bytes.get(..kept).unwrap_or_default().to_vec();
            Ok(())
        };
        self.world.call(CallKind::Write, refused, write).await
    }

    async fn read(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
        max: usize,
    ) -> Result<Vec<u8>, StorageError> {
        let read = |state: &mut State, _: bool| {
            let ds = state.datastore(self.host, ds)?;
            match ds.files.get(file.as_str()) {
                None => Err(StorageError::NotFound(file.to_string())),
                Some(bytes) if bytes.len() > max => Err(StorageError::TooLarge(file.to_string())),
                Some(bytes) => Ok(bytes.clone()),
            }
        };
        self.world.call(CallKind::Read, refused, read).await
    }

    async fn remove(&self, ds: &DatastoreName, file: &DsPath) -> Result<bool, StorageError> {
        let remove = |state: &mut State, _: bool| {
            Ok(state
                .datastore(self.host, ds)?
                .files
                .remove(file.as_str())
                .is_some())
        };
        self.world.call(CallKind::Remove, refused, remove).await
    }

    async fn create_disk(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
        spec: &DiskSpec,
        _deadline: Instant,
    ) -> Result<(), StorageError> {
        let create = |state: &mut State, _: bool| {
            let ds = state.datastore(self.host, ds)?;
            if ds.disks.contains_key(file.as_str()) {
                return Err(StorageError::AlreadyExists(file.to_string()));
            }
            let allocated = match spec.format {
                DiskFormat::Thin => 0,
                DiskFormat::ZeroedThick | DiskFormat::EagerZeroedThick => spec.capacity.bytes(),
            };
            if ds.used() + allocated > ds.capacity {
                return Err(StorageError::NoSpace);
            }
            ds.disks.insert(
                file.as_str().to_owned(),
                Disk {
                    capacity: spec.capacity,
                    allocated,
                },
            );
            Ok(())
        };
        self.world.call(CallKind::CreateDisk, refused, create).await
    }

    async fn delete_disk(&self, ds: &DatastoreName, file: &DsPath) -> Result<bool, StorageError> {
        let delete = |state: &mut State, _: bool| {
            // The hypervisor refuses to delete what is open.
            let disk = DiskPath {
                datastore: ds.clone(),
                path: file.clone(),
            };
            if let Some((by, _)) = state.openers(&disk, None).into_iter().next() {
                return Err(StorageError::Io(format!("{file} is open in VM {by}")));
            }
            Ok(state
                .datastore(self.host, ds)?
                .disks
                .remove(file.as_str())
                .is_some())
        };
        self.world.call(CallKind::DeleteDisk, refused, delete).await
    }

    async fn stat_disk(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
    ) -> Result<Option<DiskStat>, StorageError> {
        let stat = |state: &mut State, _: bool| {
            let disk = state.datastore(self.host, ds)?.disks.get(file.as_str());
            Ok(disk.map(|d| DiskStat {
                capacity: d.capacity,
                allocated_bytes: d.allocated,
            }))
        };
        self.world.call(CallKind::StatDisk, refused, stat).await
    }
}
