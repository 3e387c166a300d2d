//! What happens to hosts and to where VMs are registered: the crash of a host with all its VMs, its next boot, and the
//! restart of a VM on another host, as an HA cluster does it.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::Lab;
use super::host::Daemon;
use super::node::Node;
use super::state;

impl Lab {
    /// A host loses its power, and with it every VM on it: nobody on it gets to flush, to close or to say anything.
    /// Says how long that took.
    ///
    /// # Errors
    /// Something resists; what could be killed is dead nevertheless.
    pub fn crash_host(&self, name: &str) -> Result<Duration> {
        let begin = Instant::now();
        let host = self.host(name);
        // Frozen first: neither may see its VMs die and put things in order, as a machine without power cannot.
        for daemon in [Daemon::Agent, Daemon::Labhv] {
            if let Some(process) = host.running(daemon)? {
                process.signal(Signal::SIGSTOP)?;
            }
        }
        let nodes = self.nodes_on(name)?;
        let lost = super::each(&nodes, Node::lose_power);
        for daemon in [Daemon::Agent, Daemon::Labhv] {
            host.kill(daemon)?;
        }
        lost?;
        Ok(begin.elapsed())
    }

    /// The host runs again; its VMs stay off until somebody switches them on.
    ///
    /// # Errors
    /// One of its two programs does not listen in time.
    pub fn boot_host(&self, name: &str) -> Result<()> {
        let host = self.host(name);
        host.start(Daemon::Labhv)?;
        host.start(Daemon::Agent)?;
        Ok(())
    }

    /// Registers a VM that is off on another host, with its configuration as it stands: what an HA cluster does with
    /// the VMs of a dead host. It stays off.
    ///
    /// # Errors
    /// It is on, or its folder cannot be moved.
    pub fn move_node(&self, node: &str, to: &str) -> Result<()> {
        let moving = self.node(node)?;
        ensure!(!moving.is_on()?, "{node} is on");
        let host = moving.record()?.host;
        let from = self.layout.vm_dir(&host, node);
        let into = self.layout.vm_dir(to, node);
        let vms = into.parent().context("a VM's folder is in a folder")?;
        fs::create_dir_all(vms).with_context(|| format!("create {}", vms.display()))?;
        state::rename(&from, &into)?;
        // Where a host listens for its VM is the host's own, and does not move.
        let sockets = self.layout.vsock_dir(to, node);
        for socket in fs::read_dir(&sockets)
            .with_context(|| format!("read {}", sockets.display()))?
            .flatten()
        {
            fs::remove_file(socket.path()).ok();
        }
        state::update(&self.layout, |state| {
            if let Some(record) = state.node_mut(node) {
                to.clone_into(&mut record.host);
            }
        })
    }
}
