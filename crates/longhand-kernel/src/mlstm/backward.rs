//! One head of one sequence, chunk after chunk from the last one, backward.

use std::ops::Range;

use super::chunk::{Collect, HeadState, denominator, dot, key_scale, pad, split};
use super::gates::{Decays, Gates};
use super::{CHUNK, EPSILON, Head, Inputs};
use crate::cpu::{Shards, Worker};
use crate::simd::{Kernel, Vector, plain_loops};
use crate::small_product::{LANES, Lying, Product, Transpose, Triangle};

/// What backward knows of the outputs.
#[derive(Clone, Copy)]
pub(super) struct Outputs<'a> {
    pub(super) y: &'a [f32],
    pub(super) d_y: &'a [f32],
    /// This head's part.
    pub(super) saved: &'a [f32],
}

/// Where the gradients of all heads go.
pub(super) struct Into<'a> {
    pub(super) q: Option<Shards<'a, f32>>,
    pub(super) k: Option<Shards<'a, f32>>,
    pub(super) v: Option<Shards<'a, f32>>,
    pub(super) input_gate: Option<Shards<'a, f32>>,
    pub(super) forget_gate: Option<Shards<'a, f32>>,
}

/// Adds the gradients of one head; `before` is the state before the sequence, and receives its
/// gradient by `finish`, C in rows padded to whole vectors.
pub(super) fn backward_head(
    worker: &mut Worker,
    head: &Head,
    inputs: &Inputs,
    outputs: Outputs,
    before: HeadState,
    d_after: Option<HeadState>,
    into: &Into,
    finish: impl FnOnce(HeadState),
) {
    let width = head.sizes.width;
    let stride = width.next_multiple_of(LANES);
    let square = stride * stride;
    let mut d_state = worker.buffers.take_zeros(square + stride);
    let mut first = worker.buffers.take(square + stride);
    let (dc, dn) = d_state.split_at_mut(square);
    if let Some(d_after) = d_after {
        pad(d_after, width, dc, dn);
    }
    let (first_c, first_n) = first.split_at_mut(square);
    pad(before, width, first_c, first_n);
    let mut flow = Flow {
        any: d_after.is_some(),
        last: true,
        d_m: d_after.map_or(0.0, |d_after| f64::from(d_after.m)),
    };
    let mut end = head.real;
    while end > 0 {
        let chunk = head.chunk_until(end);
        let start = chunk.start;
        let state = if head.starts_empty(start) {
            None
        } else if start == 0 {
            Some(HeadState { c: first_c, n: first_n, m: before.m })
        } else {
            let (c, rest) = outputs.saved[head.slot(start)].split_at(square);
            Some(HeadState { c, n: &rest[..stride], m: rest[stride] })
        };
        backward_chunk(worker, head, inputs, outputs, chunk, state, &mut flow, dc, dn, into);
        if state.is_none() {
            // What came before the document has no part in what follows.
            dc.fill(0.0);
            dn.fill(0.0);
            flow = Flow { any: false, last: false, d_m: 0.0 };
        }
        end = start;
    }
    let explicit = if flow.last { 0.0 } else { dot(dc, first_c) + dot(dn, first_n) };
    finish(HeadState { c: dc, n: &dn[..width], m: (flow.d_m + explicit) as f32 });
    worker.buffers.give(first);
    worker.buffers.give(d_state);
}

/// What flows from a chunk into the one before it, besides the gradient of C and n.
struct Flow {
    /// Whether that gradient is anything but zero.
    any: bool,
    /// Nothing was read yet: the gradient is the caller's.
    last: bool,
    /// The gradient of m. Between chunks without the part of it that comes from C and n being
    /// scaled by e^−m, which the chunk before would only take away again.
    d_m: f64,
}

