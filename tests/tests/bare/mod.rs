//! Our programs by themselves, without an engine and without nodes: an agent on a simulated host or on a lab host whose
//! VMs are empty, and a plugin of one VM. What is asked is asked as a guest or as Docker asks it.

#![allow(
    dead_code,
    reason = "each suite that includes this uses its own part of it"
)]

pub(crate) mod dice;
pub(crate) mod docker;
pub(crate) mod team;

use std::cell::Cell;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;
use serde_json::json;
use tempfile::{Builder, TempDir};
use tonic::transport::Channel;
use uuid::Uuid;
use vdvs_api::v1::volume_service_client::VolumeServiceClient;
use vdvs_api::{v1, volume_client};
use vdvs_host_lab::BlockingClient;
use vdvs_testkit::lab::{AGENT, LABHV, PLUGIN, Profile, built};
use vdvs_testkit::process::{Cmd, ProcId, tool};
use vdvs_testkit::wait::until_true;
use vdvs_transport::{Address, channel};

/// For what takes a second on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A guest's client.
pub(crate) type Guest = VolumeServiceClient<Channel>;

/// What the agent runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ports in memory.
    Sim,
    /// The same, and one door for all VMs: the process group of the first is 1001.
    Door,
    /// An ESXi host whose service does not answer, behind the same door.
    Deaf,
    /// Folders, loop devices and `vdvs-labhv`.
    Lab,
}

/// The programs and their folder; gone when dropped.
#[derive(Debug)]
pub(crate) struct Bare {
    kind: Kind,
    folder: TempDir,
    vms: Vec<String>,
    agent: Option<ProcId>,
    plugin: Option<ProcId>,
    labhv: Option<ProcId>,
    inits: Vec<(String, ProcId)>,
    /// Plugins that run inside their VMs.
    inside: Vec<(String, ProcId)>,
    /// The logs were found in order, which is a test's last look.
    passed: Cell<bool>,
}

impl Bare {
    /// An agent on a simulated host with these VMs.
    pub(crate) fn sim(vms: &[&str]) -> Result<Self> {
        let mut bare = Self::new(Kind::Sim, vms)?;
        bare.start_agent()?;
        Ok(bare)
    }

    /// As [`Bare::sim`]; the agent asks its host whose each connection is.
    pub(crate) fn door(vms: &[&str]) -> Result<Self> {
        let mut bare = Self::new(Kind::Door, vms)?;
        bare.start_agent()?;
        Ok(bare)
    }

    /// An agent on an ESXi host whose service does not answer, with as many VMs.
    pub(crate) fn deaf(vms: &[&str]) -> Result<Self> {
        let mut bare = Self::new(Kind::Deaf, vms)?;
        bare.start_agent()?;
        Ok(bare)
    }

    /// An agent on a lab host with these datastores and VMs, all VMs on. None, after saying so, without root.
    pub(crate) fn lab(datastores: &[&str], vms: &[&str]) -> Result<Option<Self>> {
        let vsan: Vec<_> = datastores.iter().map(|name| (*name, "vsan")).collect();
        Self::lab_of(&vsan, vms)
    }

    /// As [`Bare::lab`], with the types of the datastores.
    pub(crate) fn lab_of(datastores: &[(&str, &str)], vms: &[&str]) -> Result<Option<Self>> {
        if !geteuid().is_root() {
            eprintln!("skipped: a lab host needs root");
            return Ok(None);
        }
        let mut bare = Self::new(Kind::Lab, vms)?;
        let stores: Vec<_> = datastores
            .iter()
            .map(|(name, kind)| {
                let path = bare.datastore(name);
                fs::create_dir_all(&path)?;
                Ok(json!({"name": name, "type": kind, "path": path}))
            })
            .collect::<Result<_>>()?;
        let host = json!({
            "name": "esx01",
            "host_id": "7d1c3a7e-1111-4222-8333-444455556666",
            "datastores": stores,
        });
        fs::write(bare.path().join("host.json"), host.to_string())?;
        let (home, _) = datastores.first().context("a host has a datastore")?;
        for vm in vms {
            let folder = bare.path().join("vms").join(vm);
            fs::create_dir_all(folder.join("vsock"))?;
            let json = json!({
                "name": vm,
                "instance_uuid": Uuid::new_v4(),
                "config_path": format!("[{home}] {vm}/{vm}.vmx"),
                "init": null,
            });
            fs::write(folder.join("vm.json"), json.to_string())?;
        }
        bare.start_labhv()?;
        for vm in vms {
            bare.power_on(vm)?;
        }
        bare.start_agent()?;
        Ok(Some(bare))
    }

    fn new(kind: Kind, vms: &[&str]) -> Result<Self> {
        Ok(Self {
            kind,
            folder: Builder::new().prefix("vdvs-").tempdir()?,
            vms: vms.iter().map(|vm| (*vm).to_owned()).collect(),
            agent: None,
            plugin: None,
            labhv: None,
            inits: Vec::new(),
            inside: Vec::new(),
            passed: Cell::new(false),
        })
    }

