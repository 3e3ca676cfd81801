//! Choices drawn from a seed.

use std::sync::{Arc, Mutex, PoisonError};

/// A source of choices that its clones share (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random {
    state: Arc<Mutex<u64>>,
}

impl Random {
    /// Creates a source whose choices all follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(seed)),
        }
    }

    /// Returns any number.
    pub fn next(&self) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`, which must not be 0.
    pub fn below(&self, end: u64) -> u64 {
        self.next() % end
    }

    /// Returns true `per_mille` times of 1,000.
    pub fn chance(&self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}
