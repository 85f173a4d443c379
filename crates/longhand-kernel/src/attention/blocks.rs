//! The loops over blocks of queries, forward and backward, for any layout of queries and keys.
//!
//! Scores are held transposed, `[keys, BLOCK]`: each lane belongs to one query, so that its
//! softmax needs no sums across lanes.

use std::ops::Range;

use super::layout::{BLOCK, Layout, time_of, within};
use super::rotary::{add_turned_back, turn};
use crate::buffer::Buffer;
use crate::cpu::{Cpu, Shards, Worker};
use crate::sequence::Sequence;
use crate::simd::{Kernel, Level, Vector, exp};
use crate::small_product::{Lying, Product, Transpose, Triangle};

/// Stands for a score that may not be seen.
const LOWEST: f32 = f32::MIN;

/// Queries of a piece of a long sequence, where there are too few heads for the threads.
const PIECE: usize = 64;

/// Queries, keys and values of one key head of one sequence, side by side.
pub(super) struct Laid {
    /// Positions that ask, in reading order.
    pub(super) rows: Range<usize>,
    /// Places of the keys that any of them may see.
    pub(super) seen: Range<usize>,
    /// For each query head `[rows, stride]`, turned and divided by √K; zeros where nothing asks.
    pub(super) queries: Buffer,
    /// `[seen, stride]`, turned.
    pub(super) keys: Buffer,
    /// `[seen, stride]`.
    pub(super) values: Buffer,
}

/// Where queries, keys and values come from.
pub(super) trait Source: Sync {
    /// Places of the keys that some rows may see.
    fn seen(&self, b: usize, rows: &Range<usize>) -> Range<usize>;
    /// Fills in what is to be laid out of sequence `b` and key head `group`.
    fn lay_out(&self, level: Level, b: usize, group: usize, laid: &mut Laid);
    /// Takes note of keys and values, each time after some rows have read them.
    fn remember(&self, b: usize, group: usize, laid: &Laid);
}

impl Laid {
    fn new(
        worker: &mut Worker,
        layout: &Layout,
        source: &dyn Source,
        [b, group]: [usize; 2],
        rows: Range<usize>,
    ) -> Self {
        let seen = source.seen(b, &rows);
        let stride = layout.stride();
        let mut laid = Self {
            queries: worker.buffers.take(layout.shared() * rows.len() * stride),
            keys: worker.buffers.take(seen.len() * stride),
            values: worker.buffers.take(seen.len() * stride),
            rows,
            seen,
        };
        source.lay_out(worker.level, b, group, &mut laid);
        laid
    }

    fn give(self, worker: &mut Worker) {
        for buffer in [self.queries, self.keys, self.values] {
            worker.buffers.give(buffer);
        }
    }

    /// The queries of some rows of one of the heads.
    fn query(&self, head: usize, rows: &Range<usize>, stride: usize) -> &[f32] {
        let first = head * self.rows.len() + rows.start - self.rows.start;
        &self.queries[first * stride..(first + rows.len()) * stride]
    }
}

/// Writes `y [T·B, H·K]` and each query's statistics; zeros at padded positions and where nothing
/// may be seen. `prepared` is the first part of what is saved.
pub(super) fn forward(
    cpu: &Cpu,
    layout: &Layout,
    sequence: &Sequence,
    source: &dyn Source,
    prepared: &[f32],
    statistics: &mut [f32],
    y: &mut [f32],
) {
    let (statistics, y) = (Shards::new(statistics), Shards::new(y));
    let (units, rows) = (layout.batch * layout.groups, layout.rows());
    let piece = match units {
        0 => return,
        units if units >= 2 * cpu.threads() => rows,
        units => (rows * units).div_ceil(4 * cpu.threads()).next_multiple_of(PIECE),
    };
    let pieces = rows.div_ceil(piece);
    cpu.for_each(units * pieces, |worker, task| {
        let at = [task / pieces / layout.groups, task / pieces % layout.groups];
        let start = task % pieces * piece;
        let laid = Laid::new(worker, layout, source, at, start..(start + piece).min(rows));
        for block in laid.rows.clone().step_by(BLOCK) {
            // SAFETY: every task has heads and positions of its own.
            unsafe {
                attend(worker, layout, sequence, prepared, &statistics, &y, at, block, &laid);
            }
        }
        source.remember(at[0], at[1], &laid);
        laid.give(worker);
    });
}