    /// The host's folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A datastore's folder.
    pub(crate) fn datastore(&self, name: &str) -> PathBuf {
        self.path().join("datastores").join(name)
    }

    /// Starts the agent and waits until it serves every VM.
    pub(crate) fn start_agent(&mut self) -> Result<()> {
        let mut cmd = Cmd::new(built(Profile::Debug, AGENT)?);
        let simulated = self.vms.iter().flat_map(|vm| ["--sim-vm", vm]);
        cmd = match self.kind {
            Kind::Lab => cmd.args(["--host", "lab", "--lab-dir"]).arg(self.path()),
            Kind::Sim | Kind::Door => cmd
                .args(["--host", "sim", "--sim-dir"])
                .arg(self.path())
                .args(simulated),
            Kind::Deaf => cmd
                .args(["--host", "esxi", "--esxi-url", "https://127.0.0.1:1/sdk"])
                .arg("--state")
                .arg(self.path().join("agent")),
        };
        if matches!(self.kind, Kind::Door | Kind::Deaf) {
            for vm in &self.vms {
                let socket = self.vsock(vm);
                fs::create_dir_all(socket.parent().context("it lies in a folder")?)?;
            }
            let door = format!("unix:{}", self.path().join("door").display());
            cmd = cmd.args(["--listen", &door]);
        }
        self.agent = Some(cmd.daemon(&self.agent_log())?);
        // A dead agent leaves its sockets, so being there is not enough.
        until_true(SOON, "the agent listens", || {
            let connects = |vm: &String| UnixStream::connect(self.vsock(vm));
            Ok(self.vms.iter().all(|vm| connects(vm).is_ok()))
        })?;
        if self.kind != Kind::Door {
            return Ok(());
        }
        // It is opened before the agent knows its host, and who comes too early hears that.
        until_true(SOON, "the agent knows its VMs", || {
            Ok(self.vdvs("vm ls").is_ok())
        })
    }

    /// Kills the agent.
    pub(crate) fn kill_agent(&mut self) -> Result<()> {
        let agent = self.agent.take().context("no agent runs")?;
        agent.kill()?;
        // So that whoever connects next connects to the next one.
        for vm in &self.vms {
            fs::remove_file(self.vsock(vm)).ok();
        }
        Ok(())
    }

    /// The agent's process.
    pub(crate) fn agent(&self) -> Result<ProcId> {
        self.agent.context("no agent runs")
    }

    /// The plugin's process.
    pub(crate) fn plugin(&self) -> Result<ProcId> {
        self.plugin.context("no plugin runs")
    }

    /// Starts the plugin of a VM and waits until it listens.
    pub(crate) fn start_plugin(&mut self, vm: &str) -> Result<()> {
        let cmd = Cmd::new(built(Profile::Debug, PLUGIN)?)
            .args(["run", "--docker", "none", "--group", "0"])
            .args(["--agent", &format!("unix:{}", self.vsock(vm).display())])
            .arg("--socket")
            .arg(self.plugin_socket())
            .arg("--state")
            .arg(self.path().join("plugin"))
            .arg("--mount-root")
            .arg(self.path().join("mnt"));
        self.plugin = Some(cmd.daemon(&self.plugin_log())?);
        until_true(SOON, "the plugin listens", || {
            Ok(docker::call(&self.plugin_socket(), "List", &json!({})).is_ok())
        })
    }

    /// Kills the plugin.
    pub(crate) fn kill_plugin(&mut self) -> Result<()> {
        let plugin = self.plugin.take().context("no plugin runs")?;
        plugin.kill().map(drop)
    }

    fn start_labhv(&mut self) -> Result<()> {
        let cmd = Cmd::new(built(Profile::Debug, LABHV)?)
            .arg("--host-dir")
            .arg(self.path());
        self.labhv = Some(cmd.daemon(&self.path().join("labhv.log"))?);
        let socket = self.path().join("labhv.sock");
        until_true(SOON, "labhv listens", || Ok(socket.exists()))
    }

    /// A VM without anything in it: one process with a `/dev` of its own.
    fn power_on(&mut self, vm: &str) -> Result<()> {
        let init = Cmd::new(tool::UNSHARE)
            .args(["--mount", "--propagation", "private", "/bin/sh", "-c"])
            .arg(
                "mount -t tmpfs tmpfs /dev && mknod /dev/urandom c 1 9 && mknod /dev/null c 1 3 \
                 && exec sleep infinity",
            )
            .daemon(&self.path().join("init.log"))?;
        self.inits.push((vm.to_owned(), init));
        let dev = PathBuf::from(format!("/proc/{}/root/dev/null", init.pid));
        let whole = PathBuf::from(format!("/proc/{}/root/dev/full", init.pid));
        until_true(SOON, "the VM has its own /dev", || {
            Ok(dev.exists() && !whole.exists())
        })?;
        let client = BlockingClient::new(&self.path().join("labhv.sock"));
        client.power_on(vm, i32::try_from(init.pid)?, init.start_time)?;
        Ok(())
    }

