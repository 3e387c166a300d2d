//! What must be so when faults have stopped and the world had time to settle.

use std::collections::BTreeSet;

use vdvs_domain::DatastoreName;
use vdvs_host_sim::World;

use super::Promise;
use super::files::{Folder, Record};
use super::state::{Standing, State, called, name_in};

/// Looks at every datastore and every VM.
pub(crate) fn look(world: &World, state: &State) -> Vec<(Promise, String)> {
    let mut found = Vec::new();
    for ds in world.datastores() {
        let folder = Folder::of(world, &ds);
        let looker = Look {
            world,
            ds: &ds,
            folder: &folder,
        };
        found.extend(looker.promised(state));
        let traces = looker.records().chain(looker.files());
        let traces = traces.chain(looker.ledgers()).chain(looker.devices());
        found.extend(traces.map(|text| (Promise::NoTrace, text)));
    }
    found
}

/// Volumes, by their full names, that belong to VMs which exist no more.
pub(crate) fn kept_by_the_gone(world: &World) -> Vec<String> {
    let vms = world.vms();
    let exists = |path: &str| vms.iter().any(|vm| vm.config_path == path);
    let mut kept = Vec::new();
    for ds in world.datastores() {
        for record in Folder::of(world, &ds).records.values() {
            if record.owner().is_some_and(|owner| !exists(owner)) {
                kept.push(format!("{}@{ds}", record.name));
            }
        }
    }
    kept
}

struct Look<'a> {
    world: &'a World,
    ds: &'a DatastoreName,
    folder: &'a Folder,
}

impl Look<'_> {
    /// Every volume that was reported created is there, with its disk.
    fn promised(&self, state: &State) -> Vec<(Promise, String)> {
        let here = state.volumes.iter().filter(|((_, ds), _)| ds == self.ds);
        here.filter(|(_, v)| v.standing == Standing::Exists)
            .filter_map(|((name, ds), _)| {
                let mut records = self.folder.records.values();
                let why = match records.find(|r| r.name == *name) {
                    None => "it has no record",
                    Some(record) if !self.has_disk(record) => "its disk is gone",
                    Some(_) => return None,
                };
                let text = format!("'{name}' was reported created on {ds}: {why}");
                Some((Promise::NothingLost, text))
            })
            .collect()
    }

    fn has_disk(&self, record: &Record) -> bool {
        self.world.files(self.ds).contains(&record.disk)
    }

    /// No record says that something is under way; whose a disk is, that VM has it.
    fn records(&self) -> impl Iterator<Item = String> {
        let torn = self.folder.torn.iter();
        let torn = torn.map(|path| format!("{path} on {} holds no record", self.ds));
        let all = self.folder.records.values();
        torn.chain(all.filter_map(|record| {
            let name = format!("the record of {}@{}", record.name, self.ds);
            let under_way = ["operation", "making", "moving"];
            if let Some(what) = under_way.iter().find_map(|f| record.field(f)) {
                return Some(format!("{name} says that something is under way: {what}"));
            }
            match record.state() {
                "free" => None,
                "attached" => {
                    let owner = record.owner().unwrap_or_default();
                    let has = self.has(owner, &record.disk);
                    (!has).then(|| format!("{name} says {owner} has it, and that has it not"))
                }
                other => Some(format!("{name} says it is {other}")),
            }
        }))
    }

    fn has(&self, config_path: &str, disk: &str) -> bool {
        let vms = self.world.vms();
        let owner = vms.iter().find(|vm| vm.config_path == config_path);
        let devices = owner.map(|vm| self.world.devices(vm)).unwrap_or_default();
        devices
            .iter()
            .any(|d| d.disk.datastore == *self.ds && d.disk.path.as_str() == disk)
    }

    /// No disk without record, whole or half; no record without disk or claim, no claim without record.
    fn files(&self) -> impl Iterator<Item = String> {
        let files = self.world.files(self.ds);
        let disks: BTreeSet<&str> = self
            .folder
            .records
            .values()
            .map(|r| r.disk.as_str())
            .collect();
        let descriptor = |path: &String| {
            let whole = path.strip_suffix("-flat.vmdk");
            whole.map_or_else(|| path.clone(), |stem| format!("{stem}.vmdk"))
        };
        let leaked = files
            .iter()
            .filter(|path| name_in(path).is_some())
            .filter(|path| !disks.contains(descriptor(path).as_str()));
        let leaked = leaked.map(|path| format!("{path} on {} belongs to no record", self.ds));
        let without = self.folder.records.values().filter(|r| !self.has_disk(r));
        let without = without.map(|r| format!("{}@{} has no disk", r.name, self.ds));
        let claims = &self.folder.claims;
        let ids: BTreeSet<&str> = self
            .folder
            .records
            .values()
            .map(|r| r.id.as_str())
            .collect();
        let idle = claims.iter().filter(|(_, id)| !ids.contains(id.as_str()));
        let idle = idle.map(|(path, _)| format!("{path} on {} claims a name for nobody", self.ds));
        let unclaimed = self
            .folder
            .records
            .values()
            .filter(|r| !claims.values().any(|id| *id == r.id));
        let unclaimed = unclaimed.map(|r| format!("{}@{} has no claim", r.name, self.ds));
        let all: Vec<String> = leaked.chain(without).chain(idle).chain(unclaimed).collect();
        all.into_iter()
    }

    /// Every ledger says what is there.
    fn ledgers(&self) -> impl Iterator<Item = String> {
        let mut found = Vec::new();
        let records = || self.folder.records.values();
        for (group, ledger) in &self.folder.ledgers {
            for (id, bytes) in ledger {
                let record = records().find(|r| r.id == *id && r.group == *group);
                if record.and_then(Record::bytes) != Some(*bytes) {
                    found.push(format!(
                        "the ledger of {group} on {} has {bytes} bytes for {id}, which is not so",
                        self.ds
                    ));
                }
            }
        }
        for record in records() {
            let ledger = self.folder.ledgers.get(&record.group);
            if !ledger.is_some_and(|l| l.contains_key(&record.id)) {
                let (name, ds) = (&record.name, self.ds);
                found.push(format!("{name}@{ds} is in no ledger"));
            }
        }
        found.into_iter()
    }

    /// No VM has a disk of ours that its record does not give it.
    fn devices(&self) -> impl Iterator<Item = String> {
        let mut found = Vec::new();
        for vm in self.world.vms() {
            for device in self.world.devices(&vm) {
                let path = device.disk.path.as_str();
                if device.disk.datastore != *self.ds || name_in(path).is_none() {
                    continue;
                }
                let mut records = self.folder.records.values();
                let record = records.find(|r| r.disk == path);
                if record.and_then(Record::owner) != Some(vm.config_path.as_str()) {
                    found.push(format!(
                        "{} has {}, which is not its own",
                        called(&vm),
                        device.disk
                    ));
                }
            }
        }
        found.into_iter()
    }
}
