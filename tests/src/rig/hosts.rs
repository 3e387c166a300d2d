//! What happens to hosts and their programs, and what the hosts say about it.

use std::fs;

use anyhow::{Context, Result};
use vdvs_testkit::lab::Daemon;
use vdvs_testkit::wait::until_true;

use super::{Rig, SOON};

impl Rig {
    /// Kills a program of a host with SIGKILL; it stays down until [`Rig::start`].
    ///
    /// # Errors
    /// It does not die.
    pub fn kill(&self, host: &str, daemon: Daemon) -> Result<()> {
        self.lab.host(host).kill(daemon)
    }

    /// Starts a program of a host and waits until it listens.
    ///
    /// # Errors
    /// It does not.
    pub fn start(&self, host: &str, daemon: Daemon) -> Result<()> {
        self.lab.host(host).start(daemon).map(drop)
    }

    /// A host loses its power with all its VMs.
    ///
    /// # Errors
    /// As [`Lab::crash_host`].
    pub fn crash_host(&self, host: &str) -> Result<()> {
        let took = self.lab.crash_host(host)?;
        eprintln!("{host} crashed within {took:?}");
        Ok(())
    }

    /// Waits until no disk is in the configuration of a VM that is off: it could boot and hurt nobody.
    ///
    /// # Errors
    /// Not in time; the disks are named.
    pub fn wait_bare(&self, node: &str) -> Result<()> {
        let hypervisor = self.lab.host_of(node)?.hypervisor();
        let mut disks = Vec::new();
        until_true(SOON, &format!("{node} has no disks of others"), || {
            disks = hypervisor.devices(node)?;
            Ok(disks.is_empty())
        })
        .with_context(|| format!("{node} has {disks:?}"))
    }

    /// How often an agent has fenced a VM from a disk, by the audit in the agents' logs.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn fences(&self) -> Result<usize> {
        let mut fences = 0;
        for host in self.lab.hosts()? {
            let log = host.log(Daemon::Agent);
            let text =
                fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
            let fence =
                |line: &&str| line.contains("audit: done") && line.contains("verb=\"fence\"");
            fences += text.lines().filter(fence).count();
        }
        Ok(fences)
    }
}
