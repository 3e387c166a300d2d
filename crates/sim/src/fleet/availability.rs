//! What starts the VMs of a dead host elsewhere, and what a host does that comes back.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use vdvs_engine::ports::Power;

use crate::schedule::Dice;
use crate::universe::Universe;

/// HA declares a host dead after this time at the earliest.
const DECLARED: (u64, u64) = (12_000, 18_000);
/// It tries to start a VM again so often: its disks may still be locked.
const AGAIN: Duration = Duration::from_secs(5);
/// And gives up after so many times.
const TRIES: usize = 120;
/// A host that comes back starts its VMs one after the other; the agent may be later or earlier.
const AUTOSTART: (u64, u64) = (200, 15_000);

/// Starts the VMs of a dead host on others. The dead one keeps its registrations, and has them when it comes back.
pub async fn restart_elsewhere(universe: Universe, host: usize, mut dice: Dice) {
    sleep(dice.millis(DECLARED.0, DECLARED.1)).await;
    if universe.host_runs(host) && !universe.is_isolated(host) {
        return;
    }
    for vm in 0..universe.vms() {
        if universe.host_of(vm) != Some(host) {
            continue;
        }
        let others: Vec<usize> = (0..universe.hosts())
            .filter(|h| *h != host && universe.host_runs(*h) && !universe.is_isolated(*h))
            .collect();
        let Some(to) = dice.pick(&others).copied() else {
            return;
        };
        for _ in 0..TRIES {
            let here = universe.host_of(vm);
            let runs = match here == Some(to) {
                true => universe.power_on(vm),
                false => here == Some(host) && universe.restart_elsewhere(vm, to, dice.any()),
            };
            let well = universe.host_runs(host) && !universe.is_isolated(host);
            let stayed = well && universe.power(vm) == Power::On;
            if runs || stayed || (here != Some(host) && here != Some(to)) {
                break;
            }
            sleep(AGAIN).await;
        }
    }
}

/// A host has power again after a while: its agent starts, and its VMs are started, and neither waits for the other.
/// Nothing is left to do when somebody gave it power before.
pub async fn come_back(universe: Universe, host: usize, down: Duration, mut dice: Dice) {
    if timeout(down, universe.has_power(host)).await.is_ok() {
        return;
    }
    universe.power_host(host);
    for vm in 0..universe.vms() {
        sleep(dice.millis(AUTOSTART.0, AUTOSTART.1)).await;
        for _ in 0..TRIES {
            if universe.host_of(vm) != Some(host)
                || !universe.host_runs(host)
                || universe.power_on(vm)
            {
                break;
            }
            sleep(AGAIN).await;
        }
    }
}
