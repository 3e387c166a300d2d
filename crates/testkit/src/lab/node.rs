//! A node: the inside of a VM, a set of namespaces whose pid 1 is `node-init.sh`.
//!
//! ```text
//!            boot: init started → recorded → "ready" → hypervisor plugs its disks in → "go" → services
//!     ┌─────┐ ─────────────────────────────────────────────────────────────────────────────────► ┌────┐
//!     │ off │ ◄── shutdown: TERM to init: engine, plugin, rest in order ──────────────────────── │ on │
//!     └─────┘ ◄── power cut: all stops, file systems cut off without flushing, KILL to init ───── └────┘
//! ```
//! Off means that init is gone: the kernel ends every process of the node with it and its mounts vanish. A boot that
//! fails half-way ends with the node off.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
use vdvs_host_lab::BlockingClient;

use super::docker::Docker;
use super::layout::{Layout, OWNER_ENV};
use super::mounts;
use super::network;
use super::state::{self, NodeRecord};
use super::stop;
use crate::process::{Cmd, ProcId, tool};
use crate::wait;

/// Pid 1 of every node.
const INIT: &str = include_str!("node-init.sh");
/// Below this folder in the node the plugin mounts volumes.
pub const MOUNT_ROOT: &str = "/mnt/vdvs";
/// A file of this name in a node's `/etc` keeps the plugin's service off.
pub const NO_PLUGIN_SERVICE: &str = "no-vdvs-plugin-service";
/// A file of this name in a node's `/etc` keeps the engine off: whoever speaks to the plugin is the test.
pub const NO_ENGINE: &str = "no-engine";
/// Below this folder in the node Docker keeps managed plugins, each with the mounts it shows to others.
const MANAGED_ROOT: &str = "/var/lib/docker/plugins";
/// In the node, the folder of [`Node::notes_dir`].
pub const NOTES: &str = "/var/lib/notes";
/// Seconds init gives each service to end by itself: above dockerd's own 15 s for its containers.
const STOP_GRACE_S: u64 = 25;
/// Engine and plugin, each its grace, and a margin.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2 * STOP_GRACE_S + 10);
/// Set-up takes 0.1 s on an idle machine.
const SETUP_LIMIT: Duration = Duration::from_secs(60);
/// An engine that has containers to restore and no plugin to ask takes 47 s.
const ENGINE_LIMIT: Duration = Duration::from_secs(180);

/// A service that init looks after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `vdvs-plugin`
    Plugin,
    /// `dockerd`
    Engine,
}

impl Service {
    /// Its name in the node's console and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plugin => "plugin",
            Self::Engine => "dockerd",
        }
    }
}

/// A node of a lab. Cheap to clone; holds no state of its own.
#[derive(Debug, Clone)]
pub struct Node {
    layout: Layout,
    name: String,
}

impl Node {
    pub(super) fn new(layout: &Layout, name: &str) -> Self {
        Self {
            layout: layout.clone(),
            name: name.to_owned(),
        }
    }

    /// The VM's name, which is the node's host name too.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is on record.
    ///
    /// # Errors
    /// The lab is gone.
    pub fn record(&self) -> Result<NodeRecord> {
        let state = state::load(&self.layout)?;
        state
            .and_then(|state| state.node(&self.name).cloned())
            .with_context(|| format!("lab '{}' has no node {}", self.layout.name(), self.name))
    }

    /// Its address on the lab's network.
    ///
    /// # Errors
    /// The lab is gone.
    pub fn address(&self) -> Result<String> {
        Ok(self.record()?.address())
    }

    /// Pid 1, as seen from here.
    ///
    /// # Errors
    /// The node is off, or the lab gone.
    pub fn init(&self) -> Result<ProcId> {
        self.record()?
            .running()
            .with_context(|| format!("node {} is off", self.name))
    }

    /// Pid 1 lives.
    ///
    /// # Errors
    /// The lab is gone.
    pub fn is_on(&self) -> Result<bool> {
        Ok(self.record()?.running().is_some())
    }

    /// Its engine.
    #[must_use]
    pub fn docker(&self) -> Docker {
        Docker::at(self.layout.docker_socket(&self.name))
    }