    /// Where the agent listens for a VM.
    pub(crate) fn vsock(&self, vm: &str) -> PathBuf {
        match self.kind {
            Kind::Sim => self.path().join(vm).join("1019"),
            Kind::Lab => self.path().join("vms").join(vm).join("vsock/1019"),
            Kind::Door | Kind::Deaf => {
                let at = self.vms.iter().position(|name| name == vm).unwrap_or(998);
                self.path().join(format!("door/{}/1019", 1001 + at))
            }
        }
    }

    /// Where the plugin listens for Docker.
    pub(crate) fn plugin_socket(&self) -> PathBuf {
        self.path().join("vsphere.sock")
    }

    /// The agent's log.
    pub(crate) fn agent_log(&self) -> PathBuf {
        self.path().join("agent.log")
    }

    /// The plugin's log.
    pub(crate) fn plugin_log(&self) -> PathBuf {
        self.path().join("plugin.log")
    }

    fn logs(&self) -> Vec<PathBuf> {
        let inside = self.vms.iter().map(|vm| self.log_inside(vm));
        [self.agent_log(), self.plugin_log()]
            .into_iter()
            .chain(inside)
            .filter(|log| log.exists())
            .collect()
    }

    /// A guest's client, as if it were in this VM. Call it inside a runtime.
    pub(crate) fn guest(&self, vm: &str) -> Guest {
        volume_client(channel(Address::Unix(self.vsock(vm))))
    }

    /// Lines of the logs that a person would have to look at.
    pub(crate) fn complaints(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for log in self.logs() {
            let bytes = fs::read(&log)?;
            let text = String::from_utf8_lossy(&bytes);
            let loud = |line: &&str| {
                matches!(line.split_whitespace().nth(1), Some("WARN" | "ERROR"))
                    || line.contains("panicked at")
            };
            found.extend(text.lines().filter(loud).map(|line| {
                let line: String = line.chars().take(400).collect();
                format!("{}: {line}", log.display())
            }));
        }
        Ok(found)
    }

    /// Fails when a program complained.
    pub(crate) fn assert_quiet(&self) -> Result<()> {
        self.assert_quiet_but(&[])
    }

    /// The same, but for what the test itself caused.
    pub(crate) fn assert_quiet_but(&self, expected: &[&str]) -> Result<()> {
        let mut complaints = self.complaints()?;
        complaints.retain(|line| !expected.iter().any(|text| line.contains(text)));
        let shown: Vec<_> = complaints.iter().take(20).cloned().collect();
        ensure!(
            complaints.is_empty(),
            "{} unexpected lines:\n{}",
            complaints.len(),
            shown.join("\n")
        );
        self.passed.set(true);
        Ok(())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // Programs before what they use. Ended already is as good.
        let programs = [self.plugin, self.agent].into_iter().flatten();
        let inside = self.inside.drain(..).map(|(_, process)| process);
        let inits = self.inits.drain(..).map(|(_, process)| process);
        for process in inside.chain(programs).chain(inits) {
            process.kill().ok();
        }
        if let Some(labhv) = self.labhv {
            // It closes the devices of the VMs that ended.
            let mine = |text: String| text.contains(&*self.folder.path().to_string_lossy());
            let bound = || {
                let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
                devices
                    .filter_map(|d| fs::read_to_string(d.path().join("loop/backing_file")).ok())
                    .any(mine)
            };
            until_true(SOON, "the host closes its devices", || Ok(!bound())).ok();
            labhv.kill().ok();
        }
        if !self.passed.get() {
            for log in self.logs() {
                let text = fs::read(&log).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                let lines: Vec<_> = text.lines().collect();
                eprintln!("--- {}", log.display());
                for line in lines.iter().skip(lines.len().saturating_sub(30)) {
                    eprintln!("{}", line.chars().take(400).collect::<String>());
                }
            }
        }
    }
}

/// A line of a process's `/proc/<pid>/status` that counts KiB.
pub(crate) fn memory_kib(process: ProcId, line: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{}/status", process.pid))?;
    let value = text
        .lines()
        .find_map(|l| l.strip_prefix(line)?.strip_prefix(':'))
        .with_context(|| format!("no {line}"))?;
    let number = value.trim().trim_end_matches(" kB");
    Ok(number.parse()?)
}

/// Open descriptors of a process.
pub(crate) fn descriptors(process: ProcId) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", process.pid))?.count())
}

/// What a plugin says first.
pub(crate) fn hello() -> v1::HelloRequest {
    v1::HelloRequest {
        versions: Some(v1::VersionRange { min: 1, max: 1 }),
        program: "suite".to_owned(),
        features: Vec::new(),
    }
}

/// A fresh request id.
pub(crate) fn head() -> Option<v1::RequestHead> {
    Some(v1::RequestHead {
        request_id: Uuid::new_v4().to_string(),
    })
}

/// The middle of some figures.
pub(crate) fn median<T: Copy + Ord>(figures: &[T]) -> Result<T> {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable();
    sorted
        .get(sorted.len() / 2)
        .copied()
        .context("no figures at all")
}
