//! One VM from inside: the real volume service over a simulated page cache, journal and connection; a dockerd above it.
//!
//! ```text
//!   Guest ── boot ──► Machine ── kernel: nodes, file systems, page cache (goes with the power)
//!     │                  ├────── plugin's process: real service, real journal bytes, real front end
//!     │                  └────── dockerd and containers (crate::docker)
//!     └── own disk: journal, what dockerd remembers (stays; goes back with a snapshot)
//! ```
//! * [`life`]: how parts end at any moment, and how the whole stands still while it is suspended.
//! * `kernel`, `format`, `devices`: disks and file systems; what a power cut does to them.
//! * `journal`: torn writes, a full disk.
//! * `agent`, `link`: calls to the engine of the host where the VM is registered now; lost, repeated, late.
//!
//! The machine's power, its host and its configuration are the world's: a guest is told of them by whoever changes them,
//! [`Guest::boot`] after the power came, [`Guest::power_cut`] just before it goes.

mod agent;
mod devices;
mod format;
mod journal;
mod kernel;
mod life;
mod link;
mod plugin;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Mutex as AsyncMutex;
use tokio_util::task::TaskTracker;
use vdvs_domain::VmId;
use vdvs_host_sim::World;

use crate::check::Checker;
use crate::docker::{Daemon, Remembered};
use crate::schedule::{Dice, Trace};
use crate::universe::Switchboard;
use agent::Requests;
use journal::{Files, RootDisk};
use kernel::Plugs;
use life::Life;
use link::Faults;
use plugin::{Process, WallClock};

pub(crate) use format::{BLOCKS, DATA, value as value_of};
pub use journal::JournalFault;
pub(crate) use kernel::Kernel;
pub(crate) use life::Life as PartOfGuest;
pub use link::LinkFault;

/// What a guest is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The VM.
    pub vm: VmId,
    /// What people call it.
    pub name: String,
    /// Its disks.
    pub world: World,
    /// Its agents.
    pub board: Switchboard,
    /// Who is told what was promised.
    pub checker: Checker,
    /// Where what happens is written.
    pub trace: Trace,
    /// The run's seed; each guest has luck of its own.
    pub seed: u64,
}

/// One VM from inside. Cloning gives the same guest.
#[derive(Debug, Clone)]
pub struct Guest {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) vm: VmId,
    pub(crate) name: String,
    world: World,
    board: Switchboard,
    pub(crate) checker: Checker,
    trace: Trace,
    pub(crate) dice: Arc<Mutex<Dice>>,
    faults: Faults,
    root: RootDisk,
    clock: WallClock,
    requests: Arc<Mutex<Requests>>,
    plugs: Plugs,
    tasks: TaskTracker,
    /// What agents do for this guest.
    served: TaskTracker,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    machine: Option<Machine>,
    /// The process under way, listening or not yet.
    starting: Option<Life>,
    plugin: Option<Process>,
    /// dockerd's process.
    daemon: Option<Life>,
    /// What dockerd has on the guest's own disk.
    pub(crate) docker: Remembered,
    /// Names that dockerd looks up, one at a time each.
    names: BTreeMap<String, Arc<AsyncMutex<()>>>,
    /// A number for whatever needs one that is never used twice.
    pub(crate) numbers: u64,
}

/// A machine from one start to its end.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) life: Life,
    pub(crate) kernel: Arc<Kernel>,
}

/// A guest's own disk as it was.
#[derive(Debug, Clone)]
pub struct Snapshot {
    files: Files,
    docker: Remembered,
}

