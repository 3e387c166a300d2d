//! How far long work has come: shared between who does it, who asks, and who wants it to stop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Shared by the maker of a disk and those who wait for it. Numbers are for people: they only ever lag behind.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// So many bytes of so many are done.
    pub fn set(&self, done: u64, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(done, Ordering::Relaxed);
    }

    /// Bytes done, and bytes in all; 0 in all: not known yet.
    #[must_use]
    pub fn get(&self) -> (u64, u64) {
        (
            self.done.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed),
        )
    }

    /// Nobody wants the result any more: whoever does the work ends it soon and takes back what it made.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Whether [`Self::stop`] was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}