/// One block of queries of the heads of `group`, from row `start` on.
///
/// # Safety
/// No other thread may touch the outputs and the statistics of these queries.
unsafe fn attend(
    worker: &mut Worker,
    layout: &Layout,
    sequence: &Sequence,
    prepared: &[f32],
    statistics: &Shards<f32>,
    y: &Shards<f32>,
    [b, group]: [usize; 2],
    start: usize,
    laid: &Laid,
) {
    let (width, stride) = (layout.width, layout.stride());
    let rows = start..start + BLOCK;
    let seen = Seen::of(layout, prepared, b, &rows);
    let span = seen.within(laid, stride);
    let real = sequence.real(b);
    let mut turned = worker.buffers.take(stride * BLOCK);
    let mut scores = worker.buffers.take(seen.count * BLOCK);
    let mut output = worker.buffers.take(BLOCK * stride);
    for index in 0..layout.shared() {
        let head = group * layout.shared() + index;
        // SAFETY: as promised by the caller.
        let (largest, inverse) = unsafe {
            (
                statistics.part(within(layout.largest(b, head), rows.clone())),
                statistics.part(within(layout.inverse(b, head), rows.clone())),
            )
        };
        let query = laid.query(index, &rows, stride);
        worker.level.run(Transpose { from: query, stride, to: &mut turned });
        scores_of(&laid.keys, span.clone(), &turned, stride, width, seen.count)
            .run(worker.level, &mut scores);
        worker.level.run(Softmax { scores: &mut scores, seen: &seen, largest, inverse });
        mix_of(&scores, &laid.values[span.clone()], stride, seen.count)
            .run(worker.level, &mut output);
        worker.level.run(Normalise {
            from: &output,
            stride,
            width,
            count: BLOCK.min(layout.queries - rows.start),
            scales: inverse,
            to: y,
            at: |r| {
                let time = time_of(sequence.reverse, real, rows.start + r);
                ((time * layout.batch + b) * layout.heads + head) * width
            },
        });
    }
    [turned, scores, output].into_iter().for_each(|buffer| worker.buffers.give(buffer));
}

/// Adds the gradients of the turned keys and of the values of `(b, group)`, both `[seen, stride]`.
pub(super) type AddKeys<'a> = dyn Fn(usize, usize, &[f32], &[f32]) + Sync + 'a;

/// Where the gradients of [`backward`] go.
pub(super) struct Gradients<'a, 'b> {
    /// Queries, at `[row · queries_row + head · K]`.
    pub(super) queries: Option<&'a Shards<'b, f32>>,
    /// Elements from row to row of `queries`.
    pub(super) queries_row: usize,
    /// Keys and values; `None` where they are not wanted.
    pub(super) keys: Option<&'a AddKeys<'a>>,
}

