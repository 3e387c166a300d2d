//! The agent, hosts, VMs and datastores.

use vdvs_api::v1;

use crate::agent::Agent;
use crate::arrange::Arrangement;
use crate::failure::Failure;
use crate::view::{Datastore, Host, Status, Tabular, Vm};

/// The agent's state.
///
/// # Errors
/// [`Failure`].
pub async fn status(agent: &mut Agent) -> Result<Status, Failure> {
    Ok(agent.status(v1::StatusRequest {}).await?.into())
}

/// The VMs of all hosts, arranged.
///
/// # Errors
/// [`Failure`].
pub async fn vms(agent: &mut Agent, arrangement: &Arrangement) -> Result<Vec<Vm>, Failure> {
    let reply = agent.list_vms(v1::ListVmsRequest {}).await?;
    let list: Vec<_> = reply.vms.into_iter().map(Vm::from).collect();
    let grid = list.grid();
    arrangement.apply(list, &grid)
}

/// The datastores of this host, arranged.
///
/// # Errors
/// [`Failure`].
pub async fn datastores(
    agent: &mut Agent,
    arrangement: &Arrangement,
) -> Result<Vec<Datastore>, Failure> {
    let reply = agent.list_datastores(v1::ListDatastoresRequest {}).await?;
    let list: Vec<_> = reply.datastores.into_iter().map(Datastore::from).collect();
    let grid = list.grid();
    arrangement.apply(list, &grid)
}

/// The hosts, arranged.
///
/// # Errors
/// [`Failure`].
pub async fn hosts(agent: &mut Agent, arrangement: &Arrangement) -> Result<Vec<Host>, Failure> {
    let reply = agent.list_hosts(v1::ListHostsRequest {}).await?;
    let list: Vec<_> = reply.hosts.into_iter().map(Host::from).collect();
    let grid = list.grid();
    arrangement.apply(list, &grid)
}
