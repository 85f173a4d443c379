//! One head of one sequence, chunk after chunk: forward, and backward from the last chunk.
//!
//! Within a chunk, with D the decays from position to position, S = (q·k'ᵀ) ∘ D and b, g, e the
//! decays from the state before, to the state after, and from one to the other:
//! numerator = S·v + b∘(q·C), n·q = S·1 + b∘(q·n), C' = e·C + (g∘k')ᵀ·v, n' = e·n + (g∘k')ᵀ·1.

use std::ops::Range;

use super::gates::Gates;
use super::step::Step;
use super::{CHUNK, EPSILON, Head, Inputs};
use crate::cpu::{Shards, Worker};
use crate::gemm::{Into as Store, Matrix, MatrixMut, gemm_serial};

/// What backward knows of the outputs.
#[derive(Clone, Copy)]
pub(super) struct Outputs<'a> {
    pub(super) y: &'a [f32],
    pub(super) d_y: &'a [f32],
    /// This head's part.
    pub(super) saved: &'a [f32],
}

/// One head's state, or its gradient.
#[derive(Clone, Copy)]
pub(super) struct HeadState<'a> {
    pub(super) c: &'a [f32],
    pub(super) n: &'a [f32],
    pub(super) m: f32,
}

/// Where the gradients of all heads go.
pub(super) struct Into<'a> {
    pub(super) q: Option<Shards<'a, f32>>,
    pub(super) k: Option<Shards<'a, f32>>,
    pub(super) v: Option<Shards<'a, f32>>,
    pub(super) input_gate: Option<Shards<'a, f32>>,
    pub(super) forget_gate: Option<Shards<'a, f32>>,
}

/// Writes the outputs of one head; c, n and m hold the state before and then the one after.
pub(super) fn forward_head(
    worker: &mut Worker,
    head: &Head,
    inputs: &Inputs,
    y: &Shards<f32>,
    c: &mut [f32],
    n: &mut [f32],
    m: &mut f32,
    saved: &mut [f32],
) {
    for row in head.padding() {
        // SAFETY: each head of each sequence belongs to one thread.
        unsafe { y.part(row) }.fill(0.0);
    }
    let mut start = 0;
    while start < head.real {
        let chunk = head.chunk_from(start);
        let empty = head.starts_empty(start);
        if empty {
            c.fill(0.0);
            n.fill(0.0);
            *m = 0.0;
        } else if start > 0 {
            let slot = &mut saved[head.slot(start)];
            slot[..c.len()].copy_from_slice(c);
            slot[c.len()..c.len() + n.len()].copy_from_slice(n);
            slot[c.len() + n.len()] = *m;
        }
        let gates = Gates::new(head, inputs, chunk.clone(), *m);
        if chunk.len() == 1 {
            let (place, scale) = (head.row(start), key_scale(head));
            saved[start] = worker.level.run(Step {
                forget: gates.remains_at(0),
                input: gates.remains_after(0),
                least: (-gates.m[0]).exp(),
                scale,
                q: &inputs.q[place.clone()],
                k: &inputs.k[place.clone()],
                v: &inputs.v[place.clone()],
                c: &mut *c,
                n: &mut *n,
                // SAFETY: each head of each sequence belongs to one thread.
                y: unsafe { y.part(place) },
            });
        } else {
            let normalisers = &mut saved[chunk.clone()];
            forward_chunk(worker, head, inputs, chunk.clone(), &gates, empty, y, c, n, normalisers);
        }
        *m = gates.m_after();
        start = chunk.end;
    }
}

