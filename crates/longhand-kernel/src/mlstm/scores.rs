//! Scores of a chunk's queries against its keys, times the decay from position s (column) to
//! position j (row); zero for s > j.

use super::gates::Gates;
use super::{CHUNK, LANES};
use crate::operand::{Operand, ProductKernel};
use crate::simd::{Vector, exp};

/// 0, 1, …: the columns.
const COUNT: [f32; CHUNK] = {
    let mut count = [0.0; CHUNK];
    let mut s = 0;
    while s < CHUNK {
        count[s] = s as f32;
        s += 1;
    }
    count
};

/// Scores become operands of the outputs' product.
pub(super) struct Forward<'a> {
    pub(super) gates: &'a Gates,
    /// From row to row of `scores`.
    pub(super) stride: usize,
    /// `[len, stride]`: entries above the diagonal may be anything.
    pub(super) scores: &'a [f32],
    /// The decayed scores, lanes along the rows.
    pub(super) along: &'a mut [f32],
    /// `[len]`: their sums by row.
    pub(super) sums: &'a mut [f32],
}

impl ProductKernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, O: Operand<V>>(self) {
        let Self { gates, stride, scores, along, sums } = self;
        let len = gates.len;
        check::<O, V>(len, stride, scores, along);
        assert!(sums.len() >= len);
        for j in 0..len {
            // SAFETY: rows of `stride` elements, within the lengths asserted above.
            unsafe {
                let row = Row::<V>::new(gates, j);
                let (from, mut sum) = (scores.as_ptr().add(j * stride), V::zero());
                let to = along.as_mut_ptr().add(j * stride / O::DEPTH);
                for s in (0..stride).step_by(V::LANES) {
                    let mut score = V::zero();
                    if s <= j {
                        score = row.seen(s, V::load(from.add(s))).mul(row.decay(s));
                        sum = sum.add(score);
                    }
                    O::store_along(score, to.add(s / O::DEPTH));
                }
                sums[j] = sum.sum();
            }
        }
    }
}

/// Scores and their gradients become the operands of backward's products.
pub(super) struct Backward<'a> {
    pub(super) gates: &'a Gates,
    /// From row to row of all of them.
    pub(super) stride: usize,
    /// `[len, stride]`: entries above the diagonal may be anything.
    pub(super) scores: &'a [f32],
    /// `[len, stride]`: gradients of the decayed scores, without the part that flows through the
    /// row's sum. Entries above the diagonal may be anything.
    pub(super) d_scores: &'a [f32],
    /// `[len]`: gradients of the sums.
    pub(super) d_sums: &'a [f32],
    /// The decayed scores, lanes across the rows.
    pub(super) across: &'a mut [f32],
    /// Gradients of the scores, lanes along the rows and across them.
    pub(super) d_along: &'a mut [f32],
    pub(super) d_across: &'a mut [f32],
}

impl ProductKernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, O: Operand<V>>(self) {
        let Self { gates, stride, scores, d_scores, d_sums, across, d_along, d_across } = self;
        let len = gates.len;
        for to in [&*across, &*d_along, &*d_across] {
            check::<O, V>(len, stride, scores, to);
        }
        assert!(d_scores.len() >= len * stride && d_sums.len() >= len);
        for first in (0..len).step_by(O::DEPTH) {
            let end = len.min(first + O::DEPTH);
            let lanes = first / O::DEPTH * stride;
            // SAFETY: rows of `stride` elements, within the lengths asserted above.
            unsafe {
                for s in (0..stride).step_by(V::LANES) {
                    // One row, or two neighbours.
                    let (mut decayed, mut d) = ([V::zero(); 2], [V::zero(); 2]);
                    for j in first..end {
                        let (at, i) = (j * stride + s, j - first);
                        if s <= j {
                            let row = Row::<V>::new(gates, j);
                            let decay = row.decay(s);
                            let d_score =
                                V::load(d_scores.as_ptr().add(at)).add(V::splat(d_sums[j]));
                            decayed[i] = row.seen(s, V::load(scores.as_ptr().add(at))).mul(decay);
                            d[i] = row.seen(s, d_score).mul(decay);
                        }
                        O::store_along(d[i], d_along.as_mut_ptr().add(at / O::DEPTH));
                    }
                    let last = O::DEPTH - 1;
                    O::join(decayed[0], decayed[last]).store(across.as_mut_ptr().add(lanes + s));
                    O::join(d[0], d[last]).store(d_across.as_mut_ptr().add(lanes + s));
                }
            }
        }
    }
}

fn check<O: Operand<V>, V: Vector>(len: usize, stride: usize, scores: &[f32], to: &[f32]) {
    assert!(len <= stride && stride <= CHUNK && stride.is_multiple_of(LANES * O::DEPTH));
    assert!(scores.len() >= len * stride && to.len() >= len.div_ceil(O::DEPTH) * stride);
}

/// Row j of the decays.
struct Row<'a, V> {
    gates: &'a Gates,
    /// j + 1: the first column that the row hides.
    end: V,
    read: V,
    read_rest: V,
}

impl<'a, V: Vector> Row<'a, V> {
    #[inline(always)]
    unsafe fn new(gates: &'a Gates, j: usize) -> Self {
        // SAFETY: the caller has the instruction set.
        unsafe {
            Self {
                gates,
                end: V::splat((j + 1) as f32),
                read: V::splat(gates.reads.high[j]),
                read_rest: V::splat(gates.reads.rest[j]),
            }
        }
    }

    /// The decays of the columns from s on; entries above the diagonal may be anything.
    #[inline(always)]
    unsafe fn decay(&self, s: usize) -> V {
        let writes = &self.gates.writes;
        // SAFETY: s is below CHUNK, a multiple of LANES; the caller has the instruction set.
        unsafe {
            let high = self.read.sub(V::load(writes.high.as_ptr().add(s)));
            exp(high.add(self.read_rest.sub(V::load(writes.rest.as_ptr().add(s)))))
                .min(V::splat(f32::MAX))
        }
    }

    /// Zero above the diagonal.
    #[inline(always)]
    unsafe fn seen(&self, s: usize, values: V) -> V {
        // SAFETY: as in `decay`.
        unsafe { V::load(COUNT.as_ptr().add(s)).select_less(self.end, values, V::zero()) }
    }
}
