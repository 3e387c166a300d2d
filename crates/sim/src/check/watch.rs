//! What the hypervisor did, and what it must not have done.

use std::collections::BTreeSet;
use std::mem;
use std::time::Duration;

use vdvs_domain::{DatastoreName, HostId, VmId};
use vdvs_engine::ports::{DiskPath, DsPath, Power};
use vdvs_host_sim::{Event, Removal};

use super::Promise;
use super::files::record;
use super::state::{Standing, State, Vm, called, volume_of};

/// A proof that a VM does not write may be this old when its consequence is written: a call that is slow, and some.
const LONG: Duration = Duration::from_secs(60);

impl State {
    pub(crate) fn happened(&mut self, event: &Event) {
        match event {
            Event::Attached {
                vm,
                host,
                disk,
                read_only,
            } => {
                self.on_host(vm, *host);
                self.given(vm, disk);
                self.opens(vm, disk, *read_only);
            }
            Event::Removed {
                vm,
                disk,
                how,
                running,
            } => self.left(vm, disk, *how, *running),
            Event::Lapsed { vm, disks } => {
                let vm = self.vm(vm);
                vm.open.retain(|disk, _| !disks.contains(disk));
                // What lingers is on a dead device, as where a disk was removed: the next attachment is another one.
                vm.mounted.retain(|disk, _| !disks.contains(disk));
            }
            Event::Power { vm, power, disks } => self.power(vm, *power, disks),
            Event::Moved { vm, to, .. } => self.on_host(vm, *to),
            Event::Reverted { vm, .. } => {
                let vm = self.vm(vm);
                vm.mounted.clear();
                vm.seen.clear();
                vm.heard.clear();
            }
            Event::Deleted { vm } => drop(self.vms.remove(vm)),
            Event::Reach {
                host,
                datastore,
                reachable,
            } => {
                let at = (*host, datastore.clone());
                if *reachable {
                    self.unreachable.remove(&at);
                } else {
                    self.unreachable.entry(at).or_insert(self.now);
                }
            }
            Event::Wrote {
                vm,
                disk,
                block,
                outcome: Ok(()),
            } => self.wrote(vm, disk, *block),
            Event::Wrote { .. } => {}
            Event::Filed {
                datastore,
                path,
                bytes,
                ..
            } => self.filed(datastore, path, bytes),
            Event::Made { disk, source } => self.made(disk, source.as_ref()),
            Event::Unmade { disk } => self.unmade(disk),
            Event::Renamed { from, to } => self.renamed(from, to),
            // Whoever adds an event decides here what it breaks; until then it breaks nothing.
            _ => {}
        }
    }

    fn on_host(&mut self, vm: &VmId, host: HostId) {
        let now = self.now;
        let vm = self.vm(vm);
        if vm.host.is_none_or(|(at, _)| at != host) {
            vm.host = Some((host, now));
        }
    }

    /// A VM gets a disk from an agent: of nobody who sleeps on it. What a VM is *started* with is what its old
    /// configuration names, which no agent could keep people or HA from; that one must not write it.
    fn given(&mut self, vm: &VmId, disk: &DiskPath) {
        let others = self.vms.iter().filter(|(other, _)| *other != vm);
        let sleeper =
            others.filter(|(_, state)| state.suspended && state.mounted.contains_key(disk));
        let sleepers: Vec<String> = sleeper.map(|(other, _)| called(other).to_owned()).collect();
        if !self.may_be_fenced(disk) {
            for other in sleepers {
                let who = called(vm);
                let text = format!("{who} opens {disk}, which {other} has mounted, suspended");
                self.broken(Promise::OneWriter, text);
            }
        }
        if let Some(name) = volume_of(disk) {
            self.forced.remove(name);
        }
    }

    fn opens(&mut self, vm: &VmId, disk: &DiskPath, read_only: bool) {
        let who = called(vm);
        let others: Vec<String> = self
            .vms
            .iter()
            .filter(|(other, _)| *other != vm)
            .filter(|(_, state)| state.open.get(disk).is_some_and(|ro| !(*ro && read_only)))
            .map(|(other, _)| format!("{who} opens {disk}, which {} has open", called(other)))
            .collect();
        for text in others {
            self.broken(Promise::OneWriter, text);
        }
        let now = self.now;
        let state = self.vm(vm);
        if state.open.insert(disk.clone(), read_only).is_none() {
            state.since.insert(disk.clone(), now);
        }
    }

    /// A record that no longer says that a VM has a volume must not lie: the VM has it open no more.
    fn filed(&mut self, ds: &DatastoreName, path: &str, bytes: &[u8]) {
        let Some(record) = record(path, bytes) else {
            return;
        };
        let Ok(below) = DsPath::new(&record.disk) else {
            return;
        };
        let disk = DiskPath {
            datastore: ds.clone(),
            path: below,
        };
        let owner = record.owner().map(str::to_owned);
        let before = self.owners.get(&disk).cloned();
        match &owner {
            Some(owner) => drop(self.owners.insert(disk.clone(), owner.clone())),
            None => drop(self.owners.remove(&disk)),
        }
        let Some(before) = before.filter(|before| owner.as_ref() != Some(before)) else {
            return;
        };
        let reaches = |vm: &Vm| {
            let host = vm.host.map(|(host, _)| (host, ds.clone()));
            host.is_some_and(|at| !self.unreachable.contains_key(&at))
        };
        if self.is_forced(&disk) {
            return;
        }
        let writes = self.vms.iter().find(|(vm, state)| {
            let since = state.since.get(&disk).copied().unwrap_or(self.now);
            vm.config_path == before
                && state.open.contains_key(&disk)
                && state.mounted.contains_key(&disk)
                && reaches(state)
                && self.now.saturating_sub(since) >= LONG
        });
        if let Some((vm, _)) = writes {
            let text = format!(
                "the record of {disk} says that {} has it no more, which has it mounted",
                called(vm)
            );
            self.broken(Promise::DetachUnused, text);
        }
    }

