//! The audit.

use vdvs_api::v1;

use crate::agent::Agent;
use crate::failure::Failure;
use crate::view::{AuditEntry, AuditList};

/// Rows asked for at a time by an export: an answer stays well below a message's bound.
const PAGE: u32 = 2_000;

/// Rows that fit the question, newest first.
///
/// # Errors
/// [`Failure`].
pub async fn list(agent: &mut Agent, question: v1::ListAuditRequest) -> Result<AuditList, Failure> {
    Ok(agent.list_audit(question).await?.into())
}

/// All rows that fit, oldest first: pages are asked for until there are no more.
///
/// # Errors
/// [`Failure`].
pub async fn export(
    agent: &mut Agent,
    mut question: v1::ListAuditRequest,
) -> Result<AuditList, Failure> {
    question.limit = PAGE;
    let mut all = list(agent, question.clone()).await?;
    while all.more {
        let Some(oldest) = all.entries.last() else {
            break;
        };
        question.before = oldest.number;
        let page = list(agent, question.clone()).await?;
        // An agent that answers the same again must not keep us here for ever.
        let older = |e: &&AuditEntry| e.number < question.before;
        all.more = page.more && page.entries.iter().any(|e| older(&e));
        all.entries
            .extend(page.entries.into_iter().filter(|e| older(&e)));
    }
    all.entries.reverse();
    Ok(all)
}
