//! Work that outlives the call that began it.
//!
//! ```text
//!   start ─► running ─► done(lines) | failed(error)      kept for an hour, or until newer ones need the place
//! ```
//! A change that may take longer than a caller likes to wait runs here: the caller gets its result if that is quick,
//! else the work's id to ask by. The work itself is written in the records it changes, so nothing is lost with this
//! table when the agent ends; what was cut off is asked for again.
//!
//! The table is bounded: with [`MAX_RUNNING`] works under way the next one is refused, and of the ended ones the oldest
//! make room.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Status;
use tracing::info;
use uuid::Uuid;
use vdvs_api::{limits, status, v1};
use vdvs_domain::{Error, Timestamp};
use vdvs_engine::api::{Teller, Told};
use vdvs_engine::ports::{Clock, Ids};

use super::AdminFront;
use crate::calls::Calls;
use crate::clock::SystemClock;
use crate::ids::RandomIds;

/// Works under way at once. Each is an administrator's command; more are a script that ran wild.
const MAX_RUNNING: usize = 32;
/// Works remembered, the ended ones included.
const MAX_KEPT: usize = 128;
/// An ended work is remembered for so long: whoever asks comes back sooner.
const KEEP: Duration = Duration::from_secs(3600);
/// A change that ends within this time is answered with its result.
const QUICK: Duration = Duration::from_secs(2);
/// Time left for an answer to reach its caller.
const REPLY: Duration = Duration::from_millis(200);
/// Progress within this time is told together: a caller draws a line on a screen.
const TOGETHER: Duration = Duration::from_millis(100);
/// Longest wait of one question for progress.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// What a work came to; none while it runs.
type Ended = Option<Result<Vec<String>, Error>>;

/// One work.
#[derive(Debug)]
struct Entry {
    id: Uuid,
    what: String,
    started: Timestamp,
    told: watch::Receiver<Told>,
    ended: watch::Receiver<(Ended, Option<Instant>)>,
}

/// The works of this agent, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Works(Arc<Mutex<BTreeMap<u64, Arc<Entry>>>>);

/// Tells the table how a work ended, also when its task is lost.
struct Ending(watch::Sender<(Ended, Option<Instant>)>);

impl Ending {
    fn with(&self, result: Result<Vec<String>, Error>) {
        self.0.send_replace((Some(result), Some(Instant::now())));
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.0.borrow().0.is_none() {
            self.with(Err(Error::Internal("the work was lost".to_owned())));
        }
    }
}

impl Works {
    /// Begins a work of `total` in its own unit (0: not known yet). It runs to its end whether or not anybody asks,
    /// and hears through its [`Teller`] that the agent stops.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when too many run.
    fn start<Run>(
        &self,
        calls: &Calls,
        what: String,
        total: u64,
        run: impl FnOnce(Teller) -> Run,
    ) -> Result<Arc<Entry>, Error>
    where
        Run: Future<Output = Result<Vec<String>, Error>> + Send + 'static,
    {
        let teller = Teller::new(total, calls.draining().child_token());
        let (end, ended) = watch::channel((None, None));
        let entry = Arc::new(Entry {
            id: RandomIds.uuid(),
            what,
            started: SystemClock.now(),
            told: teller.listen(),
            ended,
        });
        self.keep(Arc::clone(&entry))?;
        let (work, ending, id) = (run(teller), Ending(end), entry.id);
        let what = entry.what.clone();
        calls.long(async move {
            let result = work.await;
            match &result {
                Ok(_) => info!(work = %id, "administrator: {what}: done"),
                Err(e) => info!(work = %id, reason = %e.kind(), "administrator: {what}: {e}"),
            }
            ending.with(result);
        });
        Ok(entry)
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Entry>>> {
        // Nothing that holds it can leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, entry: Arc<Entry>) -> Result<(), Error> {
        let mut table = self.table();
        let now = Instant::now();
        table.retain(|_, e| !e.older_than(now, KEEP));
        let running = table.values().filter(|e| e.is_running()).count();
        if running >= MAX_RUNNING {
            return Err(Error::Overloaded { limit: MAX_RUNNING });
        }
        while table.len() >= MAX_KEPT {
            let ended = table.iter().find(|(_, e)| !e.is_running());
            let Some(oldest) = ended.map(|(number, _)| *number) else {
                break;
            };
            table.remove(&oldest);
        }
        let number = table
            .last_key_value()
            .map_or(0, |(last, _)| last.saturating_add(1));
        table.insert(number, entry);
        Ok(())
    }

    fn get(&self, id: &str) -> Result<Arc<Entry>, Error> {
        let unknown = || Error::Invalid {
            what: "work",
            problem: format!(
                "no work '{}' is known; this agent forgets ended works after an hour and at its own end. \
                 Give the command again: what is done already is left as it is",
                limits::cut(id, limits::MAX_LABEL)
            ),
        };
        let id = Uuid::parse_str(id).map_err(|_| unknown())?;
        let table = self.table();
        let found = table.values().find(|e| e.id == id);
        found.cloned().ok_or_else(unknown)
    }

    fn all(&self) -> Vec<Arc<Entry>> {
        self.table().values().rev().cloned().collect()
    }
}

impl Entry {
    fn is_running(&self) -> bool {
        self.ended.borrow().0.is_none()
    }