/// Adds the gradients, given `dy [T·B, H·K]`. Each key head of each sequence is one task, so that
/// its sums have one order.
pub(super) fn backward(
    cpu: &Cpu,
    layout: &Layout,
    sequence: &Sequence,
    source: &dyn Source,
    saved: &[f32],
    dy: &[f32],
    gradients: &Gradients,
) {
    let (prepared, statistics) = saved.split_at(layout.prepared());
    let (width, stride) = (layout.width, layout.stride());
    let scale = 1.0 / (width as f32).sqrt();
    cpu.for_each(layout.batch * layout.groups, |worker, unit| {
        let (b, group) = (unit / layout.groups, unit % layout.groups);
        let real = sequence.real(b);
        let laid = Laid::new(worker, layout, source, [b, group], 0..layout.rows());
        let (keys, values) = (&laid.keys[..], &laid.values[..]);
        let wanted = if gradients.keys.is_some() { laid.seen.len() * stride } else { 0 };
        let mut dkeys = worker.buffers.take_zeros(wanted);
        let mut dvalues = worker.buffers.take_zeros(wanted);
        let mut turned = worker.buffers.take(stride * BLOCK);
        let mut dy_turned = worker.buffers.take(stride * BLOCK);
        let mut dy_rows = worker.buffers.take_zeros(BLOCK * stride);
        let mut dquery = worker.buffers.take(BLOCK * stride);
        for block in 0..real.div_ceil(BLOCK) {
            let rows = block * BLOCK..(block + 1) * BLOCK;
            let here = BLOCK.min(real - rows.start);
            let seen = Seen::of(layout, prepared, b, &rows);
            let span = seen.within(&laid, stride);
            let mut scores = worker.buffers.take(seen.count * BLOCK);
            let mut dscores = worker.buffers.take(seen.count * BLOCK);
            for index in 0..layout.shared() {
                let head = group * layout.shared() + index;
                let query = laid.query(index, &rows, stride);
                worker.level.run(Gather {
                    dy,
                    width,
                    stride,
                    count: here,
                    at: |r| {
                        let time = time_of(sequence.reverse, real, rows.start + r);
                        ((time * layout.batch + b) * layout.heads + head) * width
                    },
                    to: &mut dy_rows,
                });
                worker.level.run(Transpose { from: query, stride, to: &mut turned });
                worker.level.run(Transpose { from: &dy_rows, stride, to: &mut dy_turned });
                scores_of(keys, span.clone(), &turned, stride, width, seen.count)
                    .run(worker.level, &mut scores);
                scores_of(values, span.clone(), &dy_turned, stride, width, seen.count)
                    .run(worker.level, &mut dscores);
                worker.level.run(SoftmaxGradient {
                    scores: &mut scores,
                    dscores: &mut dscores,
                    seen: &seen,
                    largest: &statistics[within(layout.largest(b, head), rows.clone())],
                    inverse: &statistics[within(layout.inverse(b, head), rows.clone())],
                });
                if gradients.keys.is_some() {
                    let per_key = |a, b| Product {
                        a,
                        lying: Lying::LaneRows,
                        b,
                        m: seen.count,
                        k: BLOCK,
                        n: stride,
                        add: true,
                        triangle: Triangle::None,
                    };
                    per_key(&scores[..], &dy_rows[..])
                        .run(worker.level, &mut dvalues[span.clone()]);
                    per_key(&dscores[..], query).run(worker.level, &mut dkeys[span.clone()]);
                }
                let Some(to) = gradients.queries else { continue };
                mix_of(&dscores, &keys[span.clone()], stride, seen.count)
                    .run(worker.level, &mut dquery);
                worker.level.run(AddRows {
                    from: &dquery,
                    stride,
                    width,
                    count: here,
                    angles: (layout.angles > 0)
                        .then(|| &prepared[layout.angle(b)][rows.start * width..]),
                    scale,
                    to,
                    at: |r| {
                        let time = time_of(sequence.reverse, real, rows.start + r);
                        (time * layout.batch + b) * gradients.queries_row + head * width
                    },
                });
            }
            worker.buffers.give(scores);
            worker.buffers.give(dscores);
        }
        if let Some(add) = gradients.keys {
            add(b, group, &dkeys, &dvalues);
        }
        laid.give(worker);
        for buffer in [dkeys, dvalues, turned, dy_turned, dy_rows, dquery] {
            worker.buffers.give(buffer);
        }
    });
}

/// `[keys, BLOCK]`: keys (or values) against turned queries (or turned gradients of outputs).
fn scores_of<'a>(
    keys: &'a [f32],
    span: Range<usize>,
    turned: &'a [f32],
    stride: usize,
    width: usize,
    count: usize,
) -> Product<'a> {
    Product {
        a: &keys[span],
        lying: Lying::Rows(stride),
        b: turned,
        m: count,
        k: width,
        n: BLOCK,
        add: false,
        triangle: Triangle::None,
    }
}

/// `[BLOCK, stride]`: the rows of `values` summed with the weights in `scores [keys, BLOCK]`.
fn mix_of<'a>(scores: &'a [f32], values: &'a [f32], stride: usize, count: usize) -> Product<'a> {
    Product {
        a: scores,
        lying: Lying::LaneColumns,
        b: values,
        m: BLOCK,
        k: count,
        n: stride,
        add: false,
        triangle: Triangle::None,
    }
}

