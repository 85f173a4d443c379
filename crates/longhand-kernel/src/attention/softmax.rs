//! Scores of a block of queries, `[keys, BLOCK]`: the mask, the softmax and its gradient.
//!
//! Each lane belongs to one query, so that its softmax needs no sums across lanes. The results are
//! operands of the next products.

use std::ops::Range;

use super::layout::{BLOCK, Layout, MOST_KEYS, within};
use crate::operand::{Operand, ProductKernel};
use crate::simd::{Vector, exp};

/// The score of a key that the query does not see.
const LOWEST: f32 = f32::MIN;

/// The keys that the queries of a block see: together `start..start + count` of the gathered ones,
/// and each query those from `first` to `end`, counted from `start`.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    /// A multiple of the alignment, as `count`.
    pub(super) start: usize,
    pub(super) count: usize,
    first: [f32; BLOCK],
    end: [f32; BLOCK],
    /// The keys, counted from `start`, that every query sees: whole multiples of the alignment.
    by_all: [usize; 2],
}

impl Seen {
    pub(super) const NOTHING: Self =
        Self { start: 0, count: 0, first: [0.0; BLOCK], end: [0.0; BLOCK], by_all: [0, 0] };

    /// The keys that the queries of `rows` see, by the prepared ranges, if the gathered keys
    /// begin at place `laid`.
    pub(super) fn of(
        layout: &Layout,
        prepared: &[f32],
        b: usize,
        rows: &Range<usize>,
        laid: usize,
        align: usize,
    ) -> Self {
        let first = &prepared[within(layout.first(b), rows.clone())];
        let end = &prepared[within(layout.end(b), rows.clone())];
        let (mut least, mut most) = (f32::INFINITY, 0.0f32);
        let (mut from, mut to) = (0.0f32, f32::INFINITY);
        for (&first, &end) in first.iter().zip(end) {
            if first < end {
                (least, most) = (least.min(first), most.max(end));
            }
            (from, to) = (from.max(first), to.min(end));
        }
        if least == f32::INFINITY {
            return Self::NOTHING;
        }
        let in_reach = least >= laid as f32 && most < MOST_KEYS as f32;
        assert!(in_reach, "attention: `saved` is not what forward left");
        let start = (least as usize - laid) / align * align;
        let count = (most as usize - laid - start).next_multiple_of(align);
        let mut seen = Self { start, count, ..Self::NOTHING };
        let place = (laid + start) as f32;
        for (lane, (first, end)) in first.iter().zip(end).enumerate() {
            (seen.first[lane], seen.end[lane]) = (first - place, end - place);
        }
        if from < to {
            let from = (from - place) as usize;
            let to = (to - place) as usize / align * align;
            seen.by_all = [from.next_multiple_of(align).min(to), to];
        }
        seen
    }

    pub(super) fn keys(&self) -> Range<usize> {
        self.start..self.start + self.count
    }

    /// The keys before and after those that every query sees.
    fn edges(&self) -> [Range<usize>; 2] {
        [0..self.by_all[0], self.by_all[1]..self.count]
    }

    fn by_all(&self) -> Range<usize> {
        self.by_all[0]..self.by_all[1]
    }

    /// `score` where the query of its lane sees key `j`, else `hidden`.
    #[inline(always)]
    unsafe fn keep<V: Vector>(&self, lane: usize, j: usize, score: V, hidden: V) -> V {
        // SAFETY: `lane + LANES <= BLOCK`, and the caller has the instruction set.
        unsafe {
            let at = V::splat(j as f32);
            let kept = at.select_less(V::load(self.end.as_ptr().add(lane)), score, hidden);
            at.select_less(V::load(self.first.as_ptr().add(lane)), hidden, kept)
        }
    }
}

/// Scores to exponentials of their distance from the largest one, each lane by itself: lanes across
/// the keys, `[keys / DEPTH, BLOCK]`, at the beginning of `scores`.
pub(super) struct Softmax<'a> {
    pub(super) scores: &'a mut [f32],
    pub(super) seen: &'a Seen,
    pub(super) largest: &'a mut [f32],
    pub(super) inverse: &'a mut [f32],
}

