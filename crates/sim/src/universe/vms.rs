//! A VM: its power, where it is registered, and the guest in it.
//!
//! The world decides first whether something can happen (a VM whose disk is locked elsewhere does not start), the guest
//! follows, and the switchboard is told where its connection ends.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use vdvs_domain::{HostId, VmId};
use vdvs_engine::ports::Power;

use super::{Universe, locked};
use crate::guest::{Guest, Snapshot};

/// How often a guest's init looks whether the plugin runs.
const SERVICE: Duration = Duration::from_secs(1);

/// A VM and what of it changes.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) id: VmId,
    pub(super) guest: Guest,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    power: Power,
    host: usize,
    /// The orchestrator does not hear it.
    partitioned: bool,
    /// Its plugin is not started again before.
    plugin_hold: Instant,
    snapshot: Option<Snapshot>,
}

impl Machine {
    pub(super) fn new(id: VmId, guest: Guest, host: usize) -> Self {
        Self {
            id,
            guest,
            state: Mutex::new(State {
                power: Power::On,
                host,
                partitioned: false,
                plugin_hold: Instant::now(),
                snapshot: None,
            }),
        }
    }
}

impl Universe {
    /// Number of VMs.
    #[must_use]
    pub fn vms(&self) -> usize {
        self.inner.machines.len()
    }

    fn machine(&self, vm: usize) -> &Machine {
        let machines = &self.inner.machines;
        let at = vm.checked_rem(machines.len()).unwrap_or(0);
        machines
            .get(at)
            .expect("a universe has VMs, and this is one of them")
    }

    /// The identity of a VM.
    #[must_use]
    pub fn vm_id(&self, vm: usize) -> &VmId {
        &self.machine(vm).id
    }

    /// A VM from inside.
    #[must_use]
    pub fn guest(&self, vm: usize) -> &Guest {
        &self.machine(vm).guest
    }

    /// The host where a VM is registered.
    #[must_use]
    pub fn host_of(&self, vm: usize) -> Option<usize> {
        Some(locked(&self.machine(vm).state).host)
    }

    /// Its power.
    #[must_use]
    pub fn power(&self, vm: usize) -> Power {
        locked(&self.machine(vm).state).power
    }

    fn set_power(&self, vm: usize, power: Power) {
        locked(&self.machine(vm).state).power = power;
    }

    /// A VM loses power; `torn` says what of its page cache reached the disks.
    pub fn power_cut(&self, vm: usize, torn: u64) {
        if self.power(vm) != Power::Off {
            self.guest_loses_power(vm, torn);
            self.inner.world.power(self.vm_id(vm), Power::Off);
        }
    }

    /// The guest's last moment: what it still writes reaches the disks, if they can be reached.
    pub(super) fn guest_loses_power(&self, vm: usize, torn: u64) {
        self.set_power(vm, Power::Off);
        self.guest(vm).power_cut(torn);
    }

    /// Starts a VM. False: its host has no power, or one of its disks is locked elsewhere.
    pub fn power_on(&self, vm: usize) -> bool {
        let was = self.power(vm);
        let host = self.host_of(vm).unwrap_or(0);
        if was == Power::On {
            return true;
        }
        if !self.host_runs(host) || !self.inner.world.power(self.vm_id(vm), Power::On) {
            return false;
        }
        match was {
            Power::Suspended => {
                self.set_power(vm, Power::On);
                self.guest(vm).resume();
            }
            Power::On | Power::Off => self.booted(vm),
        }
        true
    }

    /// Suspends a running VM.
    pub fn suspend(&self, vm: usize) {
        if self.power(vm) == Power::On {
            self.guest(vm).suspend();
            self.inner.world.power(self.vm_id(vm), Power::Suspended);
            self.set_power(vm, Power::Suspended);
        }
    }

    /// A running VM moves to another host that runs and sees storage.
    pub fn vmotion(&self, vm: usize, to: usize) {
        let from = self.host_of(vm).unwrap_or(0);
        let movable = |host| self.host_runs(host) && !self.is_isolated(host);
        if from != to && movable(from) && movable(to) && self.power(vm) != Power::Suspended {
            self.note(format_args!("vm{}: moves from host {from} to {to}", vm + 1));
            self.registered_on(vm, to);
        }
    }

    /// HA starts a VM elsewhere, because its own host does not answer. True when it runs there.
    #[must_use]
    pub fn restart_elsewhere(&self, vm: usize, to: usize, torn: u64) -> bool {
        let was = self.power(vm);
        if was == Power::Suspended {
            return false;
        }
        let id = self.vm_id(vm);
        let runs = self.inner.world.restart_elsewhere(id, self.host_id(to));
        let there = self.inner.world.host_of(id) == Some(self.host_id(to));
        if there {
            if was == Power::On {
                self.guest_loses_power(vm, torn);
            }
            self.note(format_args!("vm{}: HA registers it on host {to}", vm + 1));
            locked(&self.machine(vm).state).host = to;
            self.inner.board.register(id, Some(self.host_id(to)));
        }
        if runs {
            self.booted(vm);
        }
        runs
    }

    fn booted(&self, vm: usize) {
        self.set_power(vm, Power::On);
        self.guest(vm).boot();
    }

