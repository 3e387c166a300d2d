//! Damage on datastores, and its repair.

use vdvs_api::v1;

use crate::agent::Agent;
use crate::arrange::Arrangement;
use crate::failure::Failure;
use crate::view::{Damage, Tabular, Work};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Ask<'a> {
    /// None: all.
    pub datastore: Option<&'a str>,
    /// Otherwise nothing is changed.
    pub repair: bool,
    /// Volumes for which the administrator vouches.
    pub nobody_has: &'a [String],
}

/// Looks, or repairs. A work that goes on is returned in place of what it will find.
///
/// # Errors
/// [`Failure`].
pub async fn begin(agent: &mut Agent, ask: &Ask<'_>) -> Result<Result<Damage, Work>, Failure> {
    let reply = agent
        .fsck(v1::FsckRequest {
            head: None,
            datastores: ask.datastore.iter().map(|d| (*d).to_owned()).collect(),
            repair: ask.repair,
            nobody_has: ask.nobody_has.to_vec(),
            report_of: String::new(),
        })
        .await?;
    Ok(match reply.work {
        Some(work) => Err(work.into()),
        None => Ok(reply.into()),
    })
}

/// What a work found that has ended.
///
/// # Errors
/// [`Failure`].
pub async fn report(agent: &mut Agent, work: &str) -> Result<Damage, Failure> {
    let request = v1::FsckRequest {
        report_of: work.to_owned(),
        ..v1::FsckRequest::default()
    };
    Ok(agent.fsck(request).await?.into())
}

/// Which rows, in which order.
///
/// # Errors
/// [`Failure`]: there is no such column.
pub fn arranged(mut damage: Damage, arrangement: &Arrangement) -> Result<Damage, Failure> {
    let grid = damage.grid();
    damage.findings = arrangement.apply(damage.findings, &grid)?;
    Ok(damage)
}
