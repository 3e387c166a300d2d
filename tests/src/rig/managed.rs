//! The managed plugin: Docker itself runs our program, from the root file system that `cargo xtask dist` makes.
//!
//! The node's own plugin service stays off then ([`Setup::managed`](super::Setup)). The agent's socket is reached
//! through the plugin's settable mount, as a person would set it who has no vSocket.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use vdvs_testkit::lab::{Docker, Node, target_dir};
use vdvs_testkit::process::Cmd;
use vdvs_testkit::wait::{until, until_true};

use super::Rig;

/// What the plugin is called: what people who came from the original have in their compose files.
pub const NAME: &str = "vsphere:latest";
/// How to find its process in a node.
const PROGRAM: &str = "^/usr/bin/vdvs-plugin run";
/// dockerd starts a plugin that died within a second or two.
const RESTART: Duration = Duration::from_secs(90);

/// A plugin in a node.
#[derive(Debug, Clone)]
pub struct Managed {
    node: Node,
    docker: Docker,
}

/// The folder `docker plugin create` takes.
///
/// # Errors
/// It has not been made.
pub fn folder() -> Result<PathBuf> {
    let folder = target_dir()?.join("dist/debug/plugin");
    ensure!(
        folder.join("rootfs/usr/bin/vdvs-plugin").exists(),
        "{} is not there: run 'cargo xtask dist --debug'",
        folder.display()
    );
    Ok(folder)
}

/// A copy of the folder with a file of its own, as another version would be.
///
/// # Errors
/// It cannot be copied.
pub fn other_version(rig: &Rig, version: &str) -> Result<PathBuf> {
    let copy = rig.lab.layout().root().join(format!("plugin-{version}"));
    Cmd::new("/usr/bin/cp")
        .arg("--archive")
        .arg(folder()?)
        .arg(&copy)
        .run()?;
    fs::write(copy.join("rootfs/etc/version"), version).context("mark another version")?;
    Ok(copy)
}

impl Rig {
    /// Makes the plugin in the first node from `folder`, lets it reach the agent and enables it.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn install_managed(&self, folder: &Path) -> Result<Managed> {
        let node = self.node("swarm01")?;
        let docker = node.docker();
        let managed = Managed { node, docker };
        let begun = Instant::now();
        managed.create(NAME, folder)?;
        self.note(
            "managed plugin",
            &format!("created after {:?}", begun.elapsed()),
        );
        managed.configure()?;
        let begun = Instant::now();
        managed.docker.run(&["plugin", "enable", NAME])?;
        self.note(
            "managed plugin",
            &format!("enabled after {:?}", begun.elapsed()),
        );
        Ok(managed)
    }
}

impl Managed {
    /// `docker plugin create`.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn create(&self, name: &str, folder: &Path) -> Result<()> {
        let folder = folder.display().to_string();
        self.docker
            .run(&["plugin", "create", name, &folder])
            .map(drop)
    }

    /// The settings of a guest without vSockets.
    ///
    /// # Errors
    /// The engine refuses; it takes settings only while the plugin is disabled.
    pub fn configure(&self) -> Result<()> {
        let settings = [
            "plugin",
            "set",
            NAME,
            "agent.source=/run/vdvs-vsock",
            "VDVS_AGENT=unix:/run/vdvs-agent/1019",
        ];
        self.docker.run(&settings).map(drop)
    }

    /// The id Docker keeps its folder under.
    ///
    /// # Errors
    /// There is none.
    pub fn id(&self) -> Result<String> {
        self.docker
            .run(&["plugin", "inspect", "--format", "{{.Id}}", NAME])
    }

    /// The mark of [`other_version`], as the plugin's root has it.
    ///
    /// # Errors
    /// It has none.
    pub fn version(&self) -> Result<String> {
        let inside = format!("/var/lib/docker/plugins/{}/rootfs/etc/version", self.id()?);
        let path = self.node.path_inside(&inside)?;
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// What lies in the folder that survives everything but `docker plugin rm`.
    ///
    /// # Errors
    /// There is no plugin.
    pub fn propagated(&self) -> Result<PathBuf> {
        let inside = format!("/var/lib/docker/plugins/{}/propagated-mount", self.id()?);
        self.node.path_inside(&inside)
    }

    /// The running program, in the node's view.
    ///
    /// # Errors
    /// The node is off.
    pub fn pid(&self) -> Result<Option<String>> {
        let found = self.node.sh(&format!("pgrep -f '{PROGRAM}' || true"))?;
        Ok((!found.is_empty()).then_some(found))
    }

    /// Kills the program without a warning and waits until Docker has started another one. Says how long that took.
    ///
    /// # Errors
    /// It does not.
    pub fn kill(&self) -> Result<Duration> {
        let before = self.pid()?.context("the managed plugin does not run")?;
        self.node.sh(&format!("kill -9 {before}"))?;
        let begun = Instant::now();
        until(RESTART, "Docker starts the plugin again", || {
            Ok(self.pid()?.filter(|pid| *pid != before))
        })?;
        let took = begun.elapsed();
        until_true(RESTART, "the plugin answers", || {
            Ok(self.docker.run(&["volume", "ls"]).is_ok())
        })?;
        Ok(took)
    }
}
