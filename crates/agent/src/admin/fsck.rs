//! Damage on datastores. A look at ten thousand records, and every repair that needs a proof, takes a while: it runs as a
//! work of the agent, and its report is asked for when that has ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tonic::Status;
use vdvs_api::{limits, status, v1};
use vdvs_domain::Error;
use vdvs_engine::api::{FsckAsk, FsckFinding, FsckLooked, FsckReport, LocalUser};

use super::{AdminFront, count};

/// Reports that wait to be asked for: each is one administrator's command.
const MAX_REPORTS: usize = 16;
/// Longest full name, or name of a datastore, that means anything.
const MAX_NAME: usize = 1024;
/// More names are a script that ran wild.
const MAX_NAMES: usize = 1000;

/// A report that its work puts there at its end.
type Slot = Arc<Mutex<Option<FsckReport>>>;

/// Reports of works that were not quick, the newest last.
#[derive(Debug, Clone, Default)]
pub(super) struct Reports(Arc<Mutex<VecDeque<(String, Slot)>>>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds it can leave it half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reports {
    fn keep(&self, work: &str, slot: Slot) {
        let mut kept = locked(&self.0);
        while kept.len() >= MAX_REPORTS {
            kept.pop_front();
        }
        kept.push_back((work.to_owned(), slot));
    }

    fn get(&self, work: &str) -> Option<FsckReport> {
        let kept = locked(&self.0);
        let (_, slot) = kept.iter().find(|(id, _)| id == work)?;
        locked(slot).clone()
    }
}

fn finding(f: FsckFinding) -> v1::FsckFinding {
    v1::FsckFinding {
        datastore: f.datastore.to_string(),
        name: f.kind.name().to_owned(),
        path: f.path,
        volume: f.volume,
        what: limits::cut(&f.what, limits::MAX_ERROR_TEXT).to_owned(),
        action: limits::cut(&f.action, limits::MAX_ERROR_TEXT).to_owned(),
        state: f.state.name().to_owned(),
    }
}

fn looked(l: FsckLooked) -> v1::FsckLooked {
    v1::FsckLooked {
        datastore: l.datastore.to_string(),
        records: count(l.records),
        claims: count(l.claims),
        disks: count(l.disks),
        unread: String::new(),
    }
}

fn reply(report: FsckReport) -> v1::FsckReply {
    let unread = report.unread.into_iter().map(|(ds, why)| v1::FsckLooked {
        datastore: ds.to_string(),
        unread: limits::cut(&why, limits::MAX_ERROR_TEXT).to_owned(),
        ..v1::FsckLooked::default()
    });
    v1::FsckReply {
        findings: report.findings.into_iter().map(finding).collect(),
        looked: report
            .looked
            .into_iter()
            .map(looked)
            .chain(unread)
            .collect(),
        work: None,
    }
}

impl AdminFront {
    pub(super) async fn answer_fsck(
        &self,
        user: LocalUser,
        deadline: Instant,
        wire: v1::FsckRequest,
    ) -> Result<v1::FsckReply, Status> {
        if !wire.report_of.is_empty() {
            let kept = self.reports.get(&wire.report_of);
            return kept.map(reply).ok_or_else(|| {
                status::from_error(&Error::Invalid {
                    what: "work",
                    problem: "there is no report of it (any more); give the command again"
                        .to_owned(),
                })
            });
        }
        let names = |list: &[String]| -> Vec<String> {
            let cut = |name: &String| limits::cut(name, MAX_NAME).to_owned();
            list.iter().take(MAX_NAMES).map(cut).collect()
        };
        let ask = FsckAsk {
            datastores: names(&wire.datastores),
            repair: wire.repair,
            nobody_has: names(&wire.nobody_has),
        };
        let slot = Slot::default();
        let (engine, fill) = (Arc::clone(&self.engine), Arc::clone(&slot));
        let what = match ask.repair {
            true => "fsck --repair",
            false => "fsck",
        };
        let run = |tell| async move {
            let report = engine.admin_fsck(&user, &ask, &tell).await?;
            *locked(&fill) = Some(report);
            Ok(Vec::new())
        };
        let begun = self.answer_or_work(deadline, what, 0, run).await?;
        let done = locked(&slot).take();
        match (begun.work, done) {
            (Some(work), None) => {
                self.reports.keep(&work.id, slot);
                Ok(v1::FsckReply {
                    work: Some(work),
                    ..v1::FsckReply::default()
                })
            }
            (_, Some(report)) => Ok(reply(report)),
            (None, None) => Err(status::from_error(&Error::Internal(
                "fsck ended without a report".to_owned(),
            ))),
        }
    }
}
