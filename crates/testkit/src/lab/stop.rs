//! The moment the power goes: nothing in a node runs any more.
//!
//! A file system that is cut off while programs go on tells some of them that their data is safe when it is not: a flush
//! that was waiting for the disk finds its transaction gone and takes that for done. On a machine without power nobody
//! is left to hear it. So the programs stop first, and what is in the kernel may answer whatever it likes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use vdvs_host_lab::shut_down_file_system;

use super::node::volume_mounts;
use crate::process::ProcId;

/// Stopping takes a few milliseconds on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(1);

/// What the guest has not flushed is lost, and nobody in it gets to say or hear a word more. What is left to do is to
/// kill `init`.
pub(super) fn cut_power(init: ProcId) -> Result<()> {
    everything(init)?;
    cut_file_systems(init)
}

/// Stops all descendants of `init` and itself, and kills what entered the machine from outside: whoever waits for such a
/// program would stop with it, and wait for ever. When this returns, none of them runs a step of its own any more; some
/// may still wait in the kernel, which they do not leave.
fn everything(init: ProcId) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    let mut told = BTreeSet::new();
    loop {
        let family = family(&parents()?, init.pid);
        let guests = guests(init.pid)?;
        let mut quiet = true;
        for pid in family.union(&guests).copied() {
            if told.insert(pid) {
                // Gone meanwhile: it runs no more either.
                if let Some(process) = ProcId::of(pid) {
                    process.signal(match family.contains(&pid) {
                        true => Signal::SIGSTOP,
                        false => Signal::SIGKILL,
                    })?;
                }
                quiet = false;
            }
            quiet &= rests(pid);
        }
        if quiet {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("the programs below pid {} do not stop", init.pid);
        }
        thread::sleep(LOOK);
    }
}

/// Makes every volume's file system in the node forget what it has not written yet.
fn cut_file_systems(init: ProcId) -> Result<()> {
    let mut done = Vec::new();
    for mount in volume_mounts(init)? {
        if done.contains(&mount.device) {
            continue;
        }
        let path = Path::new("/proc").join(init.pid.to_string()).join("root");
        let path = path.join(mount.path.strip_prefix("/").unwrap_or(&mount.path));
        File::open(&path)
            .and_then(|file| shut_down_file_system(&file))
            .with_context(|| format!("cut off {}", mount.path.display()))?;
        done.push(mount.device);
    }
    Ok(())
}

/// Stopped, ended, or waiting in the kernel for a device, with all its threads: once the stop was sent, it runs no step
/// of its own any more.
fn rests(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat"));
        stat.is_ok_and(|stat| {
            let state = fields(&stat).and_then(|(state, _)| state.chars().next());
            matches!(state, Some('T' | 't' | 'Z' | 'X' | 'D'))
        })
    })
}

/// Every process and its parent.
fn parents() -> Result<BTreeMap<u32, u32>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("list /proc")? {
        let name = entry?.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok())
            && let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat"))
            && let Some(parent) = fields(&stat).and_then(|(_, parent)| parent.parse().ok())
        {
            found.insert(pid, parent);
        }
    }
    Ok(found)
}

/// State and parent in a `stat` line.
fn fields(stat: &str) -> Option<(&str, &str)> {
    // The command name may hold spaces and brackets: fields count from after the last one.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?, fields.next()?))
}

/// `init` and everything below it. Orphans of its namespace are its children.
fn family(parents: &BTreeMap<u32, u32>, init: u32) -> BTreeSet<u32> {
    let mut family = BTreeSet::from([init]);
    loop {
        let before = family.len();
        for (pid, parent) in parents {
            if family.contains(parent) {
                family.insert(*pid);
            }
        }
        if family.len() == before {
            return family;
        }
    }
}

/// Programs in `init`'s own space of process ids, wherever they were started: those that entered it are children of
/// somebody outside.
fn guests(init: u32) -> Result<BTreeSet<u32>> {
    let space = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid"));
    let Ok(own) = space(init) else {
        return Ok(BTreeSet::new());
    };
    if own == fs::read_link("/proc/self/ns/pid").context("look at our own process ids")? {
        // No space of its own, as in a test.
        return Ok(BTreeSet::new());
    }
    let all = parents()?.into_keys();
    Ok(all
        .filter(|pid| space(*pid).is_ok_and(|there| there == own))
        .collect())
}

#[cfg(test)]
mod tests {
    use nix::unistd::geteuid;

    use super::*;
    use crate::process::{Cmd, tool};
    use crate::wait::{until, until_true};

    #[test]
    fn a_family_stops_with_its_grandchildren() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let log = dir.path().join("log");
        let script = "(while :; do :; done) & (sleep 60 & wait) & wait";
        let parent = Cmd::new(tool::BASH).args(["-c", script]).daemon(&log)?;
        until_true(LIMIT, "all of them run", || {
            Ok(family(&parents()?, parent.pid).len() >= 4)
        })?;
        everything(parent)?;
        let family = family(&parents()?, parent.pid);
        let awake: Vec<_> = family.iter().filter(|pid| !rests(**pid)).collect();
        assert!(awake.is_empty(), "{awake:?} of {family:?}");
        for pid in family {
            if let Some(process) = ProcId::of(pid) {
                process.kill()?;
            }
        }
        Ok(())
    }

    #[test]
    fn a_program_that_entered_from_outside_runs_no_more_either() -> Result<()> {
        if !geteuid().is_root() {
            eprintln!("skipped: namespaces need root");
            return Ok(());
        }
        let dir = tempfile::tempdir()?;
        let log = dir.path().join("log");
        let unshare = Cmd::new(tool::UNSHARE).args(["--pid", "--fork", "--kill-child"]);
        let launcher = unshare
            .args([tool::BASH, "-c", "sleep 600 & wait"])
            .daemon(&log)?;
        let init = until(LIMIT, "the namespace has an init", || {
            let parents = parents()?;
            let child = parents.iter().find(|(_, parent)| **parent == launcher.pid);
            Ok(child.and_then(|(pid, _)| ProcId::of(*pid)))
        })?;
        let enter = Cmd::new(tool::NSENTER).args(["--target", &init.pid.to_string(), "--pid"]);
        let busy = [tool::BASH, "-c", "while :; do :; done"];
        let outside = enter.args(busy).daemon(&log)?;
        let children = || Ok::<_, anyhow::Error>(family(&parents()?, outside.pid));
        until_true(LIMIT, "it has entered", || Ok(children()?.len() == 2))?;
        let entered = children()?.into_iter().find(|pid| *pid != outside.pid);
        everything(init)?;
        assert!(entered.is_some_and(rests), "it runs on");
        until_true(LIMIT, "who waited for it is told", || {
            Ok(!outside.is_alive())
        })?;
        launcher.kill()?;
        Ok(())
    }
}
