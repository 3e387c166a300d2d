//! How fast one peer's connections are taken: many at once, few for long. A peer that does nothing but connect would
//! else keep the agent's one thread busy with being shown out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// One connection uses up this much.
const EACH: Duration = Duration::from_millis(2);
/// So much may be used ahead of time: two thousand connections at once, which is more than a VM's programs make when
/// the agent comes back.
const AHEAD: Duration = Duration::from_secs(4);

/// The pace of one peer.
#[derive(Debug)]
pub(crate) struct Pace {
    /// When all that was used is paid back.
    paid: Mutex<Instant>,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self {
            paid: Mutex::new(Instant::now()),
        }
    }

    /// When the next connection may be taken.
    pub(crate) fn due(&self) -> Instant {
        let paid = *self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        paid.checked_sub(AHEAD).unwrap_or_else(Instant::now)
    }

    /// A connection came. False: before its time.
    pub(crate) fn count(&self) -> bool {
        let now = Instant::now();
        if self.due() > now {
            return false;
        }
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        *paid = (*paid).max(now) + EACH;
        true
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn two_thousand_may_come_at_once_and_then_five_hundred_a_second() {
        let pace = Pace::new();
        let at_once = (0..10_000).take_while(|_| pace.count()).count();
        assert_eq!(at_once, 2_001);
        advance(Duration::from_secs(1)).await;
        let later = (0..10_000).take_while(|_| pace.count()).count();
        assert_eq!(later, 500);
        let begun = Instant::now();
        sleep_until(pace.due()).await;
        assert!(begun.elapsed() <= EACH && pace.count());
        advance(Duration::from_secs(60)).await;
        assert_eq!((0..10_000).take_while(|_| pace.count()).count(), 2_001);
    }
}