/// `state` is the one before the chunk; none where the chunk begins empty.
fn backward_chunk(
    worker: &mut Worker,
    head: &Head,
    inputs: &Inputs,
    outputs: Outputs,
    chunk: Range<usize>,
    state: Option<HeadState>,
    flow: &mut Flow,
    dc: &mut [f32],
    dn: &mut [f32],
    into: &Into,
) {
    let (len, width, level) = (chunk.len(), head.sizes.width, worker.level);
    let (rows, stride) = (len.next_multiple_of(LANES), dn.len());
    let gates = Gates::new(level, head, inputs, chunk.clone(), state.map_or(0.0, |s| s.m));
    let mut scratch = worker.buffers.take(9 * rows * stride + 3 * rows * rows + stride * stride);
    let ([q, k, v, d_numerator, dq, dk, dv, other, turned], rest) =
        split(&mut scratch, rows * stride);
    let ([scores, decays, d_scores], turned_state) = split(rest, rows * rows);

    // Through the denominator. The gradient of h along h is that of the numerator along itself.
    let mut d_normaliser = [0.0f32; CHUNK];
    let mut d_m = [0.0f64; CHUNK];
    let scale = key_scale(head);
    for (from, scale, to) in [
        (inputs.q, 1.0, &mut *q),
        (inputs.k, scale, &mut *k),
        (inputs.v, 1.0, &mut *v),
        (outputs.d_y, 1.0, &mut *d_numerator),
    ] {
        level.run(Collect { head, from, chunk: &chunk, scale, stride, to });
    }
    level.run(ThroughDenominator {
        head,
        gates: &gates,
        outputs,
        chunk: &chunk,
        d_numerator: &mut *d_numerator,
        d_normaliser: &mut d_normaliser,
        d_m: &mut d_m,
    });

    // Within the chunk.
    let shape = Shape { len, width, rows, stride };
    level.run(Transpose { from: k, stride, to: turned });
    shape.scores(q, turned).run(level, scores);
    let mut sums = [0.0; CHUNK];
    level.run(Decays {
        gates: &gates,
        stride: rows,
        scores: &mut *scores,
        decays: Some(&mut *decays),
        sums: &mut sums,
    });
    shape.by_score(scores, Lying::Columns(rows), d_numerator, Triangle::Upper).run(level, dv);
    level.run(Transpose { from: v, stride, to: turned });
    shape.scores(d_numerator, turned).run(level, d_scores);
    {
        let (d_normaliser, d_scores, decays) = (&d_normaliser[..len], &mut *d_scores, &*decays);
        plain_loops!(level, 'a {
            rows: usize, d_normaliser: &'a [f32], d_scores: &'a mut [f32], decays: &'a [f32],
        } {
            let scores = d_scores.chunks_exact_mut(rows).zip(decays.chunks_exact(rows));
            for ((j, d), (scores, decays)) in d_normaliser.iter().enumerate().zip(scores) {
                let (seen, hidden) = scores.split_at_mut(j + 1);
                seen.iter_mut().zip(decays).for_each(|(x, decay)| *x = (*x + d) * decay);
                hidden.fill(0.0);
            }
        });
    }
    shape.by_score(d_scores, Lying::Rows(rows), k, Triangle::Lower).run(level, dq);
    shape.by_score(d_scores, Lying::Columns(rows), q, Triangle::Upper).run(level, dk);

    // From what the chunk wrote into the state, whose gradient is dc and dn.
    let mut along_forget = 0.0;
    if flow.any {
        level.run(Transpose { from: dc, stride, to: turned_state });
        shape.by_row(v, turned_state).run(level, other);
        {
            let (remains, dn, k) = (&gates.remains_after[..len], &*dn, &*k);
            let (other, dk, sum) = (&mut *other, &mut *dk, &mut along_forget);
            plain_loops!(level, 'a {
                remains: &'a [f32], dn: &'a [f32], k: &'a [f32],
                other: &'a mut [f32], dk: &'a mut [f32], sum: &'a mut f64,
            } {
                for (s, remains) in remains.iter().enumerate() {
                    let row = s * dn.len()..(s + 1) * dn.len();
                    let (other, k) = (&mut other[row.clone()], &k[row.clone()]);
                    other.iter_mut().zip(dn).for_each(|(x, dn)| *x = (*x + dn) * remains);
                    *sum += dot(other, k);
                    dk[row].iter_mut().zip(&*other).for_each(|(dk, x)| *dk += x);
                    other.iter_mut().zip(k).for_each(|(x, k)| *x = k * remains);
                }
            });
        }
        let written = shape.by_row(other, dc);
        Product { add: true, ..written }.run(level, dv);
        if let Some(state) = state {
            let remains = gates.remains_at[len - 1];
            let (dc, dn, sum) = (&mut *dc, &mut *dn, &mut along_forget);
            plain_loops!(level, 'a {
                remains: f32, state: HeadState<'a>,
                dc: &'a mut [f32], dn: &'a mut [f32], sum: &'a mut f64,
            } {
                dc.iter_mut().for_each(|d| *d *= remains);
                dn.iter_mut().for_each(|d| *d *= remains);
                *sum += dot(dc, state.c) + dot(dn, state.n);
            });
        }
    }

    // Into the state before.
    if let Some(state) = state {
        level.run(Transpose { from: state.c, stride, to: turned_state });
        shape.by_row(d_numerator, turned_state).run(level, other);
        {
            let (remains, d_normaliser, n) = (&gates.remains_at, &d_normaliser[..len], state.n);
            let (q, other, dq, dn) = (&*q, &mut *other, &mut *dq, &mut *dn);
            plain_loops!(level, 'a {
                remains: &'a [f32; CHUNK], d_normaliser: &'a [f32], n: &'a [f32], q: &'a [f32],
                other: &'a mut [f32], dq: &'a mut [f32], dn: &'a mut [f32],
            } {
                for (j, (&d, &remains)) in d_normaliser.iter().zip(remains).enumerate() {
                    let row = j * n.len()..(j + 1) * n.len();
                    let (other, dq) = (&mut other[row.clone()], &mut dq[row.clone()]);
                    for ((dq, x), n) in dq.iter_mut().zip(&mut *other).zip(n) {
                        *dq += remains * (*x + d * n);
                    }
                    other.iter_mut().zip(&q[row]).for_each(|(x, q)| *x = q * remains);
                    dn.iter_mut().zip(&*other).for_each(|(dn, x)| *dn += d * x);
                }
            });
        }
        Product {
            a: other,
            lying: Lying::Columns(stride),
            b: d_numerator,
            m: width,
            k: len,
            n: stride,
            add: true,
            triangle: Triangle::None,
        }
        .run(level, dc);
    }

    // The gates, from the last position to the first. `along_forget` is the gradient of the next
    // position's ln σ(f), or of what would follow the chunk: scaling the state at t scales what
    // q reads from it and what remains of it, less what k has just written.
    if flow.last {
        flow.d_m -= along_forget;
    }
    let mut by_key = [0.0; CHUNK];
    let mut by_query = [0.0; CHUNK];
    {
        let (q, k, dq, dk) = (&*q, &*k, &*dq, &*dk);
        let (by_key, by_query) = (&mut by_key[..len], &mut by_query[..len]);
        plain_loops!(level, 'a {
            stride: usize, q: &'a [f32], k: &'a [f32], dq: &'a [f32], dk: &'a [f32],
            by_key: &'a mut [f64], by_query: &'a mut [f64],
        } {
            for (j, (by_key, by_query)) in by_key.iter_mut().zip(by_query).enumerate() {
                let row = j * stride..(j + 1) * stride;
                *by_key = dot(&k[row.clone()], &dk[row.clone()]);
                *by_query = dot(&q[row.clone()], &dq[row]);
            }
        });
    }
    let slopes = gates.slopes(level, head, inputs, chunk.start);
    for (j, p) in chunk.clone().enumerate().rev() {
        along_forget += by_query[j] - by_key[j];
        if state.is_none() && j == 0 {
            along_forget = 0.0;
        }
        flow.d_m += d_m[j];
        let (mut d_input, mut d_forget) = (by_key[j], along_forget);
        let kept = f64::from(gates.forget[j]) + f64::from(gates.m_before(j));
        if kept > f64::from(gates.input[j]) {
            d_forget += flow.d_m;
        } else {
            d_input += flow.d_m;
            flow.d_m = 0.0;
        }
        let at = head.gate(p);
        add(&into.input_gate, at, d_input);
        add(&into.forget_gate, at, d_forget * f64::from(slopes[j]));
    }
    (flow.any, flow.last) = (true, false);

    for (to, scale, from) in [(&into.q, 1.0, &*dq), (&into.k, scale, &*dk), (&into.v, 1.0, &*dv)] {
        if let Some(to) = to {
            level.run(Disperse { head, from, chunk: &chunk, scale, stride, to });
        }
    }
    worker.buffers.give(scratch);
}

