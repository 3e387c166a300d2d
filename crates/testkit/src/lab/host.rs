//! The outside of a lab: a hypervisor host with its datastores, its VMs' folders, `vdvs-labhv` and `vdvsd`.
//!
//! The two processes are started, stopped and killed separately: the death of the agent is not the death of the host.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use uuid::Uuid;
use vdvs_host_lab::BlockingClient;

use super::binaries::{ADMIN, AGENT, LABHV};
use super::layout::{Layout, OWNER_ENV};
use super::plan::Datastore;
use super::state::{self, HostRecord};
use crate::process::{Cmd, ProcId};
use crate::wait;

/// Both programs listen well below a second after their start on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The agent finishes what it has begun.
const STOP_GRACE: Duration = Duration::from_secs(15);

/// A host of a lab. Cheap to clone; holds no state of its own.
#[derive(Debug, Clone)]
pub struct Host {
    layout: Layout,
    name: String,
}

/// One of a host's two processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// `vdvs-labhv`, the hypervisor's stand-in.
    Labhv,
    /// `vdvsd`, the agent.
    Agent,
}

impl Host {
    pub(super) fn new(layout: &Layout, name: &str) -> Self {
        Self {
            layout: layout.clone(),
            name: name.to_owned(),
        }
    }

    /// The host's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is on record.
    ///
    /// # Errors
    /// The lab is gone.
    pub fn record(&self) -> Result<HostRecord> {
        let state = state::load(&self.layout)?;
        state
            .and_then(|state| state.host(&self.name).cloned())
            .with_context(|| format!("lab '{}' has no host {}", self.layout.name(), self.name))
    }

    /// The process, if it runs.
    ///
    /// # Errors
    /// The lab is gone.
    pub fn running(&self, daemon: Daemon) -> Result<Option<ProcId>> {
        let record = self.record()?;
        let process = match daemon {
            Daemon::Labhv => record.labhv,
            Daemon::Agent => record.agent,
        };
        Ok(process.filter(ProcId::is_alive))
    }

    /// Starts the process if it does not run, and waits until it listens.
    ///
    /// # Errors
    /// It ends or does not listen in time; its log is named.
    pub fn start(&self, daemon: Daemon) -> Result<ProcId> {
        if let Some(process) = self.running(daemon)? {
            return Ok(process);
        }
        let (dir, log) = (self.layout.host_dir(&self.name), self.log(daemon));
        let bin = self.layout.bin_dir();
        let cmd = match daemon {
            Daemon::Labhv => Cmd::new(bin.join(LABHV)).arg("--host-dir").arg(&dir),
            Daemon::Agent => Cmd::new(bin.join(AGENT))
                .args(["--host", "lab"])
                .arg("--lab-dir")
                .arg(&dir),
        };
        let process = cmd
            .clean_env()
            .env(OWNER_ENV, self.layout.prefix())
            .daemon(&log)?;
        self.remember(daemon, Some(process))?;
        let (socket, program) = match daemon {
            Daemon::Labhv => (self.layout.labhv_socket(&self.name), LABHV),
            Daemon::Agent => (self.layout.admin_socket(&self.name), AGENT),
        };
        wait::until_true(
            START_LIMIT,
            &format!("{program} of {} listens", self.name),
            || {
                ensure!(
                    process.is_alive(),
                    "{program} of {} ended: see {}",
                    self.name,
                    log.display()
                );
                Ok(UnixStream::connect(&socket).is_ok())
            },
        )?;
        Ok(process)
    }

    /// Asks the process to end and waits for it.
    ///
    /// # Errors
    /// It cannot be stopped.
    pub fn stop(&self, daemon: Daemon) -> Result<()> {
        if let Some(process) = self.running(daemon)? {
            process.stop(STOP_GRACE)?;
        }
        self.remember(daemon, None)
    }

    /// Kills the process with SIGKILL.
    ///
    /// # Errors
    /// It cannot be killed.
    pub fn kill(&self, daemon: Daemon) -> Result<()> {
        if let Some(process) = self.running(daemon)? {
            process.kill()?;
        }
        self.remember(daemon, None)
    }

    /// Where the process writes.
    #[must_use]
    pub fn log(&self, daemon: Daemon) -> PathBuf {
        match daemon {
            Daemon::Labhv => self.layout.host_dir(&self.name).join("labhv.log"),
            // The agent keeps a log of its own among its state; this one holds what a fall says, too.
            Daemon::Agent => self.layout.host_dir(&self.name).join("vdvsd.log"),
        }
    }

