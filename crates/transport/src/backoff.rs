//! How long to wait before trying again: doubling, with full jitter, bounded.

use std::time::Duration;

/// Delays for repeated attempts. Each is random between nothing and a bound that doubles, so that a hundred guests
/// whose host restarts do not all come back in the same millisecond.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    bound: Duration,
    random: u64,
}

impl Backoff {
    /// Bounds start at `first` and end at `most`. `seed` is any number that differs between machines.
    #[must_use]
    pub const fn new(first: Duration, most: Duration, seed: u64) -> Self {
        Self {
            first,
            most,
            bound: first,
            random: seed,
        }
    }

    /// The next delay.
    #[must_use]
    pub fn next_delay(&mut self) -> Duration {
        let bound = self.bound;
        self.bound = bound.saturating_mul(2).min(self.most);
        // One of 1024 equal steps is fine enough; the first is not zero, so that a loop always yields.
        let step = u32::try_from(self.draw() % 1024).unwrap_or_default();
        bound.saturating_mul(step.saturating_add(1)) / 1024
    }

    /// After a success: begin anew.
    pub const fn reset(&mut self) {
        self.bound = self.first;
    }

    /// SplitMix64: good enough to spread, and needs no source of randomness.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_bound_and_start_over_after_a_success() {
        let (first, most) = (Duration::from_millis(10), Duration::from_secs(1));
        let mut backoff = Backoff::new(first, most, 7);
        let mut longest = Duration::ZERO;
        for n in 0..40 {
            let delay = backoff.next_delay();
            assert!(delay > Duration::ZERO && delay <= most);
            if n == 0 {
                assert!(delay <= first);
            }
            longest = longest.max(delay);
        }
        assert!(longest > most / 2, "{longest:?}");
        backoff.reset();
        assert!(backoff.next_delay() <= first);
    }

    #[test]
    fn two_machines_do_not_wait_alike() {
        let delays = |seed| {
            let mut b = Backoff::new(Duration::from_secs(1), Duration::from_secs(1), seed);
            (0..8).map(|_| b.next_delay()).collect::<Vec<_>>()
        };
        assert_ne!(delays(1), delays(2));
    }
}