/// From the gradients of a chunk's outputs (in `d_numerator`) to those of its numerators, of n·q and
/// of the stabiliser.
struct ThroughDenominator<'a> {
    head: &'a Head<'a>,
    gates: &'a Gates,
    outputs: Outputs<'a>,
    chunk: &'a Range<usize>,
    /// `[len, stride]`.
    d_numerator: &'a mut [f32],
    d_normaliser: &'a mut [f32; CHUNK],
    d_m: &'a mut [f64; CHUNK],
}

impl Kernel for ThroughDenominator<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { head, gates, outputs, chunk, d_numerator, d_normaliser, d_m } = self;
        let width = head.sizes.width;
        let stride = width.next_multiple_of(LANES);
        for (j, p) in chunk.clone().enumerate() {
            let normaliser = outputs.saved[p];
            let inverse = 1.0 / denominator(normaliser, gates.least[j]);
            let d_numerator = &mut d_numerator[j * stride..][..width];
            let along = dot(&outputs.y[head.row(p)], d_numerator) as f32;
            d_numerator.iter_mut().for_each(|d| *d *= inverse);
            if normaliser.abs() > gates.least[j] {
                d_normaliser[j] = -(along * inverse) * normaliser.signum();
            }
            d_m[j] = -f64::from(along) * f64::from(EPSILON) * f64::from(inverse);
        }
    }
}