impl ProductKernel for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, O: Operand<V>>(self) {
        let seen = self.seen;
        assert!(self.scores.len() >= seen.count * BLOCK && seen.count.is_multiple_of(O::DEPTH));
        assert!(self.largest.len() == BLOCK && self.inverse.len() == BLOCK);
        // SAFETY: `scores` holds `count` rows of BLOCK lanes, the statistics BLOCK.
        unsafe {
            for lane in (0..BLOCK).step_by(V::LANES) {
                let by_all = seen.by_all();
                let scores = self.scores.as_mut_ptr().add(lane);
                let lowest = V::splat(LOWEST);
                let mut most = [lowest; 4];
                for edge in seen.edges() {
                    for j in edge {
                        let score = V::load(scores.add(j * BLOCK));
                        most[0] = most[0].max(seen.keep(lane, j, score, lowest));
                    }
                }
                let mut j = by_all.start;
                while j + 4 <= by_all.end {
                    for (i, most) in most.iter_mut().enumerate() {
                        *most = most.max(V::load(scores.add((j + i) * BLOCK)));
                    }
                    j += 4;
                }
                for j in j..by_all.end {
                    most[0] = most[0].max(V::load(scores.add(j * BLOCK)));
                }
                let most = most[0].max(most[1]).max(most[2].max(most[3]));

                // From the first key to the last: writes never pass the next read.
                let [before, after] = seen.edges();
                let weights = Weights { seen, scores, lane, most };
                let mut sums = [V::zero(); 2];
                weights.of::<O, true>(before, &mut sums);
                weights.of::<O, false>(by_all, &mut sums);
                weights.of::<O, true>(after, &mut sums);
                let sum = sums[0].add(sums[1]);
                let none = V::zero();
                let inverse = none.select_less(sum, V::splat(1.0).div(sum), sum);
                most.store(self.largest.as_mut_ptr().add(lane));
                inverse.store(self.inverse.as_mut_ptr().add(lane));
            }
        }
    }
}

/// The weights of one vector of queries.
struct Weights<'a, V> {
    seen: &'a Seen,
    scores: *mut f32,
    lane: usize,
    most: V,
}

impl<V: Vector> Weights<'_, V> {
    /// Those of some keys, and their sums.
    #[inline(always)]
    unsafe fn of<O: Operand<V>, const EDGE: bool>(&self, keys: Range<usize>, sums: &mut [V; 2]) {
        // SAFETY: the caller's promise for the scores, and whole multiples of the depth.
        unsafe {
            for j in keys.step_by(O::DEPTH) {
                let first = self.weight::<EDGE>(j);
                sums[0] = sums[0].add(first);
                let mut second = V::zero();
                if O::DEPTH == 2 {
                    second = self.weight::<EDGE>(j + 1);
                    sums[1] = sums[1].add(second);
                }
                O::join(first, second).store(self.scores.add(j / O::DEPTH * BLOCK));
            }
        }
    }

    #[inline(always)]
    unsafe fn weight<const EDGE: bool>(&self, j: usize) -> V {
        // SAFETY: as above.
        unsafe {
            let weight = exp(V::load(self.scores.add(j * BLOCK)).sub(self.most));
            if EDGE { self.seen.keep(self.lane, j, weight, V::zero()) } else { weight }
        }
    }
}

/// Scores to probabilities P, and gradients dP of the probabilities to those of the scores:
/// `dS = P · (dP − Σ P·dP)`.
pub(super) struct SoftmaxGradient<'a> {
    /// S `[keys, BLOCK]` becomes P.
    pub(super) scores: &'a mut [f32],
    /// dP `[keys, BLOCK]` becomes dS in lanes across the keys, as [`Softmax`] leaves the weights.
    pub(super) dscores: &'a mut [f32],
    pub(super) seen: &'a Seen,
    pub(super) largest: &'a [f32],
    pub(super) inverse: &'a [f32],
    pub(super) per_key: Option<PerKey<'a>>,
}

