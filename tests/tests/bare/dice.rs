//! Chance that can be had again: every run prints its seed, and `VDVS_SEED` repeats it.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

/// A row of numbers that follows from its seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

/// The seed of this run, printed under the suite's name.
pub(crate) fn seed(suite: &str) -> u64 {
    let given = env::var("VDVS_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    #[expect(clippy::disallowed_methods, reason = "only a seed, and it is printed")]
    let now = || SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = given.unwrap_or_else(|| now().map_or(1, |now| u64::from(now.subsec_nanos())));
    eprintln!("{suite}: seed {seed}; again with VDVS_SEED={seed}");
    seed
}

impl Dice {
    /// The row of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another row for each number, so that threads need not share one.
    pub(crate) fn branch(&self, number: u64) -> Self {
        let mut dice = Self(self.0 ^ number.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        dice.next();
        dice
    }

    /// Any number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % bound).unwrap_or_default()
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// Once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of them.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Random bytes.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}
