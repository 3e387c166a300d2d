//! A container that writes numbered lines into a volume, each flushed before it is acknowledged, in a node with an engine
//! or without one. Without, the plugin is asked what an engine would ask, and the container is a process of the node.
//!
//! The writer is the script of the independent check; what it was promised stands in the node's notes under the volume's
//! name, where a power cut cannot take it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vdvs_testkit::lab::{NOTES, Node};
use vdvs_testkit::wait::until_true;

use super::{Rig, lines};
use crate::driver;

/// The writer has written its first lines; a takeover may have to come first.
const WRITES: Duration = Duration::from_secs(120);
/// Lines that show that it writes.
const SOME: usize = 10;
/// Between two lines.
const PAUSE_US: u32 = 20_000;

impl Rig {
    /// Asks a node's plugin what an engine would ask.
    ///
    /// # Errors
    /// As [`driver::call`].
    pub fn ask_plugin(&self, node: &str, verb: &str, body: &Value) -> Result<Value> {
        driver::call(&plugin_socket(&self.node(node)?)?, verb, body)
    }

    /// Starts a container that writes lines into a volume, and waits until the first of them are acknowledged.
    ///
    /// # Errors
    /// The volume cannot be mounted, or nothing is written in time.
    pub fn start_writer(&self, node: &str, volume: &str) -> Result<()> {
        let on = self.node(node)?;
        lines::install(&on)?;
        let before = lines::acknowledged(&on, volume)?.len();
        if on.has_engine() {
            run_container(&on, volume)?;
        } else {
            let body = json!({"Name": volume, "ID": mount_id(node, volume)});
            let answer = self.ask_plugin(node, "Mount", &body)?;
            let at = answer.get("Mountpoint").and_then(Value::as_str);
            let at = at.with_context(|| format!("no mount point in {answer}"))?;
            on.sh(&format!(
                "setsid busybox sh {NOTES}/writer.sh {at}/writes.log {node} {PAUSE_US} \
                 >> {NOTES}/{volume} 2> /dev/null < /dev/null & echo $! > /run/writer-{volume}"
            ))?;
        }
        self.wait_lines(node, volume, before + SOME)
    }

    /// Waits until so many lines of a volume were acknowledged on this node, in all its lives.
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_lines(&self, node: &str, volume: &str, wanted: usize) -> Result<()> {
        let on = self.node(node)?;
        let what = format!("{wanted} lines of {volume} are acknowledged on {node}");
        until_true(WRITES, &what, || {
            Ok(lines::acknowledged(&on, volume)?.len() >= wanted)
        })
    }

    /// The writer goes on.
    ///
    /// # Errors
    /// Not in time.
    pub fn writer_goes_on(&self, node: &str, volume: &str) -> Result<()> {
        let before = lines::acknowledged(&self.node(node)?, volume)?.len();
        self.wait_lines(node, volume, before + SOME)
    }

    /// Ends the writer, as the end of its container does.
    ///
    /// # Errors
    /// It cannot be ended.
    pub fn stop_writer(&self, node: &str, volume: &str) -> Result<()> {
        let on = self.node(node)?;
        if on.has_engine() {
            return on.docker().run(&["rm", "-f", volume]).map(drop);
        }
        let file = format!("/run/writer-{volume}");
        on.sh(&format!(
            "p=$(cat {file} 2> /dev/null) || exit 0; kill -KILL -- -$p 2> /dev/null; \
             for i in $(seq 200); do kill -0 -- -$p 2> /dev/null || break; sleep 0.02; done; rm -f {file}"
        ))?;
        let body = json!({"Name": volume, "ID": mount_id(node, volume)});
        self.ask_plugin(node, "Unmount", &body).map(drop)
    }

    /// Every line of a volume that was acknowledged anywhere is in the file of the node that has it mounted. Says how
    /// many there were.
    ///
    /// # Errors
    /// One is missing, or the volume is not mounted there.
    pub fn all_lines_kept(&self, node: &str, volume: &str) -> Result<usize> {
        let nodes = self.lab.nodes()?;
        let kept = lines::must_be_kept(&self.node(node)?, &nodes, volume)?;
        ensure!(kept >= SOME, "only {kept} lines of {volume}");
        Ok(kept)
    }
}

fn run_container(on: &Node, volume: &str) -> Result<()> {
    let script = format!(
        "exec sh /notes/writer.sh /data/writes.log {} {PAUSE_US} >> /notes/{volume}",
        on.name()
    );
    let mount = format!("{volume}:/data:nocopy");
    let notes = format!("{NOTES}:/notes");
    let run = ["run", "-d", "--name", volume, "-v", &mount, "-v", &notes];
    let image = ["bb:1", "sh", "-c", &script];
    // What is refused is asked again, as an orchestrator does.
    let mut said = String::new();
    until_true(
        WRITES,
        &format!("{volume} is mounted in {}", on.name()),
        || {
            let started = on.docker().run(&[&run[..], &image[..]].concat());
            if let Err(why) = &started {
                said = format!("{why:#}");
                on.docker().run(&["rm", "-f", volume])?;
            }
            Ok(started.is_ok())
        },
    )
    .with_context(|| said)
}

fn mount_id(node: &str, volume: &str) -> String {
    format!("{node}-{volume}")
}

/// Where a node's plugin listens, through init's root: the path in the lab's folder may be longer than a socket's may.
pub(super) fn plugin_socket(node: &Node) -> Result<PathBuf> {
    node.path_inside("/run/docker/plugins/vsphere.sock")
}
