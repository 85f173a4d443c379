//! One head of one sequence, chunk after chunk from the last one, backward.

use std::ops::Range;

use super::chunk::{
    AHEAD, AddRows, Collect, HeadState, denominator, dot, dot_of, key_scale, pad, split,
};
use super::gates::Gates;
use super::lanes::Form;
use super::scores;
use super::{CHUNK, EPSILON, Head, Inputs};
use crate::cpu::{Shards, Worker};
use crate::simd::{Kernel, Vector, plain_loops};
use crate::small_product::{Lying, Product, Transpose, Triangle};

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
    let stride = Form::of(worker).padded(width);
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
    finish(HeadState { c: dc, n: dn, m: (flow.d_m + explicit) as f32 });
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
    let form = Form::of(worker);
    let (len, width, level) = (chunk.len(), head.sizes.width, worker.level);
    let (rows, stride) = (form.padded(len), dn.len());
    let (lanes, of_rows, square) = (stride / form.depth, rows * stride, stride * stride);
    let gates = Gates::new(level, head, inputs, chunk.clone(), state.map_or(0.0, |s| s.m));
    let mut scratch = worker.buffers.take(15 * of_rows + 5 * rows * rows + 2 * square);
    let ([q, k, v, d_numerator, dq, dk, dv, written], rest) = split(&mut scratch, of_rows);
    let ([q_form, k_form, v_form, d_form, scaled, across, turned], rest) = split(rest, of_rows);
    let ([scores, d_scores, decayed, d_along, d_across], rest) = split(rest, rows * rows);
    let ([state_form, turned_state], _) = split(rest, square);
    let (turned, turned_state) = (&mut turned[..rows * lanes], &mut turned_state[..lanes * stride]);

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
        stride,
        d_numerator: &mut *d_numerator,
        d_normaliser: &mut d_normaliser,
        d_m: &mut d_m,
    });
    let v_along = form.along(v, stride, None, v_form);
    let d_along_rows = form.along(d_numerator, stride, None, d_form);

    // Within the chunk.
    let shape = Shape { len, width, rows, stride, form };
    level.run(Transpose { from: form.along(k, stride, None, k_form), stride: lanes, to: turned });
    form.multiply(shape.scores(form.along(q, stride, None, q_form), turned), scores);
    level.run(Transpose { from: v_along, stride: lanes, to: turned });
    form.multiply(shape.scores(d_along_rows, turned), d_scores);
    form.run(scores::Backward {
        gates: &gates,
        stride: rows,
        scores,
        d_scores,
        d_sums: &d_normaliser,
        across: decayed,
        d_along,
        d_across,
    });
    let d_numerator_across = form.across(d_numerator, stride, None, across);
    let by_key = |a, b| shape.by_score(a, Lying::Columns(rows), b, Triangle::Upper);
    form.multiply(by_key(decayed, d_numerator_across), dv);
    form.multiply(by_key(d_across, form.across(q, stride, None, q_form)), dk);
    let by_query = Lying::Rows(rows / form.depth);
    let k_across = form.across(k, stride, None, k_form);
    form.multiply(shape.by_score(d_along, by_query, k_across, Triangle::Lower), dq);

    // From what the chunk wrote into the state, whose gradient is dc and dn.
    let mut along_forget = 0.0;
    if flow.any {
        let dc_along = form.along(dc, stride, None, state_form);
        level.run(Transpose { from: dc_along, stride: lanes, to: turned_state });
        form.multiply(shape.by_row(v_along, turned_state), written);
        level.run(AddWritten {
            remains: &gates.remains_after[..len],
            dn,
            k,
            d_written: written,
            dk,
            sum: &mut along_forget,
        });
        let k_along = form.along(k, stride, Some(&gates.remains_after), scaled);
        let dc_across = form.across(dc, stride, None, state_form);
        form.multiply(Product { add: true, ..shape.by_row(k_along, dc_across) }, dv);
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
        let c_along = form.along(state.c, stride, None, state_form);
        level.run(Transpose { from: c_along, stride: lanes, to: turned_state });
        let d_along_rows = form.along(d_numerator, stride, Some(&gates.remains_at), scaled);
        form.multiply(Product { add: true, ..shape.by_row(d_along_rows, turned_state) }, dq);
        // What n·q passes on, to the queries and to n.
        let mut factors = [0.0; CHUNK];
        for ((factor, d), remains) in factors.iter_mut().zip(d_normaliser).zip(gates.remains_at) {
            *factor = d * remains;
        }
        level.run(AddOuter { factors: &factors[..len], n: state.n, to: dq });
        level.run(AddRows { rows: q, factors: &factors[..len], to: dn });
        let product = Product {
            a: form.across(q, stride, Some(&gates.remains_at), scaled),
            lying: Lying::Columns(stride),
            b: d_numerator_across,
            m: width,
            k: form.lanes(len),
            n: stride,
            add: true,
            triangle: Triangle::None,
        };
        form.multiply(product, dc);
    }

    // The gates, from the last position to the first. `along_forget` is the gradient of the next
    // position's ln σ(f), or of what would follow the chunk: scaling the state at t scales what
    // q reads from it and what remains of it, less what k has just written.
    if flow.last {
        flow.d_m -= along_forget;
    }
    let mut by_key = [0.0; CHUNK];
    let mut by_query = [0.0; CHUNK];
    level.run(Dots { a: k, b: dk, stride, to: &mut by_key[..len] });
    level.run(Dots { a: q, b: dq, stride, to: &mut by_query[..len] });
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
    stride: usize,
    /// `[len, stride]`.
    d_numerator: &'a mut [f32],
    d_normaliser: &'a mut [f32; CHUNK],
    d_m: &'a mut [f64; CHUNK],
}

