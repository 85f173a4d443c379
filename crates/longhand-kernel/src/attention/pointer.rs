//! The attention of a pointer: one distribution over the tokens of a source at each position, which
//! copies from it (See et al., "Get to the point: summarization with pointer-generator networks",
//! 2017, sections 2.2 and 2.3), with dot products for scores.
//!
//! ```text
//! e[t,s] = q[t]·k[s]/√K + w·c[t,s]      a[t] = softmax(e[t])      c[t] = c[0] + Σ a[t'] for t' < t
//! ```
//!
//! c is the coverage: how much of each source position was read before. With it, positions are read
//! one after the other; [`coverage_loss`] is the penalty of equation 12 for reading them again.

use std::ops::Range;

use super::cache::Whole;
use super::step::{exponentials, scores_of};
use crate::cpu::{Cpu, Shards, Worker};
use crate::pointwise::for_parts;
use crate::sequence::Sequence;
use crate::simd::{Kernel, Vector};
use crate::small_product::LANES;

/// The keys of S sources. Position p of source s is row `starts[s] + p · step`.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// `[N, K]`: the keys of all sources.
    pub keys: &'a [f32],
    /// `[S]`: the row of each source's first position.
    pub starts: &'a [usize],
    /// `[S]`: positions of each source.
    pub lengths: &'a [usize],
    /// Rows from one position of a source to its next.
    pub step: usize,
}

/// The inputs of a pointer's attention. Sequence b of the queries reads source b mod S.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// K: features of queries and keys.
    pub width: usize,
    /// Columns of `a`, at least the positions of the longest source.
    pub columns: usize,
    /// `[T·B, K]`: the queries.
    pub q: &'a [f32],
    /// What the queries read.
    pub sources: Sources<'a>,
    /// w, the weight of the coverage in the scores; none where there is no coverage.
    pub coverage: Option<f32>,
}

/// Where [`backward`] adds gradients; `None` costs no work.
#[derive(Debug, Default)]
pub struct Gradients<'a> {
    /// `[T·B, K]`: gradient of the queries.
    pub q: Option<&'a mut [f32]>,
    /// `[N, K]`: gradient of the keys.
    pub keys: Option<&'a mut [f32]>,
    /// The gradient of w.
    pub coverage: Option<&'a mut f32>,
}

/// Writes `a [T·B, columns]`; zeros at padded positions and beyond a source's end. `c [T·B, columns]`
/// receives the coverage at each position, where there is any; the caller gives that of the first
/// positions, `c[0]`, in its first B rows. A padded position has the coverage of the end.
///
/// # Panics
/// If a length does not fit the sizes.
pub fn forward(
    cpu: &Cpu,
    sequence: &Sequence,
    inputs: Inputs,
    a: &mut [f32],
    c: Option<&mut [f32]>,
) {
    inputs.check(sequence, a.len());
    assert_eq!(c.is_some(), inputs.coverage.is_some(), "a pointer: coverage and its weight");
    assert!(c.as_ref().is_none_or(|c| c.len() == a.len()), "a pointer: the length of c");
    let (columns, batch) = (inputs.columns, sequence.batch);
    let (a, c) = (Shards::new(a), c.map(Shards::new));
    for_sequences(cpu, sequence, inputs, |worker, b| {
        let read = inputs.source(b);
        let mut scores = worker.buffers.take(read.len.next_multiple_of(LANES));
        for t in 0..sequence.time {
            let row = t * batch + b;
            // SAFETY: every sequence belongs to one thread.
            let own = unsafe { a.part(row * columns..(row + 1) * columns) };
            own.fill(0.0);
            if let Some(c) = c.as_ref().filter(|_| t > 0) {
                let (here, before) = (range(row, columns), range(row - batch, columns));
                // SAFETY: as above, and the rows are distinct.
                let (to, c, a) = unsafe { (c.part(here), c.read(before.clone()), a.read(before)) };
                for ((to, c), a) in to.iter_mut().zip(c).zip(a) {
                    *to = c + a;
                }
            }
            let start = row * columns;
            // SAFETY: as above.
            let covered = c.as_ref().map(|c| unsafe { c.read(start..start + read.len) });
            if read.len == 0 || !sequence.is_real(t, b) {
                continue;
            }
            worker.level.run(Attend { inputs, read, row, covered, scores: &mut scores, a: own });
        }
        worker.buffers.give(scores);
    });
}

