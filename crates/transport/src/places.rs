//! The places of one peer's connections: how many it may have, and which goes when it wants another.
//!
//! A connection *waits* until it has said what it wants, then it is *settled*. When every place is taken, the connection
//! that has waited longest gives its own to the one that comes: a peer whose programs open connections and say nothing
//! keeps nobody out, not even itself. Settled connections are never shown out; beyond them there is no room until one
//! ends.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::pace::Pace;

/// The places of one peer.
#[derive(Debug)]
pub struct Places {
    all: usize,
    pace: Pace,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    settled: usize,
    /// The one that has waited longest first.
    waiting: VecDeque<(u64, CancellationToken)>,
    number: u64,
}

impl Places {
    /// So many places.
    #[must_use]
    pub fn new(all: usize) -> Arc<Self> {
        Arc::new(Self {
            all,
            pace: Pace::new(),
            state: Mutex::default(),
            freed: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under this lock is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        let state = self.state();
        state.settled.saturating_add(state.waiting.len())
    }

    pub(crate) const fn pace(&self) -> &Pace {
        &self.pace
    }

    fn has_room(&self) -> bool {
        self.state().settled < self.all
    }

    /// Waits until [`Places::take`] would find room.
    pub async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            if self.has_room() {
                return;
            }
            freed.await;
        }
    }

    /// A place for a connection that waits; its owner's end also ends the connection. None: all are settled.
    #[must_use]
    pub fn take(self: &Arc<Self>, owner: &CancellationToken) -> Option<Place> {
        let mut state = self.state();
        if state.settled >= self.all {
            return None;
        }
        while state.settled.saturating_add(state.waiting.len()) >= self.all {
            let (_, out) = state.waiting.pop_front()?;
            out.cancel();
        }
        let number = state.number;
        state.number = number.saturating_add(1);
        let out = owner.child_token();
        state.waiting.push_back((number, out.clone()));
        Some(Place {
            places: Arc::clone(self),
            number,
            out,
            settled: AtomicBool::new(false),
        })
    }
}

/// One connection's place; free again when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    number: u64,
    out: CancellationToken,
    settled: AtomicBool,
}

impl Place {
    /// Cancelled when the connection has to end: it was shown out, or its listener closes.
    #[must_use]
    pub const fn out(&self) -> &CancellationToken {
        &self.out
    }

    /// The connection has said what it wants and stays. False: it was shown out before.
    pub fn settle(&self) -> bool {
        if self.settled.load(Ordering::Acquire) {
            return true;
        }
        let mut state = self.places.state();
        let at = state.waiting.iter().position(|(n, _)| *n == self.number);
        let Some(at) = at else { return false };
        state.waiting.remove(at);
        state.settled = state.settled.saturating_add(1);
        self.settled.store(true, Ordering::Release);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state();
        if self.settled.load(Ordering::Acquire) {
            state.settled = state.settled.saturating_sub(1);
        } else {
            state.waiting.retain(|(n, _)| *n != self.number);
        }
        drop(state);
        self.places.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn the_one_that_waited_longest_gives_its_place_to_the_next() {
        let (places, owner) = (Places::new(2), CancellationToken::new());
        let first = places.take(&owner).unwrap();
        let second = places.take(&owner).unwrap();
        let third = places.take(&owner).unwrap();
        assert!(first.out().is_cancelled() && !second.out().is_cancelled());
        assert!(!first.settle() && second.settle() && third.settle());
        assert!(places.take(&owner).is_none(), "all are settled");
        drop(first);
        assert_eq!(places.taken(), 2, "it had no place any more");
        drop(second);
        assert_eq!(places.taken(), 1);
        let fourth = places.take(&owner).unwrap();
        assert!(!third.out().is_cancelled());
        owner.cancel();
        assert!(fourth.out().is_cancelled() && third.out().is_cancelled());
    }

    #[tokio::test]
    async fn who_waits_for_room_gets_it_when_a_settled_connection_ends() {
        let (places, owner) = (Places::new(1), CancellationToken::new());
        let place = places.take(&owner).unwrap();
        places.room().await;
        assert!(place.settle());
        let early = timeout(Duration::from_millis(50), places.room()).await;
        assert!(early.is_err());
        let waiting = tokio::join!(places.room(), async { drop(place) });
        assert_eq!(waiting, ((), ()));
    }
}
