//! Locks by key, fair, with the name of the operation that holds one.
//!
//! A key is held around *look, one host call, write the result*: never while waiting for another party. Who needs two
//! keys takes them in the order of [`Key`]'s variants. A key that is held long is logged when it is let go.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as FairMutex, OwnedMutexGuard};
use tokio::time::Instant;
use vdvs_domain::{DatastoreName, GroupId, VmId, VolumeId, VolumeName};

use crate::ports::Clock;

/// Held longer than this, a key is worth a warning: no step under a key is meant to take as long.
const LONG: Duration = Duration::from_secs(20);

/// What is locked, in the order of acquisition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    /// A name in a vmgroup on a datastore: create, and the end of delete.
    Name(DatastoreName, GroupId, VolumeName),
    /// A volume.
    Volume(VolumeId),
    /// The device list of a VM: around one host call.
    Vm(VmId),
    /// A vmgroup's ledger on a datastore.
    Ledger(DatastoreName, GroupId),
    /// The configuration of a datastore.
    Governance(DatastoreName),
}

type Locks = Mutex<HashMap<Key, Arc<FairMutex<()>>>>;

/// The locks of one engine.
#[derive(Debug)]
pub(crate) struct Keys {
    locks: Arc<Locks>,
    clock: Arc<dyn Clock>,
}

/// Holds a key until dropped.
#[derive(Debug)]
pub(crate) struct Held {
    guard: Option<OwnedMutexGuard<()>>,
    locks: Arc<Locks>,
    clock: Arc<dyn Clock>,
    key: Key,
    operation: &'static str,
    since: Instant,
}

fn table(locks: &Locks) -> MutexGuard<'_, HashMap<Key, Arc<FairMutex<()>>>> {
    // The table is consistent between any two statements, so a poisoned one is usable.
    locks.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keys {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            locks: Arc::default(),
            clock,
        }
    }

    /// Waits for its turn. Dropping the future gives the turn up.
    pub(crate) async fn hold(&self, key: Key, operation: &'static str) -> Held {
        let lock = Arc::clone(table(&self.locks).entry(key.clone()).or_default());
        let guard = lock.lock_owned().await;
        self.held(guard, key, operation)
    }

    /// The key, if nobody holds it or waits for it.
    pub(crate) fn try_hold(&self, key: Key, operation: &'static str) -> Option<Held> {
        let lock = Arc::clone(table(&self.locks).entry(key.clone()).or_default());
        // Whoever has it takes it out of the table.
        let guard = lock.try_lock_owned().ok()?;
        Some(self.held(guard, key, operation))
    }

    fn held(&self, guard: OwnedMutexGuard<()>, key: Key, operation: &'static str) -> Held {
        Held {
            guard: Some(guard),
            locks: Arc::clone(&self.locks),
            clock: Arc::clone(&self.clock),
            key,
            operation,
            since: self.clock.monotonic(),
        }
    }

    /// Number of keys in the table.
    #[cfg(test)]
    fn len(&self) -> usize {
        table(&self.locks).len()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let held = self.clock.monotonic().saturating_duration_since(self.since);
        if held >= LONG {
            tracing::warn!(key = ?self.key, operation = self.operation, ?held, "a key was held long");
        }
        let mut table = table(&self.locks);
        self.guard = None;
        // Only the table knows the lock: nobody holds it or waits for it.
        if table
            .get(&self.key)
            .is_some_and(|l| Arc::strong_count(l) == 1)
        {
            table.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;
    use tokio::time::sleep;
    use uuid::Uuid;
    use vdvs_domain::Timestamp;

    use super::*;

    #[derive(Debug)]
    struct TestClock;

    impl Clock for TestClock {
        fn now(&self) -> Timestamp {
            Timestamp::default()
        }
        fn monotonic(&self) -> Instant {
            Instant::now()
        }
    }

    fn volume(n: u128) -> Key {
        Key::Volume(VolumeId::new(Uuid::from_u128(n)))
    }

    #[tokio::test(start_paused = true)]
    async fn one_key_is_held_by_one_and_others_do_not_wait() {
        let keys = Keys::new(Arc::new(TestClock));
        let first = keys.hold(volume(1), "first").await;
        let other = keys.hold(volume(2), "other").await;
        tokio::select! {
            _ = keys.hold(volume(1), "second") => panic!("held twice"),
            () = sleep(Duration::from_secs(1)) => {}
        }
        drop((first, other));
        drop(keys.hold(volume(1), "second").await);
        assert_eq!(keys.len(), 0, "nothing stays in the table");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_first_is_served_first() {
        let keys = Arc::new(Keys::new(Arc::new(TestClock)));
        let order = Arc::new(Mutex::new(Vec::new()));
        let first = keys.hold(volume(1), "first").await;
        let mut tasks = JoinSet::new();
        for n in 0..5 {
            let (keys, order) = (Arc::clone(&keys), Arc::clone(&order));
            tasks.spawn(async move {
                let _held = keys.hold(volume(1), "queued").await;
                order.lock().unwrap().push(n);
            });
            sleep(Duration::from_millis(1)).await;
        }
        drop(first);
        tasks.join_all().await;
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(keys.len(), 0);
    }
}
