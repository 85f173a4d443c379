//! A chunk's matrices as operands of the products: in lanes that hold one element, or two
//! neighbours along the inner size.

use crate::cpu::Worker;
use crate::level::Level;
use crate::operand::{self, Operand, ProductKernel, run_product};
use crate::precision::Precision;
use crate::simd::Vector;
use crate::small_product::{LANES, Product};

/// The form in which the products of a head read their operands.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub(super) level: Level,
    precision: Precision,
    /// Elements in one lane.
    pub(super) depth: usize,
}

impl Form {
    pub(super) fn of(worker: &Worker) -> Self {
        let (level, precision) = (worker.level, worker.precision);
        Self { level, precision, depth: operand::depth(level, precision) }
    }

    /// Rows, or elements of a row, padded so that lanes along them are whole vectors.
    pub(super) fn padded(self, count: usize) -> usize {
        count.next_multiple_of(LANES * self.depth)
    }

    /// Lanes that hold `count` elements.
    pub(super) fn lanes(self, count: usize) -> usize {
        count.div_ceil(self.depth)
    }

    /// Rows of `stride` elements in lanes along them, each row times its factor, if there are any.
    /// Written to `to`, unless the rows can be read as they lie.
    pub(super) fn along<'a>(
        self,
        from: &'a [f32],
        stride: usize,
        factors: Option<&[f32]>,
        to: &'a mut [f32],
    ) -> &'a [f32] {
        if self.precision == Precision::F32 && factors.is_none() {
            return from;
        }
        self.run(Along { from, stride, factors, to: &mut *to });
        to
    }

    /// As [`Form::along`], in lanes across the rows: as many rows of lanes as hold all rows.
    pub(super) fn across<'a>(
        self,
        from: &'a [f32],
        stride: usize,
        factors: Option<&[f32]>,
        to: &'a mut [f32],
    ) -> &'a [f32] {
        if self.precision == Precision::F32 && factors.is_none() {
            return from;
        }
        self.run(Across { from, stride, factors, to: &mut *to });
        to
    }

    pub(super) fn run<K: ProductKernel>(self, kernel: K) -> K::Output {
        run_product(self.level, self.precision, kernel)
    }

    pub(super) fn multiply(self, product: Product, c: &mut [f32]) {
        product.run_lanes(self.level, self.precision, c);
    }
}

struct Along<'a> {
    from: &'a [f32],
    stride: usize,
    factors: Option<&'a [f32]>,
    to: &'a mut [f32],
}

impl ProductKernel for Along<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, O: Operand<V>>(self) {
        let Self { from, stride, factors, to } = self;
        let (rows, lanes) = (from.len() / stride, stride / O::DEPTH);
        assert!(stride.is_multiple_of(LANES * O::DEPTH) && rows * lanes <= to.len());
        assert!(factors.is_none_or(|factors| factors.len() >= rows));
        for row in 0..rows {
            // SAFETY: whole vectors within both, by the assertions; the caller has the instruction
            // set.
            unsafe {
                let factor = V::splat(factors.map_or(1.0, |factors| factors[row]));
                let from = from.as_ptr().add(row * stride);
                let to = to.as_mut_ptr().add(row * lanes);
                for i in (0..stride).step_by(V::LANES) {
                    O::store_along(V::load(from.add(i)).mul(factor), to.add(i / O::DEPTH));
                }
            }
        }
    }
}

struct Across<'a> {
    from: &'a [f32],
    stride: usize,
    factors: Option<&'a [f32]>,
    to: &'a mut [f32],
}

impl ProductKernel for Across<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, O: Operand<V>>(self) {
        let Self { from, stride, factors, to } = self;
        let rows = from.len() / stride / O::DEPTH;
        assert!(stride.is_multiple_of(LANES) && rows * stride <= to.len());
        assert!(factors.is_none_or(|factors| factors.len() >= rows * O::DEPTH));
        for row in 0..rows {
            let last = (row + 1) * O::DEPTH - 1;
            // SAFETY: as above.
            unsafe {
                let factor = V::splat(factors.map_or(1.0, |factors| factors[row * O::DEPTH]));
                let last_factor = V::splat(factors.map_or(1.0, |factors| factors[last]));
                let from = from.as_ptr();
                let to = to.as_mut_ptr().add(row * stride);
                for i in (0..stride).step_by(V::LANES) {
                    let first = V::load(from.add(row * O::DEPTH * stride + i)).mul(factor);
                    let last = V::load(from.add(last * stride + i)).mul(last_factor);
                    O::join(first, last).store(to.add(i));
                }
            }
        }
    }
}