    fn registered_on(&self, vm: usize, to: usize) {
        let (id, host) = (self.vm_id(vm), self.host_id(to));
        locked(&self.machine(vm).state).host = to;
        self.inner.world.register(id, host);
        self.inner.board.register(id, Some(host));
    }

    /// The orchestrator does not hear a VM, or hears it again.
    pub fn partition(&self, vm: usize, partitioned: bool) {
        locked(&self.machine(vm).state).partitioned = partitioned;
    }

    /// Whether the orchestrator hears a VM: it runs, its dockerd answers, and the network is whole.
    #[must_use]
    pub fn is_heard(&self, vm: usize) -> bool {
        let state = locked(&self.machine(vm).state);
        state.power == Power::On && !state.partitioned && self.guest(vm).docker_answers()
    }

    /// Starts a task in a VM. False: it failed.
    pub async fn start_task(&self, vm: usize, task: &str, volumes: &[String]) -> bool {
        self.note(format_args!("vm{}: start {task} with {volumes:?}", vm + 1));
        let started = self
            .guest(vm)
            .run(task, volumes, self.inner.driver_named)
            .await;
        self.note(format_args!("vm{}: {task}: {started:?}", vm + 1));
        started.is_ok()
    }

    /// Stops a task in a VM.
    pub async fn stop_task(&self, vm: usize, task: &str) {
        self.note(format_args!("vm{}: stop {task}", vm + 1));
        self.guest(vm).stop(task).await;
    }

    /// What starts the plugin in a VM again whenever it ended.
    pub(super) async fn keep_plugin(self, vm: usize) {
        loop {
            sleep(SERVICE).await;
            let hold = locked(&self.machine(vm).state).plugin_hold;
            if Instant::now() >= hold && self.guest(vm).is_running() {
                self.guest(vm).start_plugin();
            }
        }
    }

    /// A VM's plugin is killed, and not started again for so long.
    pub fn kill_plugin(&self, vm: usize, down: Duration) {
        locked(&self.machine(vm).state).plugin_hold = Instant::now() + down;
        self.guest(vm).kill_plugin();
    }

    /// A VM's plugin is told to end, and not started again for so long.
    pub async fn stop_plugin(&self, vm: usize, down: Duration) {
        locked(&self.machine(vm).state).plugin_hold = Instant::now() + down;
        self.guest(vm).stop_plugin().await;
    }

    /// A VM's state is remembered.
    pub fn snapshot(&self, vm: usize) {
        self.inner.world.snapshot(self.vm_id(vm));
        let taken = self.guest(vm).snapshot();
        locked(&self.machine(vm).state).snapshot = Some(taken);
    }

    /// A VM goes back to what was remembered, if it was, and is started.
    pub fn revert(&self, vm: usize, torn: u64) {
        let Some(taken) = locked(&self.machine(vm).state).snapshot.clone() else {
            return;
        };
        self.power_cut(vm, torn);
        if self.inner.world.revert(self.vm_id(vm)) {
            self.guest(vm).revert(&taken);
        }
    }

    /// A VM's connection to its agent is cut, or works again.
    pub fn cut_link(&self, vm: usize, cut: bool) {
        self.inner.board.cut(self.vm_id(vm), cut);
    }

    /// Disks in a VM's configuration.
    #[must_use]
    pub fn disks(&self, vm: usize) -> usize {
        self.inner.world.devices(self.vm_id(vm)).len()
    }

    /// A copy of a VM is started that has its instance UUID, and wants its volumes.
    pub fn twin(&self, vm: usize, host: usize) {
        if !self.host_runs(host) || self.is_isolated(host) {
            return;
        }
        let inner = &self.inner;
        let mut twins = locked(&inner.twins);
        let name = format!("twin{}", twins.len() + 1);
        let (host, uuid) = (self.host_id(host), self.vm_id(vm).instance_uuid);
        let home = self.datastore(0);
        let id = inner.world.add_vm_with_uuid(host, &name, home, uuid);
        inner.board.register(&id, Some(host));
        let guest = self.new_guest(id, name);
        guest.boot();
        twins.push(guest.clone());
        self.spawn(async move {
            sleep(SERVICE * 3).await;
            drop(guest.run("copy", &["data0".to_owned()], true).await);
        });
    }

    /// Copies of VMs on a host end with it.
    pub(super) fn twins_lose_power(&self, host: HostId, torn: u64) {
        for guest in locked(&self.inner.twins).iter() {
            if self.inner.board.host_of(guest.vm()) == Some(host) {
                guest.power_cut(torn);
            }
        }
    }

    /// Copies of VMs are removed.
    pub fn end_twins(&self) {
        for guest in locked(&self.inner.twins).drain(..) {
            guest.power_cut(0);
            self.inner.world.power(guest.vm(), Power::Off);
            self.inner.world.delete_vm(guest.vm());
            self.inner.board.register(guest.vm(), None);
        }
    }

    /// Whether a task runs in a VM.
    #[must_use]
    pub fn task_runs(&self, vm: usize, task: &str) -> bool {
        self.guest(vm).runs(task)
    }

    /// A container with a volume runs for so long in a VM.
    pub async fn run_once(self, vm: usize, volumes: Vec<String>, number: u64, how_long: Duration) {
        let task = format!("once.{number}");
        if self.start_task(vm, &task, &volumes).await {
            sleep(how_long).await;
            self.stop_task(vm, &task).await;
        }
    }
}
