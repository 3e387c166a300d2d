//! Where steps are carried out, and what must hold after the last one.

use std::collections::BTreeSet;
use std::slice::from_ref;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use vdvs_engine::api::Settings;
use vdvs_engine::ports::Power;
use vdvs_host_sim::{Fault, When};

use super::dice::Dice;
use super::plan::Plan;
use super::run::Takeover;
use super::step::{Admin, Step, Timed};
use crate::check::Promise;
use crate::fleet::{Scheduler, administer, come_back, restart_elsewhere};
use crate::guest::JournalFault;
use crate::universe::Universe;

/// After the faults have stopped every wanted service must run within this time: one Mount may have to end in vain
/// (120 s), a leaked count be doubted (120 s and a check every 60 s), a task be started again.
const ALL_RUN: Duration = Duration::from_secs(600);
/// And after they were stopped, nothing may be held after this time.
const ALL_FREE: Duration = Duration::from_secs(400);
/// How often it is looked whether that is so.
const LOOK: Duration = Duration::from_secs(2);
/// So long nobody can say who holds a lock.
const BLINDFOLD: Duration = Duration::from_secs(60);
/// So many looks fail after a write without answer.
const LOOKS: u32 = 3;
/// What people call volumes they make by hand.
const OWN: [&str; 4] = ["scratch", "notes", "cache", "logs"];

/// The steps' side of a run.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) universe: &'a Universe,
    pub(super) plan: &'a Plan,
    pub(super) scheduler: Scheduler,
    pub(super) takeovers: Vec<Takeover>,
    dice: Dice,
    containers: u64,
    /// Volumes that an administrator removed, or tried to.
    gone: BTreeSet<String>,
    /// Volumes whose `failover` an administrator changed, or tried to.
    open: BTreeSet<String>,
}

/// The name of a service's volume.
pub(super) fn volume_name(volume: usize) -> String {
    format!("data{volume}")
}

/// A name people use: of a volume of their own, or of a service's.
pub(super) fn any_name(volume: usize) -> String {
    OWN.get(volume)
        .map_or_else(|| volume_name(volume), |name| (*name).to_owned())
}

/// After this what is left over is left over for good: a sweep has to see it, one that comes when it is old enough removes it,
/// and the next what that one uncovered. With less, a schedule whose last step leaves something behind fails for nothing.
fn swept() -> Duration {
    let settings = Settings::default();
    settings.orphan_age + settings.sweep * 2 + Duration::from_secs(10)
}

impl<'a> Stage<'a> {
    pub(super) fn new(universe: &'a Universe, plan: &'a Plan) -> Self {
        let services = plan.shape.services.iter();
        let names = services.map(|volumes| volumes.iter().map(|v| volume_name(*v)).collect());
        let scheduler = Scheduler::new(universe, names.collect(), plan.seed);
        universe.spawn(scheduler.clone().run());
        Self {
            universe,
            plan,
            scheduler,
            takeovers: Vec::new(),
            dice: Dice::of(plan.seed, "stage"),
            containers: 0,
            gone: BTreeSet::new(),
            open: BTreeSet::new(),
        }
    }

    pub(super) fn takeovers(self) -> Vec<Takeover> {
        self.takeovers
    }

    /// The services' volumes, made before anything goes wrong, and then the steps.
    pub(super) async fn steps(&mut self, steps: &[Timed]) {
        self.make_volumes().await;
        for timed in steps {
            sleep(timed.after).await;
            self.universe.note(format_args!("---- {:?}", timed.step));
            Box::pin(self.step(&timed.step)).await;
        }
    }

    async fn make_volumes(&self) {
        let datastores = self.universe.datastores();
        for (volume, fenced) in self.plan.shape.fenced.iter().enumerate() {
            let name = volume_name(volume);
            let ds = self
                .universe
                .datastore(volume.checked_rem(datastores).unwrap_or(0));
            let failover = match fenced {
                true => "fence",
                false => "wait",
            };
            if *fenced {
                self.universe.checker().may_fence(&name);
            }
            let options = [("failover", failover), ("VolumeStore", ds.as_str())];
            let mut made = self.universe.guest(0).create(&name, &options).await;
            // The first request may come before the plugin or the agent serves.
            for _ in 0..5 {
                if made.is_ok() {
                    break;
                }
                sleep(LOOK).await;
                made = self.universe.guest(0).create(&name, &options).await;
            }
            if let Err(why) = made {
                let checker = self.universe.checker();
                checker.broken(Promise::Liveness, format!("{name} cannot be made: {why}"));
            }
        }
    }

