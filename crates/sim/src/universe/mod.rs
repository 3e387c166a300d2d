//! Hosts with the real engine, their agents, the VMs and the datastores they share.
//!
//! | module | concept |
//! |---|---|
//! | `switchboard` | which agent answers a VM now: what a guest's connection reaches |
//! | `hosts` | a host: power, its agent's process and who starts it again |
//! | `vms` | a VM: power, where it is registered, its guest |
//! | `bell` | waking those who wait, first come first served, so that a run repeats |
//!
//! Nothing here knows what should happen: steps and the fleet say so. What a host or VM does by itself, as starting its
//! agent again, it does here.

mod bell;
mod hosts;
mod switchboard;
mod vms;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use vdvs_domain::DatastoreName;
use vdvs_engine::ports::DatastoreKind;
use vdvs_host_sim::World;

use crate::check::Checker;
use crate::schedule::{Coverage, Dice, Shape, Trace};

pub use bell::Bell;
pub use switchboard::{Line, Switchboard};

use hosts::Site;
use vms::Machine;

/// Everything there is. Cloning gives the same universe.
#[derive(Clone)]
pub struct Universe {
    inner: Arc<Inner>,
}

struct Inner {
    world: World,
    board: Switchboard,
    checker: Checker,
    trace: Trace,
    seed: u64,
    datastores: Vec<DatastoreName>,
    sites: Vec<Site>,
    machines: Vec<Machine>,
    /// Twins of VMs, made while it runs.
    tasks: Mutex<JoinSet<()>>,
    coverage: Arc<Mutex<Coverage>>,
    dice: Mutex<Dice>,
}

impl fmt::Debug for Universe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Universe")
            .field("hosts", &self.inner.sites.len())
            .field("vms", &self.inner.machines.len())
            .finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
