//! Every change and every denial leaves a row in the audit.

use std::collections::HashMap;
use std::sync::Mutex;

use vdvs_domain::record::Fingerprint;
use vdvs_domain::{Error, ErrorKind, VolumeAddress, VolumeId};

use crate::api::{Actor, Caller};
use crate::inner::{Inner, locked};
use crate::ports::{AuditEntry, AuditOutcome};

/// Subjects whose last line is remembered.
const MAX_SAID: usize = 4096;

/// What was logged last about each subject, so that a line appears only when something changed.
#[derive(Debug, Default)]
pub(crate) struct Said(Mutex<HashMap<String, String>>);

impl Said {
    /// Warns, unless these were the last words about `subject`.
    pub(crate) fn once(&self, subject: String, text: &str) {
        if self.is_news(subject.clone(), text) {
            tracing::warn!(subject, "{text}");
        }
    }

    fn is_news(&self, subject: String, text: &str) -> bool {
        let mut said = locked(&self.0);
        if said.get(&subject).is_some_and(|last| last == text) {
            return false;
        }
        if said.len() >= MAX_SAID {
            said.clear();
        }
        said.insert(subject, text.to_owned());
        true
    }

    /// The subject is well again.
    pub(crate) fn well(&self, subject: &str) {
        if locked(&self.0).remove(subject).is_some() {
            tracing::info!(subject, "well again");
        }
    }

    /// What stands, for an administrator.
    pub(crate) fn standing(&self) -> Vec<String> {
        let said = locked(&self.0);
        let mut lines: Vec<_> = said.iter().map(|(s, t)| format!("{s}: {t}")).collect();
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
