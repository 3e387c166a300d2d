//! The processes of a VM: all that are in its init's namespace or in one below, and stopping them together.
//!
//! Signals and not a control group: a node's engine makes groups of its own for containers, in whatever hierarchies
//! the machine has, and a process is in one group only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{read_dir, read_link, read_to_string};
use std::io;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::sys;

/// A process may be waiting for a disk; then it stops when the disk has answered.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

#[derive(Debug)]
struct Process {
    parent: i32,
    state: char,
    namespace: PathBuf,
}

impl Process {
    /// Stopped, by us or somebody else, or ended.
    fn rests(&self) -> bool {
        matches!(self.state, 'T' | 't' | 'Z' | 'X')
    }
}

fn namespace(pid: i32) -> io::Result<PathBuf> {
    read_link(format!("/proc/{pid}/ns/pid"))
}

fn look(pid: i32) -> Option<Process> {
    let stat = read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    // A zombie has none any more.
    let namespace = namespace(pid).unwrap_or_default();
    Some(Process {
        parent,
        state,
        namespace,
    })
}

fn all() -> io::Result<BTreeMap<i32, Process>> {
    let mut found = BTreeMap::new();
    for entry in read_dir("/proc")? {
        let name = entry?.file_name();
        if let Some(pid) = name.to_str().and_then(|n| n.parse().ok())
            && let Some(process) = look(pid)
        {
            found.insert(pid, process);
        }
    }
    Ok(found)
}

/// The namespaces of a VM: that of its init and those of all its descendants.
fn namespaces(all: &BTreeMap<i32, Process>, init: i32) -> BTreeSet<PathBuf> {
    let mut family = BTreeSet::from([init]);
    loop {
        let before = family.len();
        let children = all.iter().filter(|(_, p)| family.contains(&p.parent));
        let children: Vec<i32> = children.map(|(pid, _)| *pid).collect();
        family.extend(children);
        if family.len() == before {
            break;
        }
    }
    let of = |pid| all.get(pid).map(|p: &Process| p.namespace.clone());
    let found = family.iter().filter_map(of);
    found.filter(|n| !n.as_os_str().is_empty()).collect()
}

/// The VM's processes, none of them of this machine itself.
fn members(init: i32) -> io::Result<(BTreeMap<i32, Process>, BTreeSet<i32>)> {
    let own = read_link("/proc/self/ns/pid")?;
    if namespace(init)? == own {
        return Err(io::Error::other(
            "the VM has no process namespace of its own",
        ));
    }
    let all = all()?;
    let mut namespaces = namespaces(&all, init);
    namespaces.remove(&own);
    let inside = all
        .iter()
        .filter(|(_, p)| namespaces.contains(&p.namespace))
        .map(|(pid, _)| *pid)
        .collect();
    Ok((all, inside))
}

/// Ids of the VM's processes.
pub(crate) fn ids(init: i32) -> io::Result<BTreeSet<i32>> {
    members(init).map(|(_, inside)| inside)
}

/// Sends a signal to a process that is still in `namespace`.
fn signal(pid: i32, expected: &PathBuf, signal: i32) -> io::Result<()> {
    let handle = match sys::pidfd_open(pid) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ESRCH | libc::EINVAL)) => return Ok(()),
        other => other?,
    };
    // The id may have been given to another process since we looked; it cannot any more.
    if namespace(pid).is_ok_and(|n| n == *expected) {
        match sys::pidfd_signal(&handle, signal) {
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
            other => return other,
        }
    }
    Ok(())
}

/// Stops all processes of the VM; when this returns, none of them runs and none can start another.
pub(crate) fn stop(init: i32) -> io::Result<()> {
    let deadline = Instant::now() + STOP_LIMIT;
    loop {
        let (all, inside) = members(init)?;
        let running: Vec<_> = inside
            .iter()
            .filter_map(|pid| Some((*pid, all.get(pid)?)))
            .filter(|(_, p)| !p.rests())
            .collect();
        if running.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let awake: Vec<(i32, char)> = running.iter().map(|(pid, p)| (*pid, p.state)).collect();
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("processes do not stop: {awake:?}"),
            ));
        }
        let sleeping: BTreeSet<i32> = running
            .iter()
            .filter(|(_, p)| p.state == 'D')
            .map(|(pid, _)| *pid)
            .collect();
        for (pid, process) in running {
            signal(pid, &process.namespace, libc::SIGSTOP)?;
        }
        // Who has begun another program with vfork sleeps until that one is under way; stopped before, it never would
        // be. It gets until the next look.
        for (pid, process) in &all {
            let child = inside.contains(pid) && sleeping.contains(&process.parent);
            if child && process.state == 'T' {
                signal(*pid, &process.namespace, libc::SIGCONT)?;
            }
        }
        sleep(LOOK_AGAIN);
    }
}

/// Lets them go on; also the programs outside that had stopped together with a child of theirs inside, as `nsenter`
/// does.
pub(crate) fn go_on(init: i32) -> io::Result<()> {
    let (all, inside) = match members(init) {
        Err(e) if e.raw_os_error() == Some(Errno::ENOENT as i32) => return Ok(()),
        other => other?,
    };
    let parents = inside.iter().filter_map(|pid| Some(all.get(pid)?.parent));
    let outside: BTreeSet<i32> = parents.filter(|p| !inside.contains(p)).collect();
    for pid in inside.iter().chain(&outside) {
        if let Some(process) = all.get(pid).filter(|p| p.state == 'T') {
            signal(*pid, &process.namespace, libc::SIGCONT)?;
        }
    }
    Ok(())
}
