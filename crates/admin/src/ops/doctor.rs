//! What differs, and its repair.

use vdvs_api::v1;

use crate::agent::Agent;
use crate::arrange::Arrangement;
use crate::failure::Failure;
use crate::view::{Checkup, Repairs, Tabular};

/// What is found, of one object or of all, arranged.
///
/// # Errors
/// [`Failure`].
pub async fn look(
    agent: &mut Agent,
    object: Option<&str>,
    arrangement: &Arrangement,
) -> Result<Checkup, Failure> {
    let request = v1::DoctorRequest::default();
    let mut found = Checkup::from(agent.doctor(request).await?);
    let fits = |name: &str| object.is_none_or(|object| object == name);
    found.findings.retain(|f| fits(&f.object));
    let grid = found.grid();
    found.findings = arrangement.apply(found.findings, &grid)?;
    Ok(found)
}

/// Repairs what is found under a name, of one object or of all; with `dry_run` only says how.
///
/// # Errors
/// [`Failure`].
pub async fn repair(
    agent: &mut Agent,
    name: &str,
    object: Option<&str>,
    dry_run: bool,
    arrangement: &Arrangement,
) -> Result<Repairs, Failure> {
    let request = v1::RepairRequest {
        head: None,
        name: name.to_owned(),
        object: object.unwrap_or_default().to_owned(),
        dry_run,
    };
    let mut repairs = Repairs::from(agent.repair(request).await?);
    let grid = repairs.grid();
    repairs.repaired = arrangement.apply(repairs.repaired, &grid)?;
    Ok(repairs)
}
