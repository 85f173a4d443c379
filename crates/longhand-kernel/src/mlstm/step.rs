//! The recurrent step: one pass over the memory.

use super::EPSILON;
use crate::simd::{Kernel, Vector};

/// C = f·C + i·k·vᵀ, n = f·n + i·k; y = Cᵀq / (max(|n·q|, e^−m) + ε). Returns n·q.
pub(super) struct Step<'a> {
    pub(super) forget: f32,
    pub(super) input: f32,
    /// e^−m, the least denominator.
    pub(super) least: f32,
    /// 1 / √K, for the key.
    pub(super) scale: f32,
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    /// `[K, K]`, its rows `stride` apart.
    pub(super) c: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) n: &'a mut [f32],
    pub(super) y: &'a mut [f32],
}

/// Vectors of values that go through the memory together.
const WIDE: usize = 4;

impl Kernel for Step<'_> {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<V: Vector>(mut self) -> f32 {
        let width = self.n.len();
        assert!(self.stride >= width && self.c.len() >= width * self.stride);
        assert!(self.y.len() == width);
        assert!([self.q, self.k, self.v].iter().all(|x| x.len() == width));
        let mut normaliser = 0.0;
        for ((n, &k), &q) in self.n.iter_mut().zip(self.k).zip(self.q) {
            *n = self.forget * *n + self.input * (k * self.scale);
            normaliser += *n * q;
        }
        let inverse = 1.0 / (normaliser.abs().max(self.least) + EPSILON);
        let mut column = 0;
        // SAFETY: the slices have the lengths asserted above, and columns stay within `width`.
        unsafe {
            while column + WIDE * V::LANES <= width {
                self.columns::<V, WIDE>(column, V::LANES, inverse);
                column += WIDE * V::LANES;
            }
            while column < width {
                self.columns::<V, 1>(column, width - column, inverse);
                column += V::LANES;
            }
        }
        normaliser
    }
}

impl Step<'_> {
    /// `M` vectors of columns, `lanes` of each.
    #[inline(always)]
    unsafe fn columns<V: Vector, const M: usize>(
        &mut self,
        column: usize,
        lanes: usize,
        inverse: f32,
    ) {
        let width = self.n.len();
        // SAFETY: the caller keeps the columns within the width.
        unsafe {
            let v: [V; M] = std::array::from_fn(|i| {
                V::load_first(self.v.as_ptr().add(column + i * V::LANES), lanes)
            });
            let mut sums = [V::zero(); M];
            let forget = V::splat(self.forget);
            for row in 0..width {
                let written = V::splat(self.input * (self.k[row] * self.scale));
                let q = V::splat(self.q[row]);
                for (i, sum) in sums.iter_mut().enumerate() {
                    let at = self.c.as_mut_ptr().add(row * self.stride + column + i * V::LANES);
                    let c = V::load_first(at, lanes).mul_add(forget, written.mul(v[i]));
                    c.store_first(at, lanes);
                    *sum = c.mul_add(q, *sum);
                }
            }
            for (i, sum) in sums.into_iter().enumerate() {
                let at = self.y.as_mut_ptr().add(column + i * V::LANES);
                sum.mul(V::splat(inverse)).store_first(at, lanes);
            }
        }
    }
}
