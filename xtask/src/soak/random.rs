//! Seeded random numbers: SplitMix64 (Steele, Lea and Flood, 2014).

/// A stream of random numbers. Streams of different places of one seed know nothing of each other.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// The stream of a seed at a place, such as the number of a session.
    pub(super) fn at(seed: u64, place: u64) -> Self {
        let mut mixed = Self(seed);
        let seed = mixed.next();
        let mut random = Self(seed ^ place.wrapping_mul(0xd134_2543_de82_ef95));
        random.next();
        random
    }

    /// The next 64 bits of the stream.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Whether something happens that happens once in `times`.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let of = |seed, place| Random::at(seed, place).next();
        assert_eq!(of(1, 2), of(1, 2));
        assert!(of(1, 2) != of(1, 3) && of(1, 2) != of(2, 2) && of(1, 2) != of(2, 1));
        let mut random = Random::at(3, 0);
        assert!((0..1000).all(|_| random.below(7) < 7));
    }
}
