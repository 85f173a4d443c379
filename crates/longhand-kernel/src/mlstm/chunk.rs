//! One head of one sequence, chunk after chunk, forward.
//!
//! Within a chunk, with D the decays from position to position, S = (q·k'ᵀ) ∘ D and b, g, e the
//! decays from the state before, to the state after, and from one to the other:
//! numerator = S·v + b∘(q·C), n·q = S·1 + b∘(q·n), C' = e·C + (g∘k')ᵀ·v, n' = e·n + (g∘k')ᵀ·1.
//!
//! Rows of features are padded with zeros to whole vectors, and chunks to whole vectors of
//! positions, so that nothing is packed for the products; S is computed up to its diagonal.

use std::ops::Range;

use super::gates::{Decays, Gates};
use super::step::Step;
use super::{EPSILON, Head, Inputs};
use crate::cpu::{Shards, Worker};
use crate::simd::{Kernel, Vector, plain_loops};
use crate::small_product::{LANES, Lying, Product, Transpose, Triangle};

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
        // Decoding: the state goes through the step as it lies.
        c.copy_from_slice(before.c);
        n.copy_from_slice(before.n);
        if head.real == 1 {
            if head.starts_empty(0) {
                c.fill(0.0);
                n.fill(0.0);
                *m = 0.0;
            }
            let gates = Gates::new(worker.level, head, inputs, 0..1, *m);
            saved[0] = step(worker, head, inputs, 0, &gates, y, c, width, n);
            *m = gates.m_after();
        }
        return;
    }
    let stride = width.next_multiple_of(LANES);
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
        if chunk.len() == 1 {
            let n = &mut padded_n[..width];
            saved[start] = step(worker, head, inputs, start, &gates, y, padded_c, stride, n);
        } else {
            let normalisers = &mut saved[chunk.clone()];
            let state = (&mut *padded_c, &mut *padded_n);
            forward_chunk(
                worker,
                head,
                inputs,
                chunk.clone(),
                &gates,
                empty,
                y,
                state,
                normalisers,
            );
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

fn step(
    worker: &Worker,
    head: &Head,
    inputs: &Inputs,
    position: usize,
    gates: &Gates,
    y: &Shards<f32>,
    c: &mut [f32],
    stride: usize,
    n: &mut [f32],
) -> f32 {
    let (place, scale) = (head.row(position), key_scale(head));
    worker.level.run(Step {
        forget: gates.remains_at[0],
        input: gates.remains_after[0],
        least: gates.least[0],
        scale,
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

fn forward_chunk(
    worker: &mut Worker,
    head: &Head,
    inputs: &Inputs,
    chunk: Range<usize>,
    gates: &Gates,
    empty: bool,
    y: &Shards<f32>,
    (c, n): (&mut [f32], &mut [f32]),
    normalisers: &mut [f32],
) {
    let (len, width, level) = (chunk.len(), head.sizes.width, worker.level);
    let (rows, stride) = (len.next_multiple_of(LANES), n.len());
    let mut scratch = worker.buffers.take(5 * rows * stride + rows * rows);
    let ([q, k, v, turned, numerator], scores) = split(&mut scratch, rows * stride);
    level.run(Collect { head, from: inputs.q, chunk: &chunk, scale: 1.0, stride, to: q });
    let scale = key_scale(head);
    level.run(Collect { head, from: inputs.k, chunk: &chunk, scale, stride, to: k });
    level.run(Collect { head, from: inputs.v, chunk: &chunk, scale: 1.0, stride, to: v });

    level.run(Transpose { from: k, stride, to: turned });
    let whole = Product {
        a: q,
        lying: Lying::Rows(stride),
        b: turned,
        m: len,
        k: width,
        n: rows,
        add: false,
        triangle: Triangle::Result,
    };
    whole.run(level, scores);
    let sums = &mut *normalisers;
    level.run(Decays { gates, stride: rows, scores: &mut *scores, decays: None, sums });
    let of_scores =
        Product { a: scores, lying: Lying::Rows(rows), b: v, k: len, n: stride, ..whole };
    Product { triangle: Triangle::Lower, ..of_scores }.run(level, numerator);
    if !empty {
        {
            let (q, n, remains) = (&mut *q, &*n, &gates.remains_at[..len]);
            let normalisers = &mut *normalisers;
            plain_loops!(level, 'a {
                q: &'a mut [f32], n: &'a [f32], remains: &'a [f32], normalisers: &'a mut [f32],
            } {
                let rows = q.chunks_exact_mut(n.len()).zip(remains).zip(normalisers);
                for ((q, remains), normaliser) in rows {
                    q.iter_mut().for_each(|q| *q *= remains);
                    *normaliser += dot(q, n) as f32;
                }
            });
        }
        let lying = Lying::Rows(stride);
        let (k, n, triangle) = (width, stride, Triangle::None);
        let product = Product { a: q, lying, b: c, m: len, k, n, add: true, triangle };
        product.run(level, numerator);
    }
    level.run(Finish { head, gates, chunk, normalisers, numerator, y });
    {
        let remains = if empty { 0.0 } else { gates.remains_at[len - 1] };
        let (c, n, k, written) = (&mut *c, &mut *n, &mut *k, &gates.remains_after[..len]);
        plain_loops!(level, 'a {
            remains: f32, written: &'a [f32],
            c: &'a mut [f32], n: &'a mut [f32], k: &'a mut [f32],
        } {
            c.iter_mut().for_each(|c| *c *= remains);
            n.iter_mut().for_each(|n| *n *= remains);
            for (k, remains) in k.chunks_exact_mut(n.len()).zip(written) {
                k.iter_mut().for_each(|k| *k *= remains);
                n.iter_mut().zip(&*k).for_each(|(n, k)| *n += k);
            }
        });
    }
    let lying = Lying::Columns(stride);
    let (m, n, triangle) = (width, stride, Triangle::None);
    Product { a: k, lying, b: v, m, k: len, n, add: true, triangle }.run(level, c);
    worker.buffers.give(scratch);
}

/// max(|n·q|, e^−m) + ε.
#[inline(always)]
pub(super) fn denominator(normaliser: f32, least: f32) -> f32 {
    normaliser.abs().max(least) + EPSILON
}

/// 1 / √K.
pub(super) fn key_scale(head: &Head) -> f32 {
    1.0 / (head.sizes.width as f32).sqrt()
}

/// A chunk's outputs from their numerators.
struct Finish<'a, 'b> {
    head: &'a Head<'a>,
    gates: &'a Gates,
    chunk: Range<usize>,
    normalisers: &'a [f32],
    /// `[len, stride]`.
    numerator: &'a [f32],
    y: &'a Shards<'b, f32>,
}

impl Kernel for Finish<'_, '_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { head, gates, chunk, normalisers, numerator, y } = self;
        let stride = head.sizes.width.next_multiple_of(LANES);
        for (j, p) in chunk.enumerate() {
            let inverse = 1.0 / denominator(normalisers[j], gates.least[j]);
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
            let (to, padding) = to.split_at_mut(head.sizes.width);
            to.iter_mut().zip(&from[head.row(p)]).for_each(|(to, from)| *to = scale * from);
            padding.fill(0.0);
        }
        rows.for_each(|row| row.fill(0.0));
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
