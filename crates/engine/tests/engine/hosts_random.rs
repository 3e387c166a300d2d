//! Random schedules of two hosts: requests that wait, faults, dying agents and hosts, hosts cut off, moves, suspends.
//!
//! At any moment there is at most one writer. A VM that runs, was told that it has a volume under `failover=wait`, and
//! did not give it back, has its disk. Every wait ends. In the end, with everything healed, records and devices agree.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use vdvs_domain::{Epoch, HostId, VmId};
use vdvs_engine::Engine;
use vdvs_engine::api::{Caller, VolumeView};
use vdvs_engine::ports::Power;
use vdvs_host_sim::{Fault, When};

use crate::hosts::Two;
use crate::support::{call_for, disk, volume};

/// `vm1`, `vm2` on the first host, `far1`, `far2` on the second.
const VMS: usize = 4;
const NAMES: [&str; 2] = ["waits", "fences"];

#[derive(Debug, Clone)]
enum Step {
    /// A request of a VM for a volume, for so many seconds.
    Attach(usize, usize, u64),
    /// With its epoch, or an older one.
    Detach(usize, usize, u64),
    Power(usize, Power),
    /// To the other host.
    Move(usize),
    /// The agent of a host dies and starts again after so many seconds.
    Agent(bool, u64),
    CrashHost(bool),
    CutOff(bool, bool),
    Fault(bool, u64, Fault),
    Time(u64),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Fail),
        Just(Fault::NoAnswer(When::Before)),
        Just(Fault::NoAnswer(When::After)),
        Just(Fault::Crash(When::Before)),
        Just(Fault::Crash(When::Half)),
        Just(Fault::Crash(When::After)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let vm = 0..VMS;
    let name = 0..NAMES.len();
    prop_oneof![
        8 => (vm.clone(), name.clone(), 0u64..40).prop_map(|(v, n, s)| Step::Attach(v, n, s)),
        4 => (vm.clone(), name, 0u64..2).prop_map(|(v, n, late)| Step::Detach(v, n, late)),
        1 => vm.clone().prop_map(|v| Step::Power(v, Power::Off)),
        2 => vm.clone().prop_map(|v| Step::Power(v, Power::On)),
        1 => vm.clone().prop_map(|v| Step::Power(v, Power::Suspended)),
        1 => vm.prop_map(Step::Move),
        1 => (any::<bool>(), 0u64..30).prop_map(|(h, s)| Step::Agent(h, s)),
        1 => any::<bool>().prop_map(Step::CrashHost),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(h, cut)| Step::CutOff(h, cut)),
        2 => (any::<bool>(), 0u64..60, fault()).prop_map(|(h, at, f)| Step::Fault(h, at, f)),
        5 => (0u64..20_000).prop_map(Step::Time),
    ]
}

/// What VMs were told that they have: disk name by VM, until they give it back or lose power.
type Told = Arc<Mutex<BTreeMap<(usize, usize), Epoch>>>;

struct Run {
    two: Two,
    made: Vec<VolumeView>,
    on_far: [bool; VMS],
    cut: [bool; 2],
    told: Told,
    requests: JoinSet<()>,
    n: u128,
}

impl Run {
    async fn new() -> Self {
        let two = Two::new();
        two.near.world.set_lapse(Duration::from_secs(6));
        let mut made = Vec::new();
        for (n, name) in (1u128..).zip(NAMES) {
            let failover = [("failover", if name == "waits" { "wait" } else { "fence" })];
            let view = two.near.try_create(1, n, name, &failover).await.unwrap();
            made.push(view.into_inner());
        }
        Self {
            two,
            made,
            on_far: [false, false, true, true],
            cut: [false; 2],
            told: Told::default(),
            requests: JoinSet::new(),
            n: 100,
        }
    }

    fn vm(&self, vm: usize) -> &VmId {
        match vm {
            0 | 1 => &self.two.near.vms[vm],
            _ => &self.two.far_vms[vm - 2],
        }
    }

    fn caller(&self, vm: usize) -> Caller {
        match vm {
            0 | 1 => self.two.near.caller(vm + 1),
            _ => self.two.far_caller(vm - 1),
        }
    }

    fn engine(&self, vm: usize) -> Arc<Engine> {
        Arc::clone(match self.on_far[vm] {
            false => &self.two.near.engine,
            true => &self.two.far,
        })
    }

    fn forget(&self, vms: impl Fn(usize) -> bool) {
        self.told.lock().unwrap().retain(|(vm, _), _| !vms(*vm));
    }

    fn attach(&mut self, vm: usize, name: usize, secs: u64) {
        self.n += 1;
        let (engine, caller, told) = (self.engine(vm), self.caller(vm), Arc::clone(&self.told));
        let call = call_for(self.n, 120);
        self.requests.spawn(async move {
            let wait = Duration::from_secs(secs);
            let address = volume(NAMES[name]);
            let attach = engine.attach(&caller, &call, &address, false, wait);
            // An agent that dies never answers; its guest gives up.
            if let Ok(Ok(got)) = timeout(Duration::from_secs(200), attach).await {
                told.lock().unwrap().insert((vm, name), got.epoch);
            }
        });
    }