/// Adds a chunk's rows to where they belong, times `scale`.
struct Disperse<'a, 'b> {
    head: &'a Head<'a>,
    /// `[len, stride]`.
    from: &'a [f32],
    chunk: &'a Range<usize>,
    scale: f32,
    stride: usize,
    to: &'a Shards<'b, f32>,
}

impl Kernel for Disperse<'_, '_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { head, from, chunk, scale, stride, to } = self;
        for (p, from) in chunk.clone().zip(from.chunks_exact(stride)) {
            // SAFETY: each head of each sequence belongs to one thread.
            let to = unsafe { to.part(head.row(p)) };
            to.iter_mut().zip(from).for_each(|(to, from)| *to += scale * from);
        }
    }
}

/// The sizes of one chunk's matrices.
#[derive(Clone, Copy)]
struct Shape {
    len: usize,
    width: usize,
    /// `len` and `width` rounded up to whole vectors.
    rows: usize,
    stride: usize,
}

impl Shape {
    /// Rows of features against turned rows: up to the diagonal.
    fn scores<'a>(self, a: &'a [f32], turned: &'a [f32]) -> Product<'a> {
        Product { n: self.rows, triangle: Triangle::Result, ..self.by_row(a, turned) }
    }

    /// Rows of features times a square of them.
    fn by_row<'a>(self, a: &'a [f32], b: &'a [f32]) -> Product<'a> {
        let Self { len, width, stride, .. } = self;
        let (lying, triangle) = (Lying::Rows(stride), Triangle::None);
        Product { a, lying, b, m: len, k: width, n: stride, add: false, triangle }
    }

    /// Scores, or their transpose, times rows of features.
    fn by_score<'a>(
        self,
        a: &'a [f32],
        lying: Lying,
        b: &'a [f32],
        triangle: Triangle,
    ) -> Product<'a> {
        let Self { len, stride, .. } = self;
        Product { a, lying, b, m: len, k: len, n: stride, add: false, triangle }
    }
}

fn add(into: &Option<Shards<f32>>, place: usize, value: f64) {
    let Some(into) = into else { return };
    // SAFETY: each head of each sequence belongs to one thread.
    unsafe { into.part(place..place + 1)[0] += value as f32 };
}