    /// An administrator removed it, or tried to.
    pub(super) fn may_be_gone(&self, name: &str) -> bool {
        self.gone.contains(name)
    }

    /// Nobody knows whether it is fenced.
    pub(super) fn is_open(&self, name: &str) -> bool {
        self.open.contains(name)
    }

    pub(super) fn luck(&mut self) -> Dice {
        Dice::new(self.dice.any())
    }

    fn host(&self, host: usize) -> usize {
        host.checked_rem(self.universe.hosts()).unwrap_or(0)
    }

    pub(super) fn vm(&self, vm: usize) -> usize {
        vm.checked_rem(self.universe.vms()).unwrap_or(0)
    }

    async fn step(&mut self, step: &Step) {
        let universe = self.universe;
        match *step {
            Step::Pause => {}
            Step::Deploy(service) => self.scheduler.deploy(service),
            Step::Retire(service) => self.scheduler.retire(service),
            Step::Create(vm, volume) => self.create(vm, volume),
            Step::Rush(volume) => (0..universe.vms()).for_each(|vm| self.create(vm, volume)),
            Step::Clone(vm, volume) => {
                let guest = universe.guest(vm).clone();
                let name = any_name(volume);
                universe.spawn_affair(async move {
                    let options = [("clone-from", "data0")];
                    drop(guest.create(&format!("{name}-copy"), &options).await);
                });
            }
            Step::Remove(vm, volume) => {
                let (guest, name) = (universe.guest(vm).clone(), any_name(volume));
                let checker = universe.checker().clone();
                let under_way = checker.removing(&name);
                universe.spawn_affair(async move {
                    if guest.remove(&name).await.is_ok() {
                        checker.removed(&name);
                    }
                    drop(under_way);
                });
            }
            Step::List(vm) => {
                let guest = universe.guest(vm).clone();
                universe.spawn_affair(async move { drop(guest.list().await) });
            }
            Step::Amid(verb, fault, ref step) => {
                if let Step::Create(vm, _) | Step::Remove(vm, _) | Step::RunOnce(vm, ..) = **step {
                    let host = universe.host_of(self.vm(vm)).unwrap_or(0);
                    universe.plan_fault_at(host, verb, fault);
                }
                Box::pin(self.step(step)).await;
            }
            Step::RunOnce(vm, volume, how_long) => {
                self.run_once(vm, vec![any_name(volume)], how_long);
            }
            Step::Rivals(volume, how_long) => {
                for vm in 0..universe.vms() {
                    self.run_once(vm, vec![volume_name(volume)], how_long);
                }
            }
            Step::Grope(vm, volume) => {
                universe.world().hide_locks(true);
                self.run_once(vm, vec![volume_name(volume)], Duration::from_secs(5));
                let later = universe.clone();
                universe.spawn(async move {
                    sleep(BLINDFOLD).await;
                    later.world().hide_locks(false);
                });
            }
            Step::Embrace(one, other) => {
                let (first, second) = (volume_name(0), volume_name(1));
                let how_long = Duration::from_secs(20);
                self.run_once(one, vec![first.clone(), second.clone()], how_long);
                self.run_once(other, vec![second, first], how_long);
            }
            _ => self.trouble(step).await,
        }
    }

    fn create(&self, vm: usize, volume: usize) {
        let (guest, name) = (self.universe.guest(vm).clone(), any_name(volume));
        let made = async move { drop(guest.create(&name, &[]).await) };
        self.universe.spawn_affair(made);
    }

    fn run_once(&mut self, vm: usize, volumes: Vec<String>, how_long: Duration) {
        self.containers += 1;
        let (vm, number) = (self.vm(vm), self.containers);
        let run = self
            .universe
            .clone()
            .run_once(vm, volumes, number, how_long);
        self.universe.spawn_affair(run);
    }

