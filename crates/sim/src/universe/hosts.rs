//! A host: it has power or not, and an agent that something starts again whenever it died.

use std::mem::take;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use vdvs_domain::HostId;
use vdvs_engine::Engine;
use vdvs_engine::api::Settings;
use vdvs_engine::ports::Power;
use vdvs_host_sim::{Bell, Fault, Session, When};

use super::{Universe, locked};

/// The host's watchdog starts a dead agent again after this time.
const WATCHDOG: Duration = Duration::from_millis(800);

/// A host and what of it changes.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) id: HostId,
    pub(super) name: String,
    changes: Bell,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    powered: bool,
    /// The agent is not started again before.
    hold: Instant,
    /// It is to lose power when its agent dies.
    struck: bool,
    agent: Option<Process>,
}

/// An agent's process. Dropping it ends its own work; requests under way end with its session.
#[derive(Debug)]
struct Process {
    session: Arc<Session>,
    engine: Arc<Engine>,
    _runs: JoinSet<()>,
}

impl Site {
    pub(super) fn new(id: HostId, name: String) -> Self {
        Self {
            id,
            name,
            changes: Bell::default(),
            state: Mutex::new(State {
                powered: true,
                hold: Instant::now(),
                struck: false,
                agent: None,
            }),
        }
    }
}

