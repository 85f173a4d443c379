//! The innermost arithmetic of a product, as a trait that each instruction set implements.

use super::LANES;
use crate::simd::Vector;

/// Sixteen floats: one vector of sixteen, or two of eight.
#[derive(Clone, Copy)]
pub(super) struct Sixteen<V>(pub(super) [V; 2]);

/// The innermost arithmetic of a product. All methods need the form's instructions.
#[allow(clippy::missing_safety_doc)]
pub(super) trait Dot {
    /// Rows of a tile.
    const ROWS: usize;
    /// Sixteens side by side in a tile: 4, 2 or 1.
    const VECTORS: usize;
    /// Bytes of a row of activations in a step.
    const INPUT_BYTES: usize;
    /// Whether activations come with a scale and corrections.
    const INTEGER: bool;
    type Weights: Copy;
    type Input: Copy;
    /// Sixteen sums, one for each row of weights.
    type Sums: Copy;
    type Floats: Vector;

    unsafe fn start(correction: i32) -> Self::Sums;
    unsafe fn weights(from: *const f32) -> Self::Weights;
    unsafe fn input(from: *const u8) -> Self::Input;
    unsafe fn add(sums: Self::Sums, weights: Self::Weights, input: Self::Input) -> Self::Sums;
    /// The sums as floats, times the weights' scales where there are any.
    unsafe fn floats(sums: Self::Sums, scales: *const f32) -> Sixteen<Self::Floats>;
}

impl<V: Vector> Sixteen<V> {
    const PARTS: usize = LANES / V::LANES;

    #[inline(always)]
    pub(super) unsafe fn zero() -> Self {
        // SAFETY: the caller has the instruction set, here and below.
        unsafe { Self([V::zero(); 2]) }
    }

    #[inline(always)]
    pub(super) unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller gives sixteen values.
        unsafe {
            let mut all = Self::zero();
            for i in 0..Self::PARTS {
                all.0[i] = V::load(from.add(i * V::LANES));
            }
            all
        }
    }

    #[inline(always)]
    pub(super) unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        let mut all = self;
        for i in 0..Self::PARTS {
            // SAFETY: as in `zero`.
            all.0[i] = unsafe { self.0[i].mul_add(factor.0[i], addend.0[i]) };
        }
        all
    }

    #[inline(always)]
    pub(super) unsafe fn splat(value: f32) -> Self {
        // SAFETY: as in `zero`.
        unsafe { Self([V::splat(value); 2]) }
    }

    #[inline(always)]
    pub(super) unsafe fn mul(self, other: Self) -> Self {
        let mut all = self;
        for i in 0..Self::PARTS {
            // SAFETY: as in `zero`.
            all.0[i] = unsafe { self.0[i].mul(other.0[i]) };
        }
        all
    }

    #[inline(always)]
    pub(super) unsafe fn scale(self, factor: f32) -> Self {
        // SAFETY: as in `zero`.
        unsafe { self.mul(Self::splat(factor)) }
    }

    /// Replaces the sixteen values at `to`, or is added to them.
    #[inline(always)]
    pub(super) unsafe fn put(self, to: *mut f32, replace: bool) {
        for i in 0..Self::PARTS {
            // SAFETY: the caller gives room for sixteen values, and values unless they are replaced.
            unsafe {
                let to = to.add(i * V::LANES);
                let sum = if replace { self.0[i] } else { V::load(to).add(self.0[i]) };
                sum.store(to);
            }
        }
    }

    /// Stores the sum with the first `count` of other values.
    #[inline(always)]
    pub(super) unsafe fn store_sum(self, other: *const f32, to: *mut f32, count: usize) {
        for i in 0..Self::PARTS {
            let at = i * V::LANES;
            // SAFETY: the caller gives `count` values of both.
            unsafe {
                let (other, to) = (other.add(at), to.add(at));
                if count >= at + V::LANES {
                    V::load(other).add(self.0[i]).store(to);
                } else if count > at {
                    V::load_first(other, count - at).add(self.0[i]).store_first(to, count - at);
                }
            }
        }
    }
}
