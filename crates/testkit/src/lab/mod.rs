//! The lab: hypervisor hosts and their VMs on one Linux machine, with a real engine in each VM.
//!
//! ```text
//!  machine ── hosts esx01, …: each vdvs-labhv and vdvsd; shared datastore folders  (root namespaces, no network)
//!     │          │ loop device + node in the VM's /dev      │ Unix socket 1019, bind-mounted
//!     │       ┌──▼─────────────┐ ┌────────────────┐ ┌───────▼────────┐
//!     │       │ swarm01        │ │ swarm02        │ │ swarm03        │   pid, mount, uts, ipc, net namespaces
//!     │       │ plugin, dockerd│ │ …              │ │ …              │   10.99.0.1, .2, .3
//!     │       └──────┬─────────┘ └──────┬─────────┘ └──────┬─────────┘
//!     └── switch namespace: bridge 10.99.0.254; clients run here ─────┘
//! ```
//!
//! [`Lab::up`] is idempotent: it makes what is missing and switches on what is off. [`Lab::down`] leaves nothing,
//! also after an `up` that was killed ([`teardown`] says how). Everything needs root.

mod binaries;
mod crash;
mod docker;
mod host;
mod images;
mod layout;
mod mounts;
mod network;
mod node;
mod packages;
mod plan;
pub mod qemu;
mod state;
mod stop;
mod swarm;
mod teardown;

use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use nix::unistd::geteuid;

pub use binaries::{
    ADMIN, AGENT, AGENT_VARIABLE, LABHV, PACKAGES as BINARY_PACKAGES, PLUGIN, Profile, built,
    target_dir,
};
pub use docker::Docker;
pub use host::{Daemon, Host};
pub use images::{BUSYBOX, Images, POSTGRES};
pub use layout::{LAB_DIR_ENV, Layout, labs_dir, workspace_dir};
pub use mounts::Mount;
pub use network::SWITCH_ADDRESS;
pub use node::{MOUNT_ROOT, NO_ENGINE, NO_PLUGIN_SERVICE, NOTES, Node, Service};
pub use packages::{PACKAGES, ensure_packages};
pub use plan::{DEFAULT_DATASTORE, DEFAULT_HOST, Datastore, HostPlan, LabConfig, VmPlan};
pub use state::{HostRecord, LabState, MachineRecord, NodeRecord};
pub use swarm::Swarm;
pub use teardown::leftovers;

use crate::process::Cmd;

/// The volume driver the plugin is known to Docker by.
pub const DRIVER: &str = "vsphere";
/// A lab. Holds no state of its own: all of it is on disk.
#[derive(Debug, Clone)]
pub struct Lab {
    layout: Layout,
}

impl Lab {
    /// Makes the lab, or what is missing of it, and switches everything on; waits until the engines answer.
    ///
    /// # Errors
    /// A part does not come up. What is up stays up, for a person to look at; [`Lab::down`] removes it.
    pub fn up(config: &LabConfig) -> Result<Self> {
        let lab = Self {
            layout: Layout::for_name(&config.name)?,
        };
        config.check()?;
        ensure!(
            geteuid().is_root(),
            "a lab needs root: namespaces, mounts, devices"
        );
        let _turn = lab.take_turn()?;
        binaries::install(&lab.layout, config.profile)?;
        network::ensure_switch(&lab.layout)?;
        for plan in &config.hosts {
            let host = lab.host(&plan.name);
            host.ensure(&plan.datastores)?;
            for vm in &plan.vms {
                let name = vm.name();
                lab.record_node(&name, vm.index, &plan.name)?;
                // A VM that was moved since stays where it is.
                lab.host_of(&name)?.ensure_vm(&name, &vm.home)?;
            }
        }
        for host in lab.hosts()? {
            host.start(Daemon::Labhv)?;
            host.start(Daemon::Agent)?;
        }
        for node in lab.nodes()? {
            network::ensure_node(&lab.layout, &node.record()?)?;
        }
        each(&lab.nodes()?, Node::power_on)?;
        Ok(lab)
    }

    /// The lab of this name, which is there.
    ///
    /// # Errors
    /// It is not.
    pub fn open(name: &str) -> Result<Self> {
        let layout = Layout::for_name(name)?;
        state::load(&layout)?.with_context(|| {
            format!("there is no lab '{name}'; 'lab up --name {name}' makes it")
        })?;
        Ok(Self { layout })
    }