    async fn trouble(&mut self, step: &Step) {
        let universe = self.universe;
        match *step {
            Step::PowerCut(vm, torn) => universe.power_cut(self.vm(vm), torn),
            Step::PowerOn(vm) => {
                universe.power_on(self.vm(vm));
            }
            Step::Suspend(vm, how_long) => {
                let vm = self.vm(vm);
                universe.suspend(vm);
                let later = universe.clone();
                universe.spawn(async move {
                    sleep(how_long).await;
                    if later.power(vm) == Power::Suspended {
                        later.power_on(vm);
                    }
                });
            }
            Step::Snapshot(vm) => universe.snapshot(self.vm(vm)),
            Step::Revert(vm) => {
                let (vm, torn) = (self.vm(vm), self.dice.any());
                universe.revert(vm, torn);
                universe.power_on(vm);
            }
            Step::Partition(vm, partitioned) => universe.partition(self.vm(vm), partitioned),
            Step::VMotion(vm, host) => universe.vmotion(self.vm(vm), self.host(host)),
            Step::Twin(vm, host) => universe.twin(self.vm(vm), self.host(host)),
            Step::Takeover(service, death) => Box::pin(self.takeover(service, death)).await,
            _ if self.guest_trouble(step) => {}
            _ => self.host_trouble(step),
        }
    }

    fn host_trouble(&mut self, step: &Step) {
        let universe = self.universe;
        match *step {
            Step::KillAgent(host, down) => universe.kill_agent(self.host(host), down),
            Step::CrashHost(host, down, ha) => {
                let (host, torn) = (self.host(host), self.dice.any());
                universe.crash_host(host, torn);
                if ha {
                    universe.spawn_affair(restart_elsewhere(universe.clone(), host, self.luck()));
                }
                universe.spawn_affair(come_back(universe.clone(), host, down, self.luck()));
            }
            Step::Isolate(host, isolated) => {
                let host = self.host(host);
                universe.isolate(host, isolated);
                if isolated && self.dice.once_in(2) {
                    universe.spawn_affair(restart_elsewhere(universe.clone(), host, self.luck()));
                }
            }
            Step::Reach(host, ds, reachable) => {
                universe.reach(self.host(host), ds, reachable);
            }
            Step::Hang(host, ds, hangs) => universe.hang(self.host(host), ds, hangs),
            Step::HideLocks(hidden) => universe.world().hide_locks(hidden),
            Step::Full(ds, full) => {
                let room = full.then_some(0);
                universe.world().fill(universe.datastore(ds), room);
            }
            Step::Fault(host, later, fault) => universe.plan_fault(self.host(host), later, fault),
            Step::FaultAt(host, verb, fault, times) => {
                for _ in 0..times {
                    universe.plan_fault_at(self.host(host), verb, fault);
                }
            }
            Step::Blind(host, took) => {
                let host = self.host(host);
                let when = if took { When::After } else { When::Before };
                universe.plan_fault_at(host, "write", Fault::NoAnswer(when));
                for verb in ["read", "read_dir"] {
                    for _ in 0..LOOKS {
                        universe.plan_fault_at(host, verb, Fault::Fail);
                    }
                }
            }
            Step::Strike(host, verb, when, down) => {
                let (host, torn, luck) = (self.host(host), self.dice.any(), self.luck());
                let later = universe.clone();
                universe.strike(host, verb, when);
                universe.spawn(async move {
                    if later.struck(host, torn).await {
                        later.spawn_affair(come_back(later.clone(), host, down, luck));
                    }
                });
            }
            Step::ClockJump(host, seconds) => {
                let id = universe.host_id(self.host(host));
                universe
                    .world()
                    .jump_clock(id, seconds.saturating_mul(1000));
            }
            Step::Admin(host, volume, what) => {
                let (host, name) = (self.host(host), volume_name(volume));
                match what {
                    Admin::Remove => drop(self.gone.insert(name.clone())),
                    Admin::SetFailover(_) => drop(self.open.insert(name.clone())),
                    Admin::Look | Admin::Take | Admin::TakeByForce => {}
                }
                let luck = self.luck();
                universe.spawn_affair(administer(universe.clone(), host, name, what, luck));
            }
            _ => {}
        }
    }

