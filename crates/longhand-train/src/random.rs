//! Random numbers that follow from what they are drawn by, so that no generator has to be saved.

/// A number drawn by three others, by the mixing function of SplitMix64 (Steele et al., "Fast
/// splittable pseudorandom number generators", 2014).
pub(crate) fn draw(by: [u64; 3]) -> u64 {
    by.into_iter().fold(0, |state: u64, value| {
        let mut z = state.wrapping_add(value).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}
