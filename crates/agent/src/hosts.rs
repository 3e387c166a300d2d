//! Which hypervisor the agent drives, and where the sockets of its VMs are.

use std::error::Error as StdError;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vdvs_domain::DatastoreName;
use vdvs_engine::ports::{DatastoreKind, Datastores, Host, Vm};
use vdvs_host_lab::config::ConfigError;
use vdvs_host_lab::{LabDatastores, LabHost};
use vdvs_host_sim::World;

use crate::config::{HostConfig, SimConfig};

/// The port every VM's agent listens on. Its number names the socket in a lab.
pub const PORT: u32 = 1019;

/// A hypervisor and where its VMs dial.
#[derive(Debug, Clone)]
pub struct Hypervisor {
    /// Virtual machines.
    pub host: Arc<dyn Host>,
    /// Datastores.
    pub datastores: Arc<dyn Datastores>,
    /// Sockets.
    pub sockets: Sockets,
}

/// Where a VM's socket is.
#[derive(Debug, Clone)]
pub enum Sockets {
    /// `<host>/vms/<VM>/vsock/1019`; the folder `vsock` is what the VM sees.
    Lab(PathBuf),
    /// `<dir>/<VM>/1019`.
    Sim(PathBuf),
}

impl Sockets {
    /// The path of a VM's socket; none for a name that is no folder's.
    #[must_use]
    pub fn of(&self, vm: &Vm) -> Option<PathBuf> {
        let name = Path::new(&vm.name);
        // One component, and not one that leads elsewhere.
        if name.file_name() != Some(name.as_os_str()) {
            return None;
        }
        let port = PORT.to_string();
        Some(match self {
            Self::Lab(host) => host.join("vms").join(name).join("vsock").join(&port),
            Self::Sim(dir) => dir.join(name).join(&port),
        })
    }
}

/// The host is not there yet, or never will be.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A lab host's folder.
    #[error("the host is not there yet")]
    Lab(#[from] ConfigError),
}

/// Opens the hypervisor.
///
/// # Errors
/// [`HostError`]; trying again later may help.
pub fn open(config: &HostConfig) -> Result<Hypervisor, HostError> {
    match config {
        HostConfig::Lab(dir) => Ok(Hypervisor {
            host: Arc::new(LabHost::new(dir)?),
            datastores: Arc::new(LabDatastores::new(dir)?),
            sockets: Sockets::Lab(dir.clone()),
        }),
        HostConfig::Sim(sim) => Ok(simulated(sim)),
    }
}

/// A world with one host, two datastores and the named VMs, all running. It begins empty at each start.
fn simulated(sim: &SimConfig) -> Hypervisor {
    let world = World::new();
    let name = |text| DatastoreName::new(text).expect("a literal that follows the rules");
    let home = name("vsanDatastore");
    world.add_datastore(&home, DatastoreKind::Vsan);
    world.add_datastore(&name("nfsDatastore"), DatastoreKind::Nfs);
    let host = world.add_host("sim01");
    for vm in &sim.vms {
        drop(world.add_vm(host, vm, &home));
        // Where it cannot be made, listening says so.
        fs::create_dir_all(sim.dir.join(vm)).ok();
    }
    let session = world.session(host);
    Hypervisor {
        host: session.clone(),
        datastores: session,
        sockets: Sockets::Sim(sim.dir.clone()),
    }
}

/// An error and its causes, once, in one line.
#[must_use]
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(": ");
        text.push_str(&e.to_string());
        cause = e.source();
    }
    text
}
