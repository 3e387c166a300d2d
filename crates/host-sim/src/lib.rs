//! A world in memory that keeps the promises of the engine's ports: hosts, virtual machines, shared datastores, and
//! the locks on disks. Deterministic: the only time is tokio's, which a test may pause; identities come from a seed.
//!
//! * [`World`]: what exists, and the hands that change it from outside (power, suspend, unreachable datastores).
//! * [`SimHost`], [`SimDatastores`], [`SimStore`], [`SimClock`], [`SimIds`]: the ports, one set per host.
//! * [`Faults`]: what goes wrong. Every port call is counted and logged, so a harness can stop the code under test at
//!   each of them without keeping a list: before its effect, after it, or half way through a write.
//!
//! What it does not do: file-system contents of disks, page caches, partial durability other than torn writes.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod datastores;
mod faults;
mod host;
mod local;
mod world;

use std::sync::Arc;

use vdvs_engine::api::Ports;

pub use datastores::SimDatastores;
pub use faults::{CallKind, Fault, Faults, When};
pub use host::SimHost;
pub use local::{SimClock, SimIds, SimStore};
pub use world::World;

/// One simulated host with everything its agent needs.
#[derive(Debug, Clone)]
pub struct SimPorts {
    /// The hypervisor.
    pub host: Arc<SimHost>,
    /// The datastores as this host sees them.
    pub datastores: Arc<SimDatastores>,
    /// The host's own store.
    pub store: Arc<SimStore>,
    /// Time.
    pub clock: Arc<SimClock>,
    /// Identities.
    pub ids: Arc<SimIds>,
}

impl SimPorts {
    /// The ports of the host called `name`, which is added to the world if it is new.
    #[must_use]
    pub fn of(world: &Arc<World>, name: &str) -> Self {
        let id = world.add_host(name);
        Self {
            host: Arc::new(SimHost::new(Arc::clone(world), id, name)),
            datastores: Arc::new(SimDatastores::new(Arc::clone(world), id)),
            store: Arc::new(SimStore::default()),
            clock: Arc::new(SimClock::default()),
            ids: Arc::new(SimIds::new(Arc::clone(world))),
        }
    }

    /// The same, for an engine.
    #[must_use]
    pub fn ports(&self) -> Ports {
        Ports {
            host: self.host.clone(),
            datastores: self.datastores.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            ids: self.ids.clone(),
        }
    }
}
