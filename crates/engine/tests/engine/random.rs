//! Random requests of three VMs, with faults: one writer at any moment, and in the end everything agrees.

use std::time::Duration;

use proptest::prelude::*;
use tokio::runtime::Builder;
use tokio::time::advance;
use vdvs_domain::Epoch;
use vdvs_engine::ports::Power;
use vdvs_host_sim::{Fault, When};

use crate::consistency::check;
use crate::support::{Lab, disk};

#[derive(Debug, Clone)]
enum Step {
    Create(usize, usize),
    Delete(usize, usize),
    Attach(usize, usize),
    Detach(usize, usize, u64),
    Power(usize, bool),
    Fault(u64, Fault),
    Restart,
    Sweep,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

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
    let vm = 1usize..=3;
    let name = 0usize..3;
    prop_oneof![
        3 => (vm.clone(), name.clone()).prop_map(|(v, n)| Step::Create(v, n)),
        1 => (vm.clone(), name.clone()).prop_map(|(v, n)| Step::Delete(v, n)),
        6 => (vm.clone(), name.clone()).prop_map(|(v, n)| Step::Attach(v, n)),
        4 => (vm.clone(), name, 0u64..2).prop_map(|(v, n, late)| Step::Detach(v, n, late)),
        1 => (vm, any::<bool>()).prop_map(|(v, on)| Step::Power(v, on)),
        2 => (0u64..30, fault()).prop_map(|(at, fault)| Step::Fault(at, fault)),
        1 => Just(Step::Restart),
        1 => Just(Step::Sweep),
    ]
}

async fn apply(lab: &Lab, n: u128, step: &Step) {
    match *step {
        Step::Create(vm, name) => drop(lab.try_create(vm, n, NAMES[name], &[]).await),
        Step::Delete(vm, name) => drop(lab.try_delete(vm, n, NAMES[name]).await),
        Step::Attach(vm, name) => {
            drop(
                lab.try_attach(vm, n, NAMES[name], Duration::from_secs(1))
                    .await,
            );
        }
        Step::Detach(vm, name, late) => {
            if let Ok(view) = lab.get(vm, NAMES[name]).await {
                let epoch = Epoch::new(view.epoch.number().saturating_sub(late));
                drop(lab.try_detach(vm, n, view.id, epoch).await);
            }
        }
        Step::Power(vm, on) => {
            let power = if on { Power::On } else { Power::Off };
            lab.world.power(&lab.vms[vm - 1], power);
        }
        Step::Fault(at, fault) => lab.session.plan(at, fault),
        Step::Sweep => lab.engine.sweep().await,
        Step::Restart => {}
    }
}

fn one_writer(lab: &Lab) {
    for vm in &lab.vms {
        for device in lab.world.devices(vm) {
            let writers = lab.world.writers(&device.disk);
            assert!(
                writers.len() <= 1,
                "{} is written by {writers:?}",
                device.disk
            );
        }
    }
}

async fn run(steps: Vec<Step>) {
    let mut lab = Lab::new();
    for (n, step) in (1u128..).zip(&steps) {
        // `caller` of a dead session never returns, so the restart belongs to the same step.
        tokio::select! {
            biased;
            () = apply(&lab, n, step) => {}
            () = lab.session.died() => {}
        }
        if matches!(step, Step::Restart) || lab.session.is_dead() {
            lab.restart();
        }
        one_writer(&lab);
    }
    lab.restart();
    for vm in &lab.vms {
        lab.world.power(vm, Power::On);
    }
    for _ in 0..3 {
        lab.engine.sweep().await;
        advance(Duration::from_secs(200)).await;
    }
    let volumes = check(&lab, "in the end").await;
    for view in volumes {
        let _ = disk(&view);
        for vm in 1..=3 {
            if view.ownership.is_owned_by(&lab.vms[vm - 1]) {
                lab.try_detach(vm, 5000 + vm as u128, view.id, view.epoch)
                    .await
                    .unwrap();
            }
        }
        lab.try_delete(1, 9000, &format!("{}@ds", view.name))
            .await
            .ok();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn there_is_one_writer_and_nothing_leaks(steps in prop::collection::vec(step(), 1..25)) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(steps));
    }
}