    /// Faults stop: everything has power and reaches everything.
    pub(super) async fn heal(&mut self) {
        let universe = self.universe;
        universe.note(format_args!("==== everything is healed"));
        universe.heal_storage();
        universe.world().pin_nothing();
        universe.end_twins();
        for host in 0..universe.hosts() {
            universe.power_host(host);
            universe.plan_no_faults(host);
            universe.release_agent(host);
        }
        for vm in 0..universe.vms() {
            universe.partition(vm, false);
            universe.cut_link(vm, false);
            universe.guest(vm).mend();
            universe.guest(vm).journal(JournalFault::Full(false));
            universe.guest(vm).start_dockerd();
        }
        for _ in 0..60 {
            let all = (0..universe.vms()).filter(|vm| !universe.power_on(*vm));
            if all.count() == 0 {
                return;
            }
            sleep(LOOK).await;
        }
        // A saved state that wants a disk which is another's by now has to be given up.
        for vm in 0..universe.vms() {
            if universe.power(vm) == Power::Suspended {
                universe.power_cut(vm, 0);
            }
        }
        for _ in 0..90 {
            if (0..universe.vms())
                .filter(|vm| !universe.power_on(*vm))
                .count()
                == 0
            {
                return;
            }
            sleep(LOOK).await;
        }
        let off = (0..universe.vms()).filter(|vm| universe.power(*vm) != Power::On);
        let off: Vec<_> = off.map(|vm| format!("vm{}", vm + 1)).collect();
        let text = format!("{} cannot be started: a disk keeps it off", off.join(", "));
        universe.checker().broken(Promise::Liveness, text);
    }

    /// Everything wanted runs; then nothing does; then every volume is read once more.
    pub(super) async fn rest(&mut self) {
        if !self.all_run().await {
            let text = format!(
                "services {:?} do not run {} s after everything was healed",
                self.scheduler.missing(),
                ALL_RUN.as_secs()
            );
            self.universe.checker().broken(Promise::Liveness, text);
        }
        self.universe
            .note(format_args!("==== everything is stopped"));
        self.scheduler.retire_all();
        self.within(ALL_FREE, |s| s.scheduler.is_idle()).await;
        let nothing = |s: &Self| {
            let held = (0..s.universe.vms()).any(|vm| !s.universe.guest(vm).holds().is_empty());
            !held && (0..s.universe.vms()).all(|vm| s.universe.disks(vm) == 0)
        };
        self.within(ALL_FREE, nothing).await;
        self.read_all().await;
        self.within(ALL_FREE, nothing).await;
        self.take_from_the_gone().await;
        sleep(swept()).await;
    }

    pub(super) async fn all_run(&self) -> bool {
        self.within(ALL_RUN, |s| s.scheduler.missing().is_empty())
            .await
    }

    pub(super) async fn within(&self, time: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let until = Instant::now() + time;
        while !holds(self) {
            if Instant::now() >= until {
                return false;
            }
            sleep(LOOK).await;
        }
        true
    }

    /// A VM that exists no more keeps what it had until somebody wants it (`missing-owner` among the doctor's findings),
    /// and not every volume was wanted since: an administrator takes what is left with such VMs, in order.
    async fn take_from_the_gone(&mut self) {
        let universe = self.universe;
        let host = self.dice.index(universe.hosts());
        for volume in universe.checker().kept_by_the_gone() {
            let luck = self.luck();
            administer(universe.clone(), host, volume, Admin::Take, luck).await;
        }
    }

    async fn read_all(&mut self) {
        let universe = self.universe;
        for volume in 0..self.plan.shape.fenced.len() {
            let (name, vm) = (volume_name(volume), self.dice.index(universe.vms()));
            if self.may_be_gone(&name) {
                continue;
            }
            let mut started = false;
            let task = format!("last.{volume}");
            for _ in 0..4 {
                started = universe.start_task(vm, &task, from_ref(&name)).await;
                if started {
                    break;
                }
                sleep(Duration::from_secs(30)).await;
            }
            if started {
                sleep(LOOK).await;
                universe.stop_task(vm, &task).await;
            } else {
                let text = format!("{name} cannot be mounted in vm{} any more", vm + 1);
                universe.checker().broken(Promise::NoTrace, text);
            }
        }
    }
}
