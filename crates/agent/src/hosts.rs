//! Which hypervisor the agent drives, where the sockets of its VMs are, and who knows which VM a process group is.

use std::error::Error as StdError;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vdvs_domain::DatastoreName;
use vdvs_engine::ports::{DatastoreKind, Datastores, Host, Vm};
use vdvs_host_lab::config::ConfigError;
use vdvs_host_lab::{LabDatastores, LabHost};
use vdvs_host_sim::World;

use crate::config::{Config, HostConfig, SimConfig};
use crate::doors::PeerIdentity;
use crate::esxi;

/// The port every VM's agent listens on. Its number names the socket in a lab.
pub const PORT: u32 = 1019;

/// A hypervisor and where its VMs dial.
#[derive(Debug, Clone)]
pub struct Hypervisor {
    /// Virtual machines.
    pub host: Arc<dyn Host>,
    /// Datastores.
    pub datastores: Arc<dyn Datastores>,
    /// Sockets, where each VM has one.
    pub sockets: Option<Sockets>,
    /// Who knows the VMs, where all come through one door.
    pub identity: Option<Arc<dyn PeerIdentity>>,
}

/// The process group of a simulated host's first VM.
const FIRST_GROUP: u32 = 1001;

/// A simulated host's VMs have process groups in the order in which they were named.
#[derive(Debug)]
struct Simulated {
    host: Arc<dyn Host>,
    names: Vec<String>,
}

#[tonic::async_trait]
impl PeerIdentity for Simulated {
    async fn vm_of(&self, process_group: u32) -> Result<Option<Vm>, String> {
        let at = process_group.checked_sub(FIRST_GROUP);
        let name = at.and_then(|at| self.names.get(usize::try_from(at).ok()?));
        let vms = self.host.vms().await.map_err(|e| chain(&e))?;
        Ok(vms.into_iter().find(|vm| Some(&vm.name) == name))
    }
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
    /// An ESXi host's service.
    #[error("the ESXi host cannot be used")]
    Esxi {
        /// Trying again later may help.
        may_pass: bool,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl HostError {
    /// Trying again later may help.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Lab(_) => true,
            Self::Esxi { may_pass, .. } => *may_pass,
        }
    }
}

/// Opens the hypervisor.
///
/// # Errors
/// [`HostError`]; trying again later may help.
pub async fn open(config: &Config) -> Result<Hypervisor, HostError> {
    match &config.host {
        HostConfig::Esxi(settings) => esxi::open(settings, &config.state).await,
        HostConfig::Lab(dir) => Ok(Hypervisor {
            host: Arc::new(LabHost::new(dir)?),
            datastores: Arc::new(LabDatastores::new(dir)?),
            sockets: Some(Sockets::Lab(dir.clone())),
            identity: None,
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
    let names = sim.vms.clone();
    let host: Arc<dyn Host> = session.clone();
    Hypervisor {
        host: Arc::clone(&host),
        datastores: session,
        sockets: Some(Sockets::Sim(sim.dir.clone())),
        identity: Some(Arc::new(Simulated { host, names })),
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