    fn left(&mut self, vm: &VmId, disk: &DiskPath, how: Removal, running: bool) {
        let state = self.vm(vm);
        state.open.remove(disk);
        state.asleep.remove(disk);
        // What lingers of it is on a dead device: the next attachment is another one, and nobody uses that yet.
        let mounted = state.mounted.remove(disk).is_some();
        let allowed = match how {
            Removal::Detach => self.is_forced(disk),
            Removal::Fence => self.may_be_fenced(disk),
            Removal::Elsewhere => true,
        };
        if running && mounted && !allowed {
            let text = format!("{disk} is taken from {}, which has it mounted", called(vm));
            self.broken(Promise::DetachUnused, text);
        }
    }

    fn power(&mut self, vm: &VmId, power: Power, disks: &[(DiskPath, bool)]) {
        let state = self.vm(vm);
        state.suspended = power == Power::Suspended;
        let open = mem::take(&mut state.open).into_keys();
        state.asleep = match state.suspended {
            true => open.filter(|d| state.mounted.contains_key(d)).collect(),
            false => BTreeSet::new(),
        };
        match power {
            Power::On => {
                for (disk, read_only) in disks {
                    self.opens(vm, disk, *read_only);
                }
            }
            Power::Off => state.mounted.clear(),
            Power::Suspended => {}
        }
    }

    fn wrote(&mut self, vm: &VmId, disk: &DiskPath, block: u64) {
        let open = self.vms.get(vm).and_then(|vm| vm.open.get(disk));
        if open != Some(&false) {
            let text = format!(
                "a write of {} to block {block} of {disk} was accepted, though it has it not open \
                 for writing",
                called(vm)
            );
            self.broken(Promise::OneWriter, text);
        }
        let mut others = self.vms.iter().filter(|(other, _)| *other != vm);
        let sleeper = others.find(|(_, state)| state.asleep.contains(disk));
        if let Some((other, _)) = sleeper.filter(|_| !self.may_be_fenced(disk)) {
            let text = format!(
                "{} writes {disk}, which {} has mounted, suspended",
                called(vm),
                called(other)
            );
            self.broken(Promise::OneWriter, text);
        }
    }

    /// Whether a volume of this disk's name was acknowledged, and its removal has not begun.
    fn is_promised(&self, disk: &DiskPath) -> bool {
        let at = volume_of(disk).map(|name| (name.to_owned(), disk.datastore.clone()));
        let volume = at.and_then(|at| self.volumes.get(&at));
        volume.is_some_and(|v| v.standing == Standing::Exists)
    }

    fn made(&mut self, disk: &DiskPath, source: Option<&DiskPath>) {
        if self.is_promised(disk) {
            self.late.insert(disk.clone());
        }
        let Some(source) = source else { return };
        let writer = self
            .vms
            .iter()
            .find(|(_, vm)| vm.open.get(source) == Some(&false));
        if let Some((vm, _)) = writer {
            let text = format!(
                "{disk} is a copy of {source} while {} writes it",
                called(vm)
            );
            self.broken(Promise::NothingLost, text);
        }
        if self.used.contains(source) {
            self.used.insert(disk.clone());
        }
        if let Some(blocks) = self.flushed.get(source).cloned() {
            self.flushed.insert(disk.clone(), blocks);
        }
    }

    fn unmade(&mut self, disk: &DiskPath) {
        let open = self.vms.iter().find(|(_, vm)| vm.open.contains_key(disk));
        let is_late = self.late.remove(disk) && !self.used.contains(disk);
        let why = match (open, self.is_promised(disk) && !is_late) {
            (Some((vm, _)), _) => format!("{} has it open", called(vm)),
            (None, true) => "nobody asked for its removal".to_owned(),
            (None, false) => {
                self.used.remove(disk);
                self.flushed.remove(disk);
                return;
            }
        };
        self.broken(Promise::NothingLost, format!("{disk} is removed: {why}"));
    }

    fn renamed(&mut self, from: &DiskPath, to: &DiskPath) {
        if self.late.remove(from) {
            self.late.insert(to.clone());
        }
        if self.used.remove(from) {
            self.used.insert(to.clone());
        }
        if let Some(blocks) = self.flushed.remove(from) {
            self.flushed.insert(to.clone(), blocks);
        }
        for vm in self.vms.values_mut() {
            if let Some(open) = vm.open.remove(from) {
                vm.open.insert(to.clone(), open);
            }
            if let Some(tasks) = vm.mounted.remove(from) {
                vm.mounted.insert(to.clone(), tasks);
            }
        }
    }
}
