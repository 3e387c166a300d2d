//! A lab for one test: one host or several, some nodes, each with a real engine, our real programs, and disks that are
//! loop devices.
//!
//! ```text
//!   Rig::up ──► the test ──► Rig::finish_empty: nothing leaked, nobody complained ──► lab down: nothing left
//!                  └──────── dropped on the way: the ends of all logs are printed ──► lab down
//! ```
//! Nothing here sleeps for something to become true: it looks until it is or a deadline has passed. The one pause,
//! [`Rig::after`], is there to hit a step in its middle.
//!
//! A rig needs root; without it [`Rig::up`] says *skipped* and gives none.

mod containers;
mod hosts;
mod leaks;
pub mod lines;
pub(crate) mod logs;
pub mod managed;
mod registry;
mod volumes;
mod watch;

use std::fs;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::json;
use vdvs_testkit::lab::{
    ADMIN, AGENT, DEFAULT_HOST, Daemon, Docker, Host, Images, LABHV, Lab, LabConfig, Layout,
    NO_ENGINE, NO_PLUGIN_SERVICE, Node, PACKAGES, PLUGIN, Profile, Service, built, each,
    ensure_packages, leftovers,
};
use vdvs_testkit::wait::{until, until_true};

pub use logs::Program;
pub use registry::Registry;

/// For what takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(60);
/// A node that restores containers looks for the driver three times 15 s when it is not there.
const RESTART: Duration = Duration::from_secs(180);

/// A lab and one test in it.
#[derive(Debug)]
pub struct Rig {
    lab: Lab,
    logs: Mutex<logs::Judge>,
    /// The independent check, while it runs.
    watch: Option<watch::Watch>,
    /// The lab is down already.
    down: bool,
}

/// What is not as it is by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// Containers live on while no engine runs.
    pub live_restore: bool,
    /// After how many seconds the plugins compare a count that has not changed with reality. Engines that are killed
    /// lose Unmounts, and the two minutes of the default are too long for a suite; none: the default.
    pub doubt_after: Option<u64>,
    /// Seconds a Mount may take, of which the agent may wait all but ten; none: the default.
    pub mount_budget: Option<u64>,
    /// The nodes run no plugin service: the test has Docker itself run the plugin.
    pub managed: bool,
    /// The nodes run no engine: the test speaks to the plugins as an engine would.
    pub no_engines: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            live_restore: false,
            doubt_after: Some(10),
            managed: false,
            no_engines: false,
            mount_budget: None,
        }
    }
}

impl Rig {
    /// A new lab; none, after saying so, where no lab can run.
    ///
    /// # Errors
    /// A program is not built, or the lab does not come up.
    pub fn up(name: &str, nodes: u8) -> Result<Option<Self>> {
        Self::up_with(name, nodes, Setup::default())
    }

    /// As [`Rig::up`], with other settings.
    ///
    /// # Errors
    /// As [`Rig::up`].
    pub fn up_with(name: &str, nodes: u8, setup: Setup) -> Result<Option<Self>> {
        Self::up_lab(&LabConfig::new(&format!("e-{name}"), nodes), setup)
    }

    /// As [`Rig::up`], with a lab of one's own making.
    ///
    /// # Errors
    /// As [`Rig::up`].
    pub fn up_lab(config: &LabConfig, setup: Setup) -> Result<Option<Self>> {
        if !geteuid().is_root() {
            eprintln!("skipped: namespaces, mounts and loop devices need root");
            return Ok(None);
        }
        for program in [LABHV, AGENT, ADMIN, PLUGIN] {
            built(Profile::Debug, program)
                .context("this suite runs the programs as built: run 'cargo xtask test'")?;
        }
        ensure_packages(PACKAGES, &|line| eprintln!("{line}"))?;
        let images = if setup.no_engines {
            None
        } else {
            Some(Images::prepare()?)
        };
        Lab::down(&config.name)?;
        let begun = Instant::now();
        configure(config, setup)?;
        let lab = Lab::up(config).inspect_err(|_| {
            if let Ok(lab) = Lab::open(&config.name) {
                logs::print_tails(&lab);
            }
            // The error that matters is the first.
            Lab::down(&config.name).ok();
        })?;
        let rig = Self {
            lab,
            logs: Mutex::default(),
            watch: None,
            down: false,
        };
        if let Some(images) = images {
            each(&rig.lab.nodes()?, |node| {
                images.import_busybox(&node.docker())
            })?;
        }
        eprintln!("lab up after {:?}", begun.elapsed());
        Ok(Some(rig))
    }

    /// The engine of a node.
    #[must_use]
    pub fn docker(&self, node: &str) -> Docker {
        Docker::at(self.lab.layout().docker_socket(node))
    }

