//! Random numbers that follow from what they are drawn by, so that no generator has to be saved.

use longhand_model::split_mix64;

/// A number drawn by three others.
pub(crate) fn draw(by: [u64; 3]) -> u64 {
    by.into_iter().fold(0, |state: u64, value| split_mix64(state.wrapping_add(value)))
}
