//! What happened on this host.

use tokio::time::Instant;
use tonic::Status;
use vdvs_api::{limits, v1};
use vdvs_domain::Timestamp;
use vdvs_engine::ports::{AuditQuery, AuditRow};

use super::{AdminFront, unix_ms};

/// Rows of one reply: with the longest texts there are, they still fit into it.
const MAX_ROWS: u32 = 500;

fn time(unix_ms: i64) -> Option<Timestamp> {
    let millis = u64::try_from(unix_ms).ok().filter(|ms| *ms > 0)?;
    Some(Timestamp::from_millis(millis))
}

fn question(wire: &v1::ListAuditRequest) -> AuditQuery {
    let part = |text: &str| limits::cut(text, limits::MAX_OPTION_TEXT).to_owned();
    let limit = match wire.limit {
        0 => MAX_ROWS,
        limit => limit.min(MAX_ROWS),
    };
    AuditQuery {
        since: time(wire.since_unix_ms),
        until: time(wire.until_unix_ms),
        who: part(&wire.who),
        verb: part(&wire.verb),
        object: part(&wire.object),
        volume: None,
        denials_only: wire.denials_only,
        before: Some(wire.before).filter(|before| *before > 0),
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
    }
}

fn shown(row: AuditRow) -> v1::AuditEntry {
    v1::AuditEntry {
        number: row.number,
        at_unix_ms: unix_ms(row.first),
        last_unix_ms: unix_ms(row.last),
        count: u32::try_from(row.count).unwrap_or(u32::MAX),
        who: row.who,
        verb: row.verb,
        object: row.object,
        volume_id: row.volume.map(|id| id.to_string()).unwrap_or_default(),
        outcome: row.outcome,
        detail: row.detail,
    }
}

impl AdminFront {
    pub(super) async fn answer_list_audit(
        &self,
        deadline: Instant,
        wire: v1::ListAuditRequest,
    ) -> Result<v1::ListAuditReply, Status> {
        let ask = self.engine.admin_audit(question(&wire));
        let page = self.look(deadline, ask).await?;
        Ok(v1::ListAuditReply {
            entries: page.rows.into_iter().map(shown).collect(),
            more: page.more,
            host: self.engine.host_name(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_bounded_and_zero_means_no_bound() {
        let all = question(&v1::ListAuditRequest::default());
        assert_eq!((all.since, all.until, all.before), (None, None, None));
        assert_eq!(all.limit, 500);
        let some = question(&v1::ListAuditRequest {
            since_unix_ms: -5,
            until_unix_ms: 7,
            who: "w".repeat(10_000),
            before: 3,
            limit: 1_000_000,
            denials_only: true,
            ..v1::ListAuditRequest::default()
        });
        assert_eq!(some.since, None);
        assert_eq!(some.until, Some(Timestamp::from_millis(7)));
        assert_eq!(
            (some.who.len(), some.before, some.limit),
            (256, Some(3), 500)
        );
        assert!(some.denials_only);
    }
}
