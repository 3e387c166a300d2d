//! A simulated host's own store, its time and its identities.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::time::Instant;
use uuid::Uuid;
use vdvs_domain::{Timestamp, VolumeId};
use vdvs_engine::ports::{AuditEntry, Clock, Ids, KeptConfig, Store, StoreError};

use crate::world::World;

/// Some day in 2026: simulated records carry plausible times.
const BASE_MILLIS: u64 = 1_790_000_000_000;

#[derive(Debug, Default)]
struct Kept {
    audit: Vec<AuditEntry>,
    configs: BTreeMap<Uuid, KeptConfig>,
}

/// The store, in memory.
#[derive(Debug, Default)]
pub struct SimStore {
    kept: Mutex<Kept>,
}

impl SimStore {
    /// Everything audited, oldest first.
    #[must_use]
    pub fn audited(&self) -> Vec<AuditEntry> {
        self.lock().audit.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for SimStore {
    async fn audit(&self, entry: AuditEntry) -> Result<(), StoreError> {
        self.lock().audit.push(entry);
        Ok(())
    }

    async fn keep_config(&self, id: Uuid, config: KeptConfig) -> Result<(), StoreError> {
        let mut kept = self.lock();
        let newer = kept.configs.get(&id).is_none_or(|old| old.seq < config.seq);
        if newer {
            kept.configs.insert(id, config);
        }
        Ok(())
    }

    async fn kept_config(&self, id: Uuid) -> Result<Option<KeptConfig>, StoreError> {
        Ok(self.lock().configs.get(&id).cloned())
    }
}

/// Tokio's time, which a test may pause, with a date to start from.
#[derive(Debug)]
pub struct SimClock {
    start: Instant,
}

impl Default for SimClock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_millis(BASE_MILLIS.saturating_add(elapsed))
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// Identities from the world's seed.
#[derive(Debug)]
pub struct SimIds {
    world: Arc<World>,
}

impl SimIds {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self { world }
    }
}

impl Ids for SimIds {
    fn volume_id(&self) -> VolumeId {
        VolumeId::new(self.world.identity())
    }

    fn uuid(&self) -> Uuid {
        self.world.identity()
    }
}
