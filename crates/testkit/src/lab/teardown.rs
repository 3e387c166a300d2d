//! Taking a lab away, whatever state it is in, and proof that nothing of it is left.
//!
//! What is on record goes first and in order: nodes, agents, hypervisors. Then everything that can only be this
//! lab's is looked for by its mark: processes by the owner in their environment or their namespace's name, namespaces
//! and control groups by prefix, loop devices and mounts by their files' folder. So a lab whose `up` was killed at any
//! moment, or whose `lab.json` is damaged, goes as well.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::id;
use std::time::Duration;

use anyhow::{Context, Result};

use super::host::{Daemon, Host};
use super::layout::{Layout, OWNER_ENV};
use super::mounts;
use super::network;
use super::node::Node;
use super::qemu;
use super::state;
use crate::process::{Cmd, ProcId, tool};
use crate::wait;

/// The kernel lets go of groups, devices and processes a moment after the last user.
const SETTLE: Duration = Duration::from_secs(60);

/// Removes everything and the lab's folder.
pub(super) fn remove(layout: &Layout) -> Result<()> {
    // A damaged record is no reason to leave things behind: the search below finds them.
    if let Ok(Some(record)) = state::load(layout) {
        qemu::end_all(layout, &record)?;
        for node in &record.nodes {
            Node::new(layout, &node.name).kill_processes()?;
        }
        for host in &record.hosts {
            let host = Host::new(layout, &host.name);
            host.stop(Daemon::Agent)?;
            host.stop(Daemon::Labhv)?;
        }
    }
    for netns in namespaces(layout)? {
        kill_all(network::pids(&netns)?)?;
    }
    kill_all(owned_processes(layout)?)?;
    for netns in namespaces(layout)? {
        network::remove(&netns)?;
    }
    for mount in our_mounts(layout)?.iter().rev() {
        Cmd::new(tool::UMOUNT).arg("--lazy").arg(mount).run()?;
    }
    wait::until_true(SETTLE, "the lab's loop devices go", || {
        let left = loops(layout)?;
        for device in &left {
            // Refused when it went meanwhile with its last user; the next look tells.
            Cmd::new(tool::LOSETUP)
                .arg("--detach")
                .arg(device)
                .output()?;
        }
        Ok(left.is_empty())
    })?;
    wait::until_true(SETTLE, "the lab's control groups go", || {
        // A group is busy until the last of its killed processes is reaped.
        Ok(cgroups(layout)?
            .iter()
            .all(|group| remove_group(group).is_ok()))
    })?;
    match fs::remove_dir_all(layout.root()) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", layout.root().display()))
        }
        _ => Ok(()),
    }
}

/// Everything of this lab that is still there, one line each; empty after a good `down`.
///
/// # Errors
/// The machine cannot be looked at.
pub fn leftovers(layout: &Layout) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for pid in owned_processes(layout)? {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        found.push(format!("process {pid} {}", name.trim()));
    }
    found.extend(
        namespaces(layout)?
            .into_iter()
            .map(|name| format!("network namespace {name}")),
    );
    found.extend(
        our_mounts(layout)?
            .iter()
            .map(|path| format!("mount {}", path.display())),
    );
    found.extend(
        loops(layout)?
            .into_iter()
            .map(|device| format!("loop device {device}")),
    );
    found.extend(
        cgroups(layout)?
            .iter()
            .map(|path| format!("control group {}", path.display())),
    );
    if layout.root().exists() {
        found.push(format!("folder {}", layout.root().display()));
    }
    Ok(found)
}

fn kill_all(pids: Vec<u32>) -> Result<()> {
    for process in pids.into_iter().filter_map(ProcId::of) {
        process.kill()?;
    }
    Ok(())
}

/// Processes that carry this lab's mark in the environment they were started with.
fn owned_processes(layout: &Layout) -> Result<Vec<u32>> {
    let mark = format!("{OWNER_ENV}={}", layout.prefix());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("list /proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Gone meanwhile, or not ours to read: not a process of this lab.
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
            continue;
        };
        if environment
            .split(|byte| *byte == 0)
            .any(|var| var == mark.as_bytes())
            && ProcId::of(pid).is_some()
        {
            found.push(pid);
        }
    }
    Ok(found)
}

fn namespaces(layout: &Layout) -> Result<Vec<String>> {
    let prefix = format!("{}-", layout.prefix());
    let names = list(Path::new("/run/netns"))?;
    Ok(names
        .iter()
        .filter_map(|path| path.file_name()?.to_str())
        .filter(|name| name.starts_with(&prefix))
        .map(str::to_owned)
        .collect())
}

fn our_mounts(layout: &Layout) -> Result<Vec<PathBuf>> {
    let me = ProcId::of(id()).context("find myself in /proc")?;
    Ok(mounts::below(me, layout.root())?
        .into_iter()
        .map(|mount| mount.path)
        .collect())
}

/// Loop devices bound to a file of this lab.
fn loops(layout: &Layout) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for device in list(Path::new("/sys/block"))? {
        let Ok(file) = fs::read_to_string(device.join("loop/backing_file")) else {
            continue;
        };
        if let Some(name) = device
            .file_name()
            .filter(|_| Path::new(file.trim()).starts_with(layout.root()))
        {
            found.push(format!("/dev/{}", name.display()));
        }
    }
    Ok(found)
}

/// The groups of this lab's nodes at the top of each hierarchy, or of the only one, and those of managed plugins,
/// which Docker puts there under their ids.
fn cgroups(layout: &Layout) -> Result<Vec<PathBuf>> {
    let prefix = format!("{}-", layout.prefix());
    let plugins = managed_plugins(layout)?;
    let top = Path::new("/sys/fs/cgroup");
    let mut found = Vec::new();
    for dir in [top.to_owned()].into_iter().chain(list(top)?) {
        found.extend(list(&dir)?.into_iter().filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(&prefix) || plugins.contains(name))
        }));
    }
    Ok(found)
}

/// Ids of the managed plugins in the nodes' engines.
fn managed_plugins(layout: &Layout) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for node in list(&layout.root().join("nodes"))? {
        let plugins = list(&node.join("var-lib-docker/plugins"))?;
        let names = plugins.iter().filter_map(|path| path.file_name()?.to_str());
        // Not the store's own folders `storage` and `tmp`.
        ids.extend(names.filter(|name| name.len() == 64).map(str::to_owned));
    }
    Ok(ids)
}

fn remove_group(group: &Path) -> Result<()> {
    for child in list(group)?.iter().filter(|path| path.is_dir()) {
        remove_group(child)?;
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// The entries of a folder; none if it is no folder or is not there.
fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error).with_context(|| format!("list {}", dir.display())),
    }
}
