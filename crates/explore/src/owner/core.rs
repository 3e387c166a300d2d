//! What all parts of one execution share: the world, the calls that wait to be chosen, what guests were told.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::future::pending;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{Id, try_id};
use tokio::time::Instant;
use vdvs_engine::Engine;

use super::Voice;
use super::call::{Answer, Op};
use super::promises::Promises;
use super::world::{State, World};

/// A call that waits to be chosen.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) host: usize,
    /// Its agent's task that makes it.
    task: Option<Id>,
    pub(crate) op: Op,
    answer: oneshot::Sender<Answer>,
}

/// The agent of one host.
#[derive(Debug, Default)]
pub(crate) struct AgentNow {
    /// Grows with every start.
    pub(crate) life: u64,
    pub(crate) alive: bool,
    /// Digests of the answers it was given in this life, one for each of its tasks; who was answered last is the last.
    pub(crate) chains: Vec<(Option<Id>, u64)>,
    pub(crate) ids: u64,
    /// The values of the record it read in this life.
    pub(crate) read: Vec<Vec<u8>>,
    pub(crate) engine: Option<Arc<Engine>>,
}

impl AgentNow {
    /// One of its tasks is answered.
    fn hears(&mut self, task: Option<Id>, what: impl Hash) {
        let place = self.chains.iter().position(|(of, _)| *of == task);
        let before = place.map_or(0, |at| self.chains.remove(at).1);
        let mut digest = DefaultHasher::new();
        (before, what).hash(&mut digest);
        self.chains.push((task, digest.finish()));
    }
}

/// One sequence of requests of a guest.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub(crate) struct VoiceNow {
    pub(crate) vm: usize,
    /// Which of its requests it is at.
    pub(crate) at: usize,
    /// An agent is at it.
    pub(crate) calling: bool,
    pub(crate) ended: bool,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) world: World,
    pub(crate) waiting: BTreeMap<u64, Waiting>,
    /// The next call's ticket.
    pub(crate) next: u64,
    /// Grows with everything that happens, to see that nothing happens any more.
    pub(crate) stirred: u64,
    /// Nothing waits to be chosen: before and after the search.
    pub(crate) free: bool,
    /// The answers of all tasks of an agent count as one sequence.
    pub(crate) exact: bool,
    pub(crate) agents: Vec<AgentNow>,
    pub(crate) voices: Vec<VoiceNow>,
    /// The epoch each VM was told it has the volume with, until it gives it back or loses power.
    pub(crate) told: Vec<Option<u64>>,
    /// VMs whose request ended without an answer that says what became of it.
    pub(crate) unsure: Vec<bool>,
    pub(crate) promises: Promises,
}

#[derive(Debug)]
pub(crate) struct Shared {
    core: Mutex<Core>,
    /// A call waits, or a voice ended.
    pub(crate) arrived: Notify,
    /// Something happened that may break a connection.
    pub(crate) changed: watch::Sender<u64>,
    pub(crate) begun: Instant,
}

impl Shared {
    pub(crate) fn new(
        world: World,
        told: Vec<Option<u64>>,
        voices: &[Voice],
        free: bool,
    ) -> Arc<Self> {
        let (hosts, vms) = (world.fixed.hosts.len(), world.vms.len());
        let promises = Promises::new(&world);
        let of = |voice: &Voice| VoiceNow {
            vm: voice.vm,
            ..VoiceNow::default()
        };
        let core = Core {
            world,
            waiting: BTreeMap::new(),
            next: 0,
            stirred: 0,
            free,
            exact: false,
            agents: (0..hosts).map(|_| AgentNow::default()).collect(),
            voices: voices.iter().map(of).collect(),
            told,
            unsure: vec![false; vms],
            promises,
        };
        Arc::new(Self {
            core: Mutex::new(core),
            arrived: Notify::new(),
            changed: watch::channel(0).0,
            begun: Instant::now(),
        })
    }

    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the beginning.
    pub(crate) fn now(&self) -> u64 {
        let since = Instant::now().saturating_duration_since(self.begun);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// One call of the agent of `host` in its life `life`. An agent that died never hears an answer.
    pub(crate) async fn ask(&self, host: usize, life: u64, op: Op) -> Answer {
        let wait = {
            let now = self.now();
            let mut core = self.core();
            let agent = core.agents.get(host);
            if agent.is_none_or(|a| !a.alive || a.life != life) {
                None
            } else if core.free || !core.world.is_visible(&op) {
                return core.world.act(host, &op, now);
            } else {
                Some(core.wait(host, op))
            }
        };
        let Some(wait) = wait else {
            return pending().await;
        };
        self.arrived.notify_one();
        match wait.await {
            Ok(answer) => answer,
            Err(_) => pending().await,
        }
    }

    /// Whether the connection of a VM to the agent of `host` in its life `life` still stands.
    pub(crate) fn connected(&self, vm: usize, host: usize, life: u64) -> bool {
        let core = self.core();
        let here = core.world.vms.get(vm);
        let here = here.is_some_and(|v| v.host == host && v.state != State::Off);
        let agent = core.agents.get(host);
        here && agent.is_some_and(|a| a.alive && a.life == life)
    }

    pub(crate) fn change(&self) {
        self.changed.send_modify(|n| *n += 1);
    }
}

impl Core {
    fn wait(&mut self, host: usize, op: Op) -> oneshot::Receiver<Answer> {
        let (answer, wait) = oneshot::channel();
        let task = if self.exact { None } else { try_id() };
        let waiting = Waiting {
            host,
            task,
            op,
            answer,
        };
        self.waiting.insert(self.next, waiting);
        self.next += 1;
        self.stirred += 1;
        wait
    }

