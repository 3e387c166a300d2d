//! What goes wrong, and when. Every port call passes through [`Faults::enter`], which counts and logs it.

use std::collections::BTreeMap;
use std::future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time;

/// Which port call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is named after the port's method")]
pub enum CallKind {
    HostVms,
    HostDisks,
    HostAttach,
    HostDetach,
    HostLock,
    List,
    ReadDir,
    MakeDir,
    CreateNew,
    Write,
    Read,
    Remove,
    CreateDisk,
    DeleteDisk,
    StatDisk,
}

impl CallKind {
    /// Whether the call changes the world; stopping before or after any other call is the same thing.
    #[must_use]
    pub const fn changes(self) -> bool {
        matches!(
            self,
            Self::HostAttach
                | Self::HostDetach
                | Self::MakeDir
                | Self::CreateNew
                | Self::Write
                | Self::Remove
                | Self::CreateDisk
                | Self::DeleteDisk
        )
    }
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails without effect, and says so.
    Fail,
    /// It has no effect, and the caller gets no answer.
    LostRequest,
    /// It has its effect, and the caller gets no answer.
    LostReply,
    /// The agent dies before the effect: the call never returns.
    CrashBefore,
    /// The agent dies after the effect: the call never returns.
    CrashAfter,
    /// A write stops half way and the agent dies. Other calls: as [`Fault::CrashBefore`].
    Torn,
}

/// Which call a fault meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The call with this number, counted from 1 over all kinds.
    Call(usize),
    /// The n-th call of a kind from now on, counted from 1.
    Nth(CallKind, usize),
    /// Every call of a kind.
    Every(CallKind),
}

#[derive(Debug, Default)]
struct Plan {
    log: Vec<CallKind>,
    rules: Vec<(When, Fault)>,
    delays: BTreeMap<CallKind, Duration>,
    crashes: usize,
}

/// The plan of faults of a world. Empty at first: nothing goes wrong.
#[derive(Debug, Default)]
pub struct Faults {
    plan: Mutex<Plan>,
    crashed: Notify,
}

impl Faults {
    /// Adds a fault.
    pub fn add(&self, when: When, fault: Fault) {
        self.lock().rules.push((when, fault));
    }

    /// Makes every call of a kind take this long (tokio's time).
    pub fn delay(&self, kind: CallKind, by: Duration) {
        self.lock().delays.insert(kind, by);
    }

    /// Forgets faults, delays and the log.
    pub fn clear(&self) {
        *self.lock() = Plan::default();
    }

    /// All calls since the beginning or the last [`Faults::clear`].
    #[must_use]
    pub fn calls(&self) -> Vec<CallKind> {
        self.lock().log.clone()
    }

    /// Returns when a call met a crash: whoever runs the agent drops it then.
    pub async fn crashed(&self) {
        loop {
            let next = self.crashed.notified();
            if self.lock().crashes > 0 {
                return;
            }
            next.await;
        }
    }

    /// Counts a call, waits out its delay, and tells what happens to it.
    pub(crate) async fn enter(&self, kind: CallKind) -> Option<Fault> {
        let (fault, delay) = {
            let mut plan = self.lock();
            plan.log.push(kind);
            let number = plan.log.len();
            let mut met = None;
            plan.rules.retain_mut(|(when, fault)| match when {
                When::Call(n) if *n == number => {
                    met = Some(*fault);
                    false
                }
                When::Nth(k, n) if *k == kind => {
                    *n = n.saturating_sub(1);
                    if *n == 0 {
                        met = Some(*fault);
                    }
                    *n > 0
                }
                When::Every(k) => {
                    if *k == kind {
                        met = Some(*fault);
                    }
                    true
                }
                _ => true,
            });
            (met, plan.delays.get(&kind).copied())
        };
        if let Some(delay) = delay {
            time::sleep(delay).await;
        }
        fault
    }

    /// The agent is dead: never returns.
    pub(crate) async fn crash<T>(&self) -> T {
        self.lock().crashes += 1;
        self.crashed.notify_waiters();
        future::pending().await
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