/// Adds the gradients of [`forward`], given those of `a` and `c`; they may be none. Each sequence has
/// a source of its own.
///
/// # Panics
/// If a length does not fit the sizes, or there are fewer sources than sequences.
pub fn backward(
    cpu: &Cpu,
    sequence: &Sequence,
    inputs: Inputs,
    [a, c]: [&[f32]; 2],
    [da, dc]: [Option<&[f32]>; 2],
    gradients: Gradients,
) {
    inputs.check(sequence, a.len());
    let Gradients { q: dq, keys: dkeys, coverage: d_coverage } = gradients;
    let Inputs { width, columns, sources, .. } = inputs;
    let batch = sequence.batch;
    assert_eq!(sources.lengths.len(), batch, "a pointer: a source for each sequence");
    for d in [da, dc].into_iter().flatten() {
        assert_eq!(d.len(), a.len(), "a pointer: the length of a gradient");
    }
    let weight = inputs.coverage.unwrap_or(0.0);
    let mut d_weights = vec![0.0; batch];
    let (dq, dkeys) = (dq.map(Shards::new), dkeys.map(Shards::new));
    let shares = Shards::new(&mut d_weights);
    for_sequences(cpu, sequence, inputs, |worker, b| {
        let read = inputs.source(b);
        let (mut carry, mut ds) =
            (worker.buffers.take_zeros(read.len), worker.buffers.take(read.len));
        let mut d_weight = 0.0;
        for t in (0..sequence.real(b)).rev() {
            let row = t * batch + b;
            let here = range(row, columns).start..range(row, columns).start + read.len;
            let own = |d: Option<&'_ [f32]>, s: usize| d.map_or(0.0, |d| d[here.start + s]);
            let a = &a[here.clone()];
            let mut mean = 0.0;
            for (s, ds) in ds.iter_mut().enumerate() {
                *ds = own(da, s) + carry[s];
                mean += *ds * a[s];
            }
            ds.iter_mut().zip(a).for_each(|(ds, a)| *ds = a * (*ds - mean));
            if inputs.coverage.is_some() {
                let c = &c[here.clone()];
                d_weight += ds.iter().zip(c).map(|(ds, c)| f64::from(ds * c)).sum::<f64>();
                for (s, carry) in carry.iter_mut().enumerate() {
                    *carry += own(dc, s) + weight * ds[s];
                }
            }
            let query = row * width..(row + 1) * width;
            worker.level.run(Spread {
                inputs,
                read,
                ds: &ds,
                query: &inputs.q[query.clone()],
                // SAFETY: every sequence, and so its source, belongs to one thread.
                dq: dq.as_ref().map(|dq| unsafe { dq.part(query) }),
                dkeys: dkeys.as_ref(),
            });
        }
        // SAFETY: as above.
        unsafe { shares.part(b..b + 1)[0] = d_weight };
        worker.buffers.give(carry);
        worker.buffers.give(ds);
    });
    if let Some(d) = d_coverage {
        *d += d_weights.iter().sum::<f64>() as f32;
    }
}

/// Σ min(a, c) over all positions: what is read again of what was read before (equation 12), in the
/// unit of nats. `gradient` is a scale and where scale · the gradients by a and by c are added.
///
/// # Panics
/// If the lengths are not equal.
pub fn coverage_loss(
    a: &[f32],
    c: &[f32],
    gradient: Option<(f32, [Option<&mut [f32]>; 2])>,
) -> f64 {
    assert_eq!(a.len(), c.len(), "a pointer: coverage of each weight");
    if let Some((scale, [da, dc])) = gradient {
        if let Some(da) = da {
            let slopes = a.iter().zip(c).map(|(a, c)| if a < c { scale } else { 0.0 });
            da.iter_mut().zip(slopes).for_each(|(d, slope)| *d += slope);
        }
        if let Some(dc) = dc {
            let slopes = a.iter().zip(c).map(|(a, c)| if a < c { 0.0 } else { scale });
            dc.iter_mut().zip(slopes).for_each(|(d, slope)| *d += slope);
        }
    }
    a.iter().zip(c).map(|(&a, &c)| f64::from(a.min(c))).sum()
}