    /// A client of the hypervisor's stand-in.
    #[must_use]
    pub fn hypervisor(&self) -> BlockingClient {
        BlockingClient::new(&self.layout.labhv_socket(&self.name))
    }

    /// The administrator's command on this host, not yet run.
    pub fn vdvs<I, S>(&self, args: I) -> Cmd
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        Cmd::new(self.layout.bin_dir().join(ADMIN))
            .arg("--socket")
            .arg(self.layout.admin_socket(&self.name))
            .args(args)
    }

    /// What it sees, as its programs are told.
    ///
    /// # Errors
    /// The host was never made.
    pub fn datastores(&self) -> Result<Vec<Datastore>> {
        let file = self.config_file();
        let config = read_json(&file)?.with_context(|| format!("no {}", file.display()))?;
        let listed = config.get("datastores").and_then(Value::as_array);
        let text = |one: &Value, key: &str| Some(one.get(key)?.as_str()?.to_owned());
        let read = |one: &Value| {
            let lapse = one.get("lock_lapse_ms").and_then(Value::as_u64);
            Some(Datastore {
                name: text(one, "name")?,
                kind: text(one, "type")?,
                lapse: Duration::from_millis(lapse.unwrap_or(0)),
            })
        };
        let all: Option<Vec<Datastore>> = listed.and_then(|all| all.iter().map(read).collect());
        all.with_context(|| format!("{} lists no datastores", file.display()))
    }

    fn config_file(&self) -> PathBuf {
        self.layout.host_dir(&self.name).join("host.json")
    }

    /// A datastore's folder.
    #[must_use]
    pub fn datastore(&self, name: &str) -> PathBuf {
        self.layout.datastore_dir(name)
    }

    /// Puts the host on record and makes its folders and `host.json`.
    pub(super) fn ensure(&self, datastores: &[Datastore]) -> Result<()> {
        state::update(&self.layout, |state| {
            if state.host(&self.name).is_none() {
                state.hosts.push(HostRecord {
                    name: self.name.clone(),
                    labhv: None,
                    agent: None,
                });
            }
        })?;
        let dir = self.layout.host_dir(&self.name);
        for folder in [dir.join("vms"), self.layout.agent_dir(&self.name)] {
            make(&folder)?;
        }
        let mut listed = Vec::new();
        for datastore in datastores {
            let path = self.layout.datastore_dir(&datastore.name);
            make(&path)?;
            listed.push(json!({
                "name": datastore.name,
                "type": datastore.kind,
                "path": path,
                "lock_lapse_ms": millis(datastore.lapse),
            }));
        }
        // Identities are made once and kept.
        let file = self.config_file();
        let known = read_json(&file)?.and_then(|json| json.get("host_id").cloned());
        let config = json!({
            "name": self.name,
            "host_id": known.unwrap_or_else(|| json!(Uuid::new_v4())),
            "datastores": listed,
            "lock_lapse_ms": datastores.iter().map(|one| millis(one.lapse)).max().unwrap_or(0),
        });
        state::write_atomically(&file, &serde_json::to_vec_pretty(&config)?)
    }

    /// Registers a VM: its folder and `vm.json`. From then on the file is the hypervisor's.
    pub(super) fn ensure_vm(&self, vm: &str, datastore: &str) -> Result<()> {
        make(&self.layout.vsock_dir(&self.name, vm))?;
        let file = self.layout.vm_dir(&self.name, vm).join("vm.json");
        if file.exists() {
            return Ok(());
        }
        let json = json!({
            "name": vm,
            "instance_uuid": Uuid::new_v4(),
            "config_path": format!("[{datastore}] {vm}/{vm}.vmx"),
            "init": null,
        });
        state::write_atomically(&file, &serde_json::to_vec_pretty(&json)?)
    }

    fn remember(&self, daemon: Daemon, process: Option<ProcId>) -> Result<()> {
        state::update(&self.layout, |state| {
            if let Some(host) = state.host_mut(&self.name) {
                match daemon {
                    Daemon::Labhv => host.labhv = process,
                    Daemon::Agent => host.agent = process,
                }
            }
        })
    }
}

fn millis(lapse: Duration) -> u64 {
    u64::try_from(lapse.as_millis()).unwrap_or(u64::MAX)
}

fn make(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))
}

fn read_json(path: &Path) -> Result<Option<Value>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(
            serde_json::from_slice(&bytes).with_context(|| format!("parse {}", path.display()))?,
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}