impl Kernel for ThroughDenominator<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { head, gates, outputs, chunk, stride, d_numerator, d_normaliser, d_m } = self;
        let width = head.sizes.width;
        for (j, p) in chunk.clone().enumerate() {
            let normaliser = outputs.saved[p];
            let inverse = 1.0 / denominator(normaliser, gates.least[j]);
            let d_numerator = &mut d_numerator[j * stride..][..width];
            head.fetch_row(outputs.y.as_ptr(), p + AHEAD);
            let y = &outputs.y[head.row(p)];
            // SAFETY: vectors begin within the width, and only its elements are touched.
            let along = unsafe {
                let (factor, mut along) = (V::splat(inverse), V::zero());
                for i in (0..width).step_by(V::LANES) {
                    let to = d_numerator.as_mut_ptr().add(i);
                    let d = V::load_first(to, width - i);
                    along = d.mul_add(V::load_first(y.as_ptr().add(i), width - i), along);
                    d.mul(factor).store_first(to, width - i);
                }
                along.sum()
            };
            if normaliser.abs() > gates.least[j] {
                d_normaliser[j] = -(along * inverse) * normaliser.signum();
            }
            d_m[j] = -f64::from(along) * f64::from(EPSILON) * f64::from(inverse);
        }
    }
}

/// Row by row: d = (d + dn)·remains, the gradient of a key that was written; dk += d, and d·k to
/// the sum.
struct AddWritten<'a> {
    remains: &'a [f32],
    dn: &'a [f32],
    /// `[len, stride]`, as the two below.
    k: &'a [f32],
    /// The gradient that C passes on.
    d_written: &'a [f32],
    dk: &'a mut [f32],
    sum: &'a mut f64,
}

impl Kernel for AddWritten<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { remains, dn, k, d_written, dk, sum } = self;
        let stride = dn.len();
        let len = remains.len() * stride;
        assert!(k.len() >= len && d_written.len() >= len && dk.len() >= len);
        for (row, &remains) in remains.iter().enumerate() {
            // SAFETY: rows of whole vectors, within the lengths asserted above.
            unsafe {
                let (factor, mut along) = (V::splat(remains), V::zero());
                for i in (0..stride).step_by(V::LANES) {
                    let at = row * stride + i;
                    let d = V::load(d_written.as_ptr().add(at)).add(V::load(dn.as_ptr().add(i)));
                    let (d, to) = (d.mul(factor), dk.as_mut_ptr().add(at));
                    along = d.mul_add(V::load(k.as_ptr().add(at)), along);
                    V::load(to).add(d).store(to);
                }
                *sum += f64::from(along.sum());
            }
        }
    }
}

/// Row i of `to` += factors\[i\]·n.
struct AddOuter<'a> {
    factors: &'a [f32],
    n: &'a [f32],
    to: &'a mut [f32],
}

impl Kernel for AddOuter<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { factors, n, to } = self;
        assert!(factors.len() * n.len() <= to.len());
        for (row, &factor) in factors.iter().enumerate() {
            for i in (0..n.len()).step_by(V::LANES) {
                // SAFETY: rows of whole vectors, within the length asserted above.
                unsafe {
                    let to = to.as_mut_ptr().add(row * n.len() + i);
                    let n = V::load(n.as_ptr().add(i));
                    n.mul_add(V::splat(factor), V::load(to)).store(to);
                }
            }
        }
    }
}

/// Row i of a · row i of b.
struct Dots<'a> {
    a: &'a [f32],
    b: &'a [f32],
    stride: usize,
    to: &'a mut [f64],
}

impl Kernel for Dots<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let rows = self.a.chunks_exact(self.stride).zip(self.b.chunks_exact(self.stride));
        for ((a, b), to) in rows.zip(self.to) {
            // SAFETY: rows of equal length, that of whole vectors.
            *to = f64::from(unsafe { dot_of::<V>(a, b) });
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
            head.fetch_row(to.pointer(), p + AHEAD);
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
    /// `len` and `width` rounded up to whole vectors of lanes.
    rows: usize,
    stride: usize,
    form: Form,
}

impl Shape {
    /// Rows of features against turned rows: up to the diagonal.
    fn scores<'a>(self, a: &'a [f32], turned: &'a [f32]) -> Product<'a> {
        Product { n: self.rows, triangle: Triangle::Result, ..self.by_row(a, turned) }
    }

    /// Rows of features times a square of them.
    fn by_row<'a>(self, a: &'a [f32], b: &'a [f32]) -> Product<'a> {
        let Self { len, width, stride, form, .. } = self;
        let (lying, triangle) = (Lying::Rows(stride / form.depth), Triangle::None);
        Product { a, lying, b, m: len, k: form.lanes(width), n: stride, add: false, triangle }
    }

    /// Scores, or their transpose, times rows of features.
    fn by_score<'a>(
        self,
        a: &'a [f32],
        lying: Lying,
        b: &'a [f32],
        triangle: Triangle,
    ) -> Product<'a> {
        let Self { len, stride, form, .. } = self;
        Product { a, lying, b, m: len, k: form.lanes(len), n: stride, add: false, triangle }
    }
}

fn add(into: &Option<Shards<f32>>, place: usize, value: f64) {
    let Some(into) = into else { return };
    // SAFETY: each head of each sequence belongs to one thread.
    unsafe { into.part(place..place + 1)[0] += value as f32 };
}