    fn detach(&mut self, vm: usize, name: usize, late: u64) {
        self.n += 1;
        let epoch = self.told.lock().unwrap().get(&(vm, name)).copied();
        let Some(epoch) = epoch else { return };
        let epoch = Epoch::new(epoch.number() - late.min(epoch.number()));
        if late == 0 {
            self.told.lock().unwrap().remove(&(vm, name));
        }
        let (engine, caller) = (self.engine(vm), self.caller(vm));
        let (id, call) = (self.made[name].id, call_for(self.n, 120));
        self.requests.spawn(async move {
            let detach = engine.detach(&caller, &call, id, epoch);
            drop(timeout(Duration::from_secs(200), detach).await);
        });
    }

    async fn apply(&mut self, step: &Step) {
        match *step {
            Step::Attach(vm, name, secs) => self.attach(vm, name, secs),
            Step::Detach(vm, name, late) => self.detach(vm, name, late),
            Step::Power(vm, power) => {
                if power == Power::Off {
                    self.forget(|v| v == vm);
                }
                self.two.near.world.power(self.vm(vm), power);
            }
            Step::Move(vm) => {
                self.on_far[vm] = !self.on_far[vm];
                let host = match self.on_far[vm] {
                    true => self.two.far_host,
                    false => self.two.near.host,
                };
                // Nothing moves to or from a host that sees no datastore.
                if self.cut == [false; 2] {
                    self.two.near.world.register(self.vm(vm), host);
                } else {
                    self.on_far[vm] = !self.on_far[vm];
                }
            }
            Step::Agent(far, secs) => {
                self.kill(far);
                sleep(Duration::from_secs(secs)).await;
                self.start(far);
            }
            Step::CrashHost(far) => {
                let host = self.host(far);
                let on_far = self.on_far;
                self.forget(|vm| on_far[vm] == far);
                self.two.near.world.crash_host(host);
                self.kill(far);
                sleep(Duration::from_secs(3)).await;
                self.start(far);
            }
            Step::CutOff(far, cut) => {
                let host = self.host(far);
                let on_far = self.on_far;
                self.cut[usize::from(far)] = cut;
                self.forget(|vm| on_far[vm] == far);
                self.two.near.world.cut_off(host, cut);
            }
            Step::Fault(far, at, fault) => match far {
                false => self.two.near.session.plan(at, fault),
                true => self.two.far_session.plan(at, fault),
            },
            Step::Time(ms) => sleep(Duration::from_millis(ms)).await,
        }
        if self.two.near.session.is_dead() {
            self.start(false);
        }
        if self.two.far_session.is_dead() {
            self.start(true);
        }
        sleep(Duration::from_millis(20)).await;
        self.check(step);
    }

    fn host(&self, far: bool) -> HostId {
        match far {
            false => self.two.near.host,
            true => self.two.far_host,
        }
    }

    fn kill(&mut self, far: bool) {
        match far {
            false => self.two.kill_near(),
            true => self.two.kill_far(),
        }
    }

    fn start(&mut self, far: bool) {
        self.kill(far);
        match far {
            false => self.two.start_near(),
            true => self.two.start_far(),
        }
    }

    fn check(&self, step: &Step) {
        for view in &self.made {
            let writers = self.two.near.world.writers(&disk(view));
            assert!(
                writers.len() <= 1,
                "{step:?}: {} has {writers:?}",
                view.name
            );
        }
        for (vm, name) in self.told.lock().unwrap().keys() {
            if NAMES[*name] != "waits" {
                continue;
            }
            let devices = self.two.near.world.devices(self.vm(*vm));
            let has = devices.iter().any(|d| d.disk == disk(&self.made[*name]));
            assert!(
                has,
                "{step:?}: VM {vm} was told that it has the disk, and lost it"
            );
        }
    }

    async fn heal(&mut self) {
        let world = self.two.near.world.clone();
        for far in [false, true] {
            world.cut_off(self.host(far), false);
            self.start(far);
        }
        for vm in 0..VMS {
            if !world.power(self.vm(vm), Power::On) {
                // Refused by a disk that is another's: the reconciler takes it out first. From a VM that was suspended
                // after it had lost the disk it cannot: somebody has to give up the saved state.
                world.power(self.vm(vm), Power::Off);
                sleep(Duration::from_secs(40)).await;
                assert!(world.power(self.vm(vm), Power::On), "VM {vm} cannot boot");
            }
        }
        let ends = async { while self.requests.join_next().await.is_some() {} };
        timeout(Duration::from_secs(250), ends)
            .await
            .expect("a wait does not end");
        sleep(Duration::from_secs(100)).await;
    }

    async fn agree(&self) {
        let listing = self.two.near.engine.admin_volumes().await.unwrap();
        for volume in &listing.volumes {
            assert_eq!(volume.operation, None, "{}", volume.view.name);
            let owner = volume.view.ownership.owner().map(|o| o.vm.id.clone());
            let disk = disk(&volume.view);
            for vm in 0..VMS {
                let devices = self.two.near.world.devices(self.vm(vm));
                let has = devices.iter().any(|d| d.disk == disk);
                let says = owner.as_ref() == Some(self.vm(vm));
                assert_eq!(has, says, "VM {vm} and {}", volume.view.name);
            }
        }
        assert_eq!(listing.volumes.len(), NAMES.len());
    }
}

async fn run(steps: Vec<Step>) {
    let mut run = Run::new().await;
    for step in &steps {
        run.apply(step).await;
    }
    run.heal().await;
    run.agree().await;
}

proptest! {
    // Each case is minutes of two agents' lives.
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: ProptestConfig::default().cases / 5,
        ..ProptestConfig::default()
    })]
    #[test]
    fn two_hosts_have_one_writer_and_every_wait_ends(steps in prop::collection::vec(step(), 1..30)) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(steps));
    }
}
