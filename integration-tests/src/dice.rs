//! Random numbers that follow from a seed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Numbers that look random and follow from a seed (xorshift64*).
#[derive(Clone, Debug)]
pub struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    /// Equal seeds give equal numbers.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        // Neighbouring seeds would begin alike, and 0 would stay 0.
        let state = (seed ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9).max(1);
        Self { seed, state }
    }

    /// Seeded by `LOGWEIR_TEST_SEED`, else by the clock; says by what, so that a failure can be repeated.
    ///
    /// # Panics
    /// If the variable is no number.
    #[must_use]
    pub fn for_test() -> Self {
        let given = std::env::var("LOGWEIR_TEST_SEED").ok();
        let seed = given.map_or_else(clock, |text| text.parse().expect("LOGWEIR_TEST_SEED is a number"));
        println!("LOGWEIR_TEST_SEED={seed}");
        Self::seeded(seed)
    }

    /// What it began with.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// From 0 to less than `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }

    /// From one time to another, in ms.
    pub fn between(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(from_ms + self.below(to_ms - from_ms + 1))
    }

    /// The same things in another order.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).unwrap_or(0);
            things.swap(last, other);
        }
    }
}

/// A seed that was not there before.
#[must_use]
pub fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_micros() as u64)
}
