//! The configurations of this host's VMs: disks that are not theirs, disks without a record, what pins them, VMs that
//! cannot be told apart, and VMs that start before the agent has looked.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;
use vdvs_domain::Error;

use super::views::{HereVm, Views};
use super::{Found, Kind, Subject};
use crate::index::Indexed;
use crate::inner::Inner;
use crate::layout::{self, Place};
use crate::ports::{DiskPath, HostError, Power};

/// An agent that starts with its host has looked at all its VMs by then.
const AGENT_LOOKS: Duration = Duration::from_secs(120);

impl Inner {
    pub(super) async fn findings_of_disks(&self, views: &Views) -> Vec<Found> {
        let mut found = self.twins(views);
        for here in &views.vms {
            let mut doubled = Vec::new();
            for disk in here.disks.iter().flatten() {
                match self.finding_of_disk(views, here, &disk.disk).await {
                    Some(f) if f.kind == Kind::RegisteredTwice => doubled.push(f),
                    other => found.extend(other),
                }
            }
            found.extend(of_doubled(here, doubled));
            found.extend(self.pinned(views, here).await);
        }
        found.extend(self.autostarted(views).await);
        found
    }

    async fn finding_of_disk(
        &self,
        views: &Views,
        here: &HereVm,
        disk: &DiskPath,
    ) -> Option<Found> {
        let vm = &here.vm;
        let unknown = |why: &str| {
            let found = Found::new(
                Kind::UnknownDisk,
                disk,
                format!("VM {} has it; {why}", vm.name),
            );
            Some(found.run("vdvs volume ls, and see docs/doctor.md"))
        };
        let Some(place) = layout::place_of_disk(disk) else {
            let ours = format!("{}/", layout::DOCKVOLS);
            let ours = disk.path.as_str().starts_with(&ours);
            return ours.then(|| unknown("no volume has such a disk")).flatten();
        };
        if !views.read.contains(&place.ds) {
            return None;
        }
        let stored = match self.read_record(&place).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return unknown("it has no record"),
            // Said of the record.
            Err(Error::Damaged { .. } | Error::NewerFormat { .. }) => return None,
            Err(why) => {
                let what = format!("record of {disk}");
                return Some(Found::new(Kind::NotLookedAt, what, why.to_string()));
            }
        };
        let title = views
            .at(&place)
            .map_or_else(|| stored.name().to_string(), |v| views.title(v));
        if vm.power == Power::Off && self.runs_elsewhere(views, here).is_some() {
            return Some(Found::new(Kind::RegisteredTwice, &vm.name, title));
        }
        let own = stored.record.ownership.is_owned_by(&vm.id);
        if own || stored.record.operation.is_some() {
            return None;
        }
        let power = match vm.power {
            Power::On => "runs",
            Power::Off => "is off",
            Power::Suspended => "is suspended",
        };
        let text = format!(
            "VM {} {power} with its disk, and its record says {}",
            vm.name, stored.record.ownership
        );
        let subject = Subject::DiskOf(Box::new(vm.clone()), disk.clone());
        Some(Found::new(Kind::ForeignDisk, title, text).about(stored.record.id, subject))
    }

    /// The host where another host says this VM runs.
    fn runs_elsewhere<'a>(&self, views: &'a Views, here: &HereVm) -> Option<&'a str> {
        let (file, told) = views.told(&here.vm.id)?;
        let runs = Power::from(told.power) != Power::Off && self.silent_ms(file).is_none();
        runs.then_some(file.name.as_str())
    }

    async fn pinned(&self, views: &Views, here: &HereVm) -> Vec<Found> {
        let vm = &here.vm;
        let pinned = match self.ports.host.pinned(&vm.id).await {
            Ok(pinned) => pinned,
            Err(HostError::NoSuchVm { .. }) => return Vec::new(),
            Err(why) => {
                let what = format!("snapshots of VM {}", vm.name);
                return vec![Found::new(Kind::NotLookedAt, what, why.to_string())];
            }
        };
        let places = pinned.iter().filter_map(layout::place_of_disk);
        let volumes = places.filter_map(|place: Place| views.at(&place));
        let text = format!("snapshots of VM {} contain it", vm.name);
        let command = format!("delete the snapshots of VM {}", vm.name);
        volumes
            .map(|v| {
                let found = views.finding(Kind::SnapshotPinned, v, text.clone());
                found.run(command.clone())
            })
            .collect()
    }

    async fn autostarted(&self, views: &Views) -> Vec<Found> {
        let started = match self.ports.host.autostart().await {
            Ok(started) => started,
            Err(why) => {
                let what = "autostart settings of this host";
                return vec![Found::new(Kind::NotLookedAt, what, why.to_string())];
            }
        };
        let early = started.into_iter().filter(|s| s.after < AGENT_LOOKS);
        let uses_volumes = |here: &&HereVm| {
            let ours = |d: &DiskPath| layout::place_of_disk(d).is_some();
            let has = here.disks.iter().flatten().any(|d| ours(&d.disk));
            let owns = |v: &Indexed| v.record.ownership.is_owned_by(&here.vm.id);
            has || views.volumes.iter().any(owns) || !self.hosts.guest(&here.vm.id).1.is_empty()
        };
        early
            .filter_map(|s| Some((s.after, views.here(&s.vm).filter(uses_volumes)?)))
            .map(|(after, here)| {
                let name = &here.vm.name;
                let text = format!(
                    "the host starts VM {name} {} s after it begins to start VMs; the agent may need {} s",
                    after.as_secs(),
                    AGENT_LOOKS.as_secs()
                );
                let command = format!(
                    "take VM {name} out of the host's autostart, or let VMs without volumes start {} s before it",
                    AGENT_LOOKS.as_secs()
                );
                Found::new(Kind::AutostartRace, name, text).run(command)
            })
            .collect()
    }

    /// VMs of all hosts that share an instance UUID. Who is silent may tell of a VM that has moved since.
    fn twins(&self, views: &Views) -> Vec<Found> {
        let mut by_uuid: BTreeMap<Uuid, BTreeMap<String, String>> = BTreeMap::new();
        let here = views.vms.iter().map(|h| (&h.vm.id, h.vm.name.clone()));
        let speaking = views.others.files.iter();
        let speaking = speaking.filter(|f| self.silent_ms(f).is_none());
        let told = speaking.flat_map(|f| {
            let vms = f.vms.iter();
            vms.map(|v| (&v.id, format!("{} on host {}", v.name, f.name)))
        });
        for (id, name) in here.chain(told) {
            let twins = by_uuid.entry(id.instance_uuid).or_default();
            twins.entry(id.config_path.clone()).or_insert(name);
        }
        let several = by_uuid.into_iter().filter(|(_, twins)| twins.len() > 1);
        let finding = |(uuid, twins): (Uuid, BTreeMap<String, String>)| {
            let name = |(path, name): (&String, &String)| format!("{name} ({path})");
            let names: Vec<_> = twins.iter().map(name).collect();
            let text = format!("VMs with this instance UUID: {}", names.join(", "));
            Found::new(Kind::TwinUuid, uuid, text)
                .run("power the copy off and give it another instance UUID (vc.uuid)")
        };
        several.map(finding).collect()
    }
}

/// One finding of a VM that is registered twice, whatever it has.
fn of_doubled(here: &HereVm, found: Vec<Found>) -> Option<Found> {
    let volumes: Vec<_> = found.iter().map(|f| f.text.as_str()).collect();
    let first = found.first()?;
    let name = &here.vm.name;
    let text = format!(
        "VM {name} ({}) is off here and runs on another host; here it lists {}",
        here.vm.id.config_path,
        volumes.join(", ")
    );
    let command = format!("remove VM {name} from this host's inventory, without deleting it");
    Some(Found::new(Kind::RegisteredTwice, &first.object, text).run(command))
}
