//! What all use cases share: the ports, the keys, time, and running to the end what cannot be turned back.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use vdvs_domain::error::Holder;
use vdvs_domain::record::Fingerprint;
use vdvs_domain::{
    Capacity, DatastoreName, Error, HostId, Operation, OperationKind, Owner, RequestId, Timestamp,
    VmId, VolumeAddress, VolumeId,
};

use crate::admission::Admission;
use crate::api::{Call, Ports, Settings};
use crate::audit::Said;
use crate::doctor::{FirstSeen, Reports};
use crate::governance::Cached;
use crate::hosts::Hosts;
use crate::index::Index;
use crate::keyed::{Held, Key, Keys};
use crate::ledger::Combiner;
use crate::leftovers::Suspects;
use crate::notices::Notices;
use crate::ports::{DatastoreInfo, DiskPath, Power, StorageError};
use crate::transfers::Transfers;
use crate::wanted::Watched;
use crate::works::Works;

/// A datastore that gives no answer for so long counts as unreadable for this request.
const DATASTORE_ANSWER: Duration = Duration::from_secs(8);
/// Deletes whose retries get the same answer without asking the local store. A volume's record goes with it, so this
/// is all there is to remember by.
const MAX_DELETED: usize = 1024;

/// The engine's state. Nothing in it has to survive a restart.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) ports: Ports,
    pub(crate) settings: Settings,
    pub(crate) host: HostId,
    pub(crate) keys: Keys,
    pub(crate) admission: Admission,
    pub(crate) notices: Notices,
    pub(crate) governed: Mutex<HashMap<DatastoreName, Cached>>,
    /// Version and confirmation of the configurations kept in the store.
    pub(crate) kept: Mutex<HashMap<Uuid, (u64, Timestamp)>>,
    pub(crate) ledgers: Combiner,
    pub(crate) said: Said,
    pub(crate) suspects: Suspects,
    /// Disks this host is making.
    pub(crate) works: Works,
    /// The volumes that VMs of this host hold.
    pub(crate) watched: Watched,
    /// The VMs as the host's last event showed them.
    pub(crate) vms_seen: Mutex<HashMap<VmId, Power>>,
    /// The transfers it is at.
    pub(crate) transfers: Transfers,
    /// Disks the reconciler is looking at.
    pub(crate) looking: Mutex<HashSet<(VmId, DiskPath)>>,
    /// What is remembered of records. A hint: what is answered is checked.
    pub(crate) index: Index,
    /// What this agent tells the others and is told.
    pub(crate) hosts: Hosts,
    /// What the guests reported last.
    pub(crate) reports: Reports,
    /// When `doctor` saw findings first.
    pub(crate) first_seen: FirstSeen,
    deleted: Mutex<Vec<(RequestId, VolumeId)>>,
    tasks: TaskTracker,
}

/// Locks a table that is consistent between any two statements.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a failed storage call means to a caller.
pub(crate) fn unavailable(ds: &DatastoreName, why: &StorageError) -> Error {
    let datastore = ds.clone();
    match why {
        StorageError::NoSpace => Error::DatastoreFull { datastore },
        why => Error::DatastoreUnavailable {
            datastore,
            why: why.to_string(),
        },
    }
}

/// The same for a call that needs room.
pub(crate) fn no_room(ds: &DatastoreName, asked: Capacity, why: &StorageError) -> Error {
    match why {
        StorageError::NoSpace => Error::NoSpace {
            datastore: ds.clone(),
            asked,
        },
        other => unavailable(ds, other),
    }
}

impl Inner {
    pub(crate) fn new(ports: Ports, settings: Settings) -> Self {
        Self {
            host: ports.host.identity().id,
            keys: Keys::new(Arc::clone(&ports.clock)),
            admission: Admission::new(&settings),
            notices: Notices::default(),
            governed: Mutex::default(),
            kept: Mutex::default(),
            ledgers: Combiner::default(),
            said: Said::new(Arc::clone(&ports.clock)),
            suspects: Suspects::default(),
            works: Works::default(),
            watched: Watched::default(),
            vms_seen: Mutex::default(),
            transfers: Transfers::default(),
            looking: Mutex::default(),
            index: Index::default(),
            hosts: Hosts::default(),
            reports: Reports::default(),
            first_seen: FirstSeen::default(),
            deleted: Mutex::default(),
            tasks: TaskTracker::new(),
            ports,
            settings,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    pub(crate) fn instant(&self) -> Instant {
        self.ports.clock.monotonic()
    }

    /// A deadline on the wall clock, for records.
    pub(crate) fn wall(&self, deadline: Instant) -> Timestamp {
        let left = deadline.saturating_duration_since(self.instant());
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_millis(self.now().millis().saturating_add(millis))
    }

    /// How long a host call may take that cannot be turned back.
    pub(crate) fn host_deadline(&self) -> Instant {
        let now = self.instant();
        now.checked_add(self.settings.host_call).unwrap_or(now)
    }

    /// Runs what must not stop half-way, whether or not the caller stays.
    pub(crate) async fn to_the_end<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.tasks
            .spawn(work)
            .await
            .unwrap_or_else(|why| Err(Error::Internal(why.to_string())))
    }

    /// The same, and no longer waited for than `until`, or until the caller is gone: then `None`, and it goes on.
    pub(crate) async fn to_the_end_by<T, F>(
        &self,
        until: Instant,
        gone: &CancellationToken,
        work: F,
    ) -> Option<Result<T, Error>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let mut task = self.tasks.spawn(work);
        tokio::select! {
            biased;
            done = &mut task => {
                Some(done.unwrap_or_else(|why| Err(Error::Internal(why.to_string()))))
            }
            () = sleep_until(until) => None,
            () = gone.cancelled() => None,
        }
    }

