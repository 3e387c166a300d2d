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

/// A row of the audit: one request, or several identical denials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Grows with every row.
    pub number: u64,
    /// When it happened, or first happened.
    pub first: Timestamp,
    /// When it last happened.
    pub last: Timestamp,
    /// How often.
    pub count: u64,
    /// Who asked.
    pub who: String,
    /// What was asked.
    pub verb: String,
    /// Of what.
    pub object: String,
    /// The volume's id, where there is one.
    pub volume: Option<VolumeId>,
    /// [`AuditRow::DONE`], or the reason of the refusal. Text, so that rows of a newer program can be read.
    pub outcome: String,
    /// Facts in words.
    pub detail: String,
}

impl AuditRow {
    /// The outcome of what was done.
    pub const DONE: &'static str = "done";

    /// The row of one entry.
    #[must_use]
    pub fn of(number: u64, entry: &AuditEntry) -> Self {
        Self {
            number,
            first: entry.at,
            last: entry.at,
            count: 1,
            who: entry.who.clone(),
            verb: entry.verb.to_owned(),
            object: entry.object.clone(),
            volume: entry.volume,
            outcome: match entry.outcome {
                AuditOutcome::Done => Self::DONE,
                AuditOutcome::Refused(kind) => kind.row().reason,
            }
            .to_owned(),
            detail: entry.detail.clone(),
        }
    }

    /// Whether it was refused.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        self.outcome != Self::DONE
    }
}

/// Which rows of the audit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// That happened, last, at this time or later.
    pub since: Option<Timestamp>,
    /// That happened first at this time or earlier.
    pub until: Option<Timestamp>,
    /// Whose texts have these parts, whatever the case of ASCII letters; empty: all.
    pub who: String,
    /// The same for the verb.
    pub verb: String,
    /// The same for the object.
    pub object: String,
    /// About this volume by its id, or by one of these names as the object.
    pub volume: Option<(VolumeId, Vec<String>)>,
    /// Only what was refused.
    pub denials_only: bool,
    /// Older than the row of this number.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

impl AuditQuery {
    /// Whether a row is asked for. What a store does by other means is the same.
    #[must_use]
    pub fn fits(&self, row: &AuditRow) -> bool {
        let has = |text: &str, part: &str| {
            let (text, part) = (text.to_ascii_lowercase(), part.to_ascii_lowercase());
            text.contains(&part)
        };
        let about = |(id, names): &(VolumeId, Vec<String>)| match row.volume {
            Some(volume) => volume == *id,
            None => names.contains(&row.object),
        };
        self.since.is_none_or(|since| row.last >= since)
            && self.until.is_none_or(|until| row.first <= until)
            && has(&row.who, &self.who)
            && has(&row.verb, &self.verb)
            && has(&row.object, &self.object)
            && self.volume.as_ref().is_none_or(about)
            && (!self.denials_only || row.is_denial())
            && self.before.is_none_or(|before| row.number < before)
    }
}

/// Some rows of the audit, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditPage {
    /// The rows.
    pub rows: Vec<AuditRow>,
    /// Older ones exist that fit the question.
    pub more: bool,
}

/// The last good copy of a configuration document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptConfig {
    /// Its version.
    pub seq: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// When its home last showed that it is the newest.
    pub confirmed: Timestamp,
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

    /// The newest rows that fit the question.
    async fn audit_page(&self, query: AuditQuery) -> Result<AuditPage, StoreError>;

    /// Keeps the last good copy of the configuration document `id`, unless a newer one is kept already, or the same
    /// that was confirmed later.
    async fn keep_config(&self, id: Uuid, config: KeptConfig) -> Result<(), StoreError>;

    /// The copy kept of the configuration document `id`.
    async fn kept_config(&self, id: Uuid) -> Result<Option<KeptConfig>, StoreError>;

    /// The configurations of which a copy is kept.
    async fn kept_configs(&self) -> Result<Vec<Uuid>, StoreError>;

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
