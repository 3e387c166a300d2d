//! `lab.json`: everything the lab has made that outlives a process, written before it is needed for cleaning up.
//!
//! Names in the kernel are derived from the folder ([`super::layout`]), so an entry is written when its making
//! begins; pids are added as soon as they are known. A process that was started but not yet recorded when `up` was
//! killed is found by the mark in its environment.
//!
//! The file is read and written whole under a lock, so that several commands may work on one lab at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::layout::Layout;
use crate::process::ProcId;

/// Everything on record about a lab.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabState {
    /// Folder the names below were derived from.
    pub root: String,
    /// The switch's namespace is complete.
    pub switch_ready: bool,
    /// Hosts by order of making.
    pub hosts: Vec<HostRecord>,
    /// Nodes by order of making.
    pub nodes: Vec<NodeRecord>,
    /// QEMU VMs by order of making.
    #[serde(default)]
    pub machines: Vec<MachineRecord>,
}

/// A hypervisor host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Its name, `esx01`.
    pub name: String,
    /// The hypervisor's stand-in.
    pub labhv: Option<ProcId>,
    /// The agent.
    pub agent: Option<ProcId>,
}

/// A node, the inside of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// VM name, `swarm01`.
    pub name: String,
    /// Host it is registered on.
    pub host: String,
    /// Its place on the switch: address `10.99.0.<index>`.
    pub index: u8,
    /// Network namespace.
    pub netns: String,
    /// Control group folder below each hierarchy.
    pub cgroup: String,
    /// Its cable is plugged in.
    pub wired: bool,
    /// The process that holds the namespaces together; it ends with init.
    pub launcher: Option<ProcId>,
    /// Pid 1 of the node, as seen from here.
    pub init: Option<ProcId>,
}

/// A QEMU VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRecord {
    /// VM name, `vm01`.
    pub name: String,
    /// Host it is registered on.
    pub host: String,
    /// Its vSocket address.
    pub cid: u32,
    /// Its guest has a container engine.
    pub engine: bool,
    /// The guest's kernel.
    pub kernel: PathBuf,
    /// The guest's first file system.
    pub initramfs: PathBuf,
    /// Root file system of guests with an engine.
    pub root: Option<PathBuf>,
    /// The VM's process.
    pub qemu: Option<ProcId>,
    /// What carries its vSockets.
    pub vsock: Option<ProcId>,
}

impl MachineRecord {
    /// The QEMU process, if the VM is on.
    #[must_use]
    pub fn running(&self) -> Option<ProcId> {
        self.qemu.filter(ProcId::is_alive)
    }
}

impl NodeRecord {
    /// Address on the lab's network.
    #[must_use]
    pub fn address(&self) -> String {
        format!("10.99.0.{}", self.index)
    }

    /// Pid 1, if the node is on.
    #[must_use]
    pub fn running(&self) -> Option<ProcId> {
        self.init.filter(ProcId::is_alive)
    }
}

impl LabState {
    /// The record of a node.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeRecord> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The record of a node, to change it.
    pub fn node_mut(&mut self, name: &str) -> Option<&mut NodeRecord> {
        self.nodes.iter_mut().find(|node| node.name == name)
    }

    /// The record of a QEMU VM.
    #[must_use]
    pub fn machine(&self, name: &str) -> Option<&MachineRecord> {
        self.machines.iter().find(|machine| machine.name == name)
    }

    /// The record of a QEMU VM, to change it.
    pub fn machine_mut(&mut self, name: &str) -> Option<&mut MachineRecord> {
        self.machines
            .iter_mut()
            .find(|machine| machine.name == name)
    }

    /// The record of a host.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&HostRecord> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// The record of a host, to change it.
    pub fn host_mut(&mut self, name: &str) -> Option<&mut HostRecord> {
        self.hosts.iter_mut().find(|host| host.name == name)
    }
}

/// What is on record; nothing if the lab does not exist.
///
/// # Errors
/// The file cannot be read or is damaged.
pub(super) fn load(layout: &Layout) -> Result<Option<LabState>> {
    let path = layout.state_file();
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let state = serde_json::from_slice(&bytes).with_context(|| {
        format!(
            "{} is damaged; 'lab down' clears the lab without it",
            path.display()
        )
    })?;
    Ok(Some(state))
}

/// Changes the record: read, apply, write, while no other command does.
///
/// # Errors
/// The file cannot be read or written.
pub(super) fn update<T>(layout: &Layout, change: impl FnOnce(&mut LabState) -> T) -> Result<T> {
    fs::create_dir_all(layout.root())
        .with_context(|| format!("create {}", layout.root().display()))?;
    let lock = lock(&layout.root().join("lab.json.lock"))?;
    let mut state = load(layout)?.unwrap_or_default();
    state.root = layout.root().display().to_string();
    let result = change(&mut state);
    write_atomically(&layout.state_file(), &serde_json::to_vec_pretty(&state)?)?;
    drop(lock);
    Ok(result)
}

/// Waits for a lock file and holds it until the value is dropped. The file may be removed by its holder.
///
/// # Errors
/// The file cannot be opened or locked.
pub(super) fn lock(path: &Path) -> Result<File> {
    loop {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .with_context(|| format!("open {}", path.display()))?;
        file.lock()
            .with_context(|| format!("lock {}", path.display()))?;
        // The one before us may have removed what we waited for; then it protects nothing.
        let current = fs::metadata(path).ok().map(|metadata| metadata.ino());
        if current == Some(file.metadata()?.ino()) {
            return Ok(file);
        }
    }
}

/// Replaces a file so that after a crash there is the old one or the new one, never half of one.
///
/// # Errors
/// Any step fails.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let temp = path.with_extension("new");
    let write = || {
        let mut file = File::create(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| format!("write {}", temp.display()))?;
    rename(&temp, path)
}

/// Gives a complete file its name, durably.
///
/// # Errors
/// The file system refuses.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the crash-safe write helper of the test side"
)]
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    let rename = || match to.parent() {
        Some(parent) => fs::rename(from, to).and_then(|()| File::open(parent)?.sync_all()),
        None => fs::rename(from, to),
    };
    rename().with_context(|| format!("rename {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_change_is_on_disk_when_update_returns() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path(), "x").unwrap();
        assert_eq!(load(&layout).unwrap(), None);
        update(&layout, |state| state.switch_ready = true).unwrap();
        assert!(load(&layout).unwrap().unwrap().switch_ready);
    }

    #[test]
    fn changes_made_at_the_same_time_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path(), "x").unwrap();
        thread::scope(|scope| {
            for i in 0..8 {
                let layout = &layout;
                scope.spawn(move || {
                    update(layout, |state| {
                        state.hosts.push(HostRecord {
                            name: format!("h{i}"),
                            labhv: None,
                            agent: None,
                        });
                    })
                    .unwrap();
                });
            }
        });
        assert_eq!(load(&layout).unwrap().unwrap().hosts.len(), 8);
    }
}
