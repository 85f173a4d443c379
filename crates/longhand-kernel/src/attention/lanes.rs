//! Rows as operands of the products: in lanes that hold one element, or two neighbours along the
//! inner size.

use std::ops::Deref;

use crate::buffer::{Buffer, Buffers};
use crate::cpu::Worker;
use crate::level::Level;
use crate::operand::{self, Operand, ProductKernel, run_product};
use crate::precision::Precision;
use crate::simd::Vector;
use crate::small_product::{LANES, Product};

/// The form in which products read their operands.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub(super) level: Level,
    precision: Precision,
    /// Elements in one lane: rows that are joined across come in multiples of it.
    pub(super) depth: usize,
}

impl Form {
    pub(super) fn of(worker: &Worker) -> Self {
        let (level, precision) = (worker.level, worker.precision);
        Self { level, precision, depth: operand::depth(level, precision) }
    }

    /// Lanes from row to row of [`Form::along`].
    pub(super) fn row(self, width: usize) -> usize {
        width.div_ceil(self.depth).next_multiple_of(LANES)
    }

    /// Rows `[n, stride]` of `width` features each, in lanes along the features.
    pub(super) fn along<'a>(
        self,
        buffers: &mut Buffers,
        from: &'a [f32],
        stride: usize,
        width: usize,
    ) -> Lanes<'a> {
        if self.precision == Precision::F32 {
            return Lanes::Laid(from);
        }
        let to_row = self.row(width);
        let mut to = buffers.take(from.len() / stride.max(1) * to_row);
        self.run(Along { from, stride, width, to: &mut to, to_row });
        Lanes::Packed(to)
    }

    /// Rows `[n, stride]` in lanes across the rows, `[n / depth, stride]`.
    pub(super) fn across<'a>(
        self,
        buffers: &mut Buffers,
        from: &'a [f32],
        stride: usize,
    ) -> Lanes<'a> {
        if self.precision == Precision::F32 {
            return Lanes::Laid(from);
        }
        let mut to = buffers.take(from.len() / self.depth);
        self.run(Across { from, stride, to: &mut to });
        Lanes::Packed(to)
    }

    pub(super) fn run<K: ProductKernel>(self, kernel: K) -> K::Output {
        run_product(self.level, self.precision, kernel)
    }

    pub(super) fn multiply(self, product: Product, c: &mut [f32]) {
        product.run_lanes(self.level, self.precision, c);
    }
}

/// Operands in their lanes.
pub(super) enum Lanes<'a> {
    /// The elements themselves.
    Laid(&'a [f32]),
    Packed(Buffer),
}

impl Lanes<'_> {
    pub(super) fn give(self, buffers: &mut Buffers) {
        if let Lanes::Packed(buffer) = self {
            buffers.give(buffer);
        }
    }
}

impl Deref for Lanes<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Lanes::Laid(rows) => rows,
            Lanes::Packed(buffer) => buffer,
        }
    }
}

struct Along<'a> {
    from: &'a [f32],
    stride: usize,
    width: usize,
    to: &'a mut [f32],
    to_row: usize,
}

impl ProductKernel for Along<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, O: Operand<V>>(self) {
        let Self { from, stride, width, to, to_row } = self;
        let step = V::LANES * O::DEPTH;
        assert!(width <= stride && width.div_ceil(O::DEPTH) <= to_row);
        for (from, to) in from.chunks_exact(stride).zip(to.chunks_exact_mut(to_row)) {
            for i in (0..width).step_by(step) {
                // SAFETY: within a row of either, whose lengths are multiples of a vector; the
                // caller has the instruction set.
                unsafe {
                    O::along(from.as_ptr().add(i), (width - i).min(step))
                        .store(to.as_mut_ptr().add(i / O::DEPTH));
                }
            }
        }
    }
}

struct Across<'a> {
    from: &'a [f32],
    stride: usize,
    to: &'a mut [f32],
}

impl ProductKernel for Across<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, O: Operand<V>>(self) {
        let Self { from, stride, to } = self;
        let next = (O::DEPTH - 1) * stride;
        assert!(stride.is_multiple_of(LANES));
        for (from, to) in from.chunks_exact(stride + next).zip(to.chunks_exact_mut(stride)) {
            for i in (0..stride).step_by(V::LANES) {
                // SAFETY: DEPTH rows of whole vectors make one; the caller has the instruction set.
                unsafe {
                    let from = from.as_ptr().add(i);
                    O::join(V::load(from), V::load(from.add(next))).store(to.as_mut_ptr().add(i));
                }
            }
        }
    }
}