/// What the queries of a block see: keys `start..start + count` between them, and each of them
/// the keys from `first` to `end`, counted from `start`.
struct Seen {
    start: usize,
    count: usize,
    first: [f32; BLOCK],
    end: [f32; BLOCK],
    /// Keys, counted from `start`, that every query sees.
    by_all: Range<usize>,
}

impl Seen {
    /// What the queries of `rows` see, by what was prepared.
    fn of(layout: &Layout, prepared: &[f32], b: usize, rows: &Range<usize>) -> Self {
        Self::new(
            &prepared[within(layout.first(b), rows.clone())],
            &prepared[within(layout.end(b), rows.clone())],
        )
    }

    /// Where the seen keys lie among those laid out.
    fn within(&self, laid: &Laid, stride: usize) -> Range<usize> {
        let first = self.start.saturating_sub(laid.seen.start);
        first * stride..(first + self.count) * stride
    }

    fn new(first: &[f32], end: &[f32]) -> Self {
        let pairs = || first.iter().zip(end).filter(|(first, end)| first < end);
        let start = pairs().map(|(&first, _)| first).fold(f32::INFINITY, f32::min);
        if start == f32::INFINITY {
            let none = [0.0; BLOCK];
            return Self { start: 0, count: 0, first: none, end: none, by_all: 0..0 };
        }
        let last = pairs().map(|(_, &end)| end).fold(0.0, f32::max);
        let from = first.iter().copied().fold(0.0, f32::max);
        let to = end.iter().copied().fold(f32::INFINITY, f32::min);
        let count = (last - start) as usize;
        let all = if from < to { (from - start) as usize..(to - start) as usize } else { 0..0 };
        Self {
            start: start as usize,
            count,
            first: std::array::from_fn(|r| first[r] - start),
            end: std::array::from_fn(|r| end[r] - start),
            by_all: all,
        }
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

/// Rows that lie apart, side by side; zeros for those that the last block lacks.
struct Gather<'a, At> {
    dy: &'a [f32],
    width: usize,
    stride: usize,
    count: usize,
    at: At,
    to: &'a mut [f32],
}

impl<At: Fn(usize) -> usize> Kernel for Gather<'_, At> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for (r, to) in self.to.chunks_exact_mut(self.stride).enumerate() {
            let to = &mut to[..self.width];
            if r < self.count {
                let from = &self.dy[(self.at)(r)..][..self.width];
                // SAFETY: the caller has the instruction set.
                unsafe { turn::<V>(from, None, 1.0, to) }
            } else {
                to.fill(0.0);
            }
        }
    }
}

/// Scores to exponentials of their distance from the largest one, each lane by itself.
struct Softmax<'a> {
    scores: &'a mut [f32],
    seen: &'a Seen,
    largest: &'a mut [f32],
    inverse: &'a mut [f32],
}

impl Kernel for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Seen { count, by_all, .. } = self.seen;
        // SAFETY: `scores` holds `count` rows of BLOCK lanes, the statistics BLOCK.
        unsafe {
            for lane in (0..BLOCK).step_by(V::LANES) {
                let scores = self.scores.as_mut_ptr().add(lane);
                let lowest = V::splat(LOWEST);
                let mut most = [lowest; 4];
                for j in (0..by_all.start).chain(by_all.end..*count) {
                    let score = V::load(scores.add(j * BLOCK));
                    most[0] = most[0].max(self.seen.keep(lane, j, score, lowest));
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

                let mut sum = V::zero();
                for j in (0..by_all.start).chain(by_all.end..*count) {
                    let at = scores.add(j * BLOCK);
                    let weight = exp(V::load(at).sub(most));
                    let weight = self.seen.keep(lane, j, weight, V::zero());
                    sum = sum.add(weight);
                    weight.store(at);
                }
                for j in by_all.clone() {
                    let at = scores.add(j * BLOCK);
                    let weight = exp(V::load(at).sub(most));
                    sum = sum.add(weight);
                    weight.store(at);
                }
                let none = V::zero();
                let inverse = none.select_less(sum, V::splat(1.0).div(sum), sum);
                most.store(self.largest.as_mut_ptr().add(lane));
                inverse.store(self.inverse.as_mut_ptr().add(lane));
            }
        }
    }
}

