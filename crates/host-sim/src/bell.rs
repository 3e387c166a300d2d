//! A count that only grows and wakes who waits for it, in the order in which they came.
//!
//! A watch channel wakes its receivers in an order that the runtime draws, which would make two runs of one seed differ.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Cloning gives the same bell.
#[derive(Debug, Clone, Default)]
pub struct Bell {
    rung: Arc<AtomicU64>,
    wake: Arc<Notify>,
}

impl Bell {
    /// How often it rang.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.rung.load(Ordering::Acquire)
    }

    /// Wakes everybody who waits.
    pub fn ring(&self) {
        self.rung.fetch_add(1, Ordering::AcqRel);
        self.wake.notify_waiters();
    }

    /// Returns when it rang more often than `seen`, with the present count.
    pub async fn after(&self, seen: u64) -> u64 {
        loop {
            let woken = self.wake.notified();
            let now = self.count();
            if now > seen {
                return now;
            }
            woken.await;
        }
    }
}
