//! The guests: what each asks, in order. A request whose agent dies, or whose VM moves, is sent again with the same
//! request id, as the plugin does.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vdvs_domain::{Epoch, Error, RequestId, VmRef, VolumeAddress, VolumeId};
use vdvs_engine::Engine;
use vdvs_engine::api::{Call, Caller};

use super::call::{Answer, Op};
use super::core::Shared;
use super::promises;
use super::world::State;
use super::{Ask, Mistake, Voice, datastore};

/// A request may take so much longer than the wait it asked for.
const GRACE: Duration = Duration::from_secs(10);
/// And so much longer than that, once it cannot be turned back.
const TO_THE_END: Duration = Duration::from_secs(31);

/// One sequence of requests.
pub(crate) struct Speaker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) number: usize,
    pub(crate) voice: Voice,
    pub(crate) volume: VolumeId,
}

/// What an agent said.
enum Said {
    Attached(u64),
    Done,
    Refused(Error),
}

/// How one attempt ended.
enum Ended {
    Answered(Said),
    /// The connection broke: nobody knows.
    Broken,
    /// The VM is off.
    Gone,
}

pub(crate) fn address() -> VolumeAddress {
    VolumeAddress::parse("vol").expect("a plain word is a name")
}

pub(crate) fn request(voice: usize, at: usize) -> RequestId {
    let number = |n: usize| u128::try_from(n).unwrap_or(u128::MAX);
    RequestId::new(Uuid::from_u128(
        (0xca11 << 64) | number(voice) << 8 | number(at),
    ))
}

pub(crate) fn caller(shared: &Shared, vm: usize) -> Caller {
    let core = shared.core();
    let id = core
        .world
        .fixed
        .vms
        .get(vm)
        .expect("a voice has a VM")
        .clone();
    Caller {
        vm: VmRef {
            id,
            name: format!("vm{vm}"),
        },
        home: Some(datastore()),
    }
}

pub(crate) fn call(request: RequestId, wait: Duration) -> Call {
    let limit = wait + GRACE;
    Call {
        request,
        deadline: Instant::now() + limit,
        cancel: CancellationToken::new(),
    }
}

impl Speaker {
    pub(crate) async fn speak(self) {
        for at in 0..self.voice.asks.len() {
            self.state(at, false, false);
            if !self.ask(at).await {
                break;
            }
        }
        self.state(self.voice.asks.len(), false, true);
    }

    fn state(&self, at: usize, calling: bool, ended: bool) {
        let mut core = self.shared.core();
        core.stirred += 1;
        if let Some(voice) = core.voices.get_mut(self.number) {
            (voice.at, voice.calling, voice.ended) = (at, calling, ended);
        }
        drop(core);
        self.shared.arrived.notify_one();
    }

    /// One request, until it is answered. `false`: the VM is gone.
    async fn ask(&self, at: usize) -> bool {
        let Some(ask) = self.voice.asks.get(at).copied() else {
            return true;
        };
        let (vm, own) = (self.voice.vm, self.voice.again.is_none());
        let mut epoch = None;
        if ask == Ask::Detach {
            // The guest has unmounted: from here on it does not rely on the disk.
            epoch = self.shared.core().told.get_mut(vm).and_then(Option::take);
            if epoch.is_none() {
                return true;
            }
        }
        loop {
            match self.attempt(at, ask, epoch).await {
                Ended::Answered(said) => {
                    self.hear(own, said);
                    return true;
                }
                Ended::Broken => {
                    self.unsure();
                    self.state(at, false, false);
                }
                Ended::Gone => return false,
            }
        }
    }

    fn unsure(&self) {
        if let Some(unsure) = self.shared.core().unsure.get_mut(self.voice.vm) {
            *unsure = true;
        }
    }

