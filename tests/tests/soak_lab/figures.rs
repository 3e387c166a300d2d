//! Figures of quiet moments: memory and descriptors of every program, files on the datastores, and whether anything is
//! open that should not be.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use vdvs_testkit::lab::{Daemon, Node};
use vdvs_testkit::process::ProcId;
use vdvs_tests::rig::Rig;

use crate::DATASTORES;

/// A run shorter than this is too short to tell a leak from a program that has just begun.
pub(crate) const TELLS: Duration = Duration::from_secs(600);
/// What a program may have taken between the first and the last of its quiet moments: the two of a page cache that fills up,
/// and as much for the allocator.
const GROWN_KIB: u64 = 4096;
/// A connection here and there may just be closing.
const GROWN_DESCRIPTORS: usize = 8;

/// Of one program at one moment.
#[derive(Debug, Clone, Copy)]
struct Figure {
    process: ProcId,
    /// In memory, with what is there of the program's own file, which grows with every function that is used first.
    rss_kib: u64,
    /// Of that, what it has taken for itself: heap, stacks, data. What a leak would add to.
    own_kib: u64,
    descriptors: usize,
    threads: u64,
}

/// All quiet moments.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<BTreeMap<String, Figure>>);

impl Figures {
    /// Looks at all programs and prints what it sees.
    pub(crate) fn take(&mut self, rig: &Rig, when: &str) -> Result<()> {
        let mut all = BTreeMap::new();
        for (name, process) in programs(rig)? {
            let figure = figure(process).with_context(|| format!("look at {name}"))?;
            eprintln!(
                "figure: {when}: {name}: {} KiB, {} of it its own, {} descriptors, {} threads",
                figure.rss_kib, figure.own_kib, figure.descriptors, figure.threads
            );
            all.insert(name, figure);
        }
        for datastore in DATASTORES {
            let folder = rig.lab().layout().datastore_dir(datastore);
            eprintln!("figure: {when}: {} files on {datastore}", files(&folder)?);
        }
        self.0.push(all);
        Ok(())
    }

    /// No program that lived from one quiet moment to a later one has grown: its first compared with its last.
    pub(crate) fn must_be_flat(&self, time: Duration) -> Result<()> {
        let mut lives: BTreeMap<(&str, u32), Vec<Figure>> = BTreeMap::new();
        for moment in &self.0 {
            for (name, figure) in moment {
                let life = lives.entry((name, figure.process.pid)).or_default();
                life.push(*figure);
            }
        }
        let mut grown = Vec::new();
        for ((name, _), life) in &lives {
            // At its first quiet moment it may have just begun: what it needs for work is no leak.
            let begun = usize::from(life.len() > 2);
            let mut worked = life.iter().skip(begun);
            let (Some(first), Some(last)) = (worked.next(), worked.next_back()) else {
                continue;
            };
            let text = format!(
                "{name}: {} to {} KiB of its own, {} to {} descriptors",
                first.own_kib, last.own_kib, first.descriptors, last.descriptors
            );
            eprintln!("figure: lived on: {text}");
            if last.descriptors > first.descriptors + GROWN_DESCRIPTORS
                || last.own_kib > first.own_kib + GROWN_KIB
            {
                grown.push(text);
            }
        }
        ensure!(
            time < TELLS || grown.is_empty(),
            "grown: {}",
            grown.join("; ")
        );
        Ok(())
    }
}

fn programs(rig: &Rig) -> Result<Vec<(String, ProcId)>> {
    let mut found = Vec::new();
    for host in rig.lab().hosts()? {
        for (daemon, name) in [(Daemon::Agent, "vdvsd"), (Daemon::Labhv, "vdvs-labhv")] {
            let process = host.running(daemon)?;
            let name = format!("{name} of {}", host.name());
            found.push((
                name.clone(),
                process.with_context(|| format!("{name} is dead"))?,
            ));
        }
    }
    for node in rig.lab().nodes()? {
        found.push((format!("vdvs-plugin of {}", node.name()), plugin(&node)?));
    }
    Ok(found)
}

/// The plugin as this side knows it: the one process below the node's init that has its name.
fn plugin(node: &Node) -> Result<ProcId> {
    let init = node.init()?.pid;
    let mut below = vec![init];
    while let Some(pid) = below.pop() {
        if name_of(pid).is_some_and(|name| name == "vdvs-plugin") {
            return ProcId::of(pid).context("it has just ended");
        }
        let tasks = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(tasks).unwrap_or_default();
        below.extend(
            children
                .split_whitespace()
                .filter_map(|c| c.parse::<u32>().ok()),
        );
    }
    bail!("no plugin runs in {}", node.name())
}

fn name_of(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim().to_owned())
}

fn figure(process: ProcId) -> Result<Figure> {
    let text = fs::read_to_string(format!("/proc/{}/status", process.pid))?;
    let line = |name: &str| {
        let value = text
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        let value = value.with_context(|| format!("no {name}"))?;
        Ok::<u64, anyhow::Error>(value.trim().trim_end_matches(" kB").parse()?)
    };
    Ok(Figure {
        process,
        rss_kib: line("VmRSS")?,
        own_kib: line("RssAnon")?,
        threads: line("Threads")?,
        descriptors: fs::read_dir(format!("/proc/{}/fd", process.pid))?.count(),
    })
}

fn files(folder: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        count += match entry.file_type()?.is_dir() {
            true => files(&entry.path())?,
            false => 1,
        };
    }
    Ok(count)
}

/// What is open although nobody uses anything: devices, disks of machines, mounts, operations.
pub(crate) fn open(rig: &Rig) -> Result<Vec<String>> {
    let mut open = Vec::new();
    for device in fs::read_dir("/sys/block")?.flatten() {
        let backing = fs::read_to_string(device.path().join("loop/backing_file"));
        if backing.is_ok_and(|file| Path::new(file.trim()).starts_with(rig.lab().layout().root())) {
            open.push(format!("{} is bound", device.file_name().display()));
        }
    }
    for host in rig.lab().hosts()? {
        let hypervisor = host.hypervisor();
        for vm in hypervisor.vms()? {
            let devices = hypervisor.devices(&vm.name)?;
            if !devices.is_empty() {
                open.push(format!("{} has {} disks", vm.name, devices.len()));
            }
        }
        let status = rig.status(host.name())?;
        for count in ["attached", "unresolved_operations"] {
            let number = status.get(count).and_then(Value::as_u64);
            if number != Some(0) {
                open.push(format!("{count} of {}: {number:?}", host.name()));
            }
        }
    }
    for node in rig.lab().nodes()? {
        let mounts = node.volume_mounts()?;
        if !mounts.is_empty() {
            open.push(format!("{} has {} mounts", node.name(), mounts.len()));
        }
    }
    Ok(open)
}
