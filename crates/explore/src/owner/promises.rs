//! What must hold at every moment. Decided from the disk, the record's bytes and what guests were told; the engine is not
//! asked.

use std::collections::{BTreeMap, BTreeSet};

use vdvs_domain::ownership::Event;
use vdvs_domain::{Ownership, VolumeRecord};

use super::world::{State, World};
use crate::swap_case::swap::frame::{self, Kind};
use crate::swap_case::swap::slot_of;

/// The last component of a slot's path without its number.
fn number(path: &str) -> u64 {
    let name = path.rsplit_once('/').map_or(path, |(_, last)| last);
    let stem = name.rsplit_once('.').map_or("", |(stem, _)| stem);
    slot_of(name, stem).unwrap_or(0)
}

/// The newest whole slot.
fn newest(world: &World) -> Option<&Vec<u8>> {
    let whole = world.slots.iter().filter(|(_, b)| frame::is_whole(b));
    whole.max_by_key(|(path, _)| number(path)).map(|(_, b)| b)
}

/// The record as it stands.
pub(crate) fn record(world: &World) -> Option<VolumeRecord> {
    decode(newest(world)?)
}

fn decode(bytes: &[u8]) -> Option<VolumeRecord> {
    frame::decode(Kind::Record, bytes, String::new)
        .ok()
        .flatten()
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Promises {
    slots: BTreeMap<String, Vec<u8>>,
    newest: Option<Vec<u8>>,
    record: Option<VolumeRecord>,
    /// The promise that is broken.
    pub(crate) broken: Option<String>,
    /// Changes of ownership the record went through, by name.
    pub(crate) edges: BTreeSet<String>,
}

/// The event that leads from one state to the other, if any does.
fn edge(from: &Ownership, to: &Ownership) -> Option<&'static str> {
    let mut events = vec![
        Event::AttachUndone,
        Event::BeginDetach,
        Event::Detached,
        Event::DetachRefused,
        Event::Released,
        Event::EndRead,
    ];
    if let Some(owner) = to.owner() {
        events.push(Event::BeginAttach(owner.clone()));
        events.push(Event::Attached(owner.locator.clone()));
        events.push(Event::Moved(owner.host, owner.host_name.clone()));
    }
    if let Ownership::Reading { target, host } = to {
        events.push(Event::BeginRead(*target, *host));
    }
    let leads = |event: &Event| from.apply(event.clone()).as_ref() == Ok(to);
    events.into_iter().find(leads).map(|event| event.name())
}

impl Promises {
    pub(crate) fn new(world: &World) -> Self {
        Self {
            slots: world.slots.clone(),
            newest: newest(world).cloned(),
            record: record(world),
            ..Self::default()
        }
    }

    fn breaks(&mut self, why: String) {
        self.broken.get_or_insert(why);
    }

    /// After every step.
    pub(crate) fn look(&mut self, world: &World, told: &[Option<u64>]) {
        if let Some(path) = &world.astray {
            self.breaks(format!("the case does not cover a change of {path}"));
        }
        let writers: Vec<usize> = world
            .openers()
            .filter(|(_, ro)| !ro)
            .map(|(n, _)| n)
            .collect();
        if writers.len() > 1 {
            self.breaks(format!("P1: the VMs {writers:?} write at once"));
        }
        if world.slots != self.slots {
            self.slots.clone_from(&world.slots);
            let now = newest(world);
            if now != self.newest.as_ref() {
                self.newest = now.cloned();
                self.changed(now.and_then(|bytes| decode(bytes)));
            }
        }
        for (vm, epoch) in told.iter().enumerate() {
            if let Some(epoch) = epoch {
                self.has(world, vm, *epoch);
            }
        }
    }

    /// The record is another. What nobody acknowledged may be replaced by what never saw it, so the newest value alone
    /// does not say which changes were made: that is judged where they are written.
    fn changed(&mut self, now: Option<VolumeRecord>) {
        if self.record.is_some() && now.is_none() {
            self.breaks("P2: the record is gone".to_owned());
        }
        self.record = now;
    }

    /// An agent writes a value. It has to come, along the table, from one that it read.
    pub(crate) fn writes(&mut self, read: &[Vec<u8>], bytes: &[u8]) {
        let Some(after) = decode(bytes) else { return };
        let mut from_any = false;
        for before in read.iter().rev().filter_map(|b| decode(b)) {
            let (from, to) = (&before.ownership, &after.ownership);
            if from == to && before.epoch == after.epoch {
                return;
            }
            if let Some(event) = edge(from, to)
                && after.epoch.number()
                    == before.epoch.number() + u64::from(event == "begin_attach")
            {
                let name = format!("{} {event} {}", from.name(), to.name());
                self.edges.insert(name);
                from_any = true;
                break;
            }
        }
        if !from_any {
            let (to, epoch) = (&after.ownership, after.epoch);
            self.breaks(format!(
                "an agent writes {to} with epoch {epoch}, which follows from nothing it read"
            ));
        }
    }

    /// A VM that was told that it has the volume and neither gave it back nor lost power has it.
    fn has(&mut self, world: &World, vm: usize, epoch: u64) {
        let Some(now) = world.vms.get(vm).filter(|v| v.state != State::Off) else {
            return;
        };
        if now.disk.is_none() {
            self.breaks(format!(
                "P2: vm{vm} was told that it has the disk, and lost it"
            ));
        }
        let owns = |record: &VolumeRecord| {
            let id = world.fixed.vms.get(vm);
            id.is_some_and(|id| record.ownership.is_owned_by(id)) && record.epoch.number() >= epoch
        };
        if self.record.as_ref().is_some_and(|r| !owns(r)) {
            self.breaks(format!(
                "P2: vm{vm} was told epoch {epoch}, and the record forgot it"
            ));
        }
    }
}
