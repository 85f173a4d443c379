//! One head of one sequence, chunk after chunk, forward.
//!
//! Within a chunk, with D the decays from position to position, S = (q·k'ᵀ) ∘ D and b, g, e the
//! decays from the state before, to the state after, and from one to the other:
//! numerator = S·v + b∘(q·C), n·q = S·1 + b∘(q·n), C' = e·C + (g∘k')ᵀ·v, n' = e·n + (g∘k')ᵀ·1.
//!
//! Rows of features are padded with zeros to whole vectors, and chunks to whole vectors of
//! positions, so that nothing is packed for the products; S is computed up to its diagonal.

use std::ops::Range;

use super::gates::Gates;
use super::scores;
use super::step::Step;
use super::{EPSILON, Head, Inputs};
use crate::cpu::{Shards, Worker};
use crate::lanes::Form;
use crate::simd::{Kernel, Vector, plain_loops};
use crate::small_product::{LANES, Product, Strides, Transpose, Triangle};

/// Positions whose rows are prefetched before they are read: the rows of a head are too far apart
/// for the processor to foresee them.
pub(super) const AHEAD: usize = 8;

/// One head's state, or its gradient.
#[derive(Clone, Copy)]
pub(super) struct HeadState<'a> {
    pub(super) c: &'a [f32],
    pub(super) n: &'a [f32],
    pub(super) m: f32,
}

/// Writes the outputs of one head, which reads on from `before`, and the state after.
pub(super) fn forward_head(
    worker: &mut Worker,
    head: &Head,
    inputs: &Inputs,
    y: &Shards<f32>,
    before: HeadState,
    (c, n, m): (&mut [f32], &mut [f32], &mut f32),
    saved: &mut [f32],
) {
    for row in head.padding() {
        // SAFETY: each head of each sequence belongs to one thread.
        unsafe { y.part(row) }.fill(0.0);
    }
    let width = head.sizes.width;
    *m = before.m;
    if head.real <= 1 {
        // A decode step works on the state in place.
        c.copy_from_slice(before.c);
        n.copy_from_slice(before.n);
        if head.real == 1 {
            if head.starts_empty(0) {
                c.fill(0.0);
                n.fill(0.0);
                *m = 0.0;
            }
            let gates = Gates::new(worker.level, head, inputs, 0..1, *m);
            let chunk = Chunk { head, inputs, range: 0..1, gates: &gates, y };
            saved[0] = step(worker, &chunk, c, width, n);
            *m = gates.m_after();
        }
        return;
    }
    let stride = Form::of(worker).padded(width);
    let mut padded = worker.buffers.take(stride * stride + stride);
    let (padded_c, padded_n) = padded.split_at_mut(stride * stride);
    pad(before, width, padded_c, padded_n);
    let mut start = 0;
    while start < head.real {
        let chunk = head.chunk_from(start);
        let empty = head.starts_empty(start);
        if empty {
            padded_c.fill(0.0);
            padded_n.fill(0.0);
            *m = 0.0;
        } else if start > 0 {
            let slot = &mut saved[head.slot(start)];
            let (to_c, rest) = slot.split_at_mut(stride * stride);
            to_c.copy_from_slice(padded_c);
            rest[..stride].copy_from_slice(padded_n);
            rest[stride] = *m;
        }
        let gates = Gates::new(worker.level, head, inputs, chunk.clone(), *m);
        let part = Chunk { head, inputs, range: chunk.clone(), gates: &gates, y };
        if chunk.len() == 1 {
            saved[start] = step(worker, &part, padded_c, stride, &mut padded_n[..width]);
        } else {
            let state = (&mut *padded_c, &mut *padded_n);
            forward_chunk(worker, &part, empty, state, &mut saved[chunk.clone()]);
        }
        *m = gates.m_after();
        start = chunk.end;
    }
    for (to, from) in c.chunks_exact_mut(width).zip(padded_c.chunks_exact(stride)) {
        to.copy_from_slice(&from[..width]);
    }
    n.copy_from_slice(&padded_n[..width]);
    worker.buffers.give(padded);
}

