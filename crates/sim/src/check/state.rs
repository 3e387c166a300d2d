//! What the checker knows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vdvs_domain::{DatastoreName, HostId, VmId};
use vdvs_engine::ports::DiskPath;

use super::removal::Removals;
use super::{Promise, Violation};

/// Violations kept; a broken world breaks promises at every step, and the first ones tell why.
const MAX_VIOLATIONS: usize = 100;

/// What was promised about a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was reported created.
    Exists,
    /// Its removal is under way, or failed and nobody has found it there since: both answers are right.
    Leaving,
}

/// A volume, as people name it.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    pub(crate) standing: Standing,
    /// As how many things had been acknowledged when this was first.
    pub(crate) number: u64,
    /// Somebody named it without datastore when it was created.
    pub(crate) short: bool,
}

/// When somebody asked. What was acknowledged afterwards need not be in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub(crate) at: Duration,
    pub(crate) number: u64,
    pub(crate) removals: u64,
}

/// A VM, as far as the world showed it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vm {
    /// It is suspended.
    pub(crate) suspended: bool,
    /// Disks it had open and mounted when it was.
    pub(crate) asleep: BTreeSet<DiskPath>,
    /// Disks it has open, and whether only for reading.
    pub(crate) open: BTreeMap<DiskPath, bool>,
    /// Since when.
    pub(crate) since: BTreeMap<DiskPath, Duration>,
    /// Disks its guest has mounted, for tasks.
    pub(crate) mounted: BTreeMap<DiskPath, BTreeSet<String>>,
    /// Names its plugin knows.
    pub(crate) seen: BTreeSet<String>,
    /// Names that a process of its plugin knows, until it ends.
    pub(crate) heard: BTreeMap<String, CancellationToken>,
    /// The host it was seen on, and since when.
    pub(crate) host: Option<(HostId, Duration)>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// Now, since the world began.
    pub(crate) now: Duration,
    pub(crate) vms: BTreeMap<VmId, Vm>,
    /// Volumes that were reported created, so far.
    pub(crate) acknowledged: u64,
    /// By short name and datastore.
    pub(crate) volumes: BTreeMap<(String, DatastoreName), Volume>,
    /// Disks that were made when a volume of their name was there already, and had another disk: of a create that was
    /// not acknowledged, unless somebody has one in use or the name is acknowledged once more.
    pub(crate) late: BTreeSet<DiskPath>,
    /// By short name.
    pub(crate) removals: BTreeMap<String, Removals>,
    /// How many have ended, so far.
    pub(crate) removals_ended: u64,
    /// Short names of volumes that may be fenced.
    pub(crate) fenceable: BTreeSet<String>,
    /// Those that an administrator takes by force, whoever uses them, until the next VM gets them.
    pub(crate) forced: BTreeSet<String>,
    /// Disks that had a file system mounted at any time, or came from one that had.
    pub(crate) used: BTreeSet<DiskPath>,
    /// What was flushed last, by block.
    pub(crate) flushed: BTreeMap<DiskPath, BTreeMap<u64, u64>>,
    /// Since when a host does not reach a datastore.
    pub(crate) unreachable: BTreeMap<(HostId, DatastoreName), Duration>,
    /// Who has a disk by its record: the configuration file of the VM.
    pub(crate) owners: BTreeMap<DiskPath, String>,
    /// The answer each request got first.
    pub(crate) answers: BTreeMap<Uuid, (String, u64)>,
    /// How many requests got one, per volume; with each answer, how many had by then.
    pub(crate) said: BTreeMap<String, u64>,
    pub(crate) violations: Vec<Violation>,
}

impl State {
    pub(crate) fn broken(&mut self, promise: Promise, text: String) {
        if self.violations.len() < MAX_VIOLATIONS {
            let at = self.now;
            self.violations.push(Violation { promise, at, text });
        }
    }

    pub(crate) fn vm(&mut self, vm: &VmId) -> &mut Vm {
        self.vms.entry(vm.clone()).or_default()
    }

    /// The volumes a name may mean: `v@ds` that one, `v` all of that name.
    pub(crate) fn meant(&self, name: &str) -> Vec<((String, DatastoreName), Volume)> {
        let (short, ds) = split(name);
        let all = self.volumes.iter();
        let these = all.filter(|((n, at), _)| n == short && ds.is_none_or(|ds| ds == at.as_str()));
        these.map(|(at, v)| (at.clone(), v.clone())).collect()
    }

    /// The same, of those that were acknowledged when somebody asked.
    pub(crate) fn known(&self, name: &str, asked: Asked) -> Vec<((String, DatastoreName), Volume)> {
        let mut meant = self.meant(name);
        meant.retain(|(_, v)| v.number <= asked.number);
        meant
    }

    /// Whether the volume a disk belongs to may be fenced.
    pub(crate) fn may_be_fenced(&self, disk: &DiskPath) -> bool {
        volume_of(disk).is_some_and(|name| self.fenceable.contains(name))
    }

    /// Whether an administrator takes it by force.
    pub(crate) fn is_forced(&self, disk: &DiskPath) -> bool {
        volume_of(disk).is_some_and(|name| self.forced.contains(name))
    }
}

/// `v@ds` in its two parts.
pub(crate) fn split(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once('@') {
        Some((short, ds)) => (short, Some(ds)),
        None => (name, None),
    }
}

/// The name of the volume whose disk this is: `…/<volume>.<id8>.vmdk`, or `…/<volume>.vmdk` of the original.
pub(crate) fn volume_of(disk: &DiskPath) -> Option<&str> {
    name_in(disk.path.as_str())
}

/// The same, of a path below a datastore.
pub(crate) fn name_in(path: &str) -> Option<&str> {
    let (folder, file) = path.strip_prefix("dockvols/")?.split_once('/')?;
    if folder.starts_with('.') {
        return None;
    }
    let stem = file.strip_suffix(".vmdk")?;
    Some(match stem.rsplit_once('.') {
        Some((name, id)) if is_id8(id) => name,
        _ => stem,
    })
}

fn is_id8(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A VM in words.
pub(crate) fn called(vm: &VmId) -> &str {
    let file = vm.config_path.rsplit('/').next();
    file.and_then(|f| f.strip_suffix(".vmx"))
        .unwrap_or(&vm.config_path)
}
