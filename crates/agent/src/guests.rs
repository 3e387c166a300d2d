//! What the agent knows of each VM's connections, and the places its calls take.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use uuid::Uuid;
use vdvs_domain::VmId;
use vdvs_engine::api::{Guests as KnownGuests, Settings};
use vdvs_transport::Identity;
use vdvs_transport::accept::Gauge;

use crate::quiet::Quiet;

/// Reads at once: `docker` asks a handful together, and each holds a listing in memory while it is written.
const READS: usize = 32;
/// Creates, deletes and format steps at once. More only wait for the same datastore.
const CHANGES: usize = 16;
/// Attaches at once: the engine lets 64 wait for other VMs and refuses more, so 32 always make progress.
const ATTACHES: usize = 96;
/// Detaches at once, with places of their own: a VM that waits for everything can still let go.
const DETACHES: usize = 16;
/// Watch streams at once: one a connection.
const WATCHES: usize = 8;

/// What the engine is told to admit of one VM. Calls queue here, fairly and by class, before they reach it; its own
/// bound is the second fence and refuses only what gets past these.
#[must_use]
pub fn engine_settings() -> Settings {
    Settings {
        calls_per_vm: READS + CHANGES + ATTACHES,
        detaches_per_vm: DETACHES,
        ..Settings::default()
    }
}

/// What a call does, which decides where it queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Hello, get, list, inventory.
    Read,
    /// Create, delete, format.
    Change,
    /// Attach, which may wait long.
    Attach,
    /// Detach.
    Detach,
}

/// One VM's places.
#[derive(Debug)]
pub struct Places {
    reads: Arc<Semaphore>,
    changes: Arc<Semaphore>,
    attaches: Arc<Semaphore>,
    detaches: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    quiet: Quiet,
}

impl Default for Places {
    fn default() -> Self {
        let places = |n| Arc::new(Semaphore::new(n));
        Self {
            reads: places(READS),
            changes: places(CHANGES),
            attaches: places(ATTACHES),
            detaches: places(DETACHES),
            watches: places(WATCHES),
            quiet: Quiet::default(),
        }
    }
}

impl Places {
    /// The places of a class.
    #[must_use]
    pub const fn of(&self, class: Class) -> &Arc<Semaphore> {
        match class {
            Class::Read => &self.reads,
            Class::Change => &self.changes,
            Class::Attach => &self.attaches,
            Class::Detach => &self.detaches,
        }
    }

    /// The VM's share of the log.
    #[must_use]
    pub const fn quiet(&self) -> &Quiet {
        &self.quiet
    }

    /// The places of watch streams, and how many there are.
    #[must_use]
    pub const fn watches(&self) -> (&Arc<Semaphore>, usize) {
        (&self.watches, WATCHES)
    }
}

#[derive(Debug)]
struct Guest {
    gauge: Gauge,
    program: String,
}

/// What is shown of a VM's connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// A plugin is connected.
    pub connected: bool,
    /// What it called itself last.
    pub program: String,
}

/// The VMs with a listener. Places outlive a listener's replacement, so a VM gains nothing by reconnecting.
#[derive(Debug, Default)]
pub struct Guests {
    guests: Mutex<HashMap<VmId, Guest>>,
    places: Mutex<HashMap<VmId, Arc<Places>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds these locks can leave the map half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guests {
    /// A VM has a listener now.
    pub fn listening(&self, vm: &VmId, gauge: Gauge) {
        let mut guests = lock(&self.guests);
        let program = guests.remove(vm).map(|g| g.program).unwrap_or_default();
        guests.insert(vm.clone(), Guest { gauge, program });
    }

    /// A VM is not registered here any more.
    pub fn gone(&self, vm: &VmId) {
        lock(&self.guests).remove(vm);
        lock(&self.places).remove(vm);
    }

    /// Forgets VMs that are not among these; says how many.
    pub fn keep(&self, there: &HashSet<VmId>) -> usize {
        let mut guests = lock(&self.guests);
        let before = guests.len();
        guests.retain(|vm, _| there.contains(vm));
        lock(&self.places).retain(|vm, _| there.contains(vm));
        before - guests.len()
    }

    /// A plugin said what it is. False: it said so before.
    pub fn hello(&self, vm: &VmId, program: &str) -> bool {
        match lock(&self.guests).get_mut(vm) {
            Some(guest) if guest.program != program => {
                program.clone_into(&mut guest.program);
                true
            }
            _ => false,
        }
    }

    /// The places of a VM's calls.
    #[must_use]
    pub fn places(&self, vm: &VmId) -> Arc<Places> {
        let mut all = lock(&self.places);
        Arc::clone(all.entry(vm.clone()).or_default())
    }

    /// What is known of a VM's connections.
    #[must_use]
    pub fn seen(&self, vm: &VmId) -> Seen {
        lock(&self.guests)
            .get(vm)
            .map(|guest| Seen {
                connected: guest.gauge.connections() > 0,
                program: guest.program.clone(),
            })
            .unwrap_or_default()
    }

    /// How many VMs have a connection.
    #[must_use]
    pub fn connected(&self) -> usize {
        lock(&self.guests)
            .values()
            .filter(|guest| guest.gauge.connections() > 0)
            .count()
    }
}

impl KnownGuests for Guests {
    fn seen(&self, vm: &VmId) -> (bool, String) {
        let seen = Self::seen(self, vm);
        (seen.connected, seen.program)
    }
}

/// The VM a listener serves; none for the administrator's and for one that cannot be named.
#[must_use]
pub fn vm_of(identity: &Identity) -> Option<VmId> {
    match identity {
        Identity::Admin | Identity::Unnamed { .. } => None,
        Identity::Vm {
            instance_uuid,
            config_path,
            ..
        } => Some(VmId {
            instance_uuid: *instance_uuid,
            config_path: config_path.clone(),
        }),
    }
}

/// The identity of a VM's listener.
#[must_use]
pub fn identity_of(instance_uuid: Uuid, config_path: &str, name: &str) -> Identity {
    Identity::Vm {
        instance_uuid,
        config_path: config_path.to_owned(),
        name: name.to_owned(),
    }
}