    /// The call with this ticket has its effect, and its caller hears of it, unless the answer is lost.
    pub(crate) fn go(&mut self, ticket: u64, lost: bool, now: u64) -> (Answer, String) {
        let Some(Waiting {
            host,
            task,
            op,
            answer,
        }) = self.waiting.remove(&ticket)
        else {
            return (Answer::Lost, String::new());
        };
        let said = match (self.world.act(host, &op, now), lost) {
            (_, true) => Answer::Lost,
            (said, false) => said,
        };
        if let Some(agent) = self.agents.get_mut(host) {
            agent.hears(task, (op.number(), said.number(), now));
            match (&op, &said) {
                (_, Answer::Bytes(Ok(bytes)) | Answer::Unless(Ok(Some(bytes))))
                    if agent.read.last() != Some(bytes) =>
                {
                    agent.read.push(bytes.clone());
                }
                (Op::Write(_, bytes), _) => self.promises.writes(&agent.read, bytes),
                _ => {}
            }
        }
        let told = format!("host {host} {op}{said}");
        // Whoever does not wait for it any more gave up: it has its effect all the same.
        drop(answer.send(said.clone()));
        self.look();
        (said, told)
    }

    /// A write stops in the middle.
    pub(crate) fn tear(&mut self, ticket: u64, now: u64) {
        if let Some(Waiting {
            host,
            op: Op::Write(path, bytes),
            ..
        }) = self.waiting.remove(&ticket)
        {
            let half = bytes.iter().take(bytes.len() / 2).copied().collect();
            self.world.act(host, &Op::Write(path, half), now);
            self.look();
        }
    }

    /// The agent of `host` dies.
    pub(crate) fn kill(&mut self, host: usize) {
        self.waiting.retain(|_, w| w.host != host);
        if let Some(agent) = self.agents.get_mut(host) {
            agent.alive = false;
            agent.chains = Vec::new();
            agent.read = Vec::new();
            agent.engine = None;
        }
        self.stirred += 1;
    }

    pub(crate) fn look(&mut self) {
        self.promises.look(&self.world, &self.told);
    }

    /// All that the future depends on. `quiet`: nothing happens any more that brings a VM to another host.
    pub(crate) fn number(&self, quiet: bool, more: impl Hash) -> u64 {
        let mut digest = DefaultHasher::new();
        for (host, agent) in self.agents.iter().enumerate() {
            // What an agent remembers whom nobody asks any more makes no difference.
            let done = quiet && self.is_done(host);
            (agent.life, agent.alive).hash(&mut digest);
            let chains = agent.chains.iter().filter(|_| !done);
            chains.for_each(|(_, chain)| chain.hash(&mut digest));
        }
        (self.outside(), more).hash(&mut digest);
        digest.finish()
    }

    /// All that can be seen from outside of the agents.
    pub(crate) fn outside(&self) -> u64 {
        let mut digest = DefaultHasher::new();
        (&self.world, &self.voices, &self.told, &self.unsure).hash(&mut digest);
        digest.finish()
    }

    /// No guest of this host has anything to ask, and its agent does nothing.
    fn is_done(&self, host: usize) -> bool {
        let busy = self.waiting.values().any(|w| w.host == host);
        let mut asks = self.voices.iter().filter(|v| !v.ended);
        let here = |vm: usize| self.world.vms.get(vm).is_some_and(|v| v.host == host);
        !busy && !asks.any(|v| here(v.vm))
    }
}