fn forward_chunk(
    worker: &mut Worker,
    head: &Head,
    inputs: &Inputs,
    chunk: Range<usize>,
    gates: &Gates,
    empty: bool,
    y: &Shards<f32>,
    c: &mut [f32],
    n: &mut [f32],
    normalisers: &mut [f32],
) {
    let (len, width) = (chunk.len(), head.sizes.width);
    let mut scratch = worker.buffers.take(4 * len * width + 2 * len * len);
    let ([q, k, v, numerator], squares) = split(&mut scratch, len * width);
    let ([scores, decays], _) = split(squares, len * len);
    collect(head, inputs.q, chunk.clone(), 1.0, q);
    collect(head, inputs.k, chunk.clone(), key_scale(head), k);
    collect(head, inputs.v, chunk.clone(), 1.0, v);

    gates.decays(worker.level, decays);
    product(
        worker,
        Matrix::new(q, len, width),
        Matrix::new(k, len, width).t(),
        scores,
        len,
        Store::Replace,
    );
    mask(scores, decays, len);
    for (normaliser, row) in normalisers.iter_mut().zip(scores.chunks_exact(len)) {
        *normaliser = row.iter().sum();
    }
    product(
        worker,
        Matrix::new(scores, len, len),
        Matrix::new(v, len, width),
        numerator,
        width,
        Store::Replace,
    );
    if !empty {
        for (j, q) in q.chunks_exact_mut(width).enumerate() {
            let remains = gates.remains_at(j);
            q.iter_mut().for_each(|q| *q *= remains);
            normalisers[j] += dot(q, n);
        }
        product(
            worker,
            Matrix::new(q, len, width),
            Matrix::new(c, width, width),
            numerator,
            width,
            Store::Add,
        );
    }
    for (j, p) in chunk.enumerate() {
        let inverse = 1.0 / denominator(normalisers[j], gates.m[j]);
        // SAFETY: each head of each sequence belongs to one thread.
        let y = unsafe { y.part(head.row(p)) };
        let numerator = &numerator[j * width..(j + 1) * width];
        y.iter_mut().zip(numerator).for_each(|(y, x)| *y = x * inverse);
    }

    let remains = if empty { 0.0 } else { gates.remains_at(len - 1) };
    c.iter_mut().chain(n.iter_mut()).for_each(|x| *x *= remains);
    for (s, k) in k.chunks_exact_mut(width).enumerate() {
        let remains = gates.remains_after(s);
        k.iter_mut().for_each(|k| *k *= remains);
        n.iter_mut().zip(&*k).for_each(|(n, k)| *n += k);
    }
    product(
        worker,
        Matrix::new(k, len, width).t(),
        Matrix::new(v, len, width),
        c,
        width,
        Store::Add,
    );
    worker.buffers.give(scratch);
}

/// Adds the gradients of one head; `state` is the one before the sequence, and receives its
/// gradient by `finish`.
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
    let (square, width) = (before.c.len(), before.n.len());
    let mut d_state = worker.buffers.take_zeros(square + width);
    let mut d_m = 0.0;
    if let Some(d_after) = d_after {
        d_state[..square].copy_from_slice(d_after.c);
        d_state[square..].copy_from_slice(d_after.n);
        d_m = f64::from(d_after.m);
    }
    let empty_state = worker.buffers.take_zeros(square + width);
    let mut flow = Flow { any: d_after.is_some(), last: true, d_m };
    let mut end = head.real;
    while end > 0 {
        let chunk = head.chunk_until(end);
        let start = chunk.start;
        let empty = head.starts_empty(start);
        let (c, n) = empty_state.split_at(square);
        let state = if empty {
            HeadState { c, n, m: 0.0 }
        } else if start == 0 {
            before
        } else {
            let slot = &outputs.saved[head.slot(start)];
            let (c, rest) = slot.split_at(square);
            HeadState { c, n: &rest[..width], m: rest[width] }
        };
        let (dc, dn) = d_state.split_at_mut(square);
        backward_chunk(worker, head, inputs, outputs, chunk, state, empty, &mut flow, dc, dn, into);
        if empty {
            // What came before the document has no part in what follows.
            d_state.fill(0.0);
            flow = Flow { any: false, last: false, d_m: 0.0 };
        }
        end = start;
    }
    let (c, n) = d_state.split_at(square);
    let explicit = if flow.last { 0.0 } else { dot64(c, before.c) + dot64(n, before.n) };
    finish(HeadState { c, n, m: (flow.d_m + explicit) as f32 });
    worker.buffers.give(empty_state);
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

