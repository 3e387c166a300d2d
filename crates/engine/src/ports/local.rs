//! What this host keeps for itself, and where time and identities come from.

use std::fmt;

use async_trait::async_trait;
use tokio::time::Instant;
use uuid::Uuid;
use vdvs_domain::{ErrorKind, RequestId, Timestamp, VolumeId};

/// A row of the audit: every change and every denial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who: the VM's instance UUID and name, or the local user.
    pub who: String,
    /// What was asked, for example `create`.
    pub verb: &'static str,
    /// On which volume or object, by full name.
    pub object: String,
    /// The volume's id, where there is one.
    pub volume: Option<VolumeId>,
    /// What came of it.
    pub outcome: AuditOutcome,
    /// Facts in words.
    pub detail: String,
}

/// What came of an audited request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOutcome {
    /// Done.
    Done,
    /// Refused or failed, with its kind.
    Refused(ErrorKind),
}

/// The last good copy of a configuration document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptConfig {
    /// Its version.
    pub seq: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The local store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("local store: {0}")]
pub struct StoreError(pub String);

/// This host's own store. Rebuildable, the audit apart.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Appends to the audit. Identical denials in a row fold into one row with count and span.
    async fn audit(&self, entry: AuditEntry) -> Result<(), StoreError>;

    /// Keeps the last good copy of the configuration document `id`, unless a newer one is kept already.
    async fn keep_config(&self, id: Uuid, config: KeptConfig) -> Result<(), StoreError>;

    /// The copy kept of the configuration document `id`.
    async fn kept_config(&self, id: Uuid) -> Result<Option<KeptConfig>, StoreError>;

    /// Remembers that `request` deleted `volume`: of a deleted volume nothing else is left to answer a retry by.
    async fn remember_deleted(
        &self,
        request: RequestId,
        volume: VolumeId,
    ) -> Result<(), StoreError>;

    /// What `request` deleted, as far as it is remembered.
    async fn recall_deleted(&self, request: RequestId) -> Result<Option<VolumeId>, StoreError>;
}

/// Time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall-clock time, for records and people.
    fn now(&self) -> Timestamp;

    /// Monotonic time, for deadlines.
    fn monotonic(&self) -> Instant;
}

/// Fresh identities.
pub trait Ids: Send + Sync + fmt::Debug {
    /// A UUID v7 for a new volume.
    fn volume_id(&self) -> VolumeId;

    /// A random UUID.
    fn uuid(&self) -> Uuid;
}