    /// A node.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn node(&self, name: &str) -> Result<Node> {
        self.lab.node(name)
    }

    /// The lab itself.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The first host; the administrator is asked here.
    #[must_use]
    pub fn host(&self) -> Host {
        self.lab.host(DEFAULT_HOST)
    }

    /// Makes a small volume from the first node.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn create(&self, volume: &str) -> Result<()> {
        let args = [
            "volume",
            "create",
            "-d",
            "vsphere",
            "--name",
            volume,
            "-o",
            "size=20mb",
        ];
        self.docker("swarm01").run(&args).map(drop)
    }

    /// Waits until a container runs.
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_running(&self, node: &str, container: &str) -> Result<()> {
        let args = ["inspect", "--format", "{{.State.Running}}", container];
        self.wait_output(node, &args, "true")
    }

    /// Waits until the CLI prints this.
    ///
    /// # Errors
    /// Not in time; the last answer is in the error.
    pub fn wait_output(&self, node: &str, args: &[&str], wanted: &str) -> Result<()> {
        let docker = self.docker(node);
        let mut last = String::new();
        until_true(RESTART, &format!("docker {args:?} says '{wanted}'"), || {
            last = match docker.run(args) {
                Ok(said) => said,
                Err(error) => format!("{error:#}"),
            };
            Ok(last == wanted)
        })
        .with_context(|| format!("last: {last}"))
    }

    /// Sends the engine a signal it ends from, and waits until the next one answers.
    ///
    /// # Errors
    /// Not in time.
    pub fn restart_dockerd(&self, node: &str, signal: Signal) -> Result<()> {
        let node = self.node(node)?;
        self.end_service(&node, Service::Engine, signal)?;
        node.docker().wait_ready(RESTART)
    }

    /// Kills the plugin; init starts it again. Returns when it is dead.
    ///
    /// # Errors
    /// It does not run or does not die.
    pub fn kill_plugin(&self, node: &str) -> Result<()> {
        self.end_service(&self.node(node)?, Service::Plugin, Signal::SIGKILL)
    }

    /// Waits until a plugin listens.
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_plugin(&self, node: &str) -> Result<()> {
        let node = self.node(node)?;
        let socket = containers::plugin_socket(&node)?;
        until_true(SOON, "the plugin listens", || {
            Ok(
                node.service_pid(Service::Plugin)?.is_some()
                    && UnixStream::connect(&socket).is_ok(),
            )
        })
    }

    /// Kills the plugin and keeps it down.
    ///
    /// # Errors
    /// It does not die.
    pub fn hold_plugin(&self, node: &str) -> Result<()> {
        let node = self.node(node)?;
        node.hold_service(Service::Plugin)?;
        self.end_service(&node, Service::Plugin, Signal::SIGKILL)
    }

    /// Lets the plugin run again and waits until it listens.
    ///
    /// # Errors
    /// Not in time.
    pub fn release_plugin(&self, node: &str) -> Result<()> {
        self.node(node)?.release_service(Service::Plugin)?;
        self.wait_plugin(node)
    }

    /// Kills the agent; it stays down until [`Rig::start_agent`].
    ///
    /// # Errors
    /// It does not die.
    pub fn kill_agent(&self) -> Result<()> {
        self.host().kill(Daemon::Agent)
    }

    /// Starts the agent and waits until it listens.
    ///
    /// # Errors
    /// It does not.
    pub fn start_agent(&self) -> Result<()> {
        self.host().start(Daemon::Agent).map(drop)
    }

    /// Cuts a node's power: what it did not flush is lost.
    ///
    /// # Errors
    /// As [`Node::power_cut`].
    pub fn power_cut(&self, node: &str) -> Result<()> {
        let took = self.node(node)?.power_cut()?;
        eprintln!("power of {node} cut within {took:?}");
        Ok(())
    }

    /// Switches a node on again and waits until its plugin and its engine answer.
    ///
    /// # Errors
    /// Not in time.
    pub fn power_on(&self, node: &str) -> Result<()> {
        let on = self.node(node)?;
        // A boot empties the folder the logs of the earlier life are in.
        self.judge().keep_boot(&on)?;
        on.power_on()?;
        self.wait_plugin(node)
    }

    /// Has the independent check look at the lab's disks from now to the end of the test, which fails with what it finds.
    ///
    /// # Errors
    /// It is not built or does not start.
    pub fn watch_writers(&mut self) -> Result<()> {
        self.watch = Some(watch::Watch::start(&self.lab)?);
        Ok(())
    }

    /// Fails with what the independent check has found so far.
    ///
    /// # Errors
    /// Its findings.
    pub fn one_writer(&self) -> Result<()> {
        self.watch
            .as_ref()
            .map_or(Ok(()), watch::Watch::must_be_content)
    }

    /// A file on this side with this text; returns its path.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn scratch(&self, name: &str, text: &str) -> Result<String> {
        let path = self.lab.layout().root().join(format!("scratch-{name}"));
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path.display().to_string())
    }

    /// Lets time pass on purpose, so that what was begun is hit in its middle by what comes next. Not for waiting until
    /// something is so: nothing is promised to be so afterwards.
    pub fn after(&self, pause: Duration) {
        thread::sleep(pause);
    }

    /// Prints a figure people may want to compare; nothing is asserted about it.
    pub fn note(&self, name: &str, text: &str) {
        eprintln!("figure: {name}: {text}");
    }

    /// A line at WARN or ERROR that holds `text` is what this test wants to see, because of `why`.
    pub fn expect_complaint(&self, by: Program, text: &'static str, why: &'static str) {
        self.judge().expect(by, text, why);
    }

    /// Everything there is of volumes, one line each: empty when all were removed.
    ///
    /// # Errors
    /// A place cannot be looked at.
    pub fn left_of_volumes(&self) -> Result<Vec<String>> {
        leaks::of(self)
    }

    /// The end of the test: every volume was removed, so nothing of one may be left anywhere; no program complained of
    /// something the test did not cause; and the lab goes down without a trace.
    ///
    /// # Errors
    /// Any of it is not so; each leak is named.
    pub fn finish_empty(mut self) -> Result<()> {
        let mut left = Vec::new();
        until_true(SOON, "nothing is left of the volumes", || {
            left = leaks::of(&self)?;
            Ok(left.is_empty())
        })
        .with_context(|| format!("left: {}", left.join("; ")))?;
        if let Some(watch) = self.watch.take() {
            watch.finish()?;
        }
        let complaints = self.judge().complaints(&self.lab)?;
        ensure!(
            complaints.is_empty(),
            "unexpected in the logs:\n{}",
            complaints.join("\n")
        );
        let layout = self.lab.layout().clone();
        Lab::down(layout.name())?;
        self.down = true;
        let left = leftovers(&layout)?;
        ensure!(
            left.is_empty(),
            "left after the lab went down: {}",
            left.join("; ")
        );
        Ok(())
    }

    fn judge(&self) -> MutexGuard<'_, logs::Judge> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signals a service and returns when that process has ended.
    fn end_service(&self, node: &Node, service: Service, signal: Signal) -> Result<()> {
        let what = format!("{} of {} runs", service.name(), node.name());
        let before = until(SOON, &what, || node.service_pid(service))?;
        node.signal_service(service, signal)?;
        let what = format!("{} of {} ends", service.name(), node.name());
        until_true(RESTART, &what, || {
            Ok(node.service_pid(service)? != Some(before))
        })
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if self.down {
            return;
        }
        logs::print_tails(&self.lab);
        if let Err(error) = Lab::down(self.lab.layout().name()) {
            eprintln!("the lab does not go down: {error:#}");
        }
    }
}

