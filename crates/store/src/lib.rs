//! What one host keeps for itself, in one SQLite file: the audit, the last good copy of the configuration documents it
//! follows, and which requests deleted which volumes.
//!
//! ```text
//!   tasks ──Request──► bounded channel ──► writer thread (owns the connection) ──commit──► reply to each task
//! ```
//! * One thread owns the connection; nothing else opens the file. It takes every request that waits, up to a batch,
//!   into one transaction, and answers after the commit: an answered audit row survives a power cut, and a flood of
//!   requests shares its fsyncs.
//! * The file is locked for this process alone. A second agent on the same state folder gets [`OpenError::Locked`].
//! * A file of a newer schema is refused and left untouched; an older one is migrated, a step a transaction.
//! * A damaged file is renamed to `<name>.damaged-<time>` with a warning, and a new one begun: but for the audit
//!   everything in it can be had again from the datastores, and a host that cannot serve its VMs is worse than a gap
//!   in the audit that says where it is.
//! * A failed transaction (a full disk) fails the requests in it and nothing else; the next one starts afresh.
//!
//! It does not decide anything, and it is never the truth about a volume: that is the record on the datastore.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod audit;
mod audit_page;
mod config;
mod deleted;
mod file;
mod migrate;
pub mod original;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;
use vdvs_domain::{RequestId, Timestamp, VolumeId};
use vdvs_engine::ports::{
    AuditEntry, AuditPage, AuditQuery, AuditRow, KeptConfig, Store, StoreError,
};

pub use file::OpenError;
use writer::{Reply, Request};

/// How much the store keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows of the audit; the oldest go first.
    pub audit_rows: u32,
    /// Bytes its rows may take; the oldest go first.
    pub audit_bytes: u64,
}

impl Default for Limits {
    /// 100,000 rows: some 20 MB, months of a busy host, and small beside the scratch partition it lies on. Long texts
    /// may not make more of it than 32 MiB.
    fn default() -> Self {
        Self {
            audit_rows: 100_000,
            audit_bytes: 32 * 1024 * 1024,
        }
    }
}

/// Requests that may wait for the writer. Beyond it callers wait for room, which slows down whoever floods.
const QUEUE: usize = 256;

/// The store in one SQLite file.
pub struct SqliteStore {
    path: PathBuf,
    // None only while dropping: closing the channel is what ends the thread.
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

impl SqliteStore {
    /// Opens the file at `path`, making or migrating it. `now` names a damaged file that is set aside.
    ///
    /// # Errors
    /// [`OpenError`]: each says what to do.
    pub async fn open(path: &Path, now: Timestamp) -> Result<Self, OpenError> {
        Self::open_with(path, now, Limits::default()).await
    }

    /// [`SqliteStore::open`] with other limits.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open_with(path: &Path, now: Timestamp, limits: Limits) -> Result<Self, OpenError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (opened, ready) = oneshot::channel();
        let writer = writer::start(path.to_owned(), now, limits, opened, receiver)?;
        match ready.await {
            Ok(Ok(())) => Ok(Self {
                path: path.to_owned(),
                requests: Some(sender),
                writer: Some(writer),
            }),
            Ok(Err(e)) => Err(e),
            Err(_) => Err(OpenError::WriterGone),
        }
    }

    /// The newest `n` rows of the audit, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read.
    pub async fn audit_tail(&self, n: u32) -> Result<Vec<AuditRow>, StoreError> {
        let query = AuditQuery {
            limit: usize::try_from(n).unwrap_or(usize::MAX),
            ..AuditQuery::default()
        };
        self.audit_page(query).await.map(|page| page.rows)
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, StoreError> {
        let gone = || StoreError(format!("the writer of {} is gone", self.path.display()));
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn audit(&self, entry: AuditEntry) -> Result<(), StoreError> {
        self.ask(|reply| Request::Audit(entry, reply)).await
    }

    async fn audit_page(&self, query: AuditQuery) -> Result<AuditPage, StoreError> {
        self.ask(|reply| Request::AuditPage(query, reply)).await
    }

    async fn keep_config(&self, id: Uuid, config: KeptConfig) -> Result<(), StoreError> {
        self.ask(|reply| Request::KeepConfig(id, config, reply))
            .await
    }

    async fn kept_config(&self, id: Uuid) -> Result<Option<KeptConfig>, StoreError> {
        self.ask(|reply| Request::KeptConfig(id, reply)).await
    }

    async fn kept_configs(&self) -> Result<Vec<Uuid>, StoreError> {
        self.ask(Request::KeptConfigs).await
    }

    async fn remember_deleted(
        &self,
        request: RequestId,
        volume: VolumeId,
    ) -> Result<(), StoreError> {
        self.ask(|reply| Request::RememberDeleted(request, volume, reply))
            .await
    }

    async fn recall_deleted(&self, request: RequestId) -> Result<Option<VolumeId>, StoreError> {
        self.ask(|reply| Request::RecallDeleted(request, reply))
            .await
    }
}

impl Drop for SqliteStore {
    /// Waits until what was accepted is written and the file is unlocked: at most one batch.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "the store's writer panicked");
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