/// A row of a matrix.
fn range(row: usize, columns: usize) -> Range<usize> {
    row * columns..(row + 1) * columns
}

/// The rows of one source.
#[derive(Clone, Copy)]
struct Rows {
    start: usize,
    len: usize,
    step: usize,
}

impl Rows {
    fn row(&self, position: usize) -> usize {
        self.start + position * self.step
    }
}

impl Inputs<'_> {
    fn source(&self, b: usize) -> Rows {
        let Sources { starts, lengths, step, .. } = self.sources;
        let s = b % lengths.len();
        Rows { start: starts[s], len: lengths[s], step }
    }

    fn check(&self, sequence: &Sequence, weights: usize) {
        let Self { width, columns, q, sources, .. } = *self;
        let Sources { keys, starts, lengths, step } = sources;
        assert_eq!(q.len(), sequence.rows() * width, "a pointer: the length of q");
        assert_eq!(weights, sequence.rows() * columns, "a pointer: the length of a");
        assert_eq!(starts.len(), lengths.len(), "a pointer: a length for each source");
        assert!(
            sequence.batch == 0
                || (!lengths.is_empty() && sequence.batch.is_multiple_of(lengths.len())),
            "a pointer: {} sequences over {} sources",
            sequence.batch,
            lengths.len()
        );
        for (&start, &len) in starts.iter().zip(lengths) {
            let end = Rows { start, len, step }.row(len.saturating_sub(1)) + 1;
            assert!(len == 0 || end * width <= keys.len(), "a pointer: the length of keys");
            assert!(len <= columns, "a pointer: a source of {len} positions in {columns} columns");
        }
    }
}

/// With fewer products than this a second thread costs more than it gains.
const SERIAL_PRODUCTS: usize = 1 << 15;

fn for_sequences(
    cpu: &Cpu,
    sequence: &Sequence,
    inputs: Inputs,
    body: impl Fn(&mut Worker, usize) + Sync,
) {
    let of_one = sequence.time * inputs.columns * inputs.width.max(1);
    let serial = SERIAL_PRODUCTS / of_one.max(1);
    for_parts(cpu, sequence.batch, 1, serial, |worker, range| {
        range.for_each(|b| body(worker, b));
    });
}

/// The distribution of one query.
struct Attend<'a> {
    inputs: Inputs<'a>,
    read: Rows,
    /// The row of the query.
    row: usize,
    covered: Option<&'a [f32]>,
    /// Room for a score of each position, rounded up to whole vectors.
    scores: &'a mut [f32],
    a: &'a mut [f32],
}

impl Kernel for Attend<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { inputs, read, row, covered, scores, a } = self;
        let Inputs { width, q, sources, coverage, .. } = inputs;
        let query = &q[range(row, width)];
        let keys = &sources.keys[read.start * width..];
        let (spans, held) = ([0..read.len, 0..0], read.step * width);
        let to = scores.as_mut_ptr();
        // SAFETY: `check` found a key of `width` elements at every position; there is room for the
        // scores, and the caller has the instruction set.
        unsafe { scores_of::<V, Whole>(query.as_ptr(), keys.as_ptr(), held, width, &spans, to) };
        let scale = 1.0 / (width as f32).sqrt();
        scores[..read.len].iter_mut().for_each(|score| *score *= scale);
        if let (Some(weight), Some(covered)) = (coverage, covered) {
            let terms = covered.iter().map(|c| weight * c);
            scores.iter_mut().zip(terms).for_each(|(score, term)| *score += term);
        }
        // SAFETY: as above.
        let factor = 1.0 / unsafe { exponentials::<V>(scores.as_mut_ptr(), read.len) };
        a.iter_mut().zip(&scores[..read.len]).for_each(|(a, e)| *a = factor * e);
    }
}

/// Adds the gradients of a query and of the keys, given those of the scores.
struct Spread<'a, 'b> {
    inputs: Inputs<'a>,
    read: Rows,
    ds: &'a [f32],
    query: &'a [f32],
    dq: Option<&'a mut [f32]>,
    dkeys: Option<&'a Shards<'b, f32>>,
}