/// Puts the settings where the nodes' programs find them when they start for the first time.
fn configure(config: &LabConfig, setup: Setup) -> Result<()> {
    let layout = Layout::for_name(&config.name)?;
    let plugin = json!({
        "DoubtAfterSeconds": setup.doubt_after,
        "MountBudgetSeconds": setup.mount_budget,
    });
    let engine = json!({ "live-restore": setup.live_restore });
    for node in config.node_names() {
        let node = layout.node_dir(&node);
        for (folder, file, settings) in [
            ("etc", "vsphere-storage-for-docker.conf", &plugin),
            ("etc-docker", "daemon.json", &engine),
        ] {
            let folder = node.join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
            let file = folder.join(file);
            fs::write(&file, settings.to_string())
                .with_context(|| format!("write {}", file.display()))?;
        }
        for (off, file) in [
            (setup.managed, NO_PLUGIN_SERVICE),
            (setup.no_engines, NO_ENGINE),
        ] {
            if off {
                fs::write(node.join("etc").join(file), "").context("keep a service off")?;
            }
        }
    }
    Ok(())
}

/// Arguments of a container that runs a line of shell with a volume at `/data` and is gone afterwards.
#[must_use]
pub fn run_in(volume: &str, script: &str) -> Vec<String> {
    let mount = format!("{volume}:/data");
    [
        "run", "--rm", "--pull", "never", "-v", &mount, "bb:1", "sh", "-c", script,
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The text of a command's failure.
///
/// # Errors
/// It succeeded.
pub fn refusal(result: Result<String>) -> Result<String> {
    match result {
        Ok(said) => bail!("this should have been refused; it said: {said}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}
