//! The lab that is measured: one host, two nodes, release builds; and the ways into it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tonic::transport::Channel;
use vdvs_api::v1::volume_service_client::VolumeServiceClient;
use vdvs_api::{v1, volume_client};
use vdvs_testkit::lab::{
    ADMIN, DEFAULT_DATASTORE, DEFAULT_HOST, Daemon, Host, Lab, LabConfig, Node, PACKAGES, Profile,
    Service, TemporaryLab, built, ensure_packages,
};
use vdvs_testkit::wait::until_true;
use vdvs_transport::{Address, channel};

use crate::figures::Sheet;
use crate::http::Http;

/// A restart of the agent or the plugin takes a second.
const SOON: Duration = Duration::from_secs(60);
/// The node that is asked.
pub(crate) const FIRST: &str = "swarm01";
/// The node that takes over.
pub(crate) const SECOND: &str = "swarm02";

pub(crate) type Guest = VolumeServiceClient<Channel>;

/// The lab, and a runtime for the guests' protocol.
#[derive(Debug)]
pub(crate) struct World {
    lab: TemporaryLab,
    pub(crate) runtime: Runtime,
    sheet: Sheet,
}

impl World {
    pub(crate) fn up(sheet: Sheet) -> Result<Self> {
        ensure_packages(PACKAGES, &|line| eprintln!("{line}"))?;
        let mut config = LabConfig::new("bench", 2);
        config.profile = Profile::Release;
        eprintln!("lab 'bench' comes up");
        let lab = TemporaryLab::up(&config)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let world = Self {
            lab,
            runtime,
            sheet,
        };
        for node in [FIRST, SECOND] {
            world.wait_plugin(node)?;
        }
        Ok(world)
    }

    pub(crate) fn down(self) -> Result<()> {
        self.lab.down()
    }

    /// Says one figure.
    pub(crate) fn figure(&self, key: &str, value: f64, note: &str) -> Result<()> {
        self.sheet.write(key, Some(value), note)
    }

    /// Says that there is no figure, and why.
    pub(crate) fn none(&self, key: &str, note: &str) -> Result<()> {
        self.sheet.write(key, None, note)
    }

    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    pub(crate) fn host(&self) -> Host {
        self.lab.host(DEFAULT_HOST)
    }

    pub(crate) fn node(&self, name: &str) -> Result<Node> {
        self.lab.node(name)
    }

    /// The administrator's program.
    pub(crate) fn program(&self) -> Result<PathBuf> {
        built(Profile::Release, ADMIN)
    }

    /// The folder that is the datastore.
    pub(crate) fn datastore(&self) -> PathBuf {
        self.lab.layout().datastore_dir(DEFAULT_DATASTORE)
    }

    /// A connection to a node's plugin.
    pub(crate) fn plugin(&self, node: &str) -> Result<Http> {
        // Through init's root: there the path is short enough for a socket.
        let socket = self
            .node(node)?
            .path_inside("/run/docker/plugins/vsphere.sock")?;
        Http::connect(&socket)
    }

    /// A guest's client, as if it were this VM. Call it inside the runtime.
    pub(crate) fn guest(&self, vm: &str) -> Guest {
        volume_client(channel(Address::Unix(self.vsock(vm))))
    }

    /// Where this VM reaches the agent.
    pub(crate) fn vsock(&self, vm: &str) -> PathBuf {
        self.lab.layout().vsock_dir(DEFAULT_HOST, vm).join("1019")
    }

    /// Waits until the plugin of a node answers with what the agent says.
    pub(crate) fn wait_plugin(&self, node: &str) -> Result<()> {
        until_true(SOON, &format!("the plugin of {node} answers"), || {
            let answer = self
                .plugin(node)
                .and_then(|mut plugin| plugin.plugin("List", &json!({})));
            Ok(answer.is_ok())
        })
    }

    /// Stops the agent, does something while it is away, starts it again and waits until it serves the guests.
    pub(crate) fn restart_agent(&self, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
        let host = self.host();
        host.stop(Daemon::Agent)?;
        meanwhile()?;
        host.start(Daemon::Agent)?;
        until_true(SOON, "the agent serves", || {
            let hello = async { self.guest(FIRST).hello(hello()).await };
            Ok(self.runtime.block_on(hello).is_ok())
        })
    }

    /// A line of the agent's `/proc/<pid>/status` that counts memory, in MiB.
    pub(crate) fn agent_memory(&self, line: &str) -> Result<f64> {
        let agent = self.host().running(Daemon::Agent)?;
        let pid = agent.context("the agent does not run")?.pid;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib: f64 = status
            .lines()
            .find_map(|l| l.strip_prefix(line)?.strip_prefix(':'))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .with_context(|| format!("no {line} in the agent's status"))?
            .parse()?;
        Ok(kib / 1024.0)
    }

    /// Cuts a node's power and calls `then` at once; afterwards the node is on again.
    pub(crate) fn without_power<T>(
        &self,
        node: &str,
        then: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let on = self.node(node)?;
        on.power_cut()?;
        let made = then()?;
        on.power_on()?;
        until_true(SOON, "the plugin is back", || {
            Ok(on.service_pid(Service::Plugin)?.is_some())
        })?;
        self.wait_plugin(node)?;
        Ok(made)
    }
}

/// What a plugin says first.
pub(crate) fn hello() -> v1::HelloRequest {
    v1::HelloRequest {
        versions: Some(v1::VersionRange { min: 1, max: 1 }),
        program: "bench".to_owned(),
        features: Vec::new(),
    }
}
