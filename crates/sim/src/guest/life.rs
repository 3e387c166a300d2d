//! How long a part of a guest lives, and whether it may move now.
//!
//! A tokio task cannot be stopped from outside at any point, and the service starts tasks of its own. So a part that is
//! dead, or a guest that is suspended, is stopped at the next of its effects: every port begins and ends each call with
//! [`Life::step`], which never returns to the dead and returns to the suspended when they are resumed.

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::select;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use vdvs_host_sim::Bell;

/// A part of a guest: the machine, its plugin's process, its dockerd's, a container. Cloning gives the same life.
#[derive(Debug, Clone, Default)]
pub(crate) struct Life {
    dead: CancellationToken,
    frozen: Arc<Frozen>,
}

#[derive(Debug, Default)]
struct Frozen {
    now: AtomicBool,
    changed: Bell,
}

impl Life {
    /// A part that ends with this one.
    pub(crate) fn child(&self) -> Self {
        Self {
            dead: self.dead.child_token(),
            frozen: Arc::clone(&self.frozen),
        }
    }

    pub(crate) fn end(&self) {
        self.dead.cancel();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.dead.is_cancelled()
    }

    /// Cancelled when it is over.
    pub(crate) fn dead(&self) -> CancellationToken {
        self.dead.clone()
    }

    /// Returns when it is over.
    pub(crate) async fn over(&self) {
        self.dead.cancelled().await;
    }

    /// The whole machine stands still, or goes on.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.now.store(frozen, Ordering::SeqCst);
        self.frozen.changed.ring();
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.now.load(Ordering::SeqCst)
    }

    /// Returns when the machine is suspended; its connections are gone then.
    pub(crate) async fn freezes(&self) {
        let mut seen = self.frozen.changed.count();
        while !self.is_frozen() {
            seen = self.frozen.changed.after(seen).await;
        }
    }

    /// One step: others come first, and it is taken only by those who live and are awake.
    pub(crate) async fn step(&self) {
        yield_now().await;
        let mut seen = self.frozen.changed.count();
        loop {
            if self.is_over() {
                return pending().await;
            }
            if !self.is_frozen() {
                return;
            }
            select! {
                biased;
                () = self.over() => {}
                now = self.frozen.changed.after(seen) => seen = now,
            }
        }
    }

    /// What comes of the work, if that is in time. The clock of a suspended machine stands.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        let mut left = limit;
        loop {
            let since = Instant::now();
            select! {
                biased;
                done = &mut work => return Some(done),
                () = self.freezes() => {}
                () = sleep(left) => return None,
            }
            left = left.saturating_sub(since.elapsed());
            select! {
                biased;
                done = &mut work => return Some(done),
                () = self.step() => {}
            }
        }
    }

    /// Runs until the end of the work or of this life.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        select! {
            biased;
            () = self.over() => None,
            done = work => Some(done),
        }
    }
}
