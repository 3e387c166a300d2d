//! The thread that owns the connection.

use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;
use vdvs_domain::{RequestId, Timestamp, VolumeId};
use vdvs_engine::ports::{AuditEntry, AuditPage, AuditQuery, KeptConfig, StoreError};

use crate::{Limits, OpenError, audit, audit_page, config, deleted, file};

/// Requests that share one transaction. Enough that a flood is bound by its fsyncs only once in a while, small enough
/// that nobody waits long for a neighbour's work.
const BATCH: usize = 64;

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What can be asked of the writer.
pub(crate) enum Request {
    Audit(AuditEntry, Reply<()>),
    AuditPage(AuditQuery, Reply<AuditPage>),
    KeepConfig(Uuid, KeptConfig, Reply<()>),
    KeptConfig(Uuid, Reply<Option<KeptConfig>>),
    KeptConfigs(Reply<Vec<Uuid>>),
    RememberDeleted(RequestId, VolumeId, Reply<()>),
    RecallDeleted(RequestId, Reply<Option<VolumeId>>),
}

impl Request {
    /// Answers that it was not carried out. A caller that went away no longer wants to know.
    fn refuse(self, e: StoreError) {
        match self {
            Self::Audit(_, reply)
            | Self::KeepConfig(_, _, reply)
            | Self::RememberDeleted(_, _, reply) => drop(reply.send(Err(e))),
            Self::RecallDeleted(_, reply) => drop(reply.send(Err(e))),
            Self::AuditPage(_, reply) => drop(reply.send(Err(e))),
            Self::KeptConfig(_, reply) => drop(reply.send(Err(e))),
            Self::KeptConfigs(reply) => drop(reply.send(Err(e))),
        }
    }
}

/// Starts the thread. It tells through `opened` how opening went, then serves until the last sender is gone.
pub(crate) fn start(
    path: PathBuf,
    now: Timestamp,
    limits: Limits,
    opened: oneshot::Sender<Result<(), OpenError>>,
    requests: mpsc::Receiver<Request>,
) -> Result<JoinHandle<()>, OpenError> {
    let run = move || match file::open(&path, now) {
        // Whoever asked to open may be gone already; then there is nobody to serve either.
        Ok(connection) => {
            if opened.send(Ok(())).is_ok() {
                serve(connection, limits, requests);
            }
        }
        Err(e) => drop(opened.send(Err(e))),
    };
    thread::Builder::new()
        .name("store".to_owned())
        .spawn(run)
        .map_err(OpenError::Thread)
}

fn serve(mut connection: Connection, limits: Limits, mut requests: mpsc::Receiver<Request>) {
    while let Some(first) = requests.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(next) = requests.try_recv()
        {
            batch.push(next);
        }
        serve_batch(&mut connection, limits, batch);
    }
}

/// Sends an answer that was computed in the transaction, or the transaction's own failure.
type Answer = Box<dyn FnOnce(Result<(), StoreError>)>;

fn serve_batch(connection: &mut Connection, limits: Limits, batch: Vec<Request>) {
    let mut answers: Vec<Answer> = Vec::with_capacity(batch.len());
    let mut waiting = batch.into_iter();
    let committed = (|| {
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for request in waiting.by_ref() {
            answers.push(execute(&tx, limits, request));
            // A full disk or an I/O error ends the whole transaction, not only the statement. Whatever ran after it
            // would be kept one by one although its batch failed.
            if tx.is_autocommit() {
                break;
            }
        }
        tx.commit()
    })();
    let committed = committed.map_err(store_error);
    // Nothing is answered before the commit.
    for answer in answers {
        answer(committed.clone());
    }
    if let Err(e) = committed {
        waiting.for_each(|request| request.refuse(e.clone()));
    }
}

fn execute(db: &Connection, limits: Limits, request: Request) -> Answer {
    match request {
        Request::Audit(entry, reply) => answer(audit::append(db, limits, &entry), reply),
        Request::AuditPage(query, reply) => answer(audit_page::page(db, &query), reply),
        Request::KeepConfig(id, config, reply) => answer(config::keep(db, id, &config), reply),
        Request::KeptConfig(id, reply) => answer(config::kept(db, id), reply),
        Request::KeptConfigs(reply) => answer(config::all_kept(db), reply),
        Request::RememberDeleted(request, volume, reply) => {
            answer(deleted::remember(db, request, volume), reply)
        }
        Request::RecallDeleted(request, reply) => answer(deleted::recall(db, request), reply),
    }
}

fn answer<T: 'static>(result: Result<T, StoreError>, reply: Reply<T>) -> Answer {
    Box::new(move |committed| {
        // A caller that went away no longer wants the answer.
        drop(reply.send(committed.and(result)));
    })
}

/// SQLite's failure in the port's words.
pub(crate) fn store_error(e: rusqlite::Error) -> StoreError {
    StoreError(e.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::audit::entry;

    fn submit(connection: &mut Connection, n: usize) -> Vec<Result<(), StoreError>> {
        let (batch, answers): (Vec<_>, Vec<_>) = (0..n)
            .map(|i| {
                let (reply, answer) = oneshot::channel();
                let entry = AuditEntry {
                    detail: format!("{i} {}", "x".repeat(1000)),
                    ..entry("vm1", 1)
                };
                (Request::Audit(entry, reply), answer)
            })
            .unzip();
        serve_batch(connection, Limits::default(), batch);
        let gone = || Err(StoreError("dropped".to_owned()));
        answers
            .into_iter()
            .map(|a| a.blocking_recv().unwrap_or_else(|_| gone()))
            .collect()
    }

    fn rows(connection: &Connection) -> i64 {
        connection
            .query_row("SELECT count(*) FROM audit", [], |r| r.get(0))
            .unwrap()
    }

    #[test]
    fn a_full_disk_fails_its_batch_whole_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = file::open(&dir.path().join("store.sqlite"), Timestamp::default()).unwrap();
        assert!(submit(&mut db, 1).iter().all(Result::is_ok));
        let pages: i64 = db
            .pragma_query_value(None, "page_count", |r| r.get(0))
            .unwrap();
        let set_limit = |db: &Connection, pages: i64| {
            db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
                .unwrap();
        };
        set_limit(&db, pages);
        let answers = submit(&mut db, 20);
        assert!(answers.iter().any(Result::is_err));
        let acknowledged = answers.iter().filter(|a| a.is_ok()).count();
        assert_eq!(usize::try_from(rows(&db)).unwrap(), 1 + acknowledged);
        set_limit(&db, pages + 100);
        assert!(submit(&mut db, 20).iter().all(Result::is_ok));
    }

    #[test]
    fn the_pragmas_are_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let db = file::open(&dir.path().join("store.sqlite"), Timestamp::default()).unwrap();
        let text =
            |name: &str| -> String { db.pragma_query_value(None, name, |r| r.get(0)).unwrap() };
        assert_eq!(text("journal_mode"), "wal");
        assert_eq!(text("locking_mode"), "exclusive");
        let full: i64 = db
            .pragma_query_value(None, "synchronous", |r| r.get(0))
            .unwrap();
        assert_eq!(full, 2);
        assert!(Path::new(db.path().unwrap()).exists());
    }
}