fn backward_chunk(
    worker: &mut Worker,
    head: &Head,
    inputs: &Inputs,
    outputs: Outputs,
    chunk: Range<usize>,
    state: HeadState,
    empty: bool,
    flow: &mut Flow,
    dc: &mut [f32],
    dn: &mut [f32],
    into: &Into,
) {
    let (len, width) = (chunk.len(), head.sizes.width);
    let gates = Gates::new(head, inputs, chunk.clone(), state.m);
    let mut scratch = worker.buffers.take(8 * len * width + 3 * len * len);
    let ([q, k, v, d_numerator, dq, dk, dv, other], squares) = split(&mut scratch, len * width);
    let ([scores, decays, d_scores], _) = split(squares, len * len);
    collect(head, inputs.q, chunk.clone(), 1.0, q);
    collect(head, inputs.k, chunk.clone(), key_scale(head), k);
    collect(head, inputs.v, chunk.clone(), 1.0, v);

    // Through the denominator. The gradient of h along h is that of the numerator along itself.
    let mut d_normaliser = [0.0f32; CHUNK];
    let mut d_m = [0.0f64; CHUNK];
    for (j, p) in chunk.clone().enumerate() {
        let (normaliser, row) = (outputs.saved[p], head.row(p));
        let inverse = 1.0 / denominator(normaliser, gates.m[j]);
        let (y, d_y) = (&outputs.y[row.clone()], &outputs.d_y[row]);
        let d_numerator = &mut d_numerator[j * width..(j + 1) * width];
        d_numerator.iter_mut().zip(d_y).for_each(|(d_numerator, d_y)| *d_numerator = d_y * inverse);
        let along = dot(y, d_y);
        if normaliser.abs() > (-gates.m[j]).exp() {
            d_normaliser[j] = -(along * inverse) * normaliser.signum();
        }
        d_m[j] = -f64::from(along) * f64::from(EPSILON) * f64::from(inverse);
    }

    // Within the chunk.
    let (of_q, of_k) = (Matrix::new(q, len, width), Matrix::new(k, len, width));
    let (of_v, of_numerator) = (Matrix::new(v, len, width), Matrix::new(d_numerator, len, width));
    gates.decays(worker.level, decays);
    product(worker, of_q, of_k.t(), scores, len, Store::Replace);
    mask(scores, decays, len);
    product(worker, Matrix::new(scores, len, len).t(), of_numerator, dv, width, Store::Replace);
    product(worker, of_numerator, of_v.t(), d_scores, len, Store::Replace);
    for (row, d) in d_scores.chunks_exact_mut(len).zip(d_normaliser) {
        row.iter_mut().for_each(|x| *x += d);
    }
    mask(d_scores, decays, len);
    let of_d_scores = Matrix::new(d_scores, len, len);
    product(worker, of_d_scores, of_k, dq, width, Store::Replace);
    product(worker, of_d_scores.t(), of_q, dk, width, Store::Replace);

    // From what the chunk wrote into the state, whose gradient is dc and dn.
    let mut along_forget = 0.0;
    if flow.any {
        product(worker, of_v, Matrix::new(dc, width, width).t(), other, width, Store::Replace);
        for s in 0..len {
            let (remains, row) = (gates.remains_after(s), s * width..(s + 1) * width);
            let other = &mut other[row.clone()];
            other.iter_mut().zip(&*dn).for_each(|(x, dn)| *x = (*x + dn) * remains);
            along_forget += dot64(other, &k[row.clone()]);
            dk[row.clone()].iter_mut().zip(&*other).for_each(|(dk, x)| *dk += x);
            other.iter_mut().zip(&k[row]).for_each(|(x, k)| *x = k * remains);
        }
        product(
            worker,
            Matrix::new(other, len, width),
            Matrix::new(dc, width, width),
            dv,
            width,
            Store::Add,
        );
        if !empty {
            let remains = gates.remains_at(len - 1);
            dc.iter_mut().chain(dn.iter_mut()).for_each(|d| *d *= remains);
            along_forget += dot64(dc, state.c) + dot64(dn, state.n);
        }
    }

    // Into the state before.
    if !empty {
        product(
            worker,
            of_numerator,
            Matrix::new(state.c, width, width).t(),
            other,
            width,
            Store::Replace,
        );
        for (j, &d) in d_normaliser[..len].iter().enumerate() {
            let (remains, row) = (gates.remains_at(j), j * width..(j + 1) * width);
            let (other, dq) = (&mut other[row.clone()], &mut dq[row.clone()]);
            for ((dq, x), n) in dq.iter_mut().zip(&mut *other).zip(state.n) {
                *dq += remains * (*x + d * n);
            }
            other.iter_mut().zip(&q[row]).for_each(|(x, q)| *x = q * remains);
            dn.iter_mut().zip(&*other).for_each(|(dn, x)| *dn += d * x);
        }
        product(worker, Matrix::new(other, len, width).t(), of_numerator, dc, width, Store::Add);
    }

    // The gates, from the last position to the first. `along_forget` is the gradient of the next
    // position's ln σ(f), or of what would follow the chunk: scaling the state at t scales what
    // q reads from it and what remains of it, less what k has just written.
    if flow.last {
        flow.d_m -= along_forget;
    }
    for (j, p) in chunk.clone().enumerate().rev() {
        let row = j * width..(j + 1) * width;
        let by_key = dot64(&k[row.clone()], &dk[row.clone()]);
        along_forget += dot64(&q[row.clone()], &dq[row]) - by_key;
        if empty && j == 0 {
            along_forget = 0.0;
        }
        flow.d_m += d_m[j];
        let (mut d_input, mut d_forget) = (by_key, along_forget);
        if gates.forget[j] + f64::from(gates.m_before(j)) > gates.input[j] {
            d_forget += flow.d_m;
        } else {
            d_input += flow.d_m;
            flow.d_m = 0.0;
        }
        let at = head.gate(p);
        let preactivation = f64::from(inputs.forget_gate[at]);
        let slope = 1.0 / (1.0 + preactivation.exp());
        add(&into.input_gate, at..at + 1, &[d_input as f32], 1.0);
        add(&into.forget_gate, at..at + 1, &[(d_forget * slope) as f32], 1.0);
    }
    (flow.any, flow.last) = (true, false);

    for (j, p) in chunk.enumerate() {
        let (from, to) = (j * width..(j + 1) * width, head.row(p));
        add(&into.q, to.clone(), &dq[from.clone()], 1.0);
        add(&into.k, to.clone(), &dk[from.clone()], key_scale(head));
        add(&into.v, to, &dv[from], 1.0);
    }
    worker.buffers.give(scratch);
}