    /// Removes a lab and everything it left, also one that never came up. Not there: nothing to do.
    ///
    /// # Errors
    /// Something resists; what is left is named.
    pub fn down(name: &str) -> Result<()> {
        let lab = Self {
            layout: Layout::for_name(name)?,
        };
        let _turn = lab.take_turn()?;
        teardown::remove(&lab.layout)?;
        let left = leftovers(&lab.layout)?;
        ensure!(
            left.is_empty(),
            "lab '{name}' is not gone: {}",
            left.join(", ")
        );
        // Whoever waits for this turn notices that the file is another one, and begins anew.
        fs::remove_file(lab.layout.lock_file()).context("remove the lab's lock file")
    }

    /// Paths and names.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What is on record.
    ///
    /// # Errors
    /// The lab is gone.
    pub fn state(&self) -> Result<LabState> {
        state::load(&self.layout)?.with_context(|| format!("lab '{}' is gone", self.layout.name()))
    }

    /// A host; whether it exists is found out when it is used.
    #[must_use]
    pub fn host(&self, name: &str) -> Host {
        Host::new(&self.layout, name)
    }

    /// The hosts.
    ///
    /// # Errors
    /// The lab is gone.
    pub fn hosts(&self) -> Result<Vec<Host>> {
        Ok(self
            .state()?
            .hosts
            .iter()
            .map(|host| self.host(&host.name))
            .collect())
    }

    /// The host a node is registered on.
    ///
    /// # Errors
    /// There is no node of this name.
    pub fn host_of(&self, node: &str) -> Result<Host> {
        Ok(self.host(&self.node(node)?.record()?.host))
    }

    /// The nodes registered on a host, in order.
    ///
    /// # Errors
    /// The lab is gone.
    pub fn nodes_on(&self, host: &str) -> Result<Vec<Node>> {
        let state = self.state()?;
        let here = state.nodes.iter().filter(|node| node.host == host);
        Ok(here
            .map(|node| Node::new(&self.layout, &node.name))
            .collect())
    }

    /// A node.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn node(&self, name: &str) -> Result<Node> {
        let node = Node::new(&self.layout, name);
        node.record()?;
        Ok(node)
    }

    /// The nodes, in order.
    ///
    /// # Errors
    /// The lab is gone.
    pub fn nodes(&self) -> Result<Vec<Node>> {
        let state = self.state()?;
        Ok(state
            .nodes
            .iter()
            .map(|node| Node::new(&self.layout, &node.name))
            .collect())
    }

    /// A program on the lab's network but in no node, not yet run.
    #[must_use]
    pub fn client(&self, program: &str) -> Cmd {
        network::client(&self.layout, program)
    }

    fn record_node(&self, name: &str, index: u8, host: &str) -> Result<()> {
        let dir = self.layout.node_dir(name);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        state::update(&self.layout, |state| {
            if state.node(name).is_none() {
                state.nodes.push(NodeRecord {
                    name: name.to_owned(),
                    host: host.to_owned(),
                    index,
                    netns: self.layout.node_netns(name),
                    cgroup: self.layout.node_cgroup(name),
                    wired: false,
                    launcher: None,
                    init: None,
                });
            }
        })
    }

    /// One `up` or `down` of a lab at a time.
    fn take_turn(&self) -> Result<fs::File> {
        let file = self.layout.lock_file();
        let dir = file.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        state::lock(&file)
    }
}

/// A lab that goes down when it goes out of scope, for tests.
#[derive(Debug)]
pub struct TemporaryLab {
    lab: Lab,
}

impl TemporaryLab {
    /// Removes what an earlier run of this name left, and makes the lab.
    ///
    /// # Errors
    /// As [`Lab::up`]; the lab is removed again then.
    pub fn up(config: &LabConfig) -> Result<Self> {
        Lab::down(&config.name)?;
        match Lab::up(config) {
            Ok(lab) => Ok(Self { lab }),
            Err(error) => {
                // The error that matters is the first.
                Lab::down(&config.name).ok();
                Err(error)
            }
        }
    }

    /// Takes the lab down now and says what went wrong with it.
    ///
    /// # Errors
    /// As [`Lab::down`].
    pub fn down(self) -> Result<()> {
        Lab::down(self.lab.layout.name())
    }
}

impl Deref for TemporaryLab {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl Drop for TemporaryLab {
    fn drop(&mut self) {
        if let Err(error) = Lab::down(self.lab.layout.name()) {
            tracing::error!("{error:#}");
        }
    }
}

/// Does something to all nodes at a time; the first failure is returned when all are done.
///
/// # Errors
/// One of them failed.
pub fn each(nodes: &[Node], act: impl Fn(&Node) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let running: Vec<_> = nodes.iter().map(|node| scope.spawn(|| act(node))).collect();
        let results: Vec<_> = running
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .map_err(|_| anyhow!("a node's thread panicked"))?
            })
            .collect();
        results.into_iter().collect()
    })
}
