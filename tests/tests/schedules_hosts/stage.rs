//! Two hosts with an engine on each, and what every schedule does with volumes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vdvs_testkit::lab::{DEFAULT_DATASTORE, Daemon, Datastore, Docker, LabConfig};
use vdvs_testkit::wait::until_true;
use vdvs_tests::rig::{Program, Rig, Setup, refusal, run_in};

/// Locks of a dead host are held so long. A host whose renewal hangs for three quarters of it loses its disks, and a busy
/// machine keeps a thread waiting for more than a second.
pub(crate) const LAPSE: Duration = Duration::from_secs(6);
/// As a managed plugin's: the agent waits 15 s for a volume, then refuses.
const MOUNT_BUDGET: u64 = 25;
/// What takes seconds on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) const ESX01: &str = "esx01";
pub(crate) const ESX02: &str = "esx02";
pub(crate) const ONE: &str = "swarm01";
pub(crate) const TWO: &str = "swarm02";

/// The lab of all ten.
pub(crate) struct Stage {
    pub(crate) rig: Rig,
}

impl Stage {
    pub(crate) fn begin() -> Result<Option<Self>> {
        let datastore = Datastore::new(DEFAULT_DATASTORE, "vmfs").lapsing(LAPSE);
        let config = LabConfig::spread("e-ten", 2, 2).with_datastores(&[datastore]);
        let setup = Setup {
            mount_budget: Some(MOUNT_BUDGET),
            ..Setup::default()
        };
        let Some(mut rig) = Rig::up_lab(&config, setup)? else {
            return Ok(None);
        };
        rig.watch_writers()?;
        for (by, text, why) in EXPECTED {
            rig.expect_complaint(*by, text, why);
        }
        Ok(Some(Self { rig }))
    }

    pub(crate) fn docker(&self, node: &str) -> Docker {
        self.rig.docker(node)
    }

    /// Makes a volume, with options given as `key=value`.
    pub(crate) fn create(&self, volume: &str, options: &[&str]) -> Result<()> {
        let mut args = vec!["volume", "create", "-d", "vsphere", "--name", volume];
        for option in ["size=20mb"].iter().chain(options) {
            args.extend(["-o", option]);
        }
        self.docker(ONE).run(&args).map(drop)
    }

    /// A volume whose owner writes lines into it.
    pub(crate) fn written(&self, volume: &str, owner: &str, options: &[&str]) -> Result<()> {
        self.create(volume, options)?;
        self.rig.start_writer(owner, volume)
    }

    /// The volume is in the configuration of this VM alone, every line is there, and it is written on.
    pub(crate) fn belongs_to(&self, node: &str, volume: &str) -> Result<()> {
        let holders = self.rig.holders(volume)?;
        ensure!(holders == [node], "{volume} is attached to {holders:?}");
        self.written_on(node, volume)
    }

    /// The volume is written on in this VM, every line is there, and nobody else writes to it.
    pub(crate) fn written_on(&self, node: &str, volume: &str) -> Result<()> {
        self.rig.writer_goes_on(node, volume)?;
        let kept = self.rig.all_lines_kept(node, volume)?;
        self.rig.note(volume, &format!("all of {kept} lines kept"));
        self.rig.one_writer()
    }

    /// A container on this node is refused the volume; returns the words.
    pub(crate) fn refused(&self, node: &str, volume: &str) -> Result<String> {
        refusal(self.docker(node).run(&run_in(volume, "true")))
    }

    /// Ends the containers of a volume on both nodes and removes it.
    pub(crate) fn remove(&self, volume: &str) -> Result<()> {
        for node in [ONE, TWO] {
            // A container that was never there, or went with its machine, is gone too.
            self.docker(node).run(&["rm", "-f", volume]).ok();
        }
        self.rig.wait_detached(volume)?;
        self.docker(ONE).run(&["volume", "rm", volume]).map(drop)
    }

    /// A machine that is off: its disks are taken out of its configuration, then it boots.
    pub(crate) fn back(&self, node: &str) -> Result<()> {
        self.rig.wait_bare(node)?;
        self.rig.power_on(node)
    }

    /// Both hosts' programs run, both engines answer, nothing is attached and nothing is unfinished.
    pub(crate) fn in_order(&self) -> Result<()> {
        for host in [ESX01, ESX02] {
            for daemon in [Daemon::Labhv, Daemon::Agent] {
                let running = self.rig.lab().host(host).running(daemon)?;
                running.with_context(|| format!("{daemon:?} of {host} does not run"))?;
            }
        }
        let mut left = Vec::new();
        until_true(
            PATIENCE,
            "nothing is left of the schedule's volumes",
            || {
                left = self.rig.left_of_volumes()?;
                Ok(left.is_empty())
            },
        )
        .with_context(|| format!("left: {}", left.join("; ")))?;
        self.rig.one_writer()
    }

    pub(crate) fn end(self) -> Result<()> {
        self.rig.finish_empty()
    }
}

/// What the schedules cause.
const EXPECTED: &[(Program, &str, &str)] = &[
    (
        Program::Plugin,
        "no agent; the journal answers",
        "agents are killed, and hosts",
    ),
    (
        Program::Plugin,
        "dockerd lost the Unmount",
        "an engine does not ask twice when its plugin died",
    ),
    (
        Program::Plugin,
        "mount failed",
        "volumes are asked for that others hold",
    ),
    (
        Program::Plugin,
        "the host did not detach the disk",
        "agents are killed in the middle of it",
    ),
    (
        Program::Agent,
        "cannot be read",
        "a host loses its datastore",
    ),
    (
        Program::Hypervisor,
        "cannot power on",
        "a machine's disk belongs to another",
    ),
    (
        Program::Agent,
        "cannot listen for this VM",
        "a machine is moved to another host while its old one looks at it",
    ),
    (
        Program::Agent,
        "no answer from the host",
        "a busy machine's hypervisor takes its time",
    ),
    (
        Program::Plugin,
        "is lost to this guest",
        "volumes are fenced, and hosts lose their datastore",
    ),
    (
        Program::Hypervisor,
        "lost: its disks are cut off",
        "a host loses its datastore",
    ),
    (
        Program::Hypervisor,
        "cannot renew the lease",
        "a host loses its datastore",
    ),
];
