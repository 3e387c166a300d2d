//! Nodes: which processes are their first, whether they live, what they have mounted, which devices they see.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::sysfs::{device_number, loop_of};

/// One life of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// Its first process.
    pub(crate) pid: u32,
    /// With the pid it names a process for good.
    pub(crate) start_time: u64,
}

/// A mount of a loop device in a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The kernel's number of it, not used again soon.
    pub(crate) id: u64,
    /// Loop device.
    pub(crate) number: u32,
    /// Which part of the file system; `/`: all.
    pub(crate) root: String,
    pub(crate) path: PathBuf,
}

/// A living node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) node: Node,
    pub(crate) mounts: Vec<Mount>,
    /// Loop devices it has, by their nodes in a `/dev` of its own or by its mounts.
    pub(crate) devices: BTreeSet<u32>,
}

/// Where nodes are listed.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// `vm.json` of each VM of each host.
    Lab(PathBuf),
    /// Lines `NAME PID START_TIME`.
    File(PathBuf),
}

impl Source {
    /// The nodes listed now, those included that do not live.
    ///
    /// # Errors
    /// It cannot be read. A list that is being replaced, or a VM that goes, is no error.
    pub(crate) fn list(&self) -> Result<Vec<Node>> {
        match self {
            Self::Lab(lab) => Ok(of_lab(lab)),
            Self::File(file) => {
                let text =
                    fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
                text.lines()
                    .filter(|line| !line.trim().is_empty())
                    .map(line)
                    .collect()
            }
        }
    }
}

fn line(line: &str) -> Result<Node> {
    let mut fields = line.split_whitespace();
    let mut parse = || {
        let name = fields.next()?.to_owned();
        let pid = fields.next()?.parse().ok()?;
        let start_time = fields.next()?.parse().ok()?;
        Some(Node {
            name,
            pid,
            start_time,
        })
    };
    parse().with_context(|| format!("'{line}' is not NAME PID START_TIME"))
}

fn of_lab(lab: &Path) -> Vec<Node> {
    let mut nodes = Vec::new();
    for host in children(&lab.join("hosts")) {
        for vm in children(&host.join("vms")) {
            let file = fs::read(vm.join("vm.json")).unwrap_or_default();
            nodes.extend(of_vm(&file));
        }
    }
    nodes
}

fn of_vm(file: &[u8]) -> Option<Node> {
    let vm: Value = serde_json::from_slice(file).ok()?;
    let init = vm.get("init")?;
    Some(Node {
        name: vm.get("name")?.as_str()?.to_owned(),
        pid: u32::try_from(init.get("pid")?.as_u64()?).ok()?,
        start_time: init.get("start_time")?.as_u64()?,
    })
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Looks at a node. None: it does not live. `devices`: loop devices to look for.
pub(crate) fn look(node: &Node, devices: &[u32]) -> Option<Seen> {
    if start_time(node.pid)? != node.start_time {
        return None;
    }
    let proc = PathBuf::from(format!("/proc/{}", node.pid));
    let mounts = mounts(&fs::read_to_string(proc.join("mountinfo")).ok()?);
    let mut there: BTreeSet<u32> = mounts.iter().map(|mount| mount.number).collect();
    let dev = proc.join("root/dev");
    // A `/dev` shared with this machine shows everybody everything.
    if filesystem(&dev) != filesystem(Path::new("/dev")) {
        let shown = |number: &&u32| {
            let node = fs::metadata(dev.join(format!("loop{number}")));
            node.is_ok_and(|node| node.rdev() == device_number(**number))
        };
        there.extend(devices.iter().filter(shown));
    }
    Some(Seen {
        node: node.clone(),
        mounts,
        devices: there,
    })
}

/// Whether a mount that a look showed is still there.
pub(crate) fn is_mounted(node: &Node, mount: &Mount) -> bool {
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", node.pid));
    let there = |m: &Mount| m.id == mount.id && m.number == mount.number && m.path == mount.path;
    table.is_ok_and(|text| mounts(&text).iter().any(there))
}

fn filesystem(path: &Path) -> Option<u64> {
    Some(fs::metadata(path).ok()?.dev())
}

/// Start time of a process that lives: field 22 of its `stat`, in ticks. None: it has ended.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, also brackets and spaces.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then_some(())?;
    fields.nth(18)?.parse().ok()
}

fn mounts(text: &str) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let id = fields.next()?.parse().ok()?;
            let number = loop_of(fields.nth(1)?)?;
            let root = unescape(fields.next()?);
            let path = PathBuf::from(unescape(fields.next()?));
            Some(Mount {
                id,
                number,
                root,
                path,
            })
        })
        .collect()
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> String {
    let codes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    codes.iter().fold(field.to_owned(), |text, (code, char)| {
        text.replace(code, char)
    })
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn mounts_of_loop_devices_are_seen_and_no_others() {
        let text = "36 35 7:4 / /mnt/a\\040b rw master:1 - ext4 /dev/loop4 rw\n\
                    37 35 0:30 / /mnt rw - tmpfs tmpfs rw\n\
                    38 35 7:5 /data /x rw - xfs /dev/loop5 rw\n";
        let seen = mounts(text);
        assert_eq!(seen.len(), 2);
        assert_eq!(
            (seen[0].number, seen[0].path.as_path()),
            (4, Path::new("/mnt/a b"))
        );
        assert_eq!((seen[1].id, seen[1].root.as_str()), (38, "/data"));
    }

    #[test]
    fn a_process_lives_under_its_start_time_only() {
        let pid = process::id();
        let node = |start_time| Node {
            name: "me".to_owned(),
            pid,
            start_time,
        };
        let own = start_time(pid).unwrap();
        assert!(look(&node(own), &[]).is_some());
        assert!(look(&node(own + 1), &[]).is_none());
    }

    #[test]
    fn nodes_are_read_from_vm_files_and_lines() {
        let on = br#"{"name":"swarm01","init":{"pid":7,"start_time":9}}"#;
        let node = Node {
            name: "swarm01".to_owned(),
            pid: 7,
            start_time: 9,
        };
        assert_eq!(of_vm(on), Some(node.clone()));
        assert_eq!(of_vm(br#"{"name":"swarm01","init":null}"#), None);
        assert_eq!(line("swarm01 7 9").unwrap(), node);
        assert!(line("swarm01 7").is_err());
    }
}
