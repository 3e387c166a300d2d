//! Episodes that measure how soon a service runs elsewhere: the world is whole, the service's node ends in one way, and
//! nothing else goes wrong, and nobody else is at anything. Where that does not come to be, nothing is measured.
//!
//! What is measured is what the product promises: from the first request on the other node to the running container.
//! When the orchestrator notices is its own affair.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::run::Takeover;
use super::stage::{Stage, volume_name};
use super::step::Death;
use crate::check::Promise;
use crate::fleet::restart_elsewhere;

/// A proof of death beyond the lock's lapse, and the attach after it.
const PROOF: Duration = Duration::from_secs(10);
/// Each further volume of a service is asked for after the one before, and proven by itself.
const NEXT_VOLUME: Duration = Duration::from_secs(6);
/// `fence-after`, unless a volume says otherwise.
const FENCE_AFTER: Duration = Duration::from_secs(15);
/// What a fence takes beyond it.
const FENCE: Duration = Duration::from_secs(5);
/// A VM that HA started elsewhere has its disks again, and gives them up when it has booted and finds them unused.
const BOOT: Duration = Duration::from_secs(60);
/// What people and HA are at is waited for so long.
const QUIET: Duration = Duration::from_secs(600);
/// Nothing happens for so long before a node ends.
const CALM: Duration = Duration::from_secs(20);
/// When waiting is pointless.
const NEVER: Duration = Duration::from_secs(500);

impl Stage<'_> {
    /// One episode. A world that does not come to rest first is complained of elsewhere.
    pub(super) async fn takeover(&mut self, service: usize, death: Death) {
        let universe = self.universe;
        let Some(volumes) = self.plan.shape.services.get(service) else {
            return;
        };
        let names = volumes.iter().map(|v| volume_name(*v));
        if names
            .clone()
            .any(|name| self.may_be_gone(&name) || self.is_open(&name))
        {
            return;
        }
        let fence = |v: &usize| self.plan.shape.fenced.get(*v).copied().unwrap_or_default();
        let fenced = volumes.iter().all(fence);
        let further = u32::try_from(volumes.len().saturating_sub(1)).unwrap_or(0);
        // Nothing is taken from a live owner under `wait`.
        let death = match death {
            Death::Partitioned if !fenced => Death::Vm,
            other => other,
        };
        self.heal().await;
        self.scheduler.deploy(service);
        // A container of somebody's own may use the volume, or have asked for it before, and a plugin that is started
        // again answers nobody: what it takes then says nothing of the takeover.
        if !self.within(QUIET, |s| s.universe.is_quiet()).await || !self.all_run().await {
            return;
        }
        sleep(CALM).await;
        let Some(node) = self.scheduler.node_of(service) else {
            return;
        };
        let host = universe.host_of(node).unwrap_or(0);
        let elsewhere = |vm: usize| vm != node && universe.host_of(vm) != Some(host);
        if !(0..universe.vms()).any(elsewhere) {
            // HA and moves have gathered all VMs on one host: there is nowhere to go.
            return;
        }
        universe.note(format_args!(
            "==== takeover of service {service} from vm{} by {death:?}",
            node + 1
        ));
        let torn = self.luck().any();
        match death {
            Death::Vm => universe.power_cut(node, torn),
            Death::Host => universe.crash_host(host, torn),
            Death::Restarted => {
                universe.crash_host(host, torn);
                universe.spawn(restart_elsewhere(universe.clone(), host, self.luck()));
            }
            Death::Isolated => {
                universe.isolate(host, true);
                for vm in (0..universe.vms()).filter(|vm| universe.host_of(*vm) == Some(host)) {
                    universe.partition(vm, true);
                }
            }
            Death::Partitioned => universe.partition(node, true),
        }
        // HA may have started the very node elsewhere; it counts too.
        let ended = Instant::now();
        let moved = |s: &Self| {
            let began = s.scheduler.started(service).map(|(_, began)| began);
            s.scheduler.node_of(service).is_some() && began.is_some_and(|began| began > ended)
        };
        let ran = self.within(NEVER, moved).await;
        let times = self.scheduler.started(service).filter(|_| ran);
        // Who was fenced from one volume may use the next one a while longer, so that this is fenced by itself.
        let next = match death {
            Death::Partitioned | Death::Isolated if fenced => FENCE_AFTER + FENCE,
            _ => NEXT_VOLUME,
        };
        let limit = limit(death, fenced, self.plan.shape.lapse) + next * further;
        let Some((requested, began)) = times else {
            let text = format!("{death:?}: service {service} does not run elsewhere");
            universe.checker().broken(Promise::Liveness, text);
            return;
        };
        let took = began.saturating_duration_since(requested);
        universe.note(format_args!("==== took {} ms", took.as_millis()));
        self.takeovers.push(Takeover {
            death,
            fenced,
            took,
        });
        if took > limit {
            let text = format!(
                "{death:?}, failover={}: service {service} ran elsewhere {:.1} s after it was asked for, more than {:.1} s",
                if fenced { "fence" } else { "wait" },
                took.as_secs_f64(),
                limit.as_secs_f64()
            );
            universe.checker().broken(Promise::Liveness, text);
        }
    }
}

fn limit(death: Death, fenced: bool, lapse: Duration) -> Duration {
    let dead = lapse + PROOF;
    let alive = FENCE_AFTER + FENCE;
    match death {
        Death::Vm => PROOF,
        Death::Host => dead,
        // Its agent cannot be asked, and its locks lapse; whichever comes first.
        Death::Isolated if fenced => dead.max(alive),
        Death::Isolated => dead,
        Death::Restarted => dead + BOOT,
        Death::Partitioned => alive,
    }
}