    /// The folder that is the node's `/run`.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.layout.run_dir(&self.name)
    }

    /// A folder that is the node's [`NOTES`]: whatever happens to the node's power, what a program in it has noted
    /// there stays noted.
    #[must_use]
    pub fn notes_dir(&self) -> PathBuf {
        self.layout.node_dir(&self.name).join("notes")
    }

    /// A path in the node as a path here, while it is on.
    ///
    /// # Errors
    /// The node is off.
    pub fn path_inside(&self, path: &str) -> Result<PathBuf> {
        let root = Path::new("/proc")
            .join(self.init()?.pid.to_string())
            .join("root");
        Ok(root.join(path.trim_start_matches('/')))
    }

    /// A command that runs inside, not yet run; `program` is a path in the node.
    ///
    /// # Errors
    /// The node is off.
    pub fn exec<I, S>(&self, program: &str, args: I) -> Result<Cmd>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let pid = self.init()?.pid.to_string();
        let enter = Cmd::new(tool::NSENTER)
            .clean_env()
            .args(["--target", &pid, "--all"]);
        Ok(enter.arg("--").arg(program).args(args))
    }

    /// Runs a line of shell inside and returns what it printed, without the line's end.
    ///
    /// # Errors
    /// The node is off or the line fails.
    pub fn sh(&self, line: &str) -> Result<String> {
        Ok(self
            .exec(tool::BASH, ["-c", line])?
            .run()?
            .trim_end()
            .to_owned())
    }

    /// It has an engine, unless it was made without.
    #[must_use]
    pub fn has_engine(&self) -> bool {
        let etc = self.layout.node_dir(&self.name).join("etc");
        !etc.join(NO_ENGINE).exists()
    }

    /// Switches the node on and waits until its engine answers, if it has one. On already: only waits.
    ///
    /// # Errors
    /// The hypervisor refuses (a disk of this VM is open elsewhere), or the node does not come up; it is off then.
    pub fn power_on(&self) -> Result<()> {
        if !self.is_on()? {
            self.boot().inspect_err(|_| {
                // Half a node is worse than none; the boot's own error is what the caller needs to see.
                self.kill_processes().ok();
            })?;
        }
        if !self.has_engine() {
            return Ok(());
        }
        self.docker().wait_ready(ENGINE_LIMIT).with_context(|| {
            format!(
                "node {}, see {}",
                self.name,
                self.log(Service::Engine).display()
            )
        })
    }

    fn boot(&self) -> Result<()> {
        let record = self.record()?;
        // What an earlier boot left half-way.
        self.kill_processes()?;
        self.clean_run_dir()?;
        network::ensure_node(&self.layout, &record)?;
        let init = self.start_init(&record)?;
        let console = self.console();
        wait::until_true(
            SETUP_LIMIT,
            &format!("node {} is set up", self.name),
            || {
                ensure!(
                    init.is_alive(),
                    "init of {} ended: see {}",
                    self.name,
                    self.boot_log().display()
                );
                Ok(console.join("ready").exists())
            },
        )?;
        let pid = i32::try_from(init.pid).context("pid out of range")?;
        self.hypervisor(&record)
            .power_on(&self.name, pid, init.start_time)
            .with_context(|| format!("power on {}", self.name))?;
        File::create(console.join("go")).context("let the services start")?;
        Ok(())
    }

    fn start_init(&self, record: &NodeRecord) -> Result<ProcId> {
        let dir = self.layout.node_dir(&self.name);
        let script = dir.join("init.sh");
        fs::write(&script, INIT).with_context(|| format!("write {}", script.display()))?;
        let launcher = Cmd::new(tool::IP)
            .clean_env()
            .env(OWNER_ENV, self.layout.prefix())
            .args(["netns", "exec", &record.netns, tool::UNSHARE])
            .args([
                "--mount",
                "--uts",
                "--ipc",
                "--pid",
                "--fork",
                "--kill-child=KILL",
            ])
            .args(["--propagation", "private", tool::BASH])
            .arg(&script)
            .arg(&dir)
            .args([&self.name, &record.cgroup])
            .arg(self.layout.vsock_dir(&record.host, &self.name))
            .arg(self.layout.bin_dir())
            .arg(STOP_GRACE_S.to_string())
            .daemon(&self.boot_log())?;
        self.update(|node| node.launcher = Some(launcher))?;
        let init = wait::until(
            SETUP_LIMIT,
            &format!("init of {} starts", self.name),
            || {
                ensure!(
                    launcher.is_alive(),
                    "node {}: see {}",
                    self.name,
                    self.boot_log().display()
                );
                Ok(only_child(launcher.pid))
            },
        )?;
        self.update(|node| node.init = Some(init))?;
        Ok(init)
    }

    /// Shuts the node down in order: engine, plugin, rest; waits until it is off.
    ///
    /// # Errors
    /// It is not off in time.
    pub fn shutdown(&self) -> Result<()> {
        let Some(init) = self.record()?.running() else {
            return Ok(());
        };
        init.signal(Signal::SIGTERM)?;
        ensure!(
            init.wait_gone(SHUTDOWN_LIMIT),
            "node {} does not shut down within {SHUTDOWN_LIMIT:?}",
            self.name
        );
        self.forget_processes()
    }

    /// Cuts the power: what the guest has not flushed is lost, nothing in it gets to say a word. Says how long the
    /// cut took. Off already: nothing happens.
    ///
    /// # Errors
    /// A file system could not be cut off; the node is off nevertheless.
    pub fn power_cut(&self) -> Result<Duration> {
        let begin = Instant::now();
        let record = self.record()?;
        let Some(init) = record.running() else {
            return Ok(begin.elapsed());
        };
        let cut = stop::cut_power(init);
        // The hypervisor's way first, so that it knows when this returns; a dead hypervisor does not keep power on.
        let killed = self.hypervisor(&record).power_off(&self.name);
        if init.is_alive() {
            init.kill()?;
        }
        let took = begin.elapsed();
        self.kill_processes()?;
        killed
            .with_context(|| format!("the hypervisor did not notice the end of {}", self.name))?;
        cut?;
        Ok(took)
    }

    /// As [`Node::power_cut`], but the host is dying too: nobody is told.
    pub(super) fn lose_power(&self) -> Result<()> {
        let Some(init) = self.record()?.running() else {
            return Ok(());
        };
        let cut = stop::cut_power(init);
        self.kill_processes()?;
        cut
    }

    /// Stops the VM where it stands, with everything in it.
    ///
    /// # Errors
    /// The hypervisor refuses.
    pub fn suspend(&self) -> Result<()> {
        self.hypervisor(&self.record()?)
            .suspend(&self.name)
            .with_context(|| format!("suspend {}", self.name))
    }

    /// Lets a suspended VM go on.
    ///
    /// # Errors
    /// The hypervisor refuses: a disk of this VM is open elsewhere.
    pub fn resume(&self) -> Result<()> {
        self.hypervisor(&self.record()?)
            .resume(&self.name)
            .with_context(|| format!("resume {}", self.name))
    }

    /// Pulls the network cable, or plugs it in again.
    ///
    /// # Errors
    /// The lab is gone.
    pub fn set_cable(&self, plugged: bool) -> Result<()> {
        network::set_cable(&self.layout, &self.record()?, plugged)
    }

    /// Replaces the engine's `daemon.json`; it is read at the engine's next start.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_engine_config(&self, config: &serde_json::Value) -> Result<()> {
        let dir = self.layout.node_dir(&self.name).join("etc-docker");
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        state::write_atomically(&dir.join("daemon.json"), &serde_json::to_vec(config)?)
    }

    /// Pid of a running service inside the node.
    ///
    /// # Errors
    /// The console cannot be read.
    pub fn service_pid(&self, service: Service) -> Result<Option<u32>> {
        let path = self.console().join(format!("{}.pid", service.name()));
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Sends a signal to a service. Init starts it again when it ends, unless it is held.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal_service(&self, service: Service, signal: Signal) -> Result<()> {
        let pid = self.service_pid(service)?;
        let pid =
            pid.with_context(|| format!("{} does not run in {}", service.name(), self.name))?;
        self.exec("/usr/bin/kill", ["-s", signal.as_str(), &pid.to_string()])?
            .run()
            .map(drop)
    }

    /// Keeps init from starting the service again once it has ended.
    ///
    /// # Errors
    /// The console cannot be written.
    pub fn hold_service(&self, service: Service) -> Result<()> {
        File::create(self.hold_file(service)).context("hold a service")?;
        Ok(())
    }

    /// Lets init start the service again.
    ///
    /// # Errors
    /// The console cannot be written.
    pub fn release_service(&self, service: Service) -> Result<()> {
        match fs::remove_file(self.hold_file(service)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).context("release a service")
            }
            _ => Ok(()),
        }
    }

    /// Holds the service, sends it TERM and waits until it has ended.
    ///
    /// # Errors
    /// It does not end within `limit`.
    pub fn stop_service(&self, service: Service, limit: Duration) -> Result<()> {
        self.hold_service(service)?;
        if self.service_pid(service)?.is_some() {
            self.signal_service(service, Signal::SIGTERM)?;
        }
        let what = format!("{} of {} ends", service.name(), self.name);
        wait::until_true(limit, &what, || Ok(self.service_pid(service)?.is_none()))
    }

    /// Devices and places of the volumes that are mounted in the node.
    ///
    /// # Errors
    /// The node is off.
    pub fn volume_mounts(&self) -> Result<Vec<mounts::Mount>> {
        volume_mounts(self.init()?)
    }

    /// A service's log of this boot.
    #[must_use]
    pub fn log(&self, service: Service) -> PathBuf {
        self.run_dir().join(format!("{}.log", service.name()))
    }

    /// What init itself had to say, over all boots.
    #[must_use]
    pub fn boot_log(&self) -> PathBuf {
        self.layout.node_dir(&self.name).join("init.log")
    }

    /// Ends the node's processes without any ceremony and without the hypervisor.
    pub(super) fn kill_processes(&self) -> Result<()> {
        let record = self.record()?;
        for process in [record.init, record.launcher].into_iter().flatten() {
            process.kill()?;
        }
        self.forget_processes()
    }

    fn forget_processes(&self) -> Result<()> {
        self.update(|node| {
            node.init = None;
            node.launcher = None;
        })
    }

    /// A boot begins with an empty `/run`, an absent engine socket and no hold on a service.
    fn clean_run_dir(&self) -> Result<()> {
        let run = self.run_dir();
        match fs::remove_dir_all(&run) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("empty {}", run.display()));
            }
            _ => {}
        }
        let docker = self.layout.node_dir(&self.name).join("var-lib-docker");
        for dir in [&run, &docker, &self.console()] {
            fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        }
        let kind = statfs(&docker).with_context(|| format!("look at {}", docker.display()))?;
        if kind.filesystem_type() == OVERLAYFS_SUPER_MAGIC {
            bail!(
                "{} lies on an overlay, on which an engine cannot keep its layers: point {} to a folder on a disk",
                docker.display(),
                super::layout::LAB_DIR_ENV
            );
        }
        Ok(())
    }

    fn hypervisor(&self, record: &NodeRecord) -> BlockingClient {
        BlockingClient::new(&self.layout.labhv_socket(&record.host))
    }

    fn console(&self) -> PathBuf {
        self.run_dir().join("lab")
    }

    fn hold_file(&self, service: Service) -> PathBuf {
        self.console().join(format!("hold.{}", service.name()))
    }

    fn update(&self, change: impl FnOnce(&mut NodeRecord)) -> Result<()> {
        state::update(&self.layout, |state| state.node_mut(&self.name).map(change))?
            .with_context(|| format!("lab '{}' has no node {}", self.layout.name(), self.name))
    }
}

/// The one child of a process that makes one only.
fn only_child(parent: u32) -> Option<ProcId> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    ProcId::of(children.split_whitespace().next()?.parse().ok()?)
}

/// Volumes' mounts, by the service or by a managed plugin: strictly below its `propagated-mount`.
pub(super) fn volume_mounts(init: ProcId) -> Result<Vec<mounts::Mount>> {
    let mut found = mounts::below(init, Path::new(MOUNT_ROOT))?;
    let managed = mounts::below(init, Path::new(MANAGED_ROOT))?;
    found.extend(managed.into_iter().filter(|mount| {
        let folder = mount.path.parent();
        folder.is_some_and(|folder| folder.ends_with("propagated-mount"))
    }));
    Ok(found)
}
