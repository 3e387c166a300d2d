//! Where all luck of a run comes from.

use std::time::Duration;

/// SplitMix64: small, good enough to spread schedules, and the same on every machine.
#[derive(Debug, Clone)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// A die of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A die of its own for a part of the world: what others draw does not change what this one shows.
    #[must_use]
    pub fn of(seed: u64, part: &str) -> Self {
        let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
        for byte in part.bytes() {
            state = Self::mix(state.wrapping_add(u64::from(byte)));
        }
        Self { state }
    }

    const fn mix(z: u64) -> u64 {
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Any number.
    #[must_use]
    pub const fn any(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        Self::mix(self.state)
    }

    /// A number below `end`; 0 for 0.
    #[must_use]
    pub fn below(&mut self, end: u64) -> u64 {
        self.any().checked_rem(end).unwrap_or(0)
    }

    /// An index into so many.
    #[must_use]
    pub fn index(&mut self, len: usize) -> usize {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        usize::try_from(self.below(len)).unwrap_or(0)
    }

    /// Once in `n` times.
    #[must_use]
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Any of these, `None` of none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let at = self.index(of.len());
        of.get(at)
    }

    /// So many milliseconds, from and to including.
    #[must_use]
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to.saturating_sub(from) + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_luck_of_their_own_and_the_same_seed_the_same() {
        let draw = |part: &str| {
            let mut dice = Dice::of(7, part);
            [dice.any(), dice.any(), dice.below(10)]
        };
        assert_eq!(draw("vm1"), draw("vm1"));
        assert_ne!(draw("vm1"), draw("vm2"));
        assert_ne!(Dice::of(7, "vm1").any(), Dice::of(8, "vm1").any());
    }

    #[test]
    fn every_face_comes_up() {
        let mut dice = Dice::new(1);
        let mut seen = [false; 6];
        for _ in 0..200 {
            seen[dice.index(6)] = true;
        }
        assert_eq!(seen, [true; 6]);
        assert_eq!(dice.below(0), 0);
    }
}
