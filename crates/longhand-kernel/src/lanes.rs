//! Rows as operands of small products: in lanes of one element, or of two neighbours
//! along the inner size.
//!
//! Attention and the matrix memory use it: their products read `f32` rows in place, and rows of
//! other precisions packed into lanes first.

use std::ops::Deref;

use crate::buffer::{Buffer, Buffers};
use crate::cpu::Worker;
use crate::level::Level;
use crate::operand::{self, Operand, ProductKernel, run_product};
use crate::precision::Precision;
use crate::simd::Vector;
use crate::small_product::{LANES, Product};

/// The form in which the products of a thread read their operands.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    level: Level,
    precision: Precision,
    /// Elements in one lane: 1, or 2 for pairs of bf16.
    pub(crate) depth: usize,
}

impl Form {
    pub(crate) fn of(worker: &Worker) -> Self {
        let (level, precision) = (worker.level, worker.precision);
        Self { level, precision, depth: operand::depth(level, precision) }
    }

    /// Lanes that hold `count` elements.
    pub(crate) fn lanes(self, count: usize) -> usize {
        count.div_ceil(self.depth)
    }

    /// Lanes from row to row of rows of `width` elements: whole vectors.
    pub(crate) fn row(self, width: usize) -> usize {
        self.lanes(width).next_multiple_of(LANES)
    }

    /// `count` elements, padded so that their lanes are whole vectors.
    pub(crate) fn padded(self, count: usize) -> usize {
        count.next_multiple_of(LANES * self.depth)
    }

    /// Rows of `stride` elements in lanes along them, each row times its factor where there are
    /// factors. Writes to `to`, unless the rows can be read in place.
    pub(crate) fn along<'a>(
        self,
        from: &'a [f32],
        stride: usize,
        factors: Option<&[f32]>,
        to: &'a mut [f32],
    ) -> &'a [f32] {
        if self.precision == Precision::F32 && factors.is_none() {
            return from;
        }
        let to_row = stride / self.depth;
        self.run(Along { from, stride, width: stride, factors, to: &mut *to, to_row });
        to
    }

    /// [`Form::along`] in lanes across the rows: neighbouring rows share a lane.
    pub(crate) fn across<'a>(
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

    /// The result of an earlier [`Form::along`] or [`Form::across`] without factors.
    pub(crate) fn laid<'a>(self, from: &'a [f32], to: &'a [f32]) -> &'a [f32] {
        if self.precision == Precision::F32 { from } else { to }
    }

    /// Rows `[n, stride]` of `width` elements each, in lanes along the elements, `[n, row(width)]`.
    pub(crate) fn pack_along<'a>(
        self,
        buffers: &mut Buffers,
        from: &'a [f32],
        stride: usize,
        width: usize,
    ) -> Lanes<'a> {
        if self.precision == Precision::F32 {
            return Lanes::InPlace(from);
        }
        let to_row = self.row(width);
        let mut to = buffers.take(from.len() / stride.max(1) * to_row);
        self.run(Along { from, stride, width, factors: None, to: &mut to, to_row });
        Lanes::Packed(to)
    }

    /// Rows `[n, stride]` in lanes across the rows, `[n / depth, stride]`.
    pub(crate) fn pack_across<'a>(
        self,
        buffers: &mut Buffers,
        from: &'a [f32],
        stride: usize,
    ) -> Lanes<'a> {
        if self.precision == Precision::F32 {
            return Lanes::InPlace(from);
        }
        let mut to = buffers.take(from.len() / self.depth);
        self.run(Across { from, stride, factors: None, to: &mut to });
        Lanes::Packed(to)
    }

    pub(crate) fn run<K: ProductKernel>(self, kernel: K) -> K::Output {
        run_product(self.level, self.precision, kernel)
    }

    pub(crate) fn multiply(self, product: Product, c: &mut [f32]) {
        product.run_lanes(self.level, self.precision, c);
    }
}

/// Rows in their lanes.
pub(crate) enum Lanes<'a> {
    /// `f32` rows, read where they are.
    InPlace(&'a [f32]),
    /// Rows packed into a buffer.
    Packed(Buffer),
}

impl Lanes<'_> {
    pub(crate) fn give(self, buffers: &mut Buffers) {
        if let Lanes::Packed(buffer) = self {
            buffers.give(buffer);
        }
    }
}

impl Deref for Lanes<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Lanes::InPlace(rows) => rows,
            Lanes::Packed(buffer) => buffer,
        }
    }
}

/// Packs the first `width` elements of each row. Elements past `width` in the last vector count as
/// zero; lanes past that vector keep any value.
struct Along<'a> {
    from: &'a [f32],
    stride: usize,
    width: usize,
    factors: Option<&'a [f32]>,
    to: &'a mut [f32],
    to_row: usize,
}

impl ProductKernel for Along<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, O: Operand<V>>(self) {
        let Self { from, stride, width, factors, to, to_row } = self;
        assert!(width <= stride && width.next_multiple_of(V::LANES) <= to_row * O::DEPTH);
        let rows = from.chunks_exact(stride).zip(to.chunks_exact_mut(to_row));
        for (row, (from, to)) in rows.enumerate() {
            let factor = factors.map_or(1.0, |factors| factors[row]);
            // SAFETY: loads stay within the row and stores within the packed one, by the
            // assertion; the caller has the instruction set.
            unsafe {
                let factor = V::splat(factor);
                for i in (0..width).step_by(V::LANES) {
                    let (from, left) = (from.as_ptr().add(i), width - i);
                    let elements =
                        if left >= V::LANES { V::load(from) } else { V::load_first(from, left) };
                    O::store_along(elements.mul(factor), to.as_mut_ptr().add(i / O::DEPTH));
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
        let rows = from.len() / stride.max(1) / O::DEPTH;
        assert!(stride.is_multiple_of(LANES) && rows * stride <= to.len());
        assert!(factors.is_none_or(|factors| factors.len() >= rows * O::DEPTH));
        for row in 0..rows {
            let last = (row + 1) * O::DEPTH - 1;
            // SAFETY: whole vectors within both, by the assertions; the caller has the instruction
            // set.
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