/// A state with its rows padded: C `[stride, stride]` and n `[stride]`.
pub(super) fn pad(state: HeadState, width: usize, c: &mut [f32], n: &mut [f32]) {
    let stride = n.len();
    c.fill(0.0);
    n.fill(0.0);
    for (to, from) in c.chunks_exact_mut(stride).zip(state.c.chunks_exact(width)) {
        to[..width].copy_from_slice(from);
    }
    n[..width].copy_from_slice(state.n);
}

/// Some adjacent positions of one head, and where their outputs go.
struct Chunk<'a, 'b> {
    head: &'a Head<'a>,
    inputs: &'a Inputs<'a>,
    /// Positions, in reading order.
    range: Range<usize>,
    gates: &'a Gates,
    /// `[T·B, H·K]`: the outputs of all heads.
    y: &'a Shards<'b, f32>,
}

/// Reads a chunk of one position. C has rows of `stride` elements. Returns n·q.
fn step(worker: &Worker, chunk: &Chunk, c: &mut [f32], stride: usize, n: &mut [f32]) -> f32 {
    let Chunk { head, inputs, gates, y, .. } = chunk;
    let place = head.row(chunk.range.start);
    worker.level.run(Step {
        forget: gates.remains_at[0],
        input: gates.remains_after[0],
        least: gates.least[0],
        scale: key_scale(head),
        q: &inputs.q[place.clone()],
        k: &inputs.k[place.clone()],
        v: &inputs.v[place.clone()],
        c,
        stride,
        n,
        // SAFETY: each head of each sequence belongs to one thread.
        y: unsafe { y.part(place) },
    })
}

/// Reads a chunk of several positions, from the state `(c, n)` on, whose rows are padded. The state
/// is all zeros where the chunk begins `empty`. Writes n·q of each position to `normalisers`.
fn forward_chunk(
    worker: &mut Worker,
    chunk: &Chunk,
    empty: bool,
    (c, n): (&mut [f32], &mut [f32]),
    normalisers: &mut [f32],
) {
    let form = Form::of(worker);
    let Chunk { head, inputs, ref range, gates, y } = *chunk;
    let (len, width, level) = (range.len(), head.sizes.width, worker.level);
    let (rows, stride) = (form.padded(len), n.len());
    let of_rows = rows * stride;
    let mut scratch = worker.buffers.take(9 * of_rows + 2 * rows * rows + stride * stride);
    let ([q, k, v, numerator], rest) = split(&mut scratch, of_rows);
    let ([along, transposed, v_across, q_along, k_across], rest) = split(rest, of_rows);
    let ([scores, decayed], c_across) = split(rest, rows * rows);
    let scale = key_scale(head);
    for (from, scale, to) in
        [(inputs.q, 1.0, &mut *q), (inputs.k, scale, &mut *k), (inputs.v, 1.0, &mut *v)]
    {
        level.run(Collect { head, from, chunk: range, scale, stride, to });
    }

    // 1. Within the chunk: S = (q·k'ᵀ) ∘ D, numerator = S·v, n·q = S·1.
    let lanes = stride / form.depth;
    let transposed = &mut transposed[..rows * lanes];
    let from = form.along(k, stride, None, along);
    level.run(Transpose { from, stride: lanes, to: transposed });
    let whole = Product {
        a: form.along(q, stride, None, q_along),
        strides: Strides::Rows(lanes),
        b: transposed,
        m: len,
        k: form.lanes(width),
        n: rows,
        add: false,
        triangle: Triangle::Result,
    };
    form.multiply(whole, scores);
    form.run(scores::Forward { gates, stride: rows, scores, along: decayed, sums: normalisers });
    let v_across = form.across(v, stride, None, v_across);
    let of_scores = Product {
        a: decayed,
        strides: Strides::Rows(rows / form.depth),
        b: v_across,
        k: form.lanes(len),
        n: stride,
        triangle: Triangle::Lower,
        ..whole
    };
    form.multiply(of_scores, numerator);

    // 2. From the state before: numerator += b ∘ (q·C), n·q += b ∘ (q·n).
    if !empty {
        level.run(AddDots { q, n, factors: &gates.remains_at, sums: normalisers });
        let of_state = Product {
            a: form.along(q, stride, Some(&gates.remains_at), along),
            b: form.across(c, stride, None, c_across),
            n: stride,
            add: true,
            triangle: Triangle::None,
            ..whole
        };
        form.multiply(of_state, numerator);
    }

    // 3. h = numerator / (max(|n·q|, e^−m) + ε).
    level.run(Finish { head, gates, chunk: range.clone(), normalisers, numerator, stride, y });

    // 4. The state after: C' = e·C + (g∘k')ᵀ·v, n' = e·n + (g∘k')ᵀ·1.
    let remains = if empty { 0.0 } else { gates.remains_at[len - 1] };
    write_state(worker, chunk, remains, (k, k_across), v_across, (c, n));
    worker.buffers.give(scratch);
}

