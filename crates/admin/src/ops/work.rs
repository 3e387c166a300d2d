//! Long work: asked for until it ends. It goes on whether or not anybody asks.

use vdvs_api::v1;
use vdvs_domain::ErrorKind;

use super::missing;
use crate::agent::Agent;
use crate::arrange::Arrangement;
use crate::failure::Failure;
use crate::view::{Changed, Tabular, Work};

/// How long the agent may hold one question while nothing happens.
const WAIT_MS: u32 = 1_000;

/// Whoever wants to see how far it is.
pub trait Progress {
    /// This far.
    fn show(&mut self, work: &Work);
}

/// Nobody wants to.
impl Progress for () {
    fn show(&mut self, _: &Work) {}
}

/// All work the agent knows of, arranged.
///
/// # Errors
/// [`Failure`].
pub async fn list(agent: &mut Agent, arrangement: &Arrangement) -> Result<Vec<Work>, Failure> {
    let reply = agent.list_works(v1::ListWorksRequest {}).await?;
    let list: Vec<_> = reply.works.into_iter().map(Work::from).collect();
    let grid = list.grid();
    arrangement.apply(list, &grid)
}

/// One work as it is now, or after its next progress within `wait_ms`.
///
/// # Errors
/// [`Failure`].
pub async fn show(agent: &mut Agent, id: &str, wait_ms: u32) -> Result<Work, Failure> {
    let reply = agent
        .show_work(v1::ShowWorkRequest {
            id: id.to_owned(),
            wait_ms,
        })
        .await?;
    Ok(reply.work.ok_or_else(|| missing("work"))?.into())
}

/// Waits for the end of what a change began; its results become the change's. Nothing to do for a change that is done.
///
/// # Errors
/// [`Failure`]: the work's own, or that its end could not be learnt, with how to go on.
pub async fn follow(
    agent: &mut Agent,
    mut changed: Changed,
    progress: &mut (impl Progress + ?Sized),
) -> Result<Changed, Failure> {
    let Some(begun) = changed.work.take() else {
        return Ok(changed);
    };
    changed.end(wait(agent, begun, progress).await?);
    Ok(changed)
}

/// Waits for the end of a work. A failed one is a failure, with what it got done before.
///
/// # Errors
/// As [`follow`].
pub async fn wait(
    agent: &mut Agent,
    mut work: Work,
    progress: &mut (impl Progress + ?Sized),
) -> Result<Work, Failure> {
    while work.runs() {
        progress.show(&work);
        work = show(agent, &work.id, WAIT_MS)
            .await
            .map_err(|failure| out_of_sight(&work, failure))?;
    }
    progress.show(&work);
    match failure_of(&work) {
        Some(failure) => Err(failure),
        None => Ok(work),
    }
}

/// What a failed work says; none: it did not fail.
#[must_use]
pub fn failure_of(work: &Work) -> Option<Failure> {
    let error = match (&work.error, work.state.as_str()) {
        (Some(error), _) => error.clone(),
        (None, "failed") => format!("{} failed; the agent's log says why", work.what),
        (None, _) => return None,
    };
    let kind = work
        .reason
        .as_deref()
        .and_then(ErrorKind::from_reason)
        .unwrap_or(ErrorKind::Internal);
    let done = work.lines.iter().map(|line| format!("\n{line}"));
    Some(Failure::new(
        kind,
        format!("{error}{}", done.collect::<String>()),
    ))
}

/// How to go on with a work whose end could not be waited for.
#[must_use]
pub fn go_on(work: &Work) -> String {
    format!(
        "'{}' goes on without this program; see how far it is with: vdvs work show {}",
        work.what, work.id
    )
}

fn out_of_sight(work: &Work, failure: Failure) -> Failure {
    if failure.kind == ErrorKind::NotFound {
        return Failure::new(
            failure.kind,
            format!(
                "{}. The agent may have been started anew while '{}' was under way; say the command again: what is done already stays done",
                failure.text, work.what
            ),
        );
    }
    Failure::new(failure.kind, format!("{}. {}", failure.text, go_on(work)))
}
