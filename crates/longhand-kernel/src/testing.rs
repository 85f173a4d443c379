//! Helpers of the operations' tests: seeded values, comparisons, central differences.

pub(crate) mod memory;

use crate::level::Level;
use crate::precision::Precision;

/// `len` values in −1..1, the same for the same seed.
pub(crate) fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x1234_5678_9ABC_DEF1);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// The values in double precision.
pub(crate) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// The instruction sets this machine has.
pub(crate) fn levels() -> impl Iterator<Item = Level> {
    Level::available()
}

/// The values as operands of that precision: products of them are exact.
pub(crate) fn rounded(precision: Precision, values: &[f32]) -> Vec<f32> {
    values.iter().map(|&x| precision.round(x)).collect()
}

/// Asserts `|got − exact| ≤ tolerance · (1 + |exact|)` everywhere.
#[track_caller]
pub(crate) fn close(name: &str, got: &[f32], exact: &[f64], tolerance: f64) {
    assert_eq!(got.len(), exact.len(), "{name}: lengths");
    for (i, (&got, &exact)) in got.iter().zip(exact).enumerate() {
        let error = (f64::from(got) - exact).abs();
        assert!(
            error <= tolerance * (1.0 + exact.abs()),
            "{name}[{i}] = {got} instead of {exact} (off by {error:e})"
        );
    }
}

/// Asserts that `gradient` is that of `f` at `at`, by central differences in every coordinate.
#[track_caller]
pub(crate) fn check_gradient(
    name: &str,
    at: &[f64],
    gradient: &[f64],
    mut f: impl FnMut(&[f64]) -> f64,
) {
    assert_eq!(at.len(), gradient.len(), "{name}: lengths");
    let step = 1e-5;
    let mut point = at.to_vec();
    for (i, &gradient) in gradient.iter().enumerate() {
        point[i] = at[i] + step;
        let above = f(&point);
        point[i] = at[i] - step;
        let below = f(&point);
        point[i] = at[i];
        let difference = (above - below) / (2.0 * step);
        assert!(
            (difference - gradient).abs() <= 1e-7 * (1.0 + difference.abs()),
            "{name}: gradient {i} is {gradient}, central difference {difference}"
        );
    }
}
