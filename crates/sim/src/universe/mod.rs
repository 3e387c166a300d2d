//! Hosts with the real engine, their agents, the VMs and the datastores they share.
//!
//! | module | concept |
//! |---|---|
//! | `switchboard` | which agent answers a VM now: what a guest's connection reaches |
//! | `hosts` | a host: power, its agent's process and who starts it again |
//! | `vms` | a VM: power, where it is registered, its guest |
//! | `storage` | what hosts reach of the datastores |
//!
//! Nothing here knows what should happen: steps and the fleet say so. What a host or VM does by itself, as starting its
//! agent again, it does here.

mod hosts;
mod storage;
mod switchboard;
mod vms;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinSet;
use vdvs_domain::{DatastoreName, VmId};
use vdvs_engine::ports::DatastoreKind;
use vdvs_host_sim::{Event, World};

use crate::check::Checker;
use crate::guest::{Guest, Setup};
use crate::schedule::{Coverage, Shape, Trace};

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
    driver_named: bool,
    /// Copies of VMs with their instance UUIDs.
    twins: Mutex<Vec<Guest>>,
    /// Hosts cut off from all storage.
    isolated: Mutex<Vec<bool>>,
    coverage: Arc<Mutex<Coverage>>,
    /// What happens by itself.
    tasks: Mutex<JoinSet<()>>,
    /// What people and HA are at, each until it is done.
    affairs: Arc<AtomicUsize>,
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

impl Universe {
    /// A world of this shape: all hosts have power, all agents start, all VMs boot.
    ///
    /// # Panics
    /// When a name in here is none, which no shape can cause.
    #[must_use]
    pub fn new(shape: &Shape, seed: u64, trace: Trace) -> Self {
        let world = World::new();
        world.set_lapse(shape.lapse);
        world.set_pace(seed, shape.pace);
        let coverage = Arc::new(Mutex::new(Coverage::default()));
        watch(&world, &trace, &coverage);
        let checker = Checker::new(&world);
        let board = Switchboard::default();
        let datastores: Vec<DatastoreName> = (1..=shape.datastores)
            .map(|n| DatastoreName::new(&format!("ds{n}")).expect("a short word is a name"))
            .collect();
        for name in &datastores {
            world.add_datastore(name, DatastoreKind::Vmfs);
        }
        let sites: Vec<Site> = (1..=shape.hosts)
            .map(|n| {
                let name = format!("esx{n:02}");
                Site::new(world.add_host(&name), name)
            })
            .collect();
        let home = datastores.first().expect("a shape has a datastore");
        let hosts = sites.iter().enumerate().cycle();
        let machines = hosts.zip(1..=shape.vms).map(|((host, site), n)| {
            let id = world.add_vm(site.id, &format!("vm{n}"), home);
            board.register(&id, Some(site.id));
            let guest = Guest::new(Setup {
                vm: id.clone(),
                name: format!("vm{n}"),
                world: world.clone(),
                board: board.clone(),
                checker: checker.clone(),
                trace: trace.clone(),
                seed,
            });
            Machine::new(id, guest, host)
        });
        let machines = machines.collect();
        let universe = Self {
            inner: Arc::new(Inner {
                isolated: Mutex::new(vec![false; sites.len()]),
                world,
                board,
                checker,
                trace,
                seed,
                datastores,
                sites,
                machines,
                driver_named: shape.driver_named,
                coverage,
                twins: Mutex::default(),
                tasks: Mutex::default(),
                affairs: Arc::default(),
            }),
        };
        for host in 0..universe.hosts() {
            universe.spawn(universe.clone().keep_agent(host));
        }
        for vm in 0..universe.vms() {
            universe.guest(vm).boot();
            universe.spawn(universe.clone().keep_plugin(vm));
        }
        universe
    }

    fn new_guest(&self, vm: VmId, name: String) -> Guest {
        let inner = &self.inner;
        Guest::new(Setup {
            vm,
            name,
            world: inner.world.clone(),
            board: inner.board.clone(),
            checker: inner.checker.clone(),
            trace: inner.trace.clone(),
            seed: inner.seed,
        })
    }

    /// Something that goes on by itself until the end of the run.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = locked(&self.inner.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }

    /// Something that somebody does, and that ends.
    pub fn spawn_affair(&self, work: impl Future<Output = ()> + Send + 'static) {
        let affairs = Arc::clone(&self.inner.affairs);
        affairs.fetch_add(1, Ordering::Relaxed);
        self.spawn(async move {
            work.await;
            affairs.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Nobody is at anything but the orchestrator.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.inner.affairs.load(Ordering::Relaxed) == 0
    }

    /// Ends everything that goes on by itself.
    pub fn end(&self) {
        locked(&self.inner.tasks).abort_all();
    }

    /// The simulated hypervisor.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.inner.world
    }

    /// The judge.
    #[must_use]
    pub fn checker(&self) -> &Checker {
        &self.inner.checker
    }

    /// Something happened that a reader of the story wants to know.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        self.inner.trace.note(what);
    }

    /// Edges of the ownership table that were taken.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        locked(&self.inner.coverage).clone()
    }
}

/// Everything that happens to disks, VMs and files goes into the trace; files show how records change.
fn watch(world: &World, trace: &Trace, coverage: &Arc<Mutex<Coverage>>) {
    let (trace, coverage) = (trace.clone(), Arc::clone(coverage));
    world.observe(move |_, event| match event {
        Event::Filed {
            host, path, bytes, ..
        } => {
            trace.count(path.as_bytes());
            trace.count(bytes);
            locked(&coverage).filed(*host, path, bytes);
        }
        Event::Moved { vm, to, .. } => {
            trace.note(format_args!("        {event:?}"));
            locked(&coverage).moved(vm, *to);
        }
        Event::Wrote { .. } => trace.count(format!("{event:?}").as_bytes()),
        _ => trace.note(format_args!("        {event:?}")),
    });
}