    fn older_than(&self, now: Instant, age: Duration) -> bool {
        let at = self.ended.borrow().1;
        at.is_some_and(|at| now.saturating_duration_since(at) > age)
    }

    fn result(&self) -> Ended {
        self.ended.borrow().0.clone()
    }

    /// Waits for its end, at most until then.
    async fn ended_by(&self, until: Instant) -> Ended {
        let mut ended = self.ended.clone();
        // The sender may only go after it told the end.
        drop(timeout_at(until, ended.wait_for(|(end, _)| end.is_some())).await);
        self.result()
    }

    /// Waits for its end or its next progress, at most until then.
    async fn news_by(&self, until: Instant) {
        let (mut told, mut ended) = (self.told.clone(), self.ended.clone());
        told.mark_unchanged();
        let end = async { ended.wait_for(|(end, _)| end.is_some()).await.is_ok() };
        tokio::select! {
            biased;
            _ = end => return,
            // An error says that the teller is gone, so the end comes now.
            news = told.changed() => if news.is_err() { self.ended_by(until).await; return },
            () = sleep_until(until) => return,
        }
        self.ended_by(until.min(Instant::now() + TOGETHER)).await;
    }

    fn shown(&self) -> v1::Work {
        let told = self.told.borrow().clone();
        let mut work = v1::Work {
            id: self.id.to_string(),
            what: self.what.clone(),
            done: told.done,
            total: told.total,
            state: "running".to_owned(),
            lines: told.lines(),
            started_unix_ms: i64::try_from(self.started.millis()).unwrap_or(i64::MAX),
            ..v1::Work::default()
        };
        match self.result() {
            None => {}
            Some(Ok(lines)) => {
                work.state = "done".to_owned();
                work.lines.extend(lines);
            }
            Some(Err(e)) => {
                work.state = "failed".to_owned();
                work.error = limits::cut(&e.to_string(), limits::MAX_ERROR_TEXT).to_owned();
                work.reason = e.kind().row().reason.to_owned();
            }
        }
        work
    }
}

impl AdminFront {
    /// Runs a change as long work and answers with its result if it ends soon, else with the work to ask for.
    pub(super) async fn answer_or_work<Run>(
        &self,
        deadline: Instant,
        what: impl Into<String>,
        total: u64,
        run: impl FnOnce(Teller) -> Run,
    ) -> Result<v1::ChangeReply, Status>
    where
        Run: Future<Output = Result<Vec<String>, Error>> + Send + 'static,
    {
        let began = self.works.start(&self.calls, what.into(), total, run);
        let entry = began.map_err(|e| status::from_error(&e))?;
        let until = deadline.min(Instant::now() + QUICK);
        let until = until.checked_sub(REPLY).unwrap_or(until);
        match entry.ended_by(until).await {
            Some(Err(e)) => Err(status::from_error(&e)),
            Some(Ok(_)) => Ok(v1::ChangeReply {
                lines: entry.shown().lines,
                ..v1::ChangeReply::default()
            }),
            None => Ok(v1::ChangeReply {
                work: Some(entry.shown()),
                ..v1::ChangeReply::default()
            }),
        }
    }

    pub(super) async fn answer_show_work(
        &self,
        deadline: Instant,
        wire: v1::ShowWorkRequest,
    ) -> Result<v1::ShowWorkReply, Status> {
        let found = self.works.get(&wire.id);
        let entry = found.map_err(|e| status::from_error(&e))?;
        let wait = Duration::from_millis(u64::from(wire.wait_ms)).min(MAX_WAIT);
        let latest = deadline.checked_sub(REPLY).unwrap_or(deadline);
        entry.news_by(latest.min(Instant::now() + wait)).await;
        Ok(v1::ShowWorkReply {
            work: Some(entry.shown()),
        })
    }

    pub(super) async fn answer_list_works(
        &self,
        _deadline: Instant,
        _wire: v1::ListWorksRequest,
    ) -> Result<v1::ListWorksReply, Status> {
        let works = self.works.all().iter().map(|entry| entry.shown()).collect();
        Ok(v1::ListWorksReply { works })
    }
}

#[cfg(test)]
#[path = "works_tests.rs"]
mod tests;
