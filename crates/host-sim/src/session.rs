//! One agent process: every port call goes through one gate that counts it, yields, and injects faults.

use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use uuid::Uuid;
use vdvs_domain::{HostId, Timestamp, VolumeId};
use vdvs_engine::api::Ports;
use vdvs_engine::ports::{Clock, Ids};

use crate::bell::Bell;
use crate::changes::Change;
use crate::fault::{Called, Fault, Faults, When};
use crate::state::State;
use crate::world::World;

/// 2026-01-01 in milliseconds: where simulated wall clocks start.
const EPOCH_MILLIS: u64 = 1_767_225_600_000;

/// An agent's view of the world.
pub struct Session {
    pub(crate) world: World,
    pub(crate) host: HostId,
    faults: Mutex<Faults>,
    died: Bell,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// Why a call does not come back with its own answer.
pub(crate) enum Broken {
    Failed,
    NoAnswer,
}

impl Session {
    pub(crate) fn new(world: World, host: HostId) -> Arc<Self> {
        Arc::new(Self {
            world,
            host,
            faults: Mutex::default(),
            died: Bell::default(),
        })
    }

    /// All ports over this session.
    #[must_use]
    pub fn ports(self: &Arc<Self>) -> Ports {
        Ports {
            host: Arc::<Self>::clone(self),
            datastores: Arc::<Self>::clone(self),
            store: Arc::<Self>::clone(self),
            clock: Arc::<Self>::clone(self),
            ids: Arc::<Self>::clone(self),
        }
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls made so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.faults().calls
    }

    /// Something goes wrong at the call that comes after `later` others from now.
    pub fn plan(&self, later: u64, fault: Fault) {
        let mut faults = self.faults();
        let at = faults.calls + later + 1;
        faults.plan(at, fault);
    }

    /// Something goes wrong at the next call of this verb, as [`Called::verb`] names it.
    pub fn plan_at(&self, verb: &'static str, fault: Fault) {
        self.faults().aim(verb, fault);
    }

    /// The same goes wrong at every call from now on, or nothing does.
    pub fn plan_always(&self, fault: Option<Fault>) {
        self.faults().always = fault;
    }

    /// Nothing that was planned goes wrong any more.
    pub fn plan_nothing(&self) {
        self.faults().forget();
    }

    /// Remembers the calls from now on.
    pub fn begin_trace(&self) {
        self.faults().traced = Some(Vec::new());
    }

    /// The calls since [`Session::begin_trace`], which end here.
    #[must_use]
    pub fn end_trace(&self) -> Vec<Called> {
        self.faults().traced.take().unwrap_or_default()
    }

    /// Dies now.
    pub fn crash(&self) {
        self.faults().crashed = true;
        self.died.ring();
    }

    /// Whether the agent has died.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.faults().crashed
    }

    /// Returns when the agent has died.
    pub async fn died(&self) {
        self.died.after(0).await;
    }

    /// One call: `effect` is told how much of it happens, and happens twice if that is the fault.
    pub(crate) async fn call<T>(
        &self,
        verb: &'static str,
        effect: impl FnMut(&mut State, When) -> T + Send,
    ) -> Result<T, Broken>
    where
        T: Send,
    {
        self.call_or_later(verb, None, effect).await
    }

    /// The same of a call that has its effect later if that is the fault.
    pub(crate) async fn call_or_later<T>(
        &self,
        verb: &'static str,
        later: Option<&Change>,
        mut effect: impl FnMut(&mut State, When) -> T + Send,
    ) -> Result<T, Broken>
    where
        T: Send,
    {
        let since = Instant::now().saturating_duration_since(self.world.begun());
        let time = self.world.state().time_of_call(self.host, verb, since);
        match time {
            Some(time) => sleep(time).await,
            None => yield_now().await,
        }
        let fault = {
            let mut faults = self.faults();
            if faults.crashed {
                Some(Fault::Crash(When::Before))
            } else {
                faults.next(verb)
            }
        };
        match fault {
            None => Ok(self.undisturbed(&mut effect)),
            Some(Fault::Slow(how)) => {
                sleep(how).await;
                if self.is_dead() {
                    // The request went with its connection; `Late` is the fault of those that did not.
                    pending::<()>().await;
                }
                Ok(effect(&mut self.world.state(), When::After))
            }
            Some(Fault::Twice) => {
                let mut state = self.world.state();
                drop(effect(&mut state, When::After));
                Ok(effect(&mut state, When::After))
            }
            Some(Fault::Late(how)) => {
                let due = Instant::now().checked_add(how);
                if let Some((due, change)) = due.zip(later.cloned()) {
                    self.world.state().late.push((due, change));
                }
                Err(Broken::NoAnswer)
            }
            Some(Fault::Fail) => Err(Broken::Failed),
            Some(Fault::NoAnswer(When::Before)) => Err(Broken::NoAnswer),
            Some(Fault::NoAnswer(when)) => {
                drop(effect(&mut self.world.state(), when));
                Err(Broken::NoAnswer)
            }
            Some(Fault::Crash(when)) => {
                if when != When::Before {
                    drop(effect(&mut self.world.state(), when));
                }
                self.crash();
                pending().await
            }
        }
    }

    /// A call with which nothing goes wrong. Who traces learns whether it changed anything.
    fn undisturbed<T>(&self, effect: &mut impl FnMut(&mut State, When) -> T) -> T {
        let mut state = self.world.state();
        if self.faults().traced.is_none() {
            return effect(&mut state, When::After);
        }
        let before = state.survives();
        let done = effect(&mut state, When::After);
        if let Some(last) = self.faults().traced.as_mut().and_then(|t| t.last_mut()) {
            last.changed = state.survives() != before;
        }
        done
    }
}

impl Clock for Session {
    fn now(&self) -> Timestamp {
        let since = Instant::now().saturating_duration_since(self.world.begun());
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let state = self.world.state();
        let off = state.hosts.get(&self.host).map_or(0, |h| h.clock_off);
        Timestamp::from_millis(
            EPOCH_MILLIS
                .saturating_add(millis)
                .saturating_add_signed(off),
        )
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

impl Ids for Session {
    fn volume_id(&self) -> VolumeId {
        VolumeId::new(self.uuid())
    }

    fn uuid(&self) -> Uuid {
        let mut state = self.world.state();
        state.ids += 1;
        // Version and variant bits of a UUID v7; the count stands in the last digits.
        Uuid::from_u128((0x019b_0000_0000_7000_8000_u128 << 48) | u128::from(state.ids))
    }
}