/// C = `remains`·C + (g∘k')ᵀ·v and n = `remains`·n + (g∘k')ᵀ·1, with g the decays to the chunk's
/// end. `k_across` is memory for the keys as an operand.
fn write_state(
    worker: &Worker,
    chunk: &Chunk,
    remains: f32,
    (k, k_across): (&[f32], &mut [f32]),
    v_across: &[f32],
    (c, n): (&mut [f32], &mut [f32]),
) {
    let form = Form::of(worker);
    let Chunk { head, gates, ref range, .. } = *chunk;
    let (len, stride) = (range.len(), n.len());
    {
        let (c, n) = (&mut *c, &mut *n);
        plain_loops!(worker.level, 'a { remains: f32, c: &'a mut [f32], n: &'a mut [f32] } {
            c.iter_mut().for_each(|c| *c *= remains);
            n.iter_mut().for_each(|n| *n *= remains);
        });
    }
    worker.level.run(AddRows { rows: k, factors: &gates.remains_after[..len], to: n });
    let written = Product {
        a: form.across(k, stride, Some(&gates.remains_after), k_across),
        strides: Strides::Columns(stride),
        b: v_across,
        m: head.sizes.width,
        k: form.lanes(len),
        n: stride,
        add: true,
        triangle: Triangle::None,
    };
    form.multiply(written, c);
}

/// max(|n·q|, e^−m) + ε.
#[inline(always)]
pub(super) fn denominator(normaliser: f32, least: f32) -> f32 {
    normaliser.abs().max(least) + EPSILON
}

/// The factor 1 / √K of the keys.
pub(super) fn key_scale(head: &Head) -> f32 {
    1.0 / (head.sizes.width as f32).sqrt()
}

/// A chunk's outputs from their numerators.
struct Finish<'a, 'b> {
    head: &'a Head<'a>,
    gates: &'a Gates,
    chunk: Range<usize>,
    normalisers: &'a [f32],
    /// `[len, stride]`: the numerators of the chunk's outputs.
    numerator: &'a [f32],
    stride: usize,
    y: &'a Shards<'b, f32>,
}

impl Kernel for Finish<'_, '_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { head, gates, chunk, normalisers, numerator, stride, y } = self;
        for (j, p) in chunk.enumerate() {
            let inverse = 1.0 / denominator(normalisers[j], gates.least[j]);
            head.fetch_row(y.pointer(), p + AHEAD);
            // SAFETY: each head of each sequence belongs to one thread.
            let y = unsafe { y.part(head.row(p)) };
            let numerator = &numerator[j * stride..][..y.len()];
            y.iter_mut().zip(numerator).for_each(|(y, x)| *y = x * inverse);
        }
    }
}

