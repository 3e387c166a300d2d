//! What happens to hosts and their programs, and what the hosts say about it.

use std::fs;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::Value;
use vdvs_host_lab::config::isolation_flag;
use vdvs_testkit::lab::Daemon;
use vdvs_testkit::wait::until_true;

use super::volumes::vdvs_json;
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

    /// Cuts a host off from a datastore, as a dead storage path does, or mends the path.
    ///
    /// # Errors
    /// The file that does it cannot be made or removed.
    pub fn isolate(&self, host: &str, datastore: &str, isolated: bool) -> Result<()> {
        let flag = isolation_flag(&self.lab.layout().host_dir(host), datastore);
        let folder = flag.parent().context("a flag lies in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        match isolated {
            true => fs::write(&flag, ""),
            false => fs::remove_file(&flag),
        }
        .with_context(|| format!("flag {}", flag.display()))
    }

    /// Stops a program of a host where it stands, or lets it go on: there, and silent.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self, host: &str, daemon: Daemon, frozen: bool) -> Result<()> {
        let process = self.lab.host(host).running(daemon)?;
        let process = process.with_context(|| format!("{daemon:?} of {host} does not run"))?;
        let signal = if frozen {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        };
        process.signal(signal).map(drop)
    }

    /// Waits until no disk is in the configuration of a VM that is off: it could boot and hurt nobody.
    ///
    /// # Errors
    /// Not in time; the disks are named.
    pub fn wait_bare(&self, node: &str) -> Result<()> {
        let hypervisor = self.lab.host_of(node)?.hypervisor();
        let mut disks = Vec::new();
        until_true(SOON, &format!("{node} has no disks of others"), || {
            // Just moved here, it may not be registered yet.
            if !hypervisor.vms()?.iter().any(|vm| vm.name == node) {
                return Ok(false);
            }
            disks = hypervisor.devices(node)?;
            Ok(disks.is_empty())
        })
        .with_context(|| format!("{node} has {disks:?}"))
    }

    /// What a host's agent says of itself.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self, host: &str) -> Result<Value> {
        vdvs_json(&self.lab.host(host), &["status"])
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