/// max(|n·q|, e^−m) + ε.
fn denominator(normaliser: f32, m: f32) -> f32 {
    normaliser.abs().max((-m).exp()) + EPSILON
}

/// 1 / √K.
fn key_scale(head: &Head) -> f32 {
    1.0 / (head.sizes.width as f32).sqrt()
}

/// A chunk's rows of one head, put together.
fn collect(head: &Head, from: &[f32], chunk: Range<usize>, scale: f32, into: &mut [f32]) {
    for (p, into) in chunk.zip(into.chunks_exact_mut(head.sizes.width)) {
        into.iter_mut().zip(&from[head.row(p)]).for_each(|(to, from)| *to = scale * from);
    }
}

/// values ∘ decays, and zero above the diagonal whatever stood there.
fn mask(values: &mut [f32], decays: &[f32], len: usize) {
    let rows = values.chunks_exact_mut(len).zip(decays.chunks_exact(len)).enumerate();
    for (j, (values, decays)) in rows {
        values[..=j].iter_mut().zip(decays).for_each(|(x, decay)| *x *= decay);
        values[j + 1..].fill(0.0);
    }
}

/// c = a·b, or c += a·b, for c of that many columns.
fn product(worker: &mut Worker, a: Matrix, b: Matrix, c: &mut [f32], columns: usize, store: Store) {
    let c_rows = c.len() / columns;
    let c = MatrixMut::new(c, c_rows, columns);
    gemm_serial(worker.level, worker.buffers, a, b, c, store);
}

fn add(into: &Option<Shards<f32>>, place: Range<usize>, values: &[f32], scale: f32) {
    let Some(into) = into else { return };
    // SAFETY: each head of each sequence belongs to one thread.
    let into = unsafe { into.part(place) };
    into.iter_mut().zip(values).for_each(|(to, value)| *to += scale * value);
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    dot64(a, b) as f32
}

/// Σ a·b, in double precision and eight sums side by side.
fn dot64(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    let (a_parts, a_rest) = a.as_chunks::<8>();
    let (b_parts, b_rest) = b.as_chunks::<8>();
    for (a, b) in a_parts.iter().zip(b_parts) {
        for (sum, (&a, &b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += f64::from(a) * f64::from(b);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    sums.iter().sum::<f64>() + rest
}

/// The first N parts of `len` elements, and the rest.
fn split<const N: usize>(slice: &mut [f32], len: usize) -> ([&mut [f32]; N], &mut [f32]) {
    let mut rest = slice;
    let parts = std::array::from_fn(|_| {
        let (part, behind) = std::mem::take(&mut rest).split_at_mut(len);
        rest = behind;
        part
    });
    (parts, rest)
}