impl Kernel for Spread<'_, '_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { inputs, read, ds, query, mut dq, dkeys } = self;
        let width = inputs.width;
        let scale = 1.0 / (width as f32).sqrt();
        for (position, ds) in ds.iter().enumerate() {
            let (at, ds) = (range(read.row(position), width), scale * ds);
            if let Some(dq) = &mut dq {
                let keys = &inputs.sources.keys[at.clone()];
                dq.iter_mut().zip(keys).for_each(|(d, k)| *d += ds * k);
            }
            if let Some(dkeys) = dkeys {
                // SAFETY: the task that runs this alone writes the keys of this source.
                let dkeys = unsafe { dkeys.part(at) };
                dkeys.iter_mut().zip(query).for_each(|(d, q)| *d += ds * q);
            }
        }
    }
}

/// The plain form, generic over the number type. Rows of sources are as those of a sequence: position
/// s of source b is row s·B + b.
pub mod reference {
    use crate::real::Real;
    use crate::sequence::Sequence;

    /// `a` and `c`, each `[T·B, S]`, from the queries, the keys, w and `c[0]`.
    pub fn forward<R: Real>(
        sequence: &Sequence,
        source: &Sequence,
        [q, keys]: [&[R]; 2],
        coverage: R,
        first: &[R],
    ) -> [Vec<R>; 2] {
        let (batch, columns) = (sequence.batch, source.time);
        let width = if q.is_empty() { 0 } else { q.len() / sequence.rows() };
        let scale = R::from_f64(1.0 / (width as f64).sqrt());
        let mut a = vec![R::zero(); sequence.rows() * columns];
        let mut c = a.clone();
        for b in 0..batch {
            let mut covered = first[b * columns..(b + 1) * columns].to_vec();
            for t in 0..sequence.time {
                let row = t * batch + b;
                c[row * columns..(row + 1) * columns].copy_from_slice(&covered);
                if source.real(b) == 0 || !sequence.is_real(t, b) {
                    continue;
                }
                let scores: Vec<R> = (0..source.real(b))
                    .map(|s| {
                        let key = &keys[(s * batch + b) * width..][..width];
                        let products = q[row * width..].iter().zip(key);
                        products.map(|(&q, &k)| q * k).sum::<R>() * scale + coverage * covered[s]
                    })
                    .collect();
                let largest = scores.iter().copied().reduce(R::max).unwrap_or_default();
                let sum: R = scores.iter().map(|&score| (score - largest).exp()).sum();
                for (s, &score) in scores.iter().enumerate() {
                    a[row * columns + s] = (score - largest).exp() / sum;
                    covered[s] += a[row * columns + s];
                }
            }
        }
        [a, c]
    }

    /// The gradients of the queries, the keys and w, given those of a and c.
    pub fn backward<R: Real>(
        sequence: &Sequence,
        source: &Sequence,
        [q, keys]: [&[R]; 2],
        coverage: R,
        [a, c]: [&[R]; 2],
        [da, dc]: [&[R]; 2],
    ) -> (Vec<R>, Vec<R>, R) {
        let (batch, columns) = (sequence.batch, source.time);
        let width = if q.is_empty() { 0 } else { q.len() / sequence.rows() };
        let scale = R::from_f64(1.0 / (width as f64).sqrt());
        let (mut dq, mut dkeys) = (vec![R::zero(); q.len()], vec![R::zero(); keys.len()]);
        let mut d_coverage = R::zero();
        for b in 0..batch {
            let mut carry = vec![R::zero(); columns];
            for t in (0..sequence.real(b)).rev() {
                let row = t * batch + b;
                let at = |s: usize| row * columns + s;
                let all = 0..source.real(b);
                let mean: R = all.clone().map(|s| a[at(s)] * (da[at(s)] + carry[s])).sum();
                for s in all {
                    let ds = a[at(s)] * (da[at(s)] + carry[s] - mean);
                    d_coverage += ds * c[at(s)];
                    carry[s] += dc[at(s)] + coverage * ds;
                    for k in 0..width {
                        let (of_q, of_key) = (row * width + k, (s * batch + b) * width + k);
                        dq[of_q] += ds * keys[of_key] * scale;
                        dkeys[of_key] += ds * q[of_q] * scale;
                    }
                }
            }
        }
        (dq, dkeys, d_coverage)
    }
}

#[cfg(test)]
mod tests;