impl Universe {
    /// Number of hosts.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.inner.sites.len()
    }

    fn site(&self, host: usize) -> &Site {
        let sites = &self.inner.sites;
        let at = host.checked_rem(sites.len()).unwrap_or(0);
        sites
            .get(at)
            .expect("a universe has hosts, and this is one of them")
    }

    /// The identity of a host.
    #[must_use]
    pub fn host_id(&self, host: usize) -> HostId {
        self.site(host).id
    }

    /// The number of a host.
    #[must_use]
    pub fn host_number(&self, id: HostId) -> Option<usize> {
        self.inner.sites.iter().position(|s| s.id == id)
    }

    /// Whether a host has power.
    #[must_use]
    pub fn host_runs(&self, host: usize) -> bool {
        locked(&self.site(host).state).powered
    }

    /// The engine of a host's agent, if one runs.
    #[must_use]
    pub fn engine(&self, host: usize) -> Option<Arc<Engine>> {
        self.agent(host).map(|(_, engine)| engine)
    }

    fn agent(&self, host: usize) -> Option<(Arc<Session>, Arc<Engine>)> {
        let state = locked(&self.site(host).state);
        let process = state.agent.as_ref().filter(|p| !p.session.is_dead())?;
        Some((Arc::clone(&process.session), Arc::clone(&process.engine)))
    }

    /// Starts the agent again whenever it died, as long as the host has power.
    pub(super) async fn keep_agent(self, host: usize) {
        loop {
            let changes = self.site(host).changes.count();
            let (powered, hold) = {
                let state = locked(&self.site(host).state);
                (state.powered, state.hold)
            };
            if !powered {
                self.site(host).changes.after(changes).await;
                continue;
            }
            if Instant::now() < hold {
                sleep_until(hold).await;
                continue;
            }
            let session = self.start_agent(host);
            session.died().await;
            self.agent_died(host);
        }
    }

    fn start_agent(&self, host: usize) -> Arc<Session> {
        let site = self.site(host);
        let session = self.inner.world.session(site.id);
        let engine = Engine::new(session.ports(), Settings::default());
        let mut runs = JoinSet::new();
        runs.spawn(Arc::clone(&engine).run(CancellationToken::new()));
        let process = Process {
            session: Arc::clone(&session),
            engine: Arc::clone(&engine),
            _runs: runs,
        };
        locked(&site.state).agent = Some(process);
        let board = &self.inner.board;
        let number = board.serve(site.id, &site.name, engine, Arc::clone(&session));
        self.note(format_args!("{}: agent {number} serves", site.name));
        session
    }

    fn agent_died(&self, host: usize) {
        let site = self.site(host);
        let calls = {
            let mut state = locked(&site.state);
            state.hold = state.hold.max(Instant::now() + WATCHDOG);
            // What it was doing on its own account ends with it.
            state.agent.take().map_or(0, |p| p.session.calls())
        };
        self.inner.board.silence(site.id);
        self.note(format_args!(
            "{}: agent died after {calls} calls",
            site.name
        ));
    }

    /// The agent of a host dies; nothing starts it for so long.
    pub fn kill_agent(&self, host: usize, down: Duration) {
        let session = {
            let mut state = locked(&self.site(host).state);
            state.hold = Instant::now() + down;
            state.agent.as_ref().map(|p| Arc::clone(&p.session))
        };
        if let Some(session) = session {
            session.crash();
        }
    }

    /// Something goes wrong at a later call of a host's agent.
    pub fn plan_fault(&self, host: usize, later: u64, fault: Fault) {
        if let Some((session, _)) = self.agent(host) {
            session.plan(later, fault);
        }
    }

    /// Something goes wrong at the next call of a verb that a host's agent makes.
    pub fn plan_fault_at(&self, host: usize, verb: &'static str, fault: Fault) {
        if let Some((session, _)) = self.agent(host) {
            session.plan_at(verb, fault);
        }
    }

    /// Nothing that was planned for a host goes wrong any more.
    pub fn plan_no_faults(&self, host: usize) {
        locked(&self.site(host).state).struck = false;
        if let Some((session, _)) = self.agent(host) {
            session.plan_nothing();
        }
    }

    /// A host is to lose power at the next call of a verb that its agent makes.
    pub fn strike(&self, host: usize, verb: &'static str, when: When) {
        if let Some((session, _)) = self.agent(host) {
            session.plan_at(verb, Fault::Crash(when));
            locked(&self.site(host).state).struck = true;
        }
    }

    /// Waits for the agent's end, and lets its host lose power if it is to. False: it never came to that.
    pub async fn struck(&self, host: usize, torn: u64) -> bool {
        let Some((session, _)) = self.agent(host) else {
            return false;
        };
        session.died().await;
        let struck = take(&mut locked(&self.site(host).state).struck);
        if struck && self.host_runs(host) {
            self.crash_host(host, torn);
            return true;
        }
        false
    }

    /// A host loses power, and everything on it.
    pub fn crash_host(&self, host: usize, torn: u64) {
        let site = self.site(host);
        {
            let mut state = locked(&site.state);
            if !state.powered {
                return;
            }
            state.powered = false;
        }
        self.note(format_args!("{}: power lost", site.name));
        let luck = (0u64..).map(|n| torn.wrapping_add(n));
        for (vm, torn) in (0..self.vms()).zip(luck) {
            if self.host_of(vm) == Some(host) && self.power(vm) != Power::Suspended {
                self.guest_loses_power(vm, torn);
            }
        }
        self.twins_lose_power(site.id, torn);
        self.inner.world.crash_host(site.id);
        self.kill_agent(host, Duration::ZERO);
        site.changes.ring();
    }

    /// A host comes back. What was registered on it is there, off.
    pub fn power_host(&self, host: usize) {
        let site = self.site(host);
        {
            let mut state = locked(&site.state);
            if state.powered {
                return;
            }
            state.powered = true;
            state.hold = Instant::now();
        }
        self.note(format_args!("{}: has power again", site.name));
        site.changes.ring();
    }

    /// Waits until a host has power.
    pub async fn has_power(&self, host: usize) {
        let changes = &self.site(host).changes;
        loop {
            let seen = changes.count();
            if self.host_runs(host) {
                return;
            }
            changes.after(seen).await;
        }
    }

    /// Lets the agent of a host start now, whatever kept it away.
    pub fn release_agent(&self, host: usize) {
        locked(&self.site(host).state).hold = Instant::now();
    }
}
