//! A random share of a corpus.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A choice of a corpus's pieces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PieceSample {
    /// The share of the pieces, 0 to 1.
    pub(super) share: f64,
    /// The seed that they are drawn from.
    pub(super) seed: u64,
}

impl PieceSample {
    /// Whether the piece of this number, counted from 1, is read.
    pub(super) fn takes(&self, number: u64) -> bool {
        let random = ChaCha8Rng::seed_from_u64(self.seed.wrapping_add(number)).next_u64();
        // The first one always: a corpus has some text.
        number == 1 || random as f64 <= self.share * u64::MAX as f64
    }
}