/// A chunk's rows of one head, put together in rows of `stride`, with zeros around them.
pub(super) struct Collect<'a> {
    pub(super) head: &'a Head<'a>,
    pub(super) from: &'a [f32],
    pub(super) chunk: &'a Range<usize>,
    pub(super) scale: f32,
    pub(super) stride: usize,
    pub(super) to: &'a mut [f32],
}

impl Kernel for Collect<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { head, from, chunk, scale, stride, to } = self;
        let mut rows = to.chunks_exact_mut(stride);
        for (p, to) in chunk.clone().zip(&mut rows) {
            head.fetch_row(from.as_ptr(), p + AHEAD);
            let (to, padding) = to.split_at_mut(head.sizes.width);
            to.iter_mut().zip(&from[head.row(p)]).for_each(|(to, from)| *to = scale * from);
            padding.fill(0.0);
        }
        rows.for_each(|row| row.fill(0.0));
    }
}

/// `sums[i] += factors[i] · (row i of q · n)`.
pub(super) struct AddDots<'a> {
    /// Rows as long as `n`.
    pub(super) q: &'a [f32],
    pub(super) n: &'a [f32],
    pub(super) factors: &'a [f32],
    pub(super) sums: &'a mut [f32],
}

impl Kernel for AddDots<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { q, n, factors, sums } = self;
        for ((q, factor), sum) in q.chunks_exact(n.len()).zip(factors).zip(sums) {
            // SAFETY: both have the same length, that of whole vectors.
            *sum += factor * unsafe { dot_of::<V>(q, n) };
        }
    }
}

/// `to += Σ factors[i] · row i`.
pub(super) struct AddRows<'a> {
    /// Rows as long as `to`.
    pub(super) rows: &'a [f32],
    pub(super) factors: &'a [f32],
    pub(super) to: &'a mut [f32],
}

impl Kernel for AddRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { rows, factors, to } = self;
        let stride = to.len();
        assert!(stride.is_multiple_of(LANES) && factors.len() * stride <= rows.len());
        for i in (0..stride).step_by(V::LANES) {
            // SAFETY: whole vectors of rows that the assertion has seen.
            unsafe {
                let to = to.as_mut_ptr().add(i);
                let mut sum = V::load(to);
                for (row, &factor) in factors.iter().enumerate() {
                    let from = V::load(rows.as_ptr().add(row * stride + i));
                    sum = from.mul_add(V::splat(factor), sum);
                }
                sum.store(to);
            }
        }
    }
}

/// Σ a·b over slices of whole vectors.
///
/// # Safety
/// The machine has the instruction set of `V`, and the lengths agree.
#[inline(always)]
pub(super) unsafe fn dot_of<V: Vector>(a: &[f32], b: &[f32]) -> f32 {
    debug_assert!(a.len() == b.len() && a.len().is_multiple_of(V::LANES));
    // SAFETY: as promised.
    unsafe {
        let mut sum = V::zero();
        for i in (0..a.len()).step_by(V::LANES) {
            sum = V::load(a.as_ptr().add(i)).mul_add(V::load(b.as_ptr().add(i)), sum);
        }
        sum.sum()
    }
}

/// Σ a·b, in double precision and sixteen sums side by side.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f64; 16];
    let (a_parts, a_rest) = a.as_chunks::<16>();
    let (b_parts, b_rest) = b.as_chunks::<16>();
    for (a, b) in a_parts.iter().zip(b_parts) {
        for (sum, (&a, &b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += f64::from(a) * f64::from(b);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    sums.iter().sum::<f64>() + rest
}

/// The first N parts of `len` elements, and the rest.
pub(super) fn split<const N: usize>(
    slice: &mut [f32],
    len: usize,
) -> ([&mut [f32]; N], &mut [f32]) {
    let mut rest = slice;
    let parts = std::array::from_fn(|_| {
        let (part, behind) = std::mem::take(&mut rest).split_at_mut(len);
        rest = behind;
        part
    });
    (parts, rest)
}
