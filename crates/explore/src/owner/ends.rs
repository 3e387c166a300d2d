//! What must hold in the end: all agents run, all requests are answered, and everything is as the record says.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use vdvs_domain::{Epoch, Error, Ownership, VolumeId};
use vdvs_engine::Engine;

use super::call::Answer;
use super::core::Shared;
use super::promises::record;
use super::run::OwnerRun;
use super::voices::{address, call, caller, request};
use super::world::State;

/// Requests end, and recovery does its work, within this time.
const HEALS: Duration = Duration::from_secs(300);
/// Between two looks of the reconciler.
const SWEEP: Duration = Duration::from_secs(30);
/// What the last attach may wait for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Sweeps after which nothing may be left: what needs more than one look is done by the third.
const SWEEPS: usize = 3;

impl OwnerRun {
    /// Lets everything run freely to its end, and judges that.
    pub(super) fn heal(&mut self) -> Option<String> {
        {
            let now = self.now();
            let mut core = self.shared.core();
            core.free = true;
            while let Some(ticket) = core.waiting.keys().next().copied() {
                drop::<(Answer, String)>(core.go(ticket, false, now));
            }
        }
        let dead: Vec<usize> = {
            let core = self.shared.core();
            let all = core.agents.iter().enumerate();
            all.filter(|(_, a)| !a.alive).map(|(n, _)| n).collect()
        };
        dead.into_iter().for_each(|host| self.start(host));
        let (shared, tasks) = (Arc::clone(&self.shared), &mut self.tasks);
        let judged = self.runtime.block_on(async {
            let done = async { while tasks.join_next().await.is_some() {} };
            if timeout(HEALS, done).await.is_err() {
                return Err("a request is not answered in the end".to_owned());
            }
            Box::pin(judge(&shared)).await
        });
        let broken = self.shared.core().promises.broken.clone();
        broken.or(judged.err())
    }
}

fn engine_of(shared: &Shared, vm: usize) -> Option<Arc<Engine>> {
    let core = shared.core();
    let host = core.world.vms.get(vm)?.host;
    core.agents.get(host)?.engine.clone()
}

async fn judge(shared: &Arc<Shared>) -> Result<(), String> {
    resume(shared)?;
    let engines: Vec<_> = {
        let core = shared.core();
        core.agents
            .iter()
            .filter_map(|a| a.engine.clone())
            .collect()
    };
    for _ in 0..SWEEPS {
        for engine in &engines {
            let swept = timeout(HEALS, engine.sweep()).await;
            swept.map_err(|_| "a sweep does not end".to_owned())?;
        }
        sleep(SWEEP).await;
    }
    agree(shared)?;
    usable(shared).await
}

/// Suspended VMs go on with what they had.
fn resume(shared: &Shared) -> Result<(), String> {
    let now = shared.now();
    let mut core = shared.core();
    for vm in 0..core.world.vms.len() {
        let found = core.world.vms.get(vm).cloned();
        let Some(found) = found.filter(|v| v.state == State::Suspended) else {
            continue;
        };
        let refused = found.disk.and_then(|ro| core.world.refuses(vm, ro, now));
        if let Some(holder) = refused {
            return Err(format!(
                "P2: suspended vm{vm} cannot go on: {holder} has its disk"
            ));
        }
        if let Some(found) = core.world.vms.get_mut(vm) {
            found.state = State::On;
        }
    }
    core.look();
    core.promises.broken.clone().map_or(Ok(()), Err)
}

/// Record and device lists agree; nobody has what he was not told.
fn agree(shared: &Shared) -> Result<(), String> {
    let core = shared.core();
    let Some(record) = record(&core.world) else {
        return Err("P2: there is no record in the end".to_owned());
    };
    if let Some(operation) = &record.operation {
        return Err(format!(
            "P6: an unresolved {} is left",
            operation.kind.name()
        ));
    }
    if !matches!(
        record.ownership,
        Ownership::Free | Ownership::Attached { .. }
    ) {
        return Err(format!("P6: the record is left {}", record.ownership));
    }
    for (vm, id) in core.world.fixed.vms.iter().enumerate() {
        let owns = record.ownership.is_owned_by(id);
        let Some(now) = core.world.vms.get(vm) else {
            continue;
        };
        if owns != now.disk.is_some() {
            return Err(format!(
                "P6: the record says {}, vm{vm} has {:?}",
                record.ownership, now.disk
            ));
        }
        let told = core.told.get(vm).copied().flatten();
        let unsure = core.unsure.get(vm).copied().unwrap_or_default();
        if owns && told.is_none() && !unsure && now.state == State::On {
            return Err(format!("P6: vm{vm} has the disk and was not told so"));
        }
        if let Some(told) = told
            && now.state == State::On
            && record.epoch.number() != told
        {
            return Err(format!(
                "vm{vm} was told epoch {told}, the record has {}",
                record.epoch
            ));
        }
    }
    Ok(())
}

/// Whoever has it gives it back, and another VM gets it.
async fn usable(shared: &Arc<Shared>) -> Result<(), String> {
    let (owner, next) = {
        let core = shared.core();
        let on = |n: &usize| core.world.vms.get(*n).is_some_and(|v| v.state == State::On);
        let owner = core.world.openers().map(|(n, _)| n).next();
        let other = (0..core.world.vms.len())
            .filter(on)
            .find(|n| Some(*n) != owner);
        (owner, other.or(owner))
    };
    if let Some(owner) = owner {
        let failed = |why: Error| format!("P6: vm{owner} cannot give its volume back: {why}");
        let (epoch, volume) = attach(shared, owner, 0).await.map_err(failed)?;
        let (by, call) = (caller(shared, owner), call(request(96, 0), PATIENCE));
        if let Some(told) = shared.core().told.get_mut(owner) {
            *told = None;
        }
        if let Some(engine) = engine_of(shared, owner) {
            let detach = engine.detach(&by, &call, volume, epoch);
            Box::pin(detach).await.map_err(failed)?;
        }
    }
    let Some(next) = next else { return Ok(()) };
    let got = attach(shared, next, 1).await;
    got.map(drop)
        .map_err(|why| format!("P6: vm{next} cannot have the volume in the end: {why}"))
}

async fn attach(shared: &Arc<Shared>, vm: usize, n: usize) -> Result<(Epoch, VolumeId), Error> {
    let (by, call) = (caller(shared, vm), call(request(95, n), PATIENCE));
    let engine = engine_of(shared, vm).ok_or(Error::Internal("no agent runs".to_owned()))?;
    let volume = address();
    let attach = engine.attach(&by, &call, &volume, false, PATIENCE);
    let got = Box::pin(attach).await?;
    Ok((got.epoch, got.view.id))
}