    fn hear(&self, own: bool, said: Said) {
        let vm = self.voice.vm;
        match said {
            Said::Attached(epoch) if own => {
                let mut core = self.shared.core();
                let on = core
                    .world
                    .vms
                    .get(vm)
                    .is_some_and(|v| v.state != State::Off);
                if on && let Some(told) = core.told.get_mut(vm) {
                    *told = Some(epoch);
                }
                core.look();
            }
            Said::Attached(_) | Said::Done => {}
            Said::Refused(
                Error::WaitedInVain { .. }
                | Error::InUse { .. }
                | Error::Superseded { .. }
                | Error::Contended { .. }
                | Error::NotAttached { .. },
            ) => {}
            Said::Refused(Error::Internal(why)) => {
                let core = &mut self.shared.core();
                core.promises
                    .broken
                    .get_or_insert(format!("internal error: {why}"));
            }
            Said::Refused(_) => self.unsure(),
        }
    }

    /// The agent that answers the VM now, once there is one.
    async fn connect(&self) -> Option<(usize, u64, Arc<Engine>)> {
        let mut changed = self.shared.changed.subscribe();
        loop {
            {
                let core = self.shared.core();
                let vm = core.world.vms.get(self.voice.vm)?;
                if vm.state == State::Off {
                    return None;
                }
                let host = vm.host;
                let agent = core.agents.get(host)?;
                if vm.state == State::On
                    && agent.alive
                    && let Some(engine) = &agent.engine
                {
                    return Some((host, agent.life, Arc::clone(engine)));
                }
            }
            changed.changed().await.ok()?;
        }
    }

    async fn attempt(&self, at: usize, ask: Ask, epoch: Option<u64>) -> Ended {
        let Some((host, life, engine)) = self.connect().await else {
            return Ended::Gone;
        };
        let mut changed = self.shared.changed.subscribe();
        let (from, at_request) = self.voice.again.unwrap_or((self.number, at));
        let request = request(from, at_request);
        let asking = async {
            let what = format!("vm{} asks {ask:?}", self.voice.vm);
            let heard = self.shared.ask(host, life, Op::Deliver(what)).await;
            drop::<Answer>(heard);
            self.state(at, true, false);
            let begun = Instant::now();
            let said = self.told(&engine, request, ask, epoch).await;
            let limit = ask.wait() + GRACE + TO_THE_END;
            if begun.elapsed() > limit {
                let why = format!("vm{} waited longer than {limit:?}", self.voice.vm);
                self.shared.core().promises.broken.get_or_insert(why);
            }
            said
        };
        let broken = async {
            while self.shared.connected(self.voice.vm, host, life) {
                if changed.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            biased;
            said = asking => Ended::Answered(said),
            () = broken => Ended::Broken,
        }
    }

    async fn told(&self, engine: &Engine, id: RequestId, ask: Ask, epoch: Option<u64>) -> Said {
        let (caller, call) = (caller(&self.shared, self.voice.vm), call(id, ask.wait()));
        let epoch = match ask {
            Ask::Attach(wait) => {
                let volume = address();
                let attach = engine.attach(&caller, &call, &volume, false, wait);
                return match Box::pin(attach).await {
                    Ok(attached) => Said::Attached(attached.epoch.number()),
                    Err(why) => Said::Refused(why),
                };
            }
            Ask::Detach => epoch.unwrap_or(0),
            Ask::Late(epoch) => epoch,
        };
        let epoch = self.heard_as(epoch);
        match Box::pin(engine.detach(&caller, &call, self.volume, Epoch::new(epoch))).await {
            Ok(_) => Said::Done,
            Err(why) => Said::Refused(why),
        }
    }

    /// The epoch as the engine is made to hear it: where the comparison is to be missing, it always fits.
    fn heard_as(&self, epoch: u64) -> u64 {
        let core = self.shared.core();
        if core.world.fixed.mistake != Some(Mistake::EpochNotCompared) {
            return epoch;
        }
        promises::record(&core.world).map_or(epoch, |r| r.epoch.number())
    }
}
