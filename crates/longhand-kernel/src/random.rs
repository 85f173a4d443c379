//! A seeded hash, for choices that are made again wherever they are needed.

/// The first number that the generator SplitMix64 draws from `seed` (Steele, Lea and Flood, "Fast
/// splittable pseudorandom number generators", 2014). Near seeds give numbers that differ in about
/// half of their bits.
///
/// ```
/// use longhand_kernel::random::split_mix64;
///
/// // One number from three: chain the calls.
/// let drawn = [7, 1, 4].into_iter().fold(0, |state: u64, x| split_mix64(state.wrapping_add(x)));
/// assert_ne!(drawn, split_mix64(7));
/// ```
pub fn split_mix64(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of the authors' `splitmix64.c`.
    #[test]
    fn the_first_numbers_are_those_of_the_published_generator() {
        assert_eq!(split_mix64(0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(split_mix64(1_234_567), 6_457_827_717_110_365_317);
    }
}