/// Where P and dS go in lanes along the queries: of each key one row of BLOCK / DEPTH lanes.
pub(super) struct PerKey<'a> {
    pub(super) weights: &'a mut [f32],
    pub(super) dscores: &'a mut [f32],
    /// Lanes from key to key.
    pub(super) row: usize,
}

impl ProductKernel for SoftmaxGradient<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, O: Operand<V>>(self) {
        let Self { seen, per_key, .. } = self;
        let count = seen.count;
        assert!(self.scores.len() >= count * BLOCK && self.dscores.len() >= count * BLOCK);
        assert!(self.largest.len() == BLOCK && self.inverse.len() == BLOCK);
        let wanted = per_key.is_some();
        let (weights, dscores_per_key, row) = match per_key {
            Some(PerKey { weights, dscores, row }) => {
                let least = count.saturating_sub(1) * row + BLOCK / O::DEPTH;
                assert!(count == 0 || weights.len() >= least && dscores.len() >= least);
                (weights.as_mut_ptr(), dscores.as_mut_ptr(), row)
            }
            None => (std::ptr::null_mut(), std::ptr::null_mut(), 0),
        };
        let [before, after] = seen.edges();
        // SAFETY: `scores` and `dscores` hold `count` rows of BLOCK lanes, the statistics BLOCK, and
        // what goes along the queries a row for each key.
        unsafe {
            for lane in (0..BLOCK).step_by(V::LANES) {
                let dscores = self.dscores.as_mut_ptr().add(lane);
                let of = Probabilities {
                    seen,
                    scores: self.scores.as_mut_ptr().add(lane),
                    dscores,
                    lane,
                    most: V::load(self.largest.as_ptr().add(lane)),
                    inverse: V::load(self.inverse.as_ptr().add(lane)),
                    per_key: weights.wrapping_add(lane / O::DEPTH),
                    row,
                    wanted,
                };
                let mut mean = V::zero();
                of.take::<O, true>(before.clone(), &mut mean);
                of.take::<O, false>(seen.by_all(), &mut mean);
                of.take::<O, true>(after.clone(), &mut mean);
                let to = dscores_per_key.wrapping_add(lane / O::DEPTH);
                for j in (0..count).step_by(O::DEPTH) {
                    let first = of.gradient(j, mean);
                    let second = if O::DEPTH == 2 { of.gradient(j + 1, mean) } else { V::zero() };
                    // Never beyond what has been read.
                    O::join(first, second).store(dscores.add(j / O::DEPTH * BLOCK));
                    if wanted {
                        O::store_along(first, to.add(j * row));
                        if O::DEPTH == 2 {
                            O::store_along(second, to.add((j + 1) * row));
                        }
                    }
                }
            }
        }
    }
}

/// The probabilities of one vector of queries.
struct Probabilities<'a, V> {
    seen: &'a Seen,
    scores: *mut f32,
    dscores: *mut f32,
    lane: usize,
    most: V,
    inverse: V,
    per_key: *mut f32,
    row: usize,
    wanted: bool,
}

impl<V: Vector> Probabilities<'_, V> {
    /// Scores to probabilities, for some keys; adds Σ P·dP.
    #[inline(always)]
    unsafe fn take<O: Operand<V>, const EDGE: bool>(&self, keys: Range<usize>, mean: &mut V) {
        // SAFETY: the caller's promise.
        unsafe {
            for j in keys {
                let at = self.scores.add(j * BLOCK);
                let mut weight = exp(V::load(at).sub(self.most)).mul(self.inverse);
                if EDGE {
                    weight = self.seen.keep(self.lane, j, weight, V::zero());
                }
                *mean = weight.mul_add(V::load(self.dscores.add(j * BLOCK)), *mean);
                weight.store(at);
                if self.wanted {
                    O::store_along(weight, self.per_key.add(j * self.row));
                }
            }
        }
    }

    /// dS of key `j`.
    #[inline(always)]
    unsafe fn gradient(&self, j: usize, mean: V) -> V {
        // SAFETY: the caller's promise.
        unsafe {
            let gradient = V::load(self.dscores.add(j * BLOCK)).sub(mean);
            V::load(self.scores.add(j * BLOCK)).mul(gradient)
        }
    }
}
