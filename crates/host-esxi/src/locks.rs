//! The lock on a disk, in three values. *Free* is proof that nobody writes, so it is said only where the host's answer
//! means that.
//!
//! | host | says |
//! |---|---|
//! | `QueryFileLockInfo` (8.0.2), disk with an extent file (VMFS, NFS) | held or free |
//! | the same, disk that is an object (vSAN, VVol) | held, or unknown: what is locked there is not a file we can ask for |
//! | older | held, when a running VM of this host has it; unknown otherwise |

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use vdvs_engine::ports::{DatastoreKind, DiskLock, DiskPath};
use vdvs_vim::{Error, FaultKind, FileLock, Hardware, NotSent, PowerState, datastore_path};

use crate::devices;
use crate::esx::{Esx, VM_HOST};
use crate::stores::{Stores, extent};

/// hostd answers in milliseconds; while it restarts, nothing is known.
const LIMIT: Duration = Duration::from_secs(10);

/// Asks who holds disks.
#[derive(Debug)]
pub(crate) struct Locks {
    esx: Arc<Esx>,
    stores: Arc<Stores>,
    /// This host has no `QueryFileLockInfo`. Found once: an upgrade restarts the host and us with it.
    lacks_query: AtomicBool,
}

/// What the host says of a file's locks.
enum Asked {
    Locks(Vec<FileLock>),
    NotOffered,
    Failed(String),
}

impl Locks {
    pub(crate) fn new(esx: Arc<Esx>, stores: Arc<Stores>) -> Self {
        Self {
            esx,
            stores,
            lacks_query: AtomicBool::new(false),
        }
    }

    /// The lock on a disk.
    pub(crate) async fn of(&self, disk: &DiskPath) -> DiskLock {
        let deadline = Instant::now() + LIMIT;
        let unknown = |why: String| DiskLock::Unknown { why };
        let store = match self.stores.catalog.store(&disk.datastore).await {
            Ok(store) => store,
            Err(why) => return unknown(why.to_string()),
        };
        let is_object = matches!(store.kind, DatastoreKind::Vsan | DatastoreKind::Vvol);
        match self.ask(disk, is_object, deadline).await {
            Asked::Locks(locks) => match locks.first() {
                Some(lock) => DiskLock::Held { by: holder(lock) },
                None if is_object => unknown(format!(
                    "locks of objects on {} cannot be asked for",
                    store.name
                )),
                None => DiskLock::Free,
            },
            Asked::NotOffered => match self.vm_here(disk, deadline).await {
                Ok(Some(vm)) => DiskLock::Held { by: vm },
                Ok(None) => unknown(
                    "this release of ESXi cannot tell who holds a disk (8.0.2 and later can)"
                        .to_owned(),
                ),
                Err(why) => unknown(why.to_string()),
            },
            Asked::Failed(why) => unknown(why),
        }
    }

    async fn ask(&self, disk: &DiskPath, is_object: bool, deadline: Instant) -> Asked {
        if self.lacks_query.load(Ordering::Relaxed) {
            return Asked::NotOffered;
        }
        let file = match extent(&disk.path) {
            Some(extent) if !is_object => extent,
            _ => disk.path.clone(),
        };
        let path = datastore_path(disk.datastore.as_str(), file.as_str());
        let me = match self.esx.me(deadline).await {
            Ok(me) => me,
            Err(why) => return Asked::Failed(why.to_string()),
        };
        let host = (!me.alone).then_some(&me.host.object);
        match self
            .esx
            .client
            .query_file_lock_info(&path, host, deadline)
            .await
        {
            Ok(found) => Asked::Locks(found.locks),
            Err(why) if is_not_offered(&why) => {
                self.lacks_query.store(true, Ordering::Relaxed);
                tracing::info!(%why, "this host cannot be asked who holds a disk");
                Asked::NotOffered
            }
            Err(why) => Asked::Failed(why.to_string()),
        }
    }

    /// The running VM of this host that has the disk.
    pub(crate) async fn vm_here(
        &self,
        disk: &DiskPath,
        deadline: Instant,
    ) -> Result<Option<String>, Error> {
        let mut paths = vec!["name", "runtime.powerState", VM_HOST];
        paths.extend(Hardware::PATHS);
        let wanted = self.stores.names.plain(&self.stores.catalog, disk).await;
        let read = || {
            let client = &self.esx.client;
            client.inventory("VirtualMachine", &paths, deadline)
        };
        let (_, me, found) = self.esx.in_one_session(deadline, read).await?;
        for vm in found {
            let here = vm.properties.get(VM_HOST).and_then(|e| e.moref());
            let power =
                PowerState::read(vm.properties.text("runtime.powerState").unwrap_or_default());
            let runs = !matches!(power, PowerState::Off | PowerState::Suspended);
            if !runs || (!me.alone && here.as_ref() != Some(&me.host.object)) {
                continue;
            }
            let Some(hardware) = Hardware::read(&vm.properties) else {
                continue;
            };
            let mine = devices::disks(&self.stores, &hardware).await;
            if mine.iter().any(|m| m.path == wanted) {
                return Ok(Some(
                    vm.properties
                        .text("name")
                        .unwrap_or("a VM without name")
                        .to_owned(),
                ));
            }
        }
        Ok(None)
    }
}

fn is_not_offered(error: &Error) -> bool {
    matches!(
        error,
        Error::NotSent {
            why: NotSent::Absent(_),
            ..
        }
    ) || error
        .fault()
        .is_some_and(|f| matches!(f.kind, FaultKind::NotSupported { .. }))
}

/// The holder in words: the VM, where the process names it, and the host.
fn holder(lock: &FileLock) -> String {
    let process = lock.world_name.rsplit(':').next().unwrap_or_default();
    let host = [
        &lock.host,
        &lock.mac,
        &lock.owner_id.clone().unwrap_or_default(),
    ]
    .into_iter()
    .find(|text| !text.is_empty())
    .cloned();
    match (process, host) {
        ("", None) => "somebody the host does not name".to_owned(),
        ("", Some(host)) => format!("host {host}"),
        (process, None) => process.to_owned(),
        (process, Some(host)) => format!("{process} on host {host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(world: &str, host: &str) -> FileLock {
        FileLock {
            file_path: String::new(),
            host: host.to_owned(),
            mac: String::new(),
            id: String::new(),
            world_name: world.to_owned(),
            owner_id: None,
            lock_mode: String::new(),
            acquired: None,
            heartbeat: None,
            ref_count: None,
        }
    }

    #[test]
    fn the_holder_is_named_as_well_as_the_host_can() {
        assert_eq!(
            holder(&lock("vmx-vcpu-0:db01", "esx02")),
            "db01 on host esx02"
        );
        assert_eq!(holder(&lock("", "esx02")), "host esx02");
        assert!(holder(&lock("", "")).contains("does not name"));
    }
}
