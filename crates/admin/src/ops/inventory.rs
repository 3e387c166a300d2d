//! The agent, hosts, VMs and datastores.

use vdvs_api::v1;

use crate::agent::Agent;
use crate::arrange::Arrangement;
use crate::failure::Failure;
use crate::view::{Changed, Datastore, Host, Status, Tabular, Vm};

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

/// Makes VMs of this host ready for volumes.
///
/// # Errors
/// [`Failure`].
pub async fn prepare(
    agent: &mut Agent,
    vms: &[String],
    vm: Option<&str>,
    controllers: u32,
) -> Result<Changed, Failure> {
    let reply = agent
        .prepare_vms(v1::PrepareVmsRequest {
            head: None,
            vms: vms
                .iter()
                .map(String::as_str)
                .chain(vm)
                .map(str::to_owned)
                .collect(),
            controllers,
        })
        .await?;
    Ok(Changed::new(String::new(), reply))
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
