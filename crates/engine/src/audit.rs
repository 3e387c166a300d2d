//! Every change and every denial leaves a row in the audit.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use vdvs_domain::record::Fingerprint;
use vdvs_domain::{Error, ErrorKind, VolumeAddress, VolumeId};

use crate::api::{Actor, Caller};
use crate::inner::{Inner, locked};
use crate::ports::{AuditEntry, AuditOutcome, AuditPage, AuditQuery, Clock};

/// Subjects whose last line is remembered.
const MAX_SAID: usize = 4096;
/// Something that comes and goes is logged so often in an hour, coming and going; the rest is counted.
const PER_HOUR: u32 = 3;
const HOUR: Duration = Duration::from_secs(3600);

/// What was logged last about each subject, so that a line appears only when something changed, and something that
/// comes and goes does not fill the log.
#[derive(Debug)]
pub(crate) struct Said {
    lines: Mutex<HashMap<String, Line>>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Line {
    text: String,
    /// It is so now.
    stands: bool,
    /// It was logged that it is so.
    logged: bool,
    /// When the hour began in which lines are counted.
    since: Instant,
    /// Lines logged in it.
    count: u32,
    /// Lines not logged.
    folded: u32,
}

impl Said {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            lines: Mutex::default(),
            clock,
        }
    }

    /// Warns, unless these were the last words about `subject`, or it came and went too often.
    pub(crate) fn once(&self, subject: String, text: &str) {
        match self.news(&subject, text) {
            None => {}
            Some((true, 0)) => tracing::warn!(subject, "{text}"),
            Some((true, folded)) => tracing::warn!(subject, folded, "{text}"),
            Some((false, _)) => tracing::debug!(subject, "{text}"),
        }
    }

    /// `None`: nothing new; else whether it is to be logged, and how many lines were not.
    fn news(&self, subject: &str, text: &str) -> Option<(bool, u32)> {
        let now = self.clock.monotonic();
        let mut lines = locked(&self.lines);
        if !lines.contains_key(subject) && lines.len() >= MAX_SAID {
            lines.retain(|_, line| line.stands);
            if lines.len() >= MAX_SAID {
                lines.clear();
            }
        }
        let line = lines.entry(subject.to_owned()).or_insert_with(|| Line {
            text: String::new(),
            stands: false,
            logged: false,
            since: now,
            count: 0,
            folded: 0,
        });
        if line.stands && line.text == text {
            return None;
        }
        if now.saturating_duration_since(line.since) >= HOUR {
            (line.since, line.count) = (now, 0);
        }
        text.clone_into(&mut line.text);
        line.stands = true;
        line.logged = line.count < PER_HOUR;
        if !line.logged {
            line.folded = line.folded.saturating_add(1);
            return Some((false, line.folded));
        }
        line.count += 1;
        Some((true, mem::take(&mut line.folded)))
    }

    /// The subject is well again.
    pub(crate) fn well(&self, subject: &str) {
        let mut lines = locked(&self.lines);
        let Some(line) = lines.get_mut(subject).filter(|l| l.stands) else {
            return;
        };
        line.stands = false;
        let logged = line.logged;
        drop(lines);
        if logged {
            tracing::info!(subject, "well again");
        }
    }

    /// What stands, for an administrator.
    pub(crate) fn standing(&self) -> Vec<String> {
        let said = locked(&self.lines);
        let standing = said.iter().filter(|(_, line)| line.stands);
        let mut lines: Vec<_> = standing.map(|(s, l)| format!("{s}: {}", l.text)).collect();
        lines.sort();
        lines
    }
}

/// What a request asks, so that the same id with other content is noticed.
pub(crate) fn fingerprint(
    caller: &Caller,
    verb: &str,
    object: impl ToString,
    args: &str,
) -> Fingerprint {
    let vm = caller.vm.id.instance_uuid;
    Fingerprint(format!("{vm} {verb} {} {args}", object.to_string()))
}

/// Denials are audited; other failures are the caller's and the log's business.
const fn is_denial(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::PermissionDenied
            | ErrorKind::NotConfigured
            | ErrorKind::UnknownCaller
            | ErrorKind::QuotaExceeded
    )
}

impl Inner {
    pub(crate) async fn audit(
        &self,
        actor: Actor<'_>,
        verb: &'static str,
        object: String,
        volume: Option<VolumeId>,
        detail: String,
    ) {
        tracing::info!(%actor, verb, object, detail, "done");
        let outcome = AuditOutcome::Done;
        self.append(actor, verb, object, volume, outcome, detail)
            .await;
    }

    /// Audits a denial.
    pub(crate) async fn audit_denial(
        &self,
        actor: Actor<'_>,
        verb: &'static str,
        object: &VolumeAddress,
        why: &Error,
    ) {
        if is_denial(why.kind()) {
            let outcome = AuditOutcome::Refused(why.kind());
            let (object, detail) = (object.to_string(), why.to_string());
            self.append(actor, verb, object, None, outcome, detail)
                .await;
        }
    }

    /// The audit of this host, for an administrator.
    pub(crate) async fn admin_audit(&self, query: AuditQuery) -> Result<AuditPage, Error> {
        self.ports
            .store
            .audit_page(query)
            .await
            .map_err(|why| Error::HostFailed {
                verb: "read its audit",
                why: why.to_string(),
            })
    }

    async fn append(
        &self,
        actor: Actor<'_>,
        verb: &'static str,
        object: String,
        volume: Option<VolumeId>,
        outcome: AuditOutcome,
        detail: String,
    ) {
        let entry = AuditEntry {
            at: self.now(),
            who: actor.to_string(),
            verb,
            object,
            volume,
            outcome,
            detail,
        };
        match self.ports.store.audit(entry).await {
            Ok(()) => self.said.well("audit"),
            Err(why) => self.said.once("audit".to_owned(), &why.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;
    use vdvs_domain::Timestamp;

    use super::*;

    #[derive(Debug)]
    struct Paused;

    impl Clock for Paused {
        fn now(&self) -> Timestamp {
            Timestamp::default()
        }
        fn monotonic(&self) -> Instant {
            Instant::now()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_appears_once_and_what_comes_and_goes_is_counted() {
        let said = Said::new(Arc::new(Paused));
        assert_eq!(said.news("ds", "gone"), Some((true, 0)));
        assert_eq!(said.news("ds", "gone"), None);
        assert_eq!(
            said.news("ds", "slow"),
            Some((true, 0)),
            "other words are news"
        );
        said.well("ds");
        assert_eq!(said.standing(), Vec::<String>::new());
        assert_eq!(said.news("ds", "gone"), Some((true, 0)));
        for folded in 1..=20 {
            said.well("ds");
            assert_eq!(said.news("ds", "gone"), Some((false, folded)));
        }
        assert_eq!(said.news("other", "gone"), Some((true, 0)));
        assert_eq!(said.standing(), ["ds: gone", "other: gone"]);
        advance(HOUR).await;
        said.well("ds");
        assert_eq!(
            said.news("ds", "gone"),
            Some((true, 20)),
            "an hour later, with the count"
        );
    }
}