    /// Ends what takes long: its makers take back what they made, and say so to who waits.
    pub(crate) fn stop_long_work(&self) {
        self.works.stop_all();
    }

    /// Starts work that belongs to the engine.
    pub(crate) fn task<F>(&self, work: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(work)
    }

    /// Waits for everything that must not stop half-way.
    pub(crate) async fn drain(&self) {
        self.stop_long_work();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// A key, or nothing when the caller is gone or its deadline passed.
    pub(crate) async fn hold(
        &self,
        key: Key,
        operation: &'static str,
        call: &Call,
    ) -> Result<Held, Error> {
        let held = tokio::select! {
            biased;
            () = call.cancel.cancelled() => None,
            held = self.keys.hold(key, operation) => Some(held),
            () = sleep_until(call.deadline) => None,
        };
        held.ok_or(Error::DeadlinePassed {
            doing: "waiting for another request on the same volume",
        })
    }

    /// The last moment to turn back.
    pub(crate) fn still_wanted(&self, call: &Call, doing: &'static str) -> Result<(), Error> {
        if call.cancel.is_cancelled() || self.instant() >= call.deadline {
            return Err(Error::DeadlinePassed { doing });
        }
        Ok(())
    }

    /// A new operation of this host.
    pub(crate) fn operation(
        &self,
        kind: OperationKind,
        call: &Call,
        fingerprint: &Fingerprint,
    ) -> Operation {
        Operation {
            kind,
            request: call.request,
            fingerprint: fingerprint.clone(),
            host: self.host,
            started: self.now(),
            deadline: self.wall(call.deadline),
        }
    }

    /// Bounds the wait for one datastore, so that a hanging one stops only its own volumes.
    pub(crate) async fn answering<T>(
        &self,
        ds: &DatastoreName,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        timeout(DATASTORE_ANSWER, work).await.unwrap_or_else(|_| {
            Err(Error::DatastoreUnavailable {
                datastore: ds.clone(),
                why: format!("no answer within {DATASTORE_ANSWER:?}"),
            })
        })
    }

    /// The datastores of this host.
    pub(crate) async fn datastores(&self) -> Result<Vec<DatastoreInfo>, Error> {
        self.ports
            .datastores
            .list()
            .await
            .map_err(|why| Error::HostFailed {
                verb: "list its datastores",
                why: why.to_string(),
            })
    }

    /// Remembers the answer to a delete, beyond a restart if the local store works.
    pub(crate) async fn remember_deleted(&self, request: RequestId, id: VolumeId) {
        self.remember_deleted_here(request, id);
        if let Err(why) = self.ports.store.remember_deleted(request, id).await {
            self.said
                .once("remembering a delete".to_owned(), &why.to_string());
        }
    }

    fn remember_deleted_here(&self, request: RequestId, id: VolumeId) {
        let mut deleted = locked(&self.deleted);
        deleted.push((request, id));
        let excess = deleted.len().saturating_sub(MAX_DELETED);
        deleted.drain(..excess);
    }

    pub(crate) async fn recall_deleted(&self, request: RequestId) -> Option<VolumeId> {
        let here = |deleted: &Vec<(RequestId, VolumeId)>| {
            let found = deleted.iter().find(|(r, _)| *r == request);
            found.map(|(_, id)| *id)
        };
        if let Some(id) = here(&locked(&self.deleted)) {
            return Some(id);
        }
        match self.ports.store.recall_deleted(request).await {
            Ok(found) => found,
            Err(why) => {
                self.said
                    .once("recalling a delete".to_owned(), &why.to_string());
                None
            }
        }
    }

    /// A host's name as far as this one knows it.
    pub(crate) fn host_name(&self, id: HostId) -> String {
        if id == self.host {
            self.ports.host.identity().name
        } else {
            id.to_string()
        }
    }

    /// Who holds a volume, for messages.
    pub(crate) fn holder(&self, owner: &Owner) -> Holder {
        let host = match owner.host_name.is_empty() {
            true => self.host_name(owner.host),
            false => owner.host_name.clone(),
        };
        Holder {
            vm: owner.vm.name.as_str().into(),
            host: host.into(),
            since: owner.since,
            note: "",
        }
    }

    /// What a caller hears while an operation stands unresolved.
    pub(crate) fn unresolved(
        name: VolumeAddress,
        operation: &Operation,
        why: impl ToString,
    ) -> Error {
        Error::Unresolved {
            name,
            operation: operation.kind.name(),
            why: why.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_datastore_is_called_full_and_not_unreadable() {
        let ds = DatastoreName::new("ds1").expect("a name");
        let said = unavailable(&ds, &StorageError::NoSpace).to_string();
        assert!(said.contains("ds1 has no space left"), "{said}");
        let said = unavailable(&ds, &StorageError::Io("gone".into())).to_string();
        assert!(said.contains("ds1 cannot be read (gone)"), "{said}");
    }
}
