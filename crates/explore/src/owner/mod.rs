//! Two hosts, two VMs, one volume: every interleaving of two engines.
//!
//! **What runs:** [`vdvs_engine::Engine`], one per host, through its public face, as the agent's handlers call it: `attach`,
//! `detach`, and `sweep` when an agent starts. With them run plan, proof, claims, keyed locks, recovery, the table of
//! ownership and `swap`, on tokio with a clock that moves only when the search lets time pass.
//!
//! **What is modelled:** the ports' other side (`world`: files, device lists, the lock and its lapse), guests (`voices`: they ask in
//! order, ask again with the same request id when the connection breaks, and do not use the disk after they asked to
//! detach it), agents that die and start, and events ([`Happening`]). **What does not run:** the loops of `Engine::run`, which
//! decide nothing else than the sweep does but when; the transport, and the plugin, which the simulation runs.
//!
//! **Choices** at a state: any call that waits has its effect, now; within the case's bounds its answer is lost, it is
//! torn in the middle, or an agent dies; the next event happens; time passes to the next timer. Time passes by itself
//! only when nothing else can happen; earlier as often as the case allows: that is a call that takes long.
//!
//! Two looks that the engine's port offers as one (`read_unless`: is the next slot there, and if not, what is in this one)
//! are one step here. That they are two on a real datastore is searched in [`crate::swap_case`], where they are two.
//!
//! **Promises** are in `promises` (at every moment) and `ends` (when all requests are answered: recovery leaves no operation,
//! records and device lists agree, nobody has the disk who was not told so, and the volume can be attached).
//!
//! **One state** is the world, what guests were told, and of each agent everything that each of its tasks was answered in
//! this life, with the times, and which task was answered last, last but one, and so on. An agent's tasks and timers are a
//! function of that. What its tasks share (the index, keys, notices) is taken for one too: it is what the last answers
//! made of it. [`Scene::exact`] does not take it so, and a test shows that the ends are the same.

mod agent;
mod call;
mod core;
mod ends;
mod promises;
mod run;
mod setting;
mod voices;
mod whole;
mod world;

use std::time::Duration;

use vdvs_domain::DatastoreName;

pub use run::OwnerRun;
pub use setting::Prepared;

/// What a guest asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// The volume, waiting so long for it.
    Attach(Duration),
    /// To give it back, with the epoch it was told.
    Detach,
    /// A message that was under way for long: a detach with this epoch.
    Late(u64),
}

impl Ask {
    const fn wait(self) -> Duration {
        match self {
            Self::Attach(wait) => wait,
            Self::Detach | Self::Late(_) => Duration::ZERO,
        }
    }
}

/// What a VM asks, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voice {
    /// Which VM.
    pub vm: usize,
    /// Its requests.
    pub asks: Vec<Ask>,
    /// Its one request is that of another voice, arriving twice: voice and place.
    pub again: Option<(usize, usize)>,
}

impl Voice {
    /// A VM that asks these.
    #[must_use]
    pub fn new(vm: usize, asks: &[Ask]) -> Self {
        Self {
            vm,
            asks: asks.to_vec(),
            again: None,
        }
    }

    /// A request of another voice, which arrives twice.
    #[must_use]
    pub fn again(vm: usize, ask: Ask, of: (usize, usize)) -> Self {
        Self {
            vm,
            asks: vec![ask],
            again: Some(of),
        }
    }
}

/// What happens in the world, in the order given and at any moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// A host loses power, with its VMs and its agent. The lock lasts so many milliseconds longer.
    HostDies(usize, u64),
    /// Its agent starts again.
    HostBack(usize),
    /// A VM loses power.
    PowerOff(usize),
    /// It boots, on this host. It opens its disks; one that is locked keeps it off.
    PowerOn(usize, usize),
    /// It runs on this host from now on.
    Move(usize, usize),
    /// It is suspended: its locks are free, and it goes on later.
    Suspend(usize),
    /// It goes on. It opens its disks; one that is locked keeps it suspended.
    Resume(usize),
}

/// A mistake planted from outside of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mistake {
    /// The engine compares epochs with what always fits: the comparison is missing.
    EpochNotCompared,
    /// A look at the lock always says *free*.
    LockReadsFree,
}

/// A case.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    /// The host of each VM.
    pub vms: Vec<usize>,
    /// The VM that has the volume at first, with epoch 1.
    pub owner: Option<usize>,
    /// It has given it back already, in a message that did not arrive yet.
    pub given_back: bool,
    /// What guests ask.
    pub voices: Vec<Voice>,
    /// What happens.
    pub happenings: Vec<Happening>,
    /// So often an agent dies.
    pub deaths: u8,
    /// It starts again at any moment; otherwise only when nothing else can go on.
    pub early_start: bool,
    /// So many answers of the hypervisor are lost.
    pub losses: u8,
    /// Reading the record is one step, and so is swapping it: see `whole`.
    pub whole: bool,
    /// With that: so often a third writer comes into the middle of a swap, and dies there.
    pub strangers: u8,
    /// So often time passes though something else could happen.
    pub delays: u8,
    /// Two states are one only when an agent was given all its answers in the same order, whichever of its tasks heard
    /// them: more states, to see that nothing is lost by telling tasks apart.
    pub exact: bool,
    /// What is wrong.
    pub mistake: Option<Mistake>,
}

pub(crate) fn datastore() -> DatastoreName {
    DatastoreName::new("ds").expect("a plain word is a name")
}