/// Scores to probabilities P, and gradients dP of the probabilities to those of the scores:
/// `dS = P · (dP − Σ P·dP)`.
struct SoftmaxGradient<'a> {
    scores: &'a mut [f32],
    dscores: &'a mut [f32],
    seen: &'a Seen,
    largest: &'a [f32],
    inverse: &'a [f32],
}

impl Kernel for SoftmaxGradient<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Seen { count, by_all, .. } = self.seen;
        // SAFETY: both hold `count` rows of BLOCK lanes, the statistics BLOCK.
        unsafe {
            for lane in (0..BLOCK).step_by(V::LANES) {
                let scores = self.scores.as_mut_ptr().add(lane);
                let dscores = self.dscores.as_mut_ptr().add(lane);
                let most = V::load(self.largest.as_ptr().add(lane));
                let inverse = V::load(self.inverse.as_ptr().add(lane));
                let mut mean = V::zero();
                for j in (0..by_all.start).chain(by_all.end..*count) {
                    let at = scores.add(j * BLOCK);
                    let weight = exp(V::load(at).sub(most)).mul(inverse);
                    let weight = self.seen.keep(lane, j, weight, V::zero());
                    mean = weight.mul_add(V::load(dscores.add(j * BLOCK)), mean);
                    weight.store(at);
                }
                for j in by_all.clone() {
                    let at = scores.add(j * BLOCK);
                    let weight = exp(V::load(at).sub(most)).mul(inverse);
                    mean = weight.mul_add(V::load(dscores.add(j * BLOCK)), mean);
                    weight.store(at);
                }
                for j in 0..*count {
                    let at = dscores.add(j * BLOCK);
                    let weight = V::load(scores.add(j * BLOCK));
                    weight.mul(V::load(at).sub(mean)).store(at);
                }
            }
        }
    }
}

/// Writes rows, each by its scale, to rows that lie apart: row r goes to `to[at(r)..]`.
struct Normalise<'a, 'b, At> {
    /// `[count, stride]`.
    from: &'a [f32],
    stride: usize,
    width: usize,
    count: usize,
    scales: &'a [f32],
    to: &'a Shards<'b, f32>,
    at: At,
}

impl<At: Fn(usize) -> usize> Kernel for Normalise<'_, '_, At> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for (r, &scale) in self.scales.iter().enumerate().take(self.count) {
            let from = &self.from[r * self.stride..][..self.width];
            let at = (self.at)(r);
            // SAFETY: the task that runs this alone writes these features of this position, and
            // the caller has the instruction set.
            unsafe { turn::<V>(from, None, scale, self.to.part(at..at + self.width)) }
        }
    }
}

/// Adds rows, turned back, to rows that lie apart: row r goes to `to[at(r)..]`.
pub(super) struct AddRows<'a, 'b, At> {
    /// `[count, stride]`.
    pub(super) from: &'a [f32],
    pub(super) stride: usize,
    pub(super) width: usize,
    pub(super) count: usize,
    /// `[count, K]`, where the rows have been turned.
    pub(super) angles: Option<&'a [f32]>,
    pub(super) scale: f32,
    pub(super) to: &'a Shards<'b, f32>,
    pub(super) at: At,
}

impl<At: Fn(usize) -> usize> Kernel for AddRows<'_, '_, At> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let width = self.width;
        for r in 0..self.count {
            let from = &self.from[r * self.stride..][..width];
            let at = (self.at)(r);
            // SAFETY: the task that runs this alone writes these features of this position.
            let to = unsafe { self.to.part(at..at + width) };
            let angles = self.angles.map(|angles| &angles[r * width..][..width]);
            // SAFETY: the caller has the instruction set.
            unsafe { add_turned_back::<V>(from, angles, self.scale, to) }
        }
    }
}
