//! How long to wait before the next attempt: full jitter, so that those who failed together do not come back together.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Waits that double up to a ceiling; each is a random part of it.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    ceiling: Duration,
    highest: Duration,
}

impl Pace {
    /// Begins with at most `first`.
    pub(crate) const fn new(first: Duration, highest: Duration) -> Self {
        Self {
            ceiling: first,
            highest,
        }
    }

    /// For attempts of one call. A refused connection costs nothing, so the first wait is short.
    pub(crate) const fn of_call() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(2))
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = jitter(self.ceiling);
        self.ceiling = self.ceiling.saturating_mul(2).min(self.highest);
        wait
    }
}

/// A random part of `ceiling`, at least a millisecond so that nobody spins.
pub(crate) fn jitter(ceiling: Duration) -> Duration {
    // Each RandomState is keyed afresh: not for secrets, good enough for spreading.
    let random = RandomState::new().hash_one(0_u8);
    let most = u64::try_from(ceiling.as_micros())
        .unwrap_or(u64::MAX)
        .max(1);
    Duration::from_micros(random % most).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_ceiling_and_never_beyond() {
        let mut pace = Pace::new(Duration::from_millis(50), Duration::from_millis(400));
        let waits: Vec<_> = (0..200).map(|_| pace.next()).collect();
        for (wait, most) in waits.iter().zip([50, 100, 200, 400, 400]) {
            assert!(
                *wait <= Duration::from_millis(most),
                "{wait:?} of {most} ms"
            );
        }
        assert!(waits.iter().all(|w| *w <= Duration::from_millis(400)));
        // 195 draws below 400 ms that all stay under 200 ms would be no jitter.
        assert!(waits.iter().any(|w| *w > Duration::from_millis(200)));
    }
}