impl Guest {
    /// A guest that does not run.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let Setup {
            vm,
            name,
            world,
            board,
            checker,
            trace,
            seed,
        } = setup;
        let inner = Inner {
            dice: Arc::new(Mutex::new(Dice::of(seed, &name))),
            requests: Arc::new(Mutex::new(Requests::of(&vm))),
            plugs: Plugs::of(&world, &vm),
            faults: Faults::default(),
            root: RootDisk::default(),
            clock: WallClock::new(),
            tasks: TaskTracker::new(),
            served: TaskTracker::new(),
            state: Mutex::default(),
            vm,
            name,
            world,
            board,
            checker,
            trace,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        let state = self.inner.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn dice(&self) -> MutexGuard<'_, Dice> {
        let dice = self.inner.dice.lock();
        dice.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        self.inner
            .trace
            .note(format_args!("{}: {what}", self.inner.name));
    }

    pub(crate) fn spawn(&self, life: &Life, work: impl Future<Output = ()> + Send + 'static) {
        let life = life.clone();
        let work = Box::pin(work);
        self.inner.tasks.spawn(async move {
            life.run(work).await;
        });
    }

    pub(crate) fn machine(&self) -> Option<Machine> {
        self.state().machine.clone()
    }

    /// The plugin that listens; none: its socket refuses connections.
    pub(crate) fn listening(&self) -> Option<Process> {
        let state = self.state();
        state.plugin.clone().filter(|p| !p.life.is_over())
    }

    /// Whose guest it is.
    #[must_use]
    pub fn vm(&self) -> &VmId {
        &self.inner.vm
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// It has power and is not suspended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let machine = self.machine();
        machine.is_some_and(|machine| !machine.life.is_frozen())
    }

    /// The power came on: kernel, plugin and dockerd start.
    pub fn boot(&self) {
        let inner = &self.inner;
        let life = Life::default();
        let kernel = Kernel::new(
            &inner.vm,
            &inner.world,
            &inner.checker,
            life.clone(),
            inner.plugs.clone(),
            Arc::clone(&inner.dice),
        );
        let machine = Machine {
            life: life.clone(),
            kernel: Arc::new(kernel),
        };
        let writing = Arc::clone(&machine.kernel);
        {
            let mut state = self.state();
            if state.machine.is_some() {
                return;
            }
            state.machine = Some(machine);
        }
        self.note(format_args!("starts"));
        self.spawn(&life, async move { writing.write_back().await });
        self.start_plugin();
        self.start_dockerd();
    }

    /// The power goes. Told just before it does, some of what lies in the page cache still reaches the disks: `torn` draws
    /// what.
    pub fn power_cut(&self, torn: u64) {
        let (machine, plugin) = {
            let mut state = self.state();
            state.starting = None;
            state.daemon = None;
            (state.machine.take(), state.plugin.take())
        };
        let Some(machine) = machine else { return };
        self.note(format_args!("loses power"));
        machine.life.end();
        if let Some(plugin) = plugin {
            plugin.kill();
        }
        machine.kernel.power_cut(&mut Dice::new(torn));
        self.state().docker.machine_ended();
    }

    /// The machine is suspended: it stands still, with all it has in memory. Its connections are gone.
    pub fn suspend(&self) {
        if let Some(machine) = self.machine() {
            self.note(format_args!("is suspended"));
            machine.life.freeze(true);
        }
    }

    /// It goes on where it was.
    pub fn resume(&self) {
        if let Some(machine) = self.machine() {
            self.note(format_args!("goes on"));
            machine.life.freeze(false);
        }
    }

    /// Starts the plugin, if the machine runs and none does.
    pub fn start_plugin(&self) {
        let Some(machine) = self.machine() else {
            return;
        };
        let life = {
            let mut state = self.state();
            if state.starting.as_ref().is_some_and(|life| !life.is_over()) {
                return;
            }
            let life = machine.life.child();
            state.starting = Some(life.clone());
            life
        };
        let starting = life.clone();
        self.spawn(&starting, self.clone().plugin(machine, life));
    }

    /// SIGKILL: the plugin ends between two of its steps, or in the middle of one.
    pub fn kill_plugin(&self) {
        let (starting, plugin) = {
            let mut state = self.state();
            (state.starting.take(), state.plugin.take())
        };
        if let Some(life) = starting {
            self.note(format_args!("its plugin is killed"));
            life.end();
        }
        if let Some(plugin) = plugin {
            plugin.kill();
        }
    }

    /// SIGTERM: the plugin ends in order.
    pub async fn stop_plugin(&self) {
        let plugin = self.state().plugin.take();
        if let Some(plugin) = plugin {
            self.note(format_args!("its plugin is stopped"));
            plugin.stop().await;
        }
    }

    /// SIGKILL for dockerd. Containers run on.
    pub fn kill_dockerd(&self) {
        let daemon = self.state().daemon.take();
        if let Some(daemon) = daemon {
            self.note(format_args!("its dockerd is killed"));
            daemon.end();
        }
    }

    /// Starts dockerd, if the machine runs and none does.
    pub fn start_dockerd(&self) {
        let Some(machine) = self.machine() else {
            return;
        };
        if self.state().daemon.is_some() {
            return;
        }
        let life = machine.life.child();
        self.state().daemon = Some(life.clone());
        Daemon::start(self, machine, life);
    }

    /// The dockerd that runs.
    pub(crate) fn daemon(&self) -> Option<Daemon> {
        let state = self.state();
        let (machine, life) = (state.machine.clone()?, state.daemon.clone()?);
        drop(state);
        Some(Daemon {
            life,
            guest: self.clone(),
            machine,
        })
    }

    /// So many of the next calls to the agent go wrong.
    pub fn link(&self, fault: LinkFault, times: u32) {
        self.inner.faults.add(fault, times);
    }

    /// The calls to come go well.
    pub fn link_again(&self) {
        self.inner.faults.clear();
    }

    /// Nothing that was planned goes wrong any more: calls, the own disk, dockerd's Unmounts.
    pub fn mend(&self) {
        self.inner.faults.clear();
        self.make_unreadable(0);
        self.inner.root.mend();
        self.state().docker.mend();
    }

    /// So many of the next looks at what is on a disk of a volume fail.
    pub fn make_unreadable(&self, times: u32) {
        if let Some(machine) = self.machine() {
            machine.kernel.make_unreadable(times);
        }
    }

    /// Something goes wrong with the guest's own disk.
    pub fn journal(&self, fault: JournalFault) {
        self.inner.root.fault(fault);
    }

    /// Whether the guest's own disk has room, and after how many times without.
    pub(crate) fn room(&self) -> Option<u64> {
        self.inner.root.room()
    }

    /// Writes of the journal so far.
    #[must_use]
    pub fn journal_writes(&self) -> u64 {
        self.inner.root.writes()
    }

    /// The guest's wall clock jumps.
    pub fn skew(&self, millis: i64) {
        self.inner.clock.jump(millis);
    }

    /// The guest's own disk as it is now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            files: self.inner.root.copy(),
            docker: self.state().docker.clone(),
        }
    }

    /// The guest's own disk as it was. Only without power.
    pub fn revert(&self, to: &Snapshot) {
        self.note(format_args!("goes back to a snapshot"));
        self.inner.root.restore(&to.files);
        let mut docker = to.docker.clone();
        docker.machine_ended();
        self.state().docker = docker;
    }

    pub(crate) fn name_lock(&self, name: &str) -> Arc<AsyncMutex<()>> {
        let mut state = self.state();
        Arc::clone(state.names.entry(name.to_owned()).or_default())
    }

    pub(crate) fn number(&self) -> u64 {
        let mut state = self.state();
        state.numbers += 1;
        state.numbers
    }
}
