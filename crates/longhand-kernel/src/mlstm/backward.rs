//! One head of one sequence, chunk after chunk from the last one, backward.

use std::ops::Range;

use super::chunk::{
    AHEAD, AddRows, Collect, HeadState, denominator, dot, dot_of, key_scale, pad, split,
};
use super::gates::Gates;
use super::scores;
use super::{CHUNK, EPSILON, Head, Inputs};
use crate::cpu::{Shards, Worker};
use crate::lanes::Form;
use crate::level::Level;
use crate::simd::{Kernel, Vector, plain_loops};
use crate::small_product::{Product, Strides, Transpose, Triangle};

/// The outputs of the forward pass, and their gradient.
#[derive(Clone, Copy)]
pub(super) struct Outputs<'a> {
    pub(super) y: &'a [f32],
    pub(super) d_y: &'a [f32],
    /// The saved buffer of this head alone.
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

/// The inputs of the backward pass of one head, and the destinations of its gradients.
pub(super) struct Context<'a> {
    pub(super) head: &'a Head<'a>,
    pub(super) inputs: &'a Inputs<'a>,
    pub(super) outputs: Outputs<'a>,
    pub(super) into: &'a Into<'a>,
}

/// Adds the gradients of one head. `before` is the state before the sequence; `finish` receives its
/// gradient, C in rows padded to whole vectors.
pub(super) fn backward_head(
    worker: &mut Worker,
    context: &Context,
    before: HeadState,
    d_after: Option<HeadState>,
    finish: impl FnOnce(HeadState),
) {
    let Context { head, outputs, .. } = context;
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
        backward_chunk(worker, context, chunk, state, &mut flow, (dc, dn));
        if state.is_none() {
            // No gradient flows past the start of a document.
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

/// The gradient that flows from a chunk into the one before it, besides that of C and n.
struct Flow {
    /// Whether the gradient of C and n is anything but zero.
    any: bool,
    /// Nothing was read yet: the gradient is the caller's.
    last: bool,
    /// The gradient of m. Between chunks it lacks the part that comes from C and n being scaled by
    /// e^−m, which the chunk before would only take away again.
    d_m: f64,
}

/// One chunk of the backward pass. Letters are those of `chunk`: S the decayed scores, D the
/// decays, b, g and e the decays from the state before, to the state after, and between the two.
struct Pass<'a> {
    context: &'a Context<'a>,
    level: Level,
    form: Form,
    chunk: Range<usize>,
    gates: Gates,
    /// The state before the chunk; none where the chunk begins empty.
    state: Option<HeadState<'a>>,
    shape: Shape,
}

/// The matrices of one chunk, cut from one buffer. Rows of features are `[rows, stride]`, scores
/// `[rows, rows]`, states `[stride, stride]`.
struct Room<'a> {
    q: &'a mut [f32],
    k: &'a mut [f32],
    v: &'a mut [f32],
    d_numerator: &'a mut [f32],
    dq: &'a mut [f32],
    dk: &'a mut [f32],
    dv: &'a mut [f32],
    /// Gradients of the keys that the chunk wrote into the state.
    written: &'a mut [f32],
    // Operands of products.
    q_form: &'a mut [f32],
    k_form: &'a mut [f32],
    v_form: &'a mut [f32],
    d_form: &'a mut [f32],
    scaled: &'a mut [f32],
    d_across: &'a mut [f32],
    transposed: &'a mut [f32],
    scores: &'a mut [f32],
    d_scores: &'a mut [f32],
    decayed: &'a mut [f32],
    d_scores_along: &'a mut [f32],
    d_scores_across: &'a mut [f32],
    state_form: &'a mut [f32],
    state_transposed: &'a mut [f32],
}

impl<'a> Room<'a> {
    fn len(shape: Shape) -> usize {
        let Shape { rows, stride, .. } = shape;
        15 * rows * stride + 5 * rows * rows + 2 * stride * stride
    }

    fn new(scratch: &'a mut [f32], shape: Shape) -> Self {
        let Shape { rows, stride, form, .. } = shape;
        let lanes = stride / form.depth;
        let ([q, k, v, d_numerator, dq, dk, dv, written], rest) = split(scratch, rows * stride);
        let ([q_form, k_form, v_form, d_form, scaled, d_across, transposed], rest) =
            split(rest, rows * stride);
        let ([scores, d_scores, decayed, d_scores_along, d_scores_across], rest) =
            split(rest, rows * rows);
        let ([state_form, state_transposed], _) = split(rest, stride * stride);
        Self {
            q,
            k,
            v,
            d_numerator,
            dq,
            dk,
            dv,
            written,
            q_form,
            k_form,
            v_form,
            d_form,
            scaled,
            d_across,
            transposed: &mut transposed[..rows * lanes],
            scores,
            d_scores,
            decayed,
            d_scores_along,
            d_scores_across,
            state_form,
            state_transposed: &mut state_transposed[..lanes * stride],
        }
    }
}

/// Adds the gradients of one chunk, given the gradient `(dc, dn)` of the state after it, and turns
/// that into the gradient of the state before.
fn backward_chunk<'a>(
    worker: &mut Worker,
    context: &'a Context<'a>,
    chunk: Range<usize>,
    state: Option<HeadState<'a>>,
    flow: &mut Flow,
    (dc, dn): (&mut [f32], &mut [f32]),
) {
    let form = Form::of(worker);
    let (head, level) = (context.head, worker.level);
    let (len, width) = (chunk.len(), head.sizes.width);
    let shape = Shape { len, width, rows: form.padded(len), stride: dn.len(), form };
    let m_before = state.map_or(0.0, |state| state.m);
    let gates = Gates::new(level, head, context.inputs, chunk.clone(), m_before);
    let pass = Pass { context, level, form, chunk, gates, state, shape };
    let mut scratch = worker.buffers.take(Room::len(shape));
    let mut room = Room::new(&mut scratch, shape);
    let mut d_normaliser = [0.0f32; CHUNK];
    let mut d_m = [0.0f64; CHUNK];
    pass.through_denominator(&mut room, &mut d_normaliser, &mut d_m);
    pass.within(&mut room, &d_normaliser);
    let mut along_forget = 0.0;
    if flow.any {
        along_forget = pass.through_written(&mut room, (dc, dn));
    }
    if let Some(state) = state {
        pass.through_read(&mut room, state, &d_normaliser, (dc, dn));
    }
    pass.through_gates(&room, &d_m, along_forget, flow);
    pass.add_inputs(&room);
    worker.buffers.give(scratch);
}

impl Pass<'_> {
    /// 1. Through h = numerator / (max(|n·q|, e^−m) + ε): the gradients of the numerator, of n·q
    ///    and of m. The gradient of h along h is that of the numerator along itself.
    fn through_denominator(
        &self,
        room: &mut Room,
        d_normaliser: &mut [f32; CHUNK],
        d_m: &mut [f64; CHUNK],
    ) {
        let Context { head, inputs, outputs, .. } = *self.context;
        let stride = self.shape.stride;
        for (from, scale, to) in [
            (inputs.q, 1.0, &mut *room.q),
            (inputs.k, key_scale(head), &mut *room.k),
            (inputs.v, 1.0, &mut *room.v),
            (outputs.d_y, 1.0, &mut *room.d_numerator),
        ] {
            self.level.run(Collect { head, from, chunk: &self.chunk, scale, stride, to });
        }
        self.level.run(ThroughDenominator {
            head,
            gates: &self.gates,
            outputs,
            chunk: &self.chunk,
            stride,
            d_numerator: room.d_numerator,
            d_normaliser,
            d_m,
        });
    }

    /// 2. Within the chunk, through numerator = S·v and S = (q·k'ᵀ) ∘ D: with d the gradient of
    ///    the numerator, dS = d·vᵀ + d(n·q), dv = Sᵀ·d, dk' = (dS ∘ D)ᵀ·q, dq = (dS ∘ D)·k'.
    fn within(&self, room: &mut Room, d_normaliser: &[f32; CHUNK]) {
        let (form, shape, level) = (self.form, self.shape, self.level);
        let (stride, rows, lanes) = (shape.stride, shape.rows, shape.stride / form.depth);
        let v_along = form.along(room.v, stride, None, room.v_form);
        let d_along = form.along(room.d_numerator, stride, None, room.d_form);
        let from = form.along(room.k, stride, None, room.k_form);
        level.run(Transpose { from, stride: lanes, to: room.transposed });
        let q_along = form.along(room.q, stride, None, room.q_form);
        form.multiply(shape.scores(q_along, room.transposed), room.scores);
        level.run(Transpose { from: v_along, stride: lanes, to: room.transposed });
        form.multiply(shape.scores(d_along, room.transposed), room.d_scores);
        form.run(scores::Backward {
            gates: &self.gates,
            stride: rows,
            scores: room.scores,
            d_scores: room.d_scores,
            d_sums: d_normaliser,
            across: room.decayed,
            d_along: room.d_scores_along,
            d_across: room.d_scores_across,
        });
        let d_across = form.across(room.d_numerator, stride, None, room.d_across);
        let by_key = |a, b| shape.by_score(a, Strides::Columns(rows), b, Triangle::Upper);
        form.multiply(by_key(room.decayed, d_across), room.dv);
        let q_across = form.across(room.q, stride, None, room.q_form);
        form.multiply(by_key(room.d_scores_across, q_across), room.dk);
        let by_query = Strides::Rows(rows / form.depth);
        let k_across = form.across(room.k, stride, None, room.k_form);
        let dq = shape.by_score(room.d_scores_along, by_query, k_across, Triangle::Lower);
        form.multiply(dq, room.dq);
    }

    /// 3. Through C' = e·C + (g∘k')ᵀ·v and n' = e·n + (g∘k')ᵀ·1: dk' += g∘(v·dC'ᵀ + dn'),
    ///    dv += (g∘k')·dC', and dC = e·dC', dn = e·dn'. Returns the gradient that flows along
    ///    ln σ(f) of the position after the chunk.
    fn through_written(&self, room: &mut Room, (dc, dn): (&mut [f32], &mut [f32])) -> f64 {
        let (form, shape, level) = (self.form, self.shape, self.level);
        let (stride, lanes) = (shape.stride, shape.stride / form.depth);
        let mut along_forget = 0.0;
        let from = form.along(dc, stride, None, room.state_form);
        level.run(Transpose { from, stride: lanes, to: room.state_transposed });
        let v_along = form.laid(room.v, room.v_form);
        form.multiply(shape.by_row(v_along, room.state_transposed), room.written);
        level.run(AddWritten {
            remains: &self.gates.remains_after[..shape.len],
            dn,
            k: room.k,
            d_written: room.written,
            dk: room.dk,
            sum: &mut along_forget,
        });
        let k_along = form.along(room.k, stride, Some(&self.gates.remains_after), room.scaled);
        let dc_across = form.across(dc, stride, None, room.state_form);
        form.multiply(Product { add: true, ..shape.by_row(k_along, dc_across) }, room.dv);
        if let Some(state) = self.state {
            let remains = self.gates.remains_at[shape.len - 1];
            let sum = &mut along_forget;
            plain_loops!(level, 'a {
                remains: f32, state: HeadState<'a>,
                dc: &'a mut [f32], dn: &'a mut [f32], sum: &'a mut f64,
            } {
                dc.iter_mut().for_each(|d| *d *= remains);
                dn.iter_mut().for_each(|d| *d *= remains);
                *sum += dot(dc, state.c) + dot(dn, state.n);
            });
        }
        along_forget
    }

    /// 4. Through numerator += b∘(q·C) and n·q += b∘(q·n): dq += b∘(d·Cᵀ + d(n·q)·n),
    ///    dC += (b∘q)ᵀ·d, dn += Σ b·d(n·q)·q.
    fn through_read(
        &self,
        room: &mut Room,
        state: HeadState,
        d_normaliser: &[f32; CHUNK],
        (dc, dn): (&mut [f32], &mut [f32]),
    ) {
        let (form, shape, level) = (self.form, self.shape, self.level);
        let Shape { len, width, stride, .. } = shape;
        let remains_at = &self.gates.remains_at;
        let from = form.along(state.c, stride, None, room.state_form);
        level.run(Transpose { from, stride: stride / form.depth, to: room.state_transposed });
        let d_along = form.along(room.d_numerator, stride, Some(remains_at), room.scaled);
        let dq = Product { add: true, ..shape.by_row(d_along, room.state_transposed) };
        form.multiply(dq, room.dq);
        let mut factors = [0.0; CHUNK];
        for ((factor, d), remains) in factors.iter_mut().zip(d_normaliser).zip(remains_at) {
            *factor = d * remains;
        }
        level.run(AddOuter { factors: &factors[..len], n: state.n, to: room.dq });
        level.run(AddRows { rows: room.q, factors: &factors[..len], to: dn });
        let product = Product {
            a: form.across(room.q, stride, Some(remains_at), room.scaled),
            strides: Strides::Columns(stride),
            b: form.laid(room.d_numerator, room.d_across),
            m: width,
            k: form.lanes(len),
            n: stride,
            add: true,
            triangle: Triangle::None,
        };
        form.multiply(product, dc);
    }

    /// 5. Through the gates, from the last position to the first. `along_forget` is the gradient
    ///    of ln σ(f) of the position after: scaling the state at t scales what q reads from it and
    ///    what remains of it, less what k has just written.
    fn through_gates(
        &self,
        room: &Room,
        d_m: &[f64; CHUNK],
        mut along_forget: f64,
        flow: &mut Flow,
    ) {
        let Context { head, inputs, into, .. } = *self.context;
        let (gates, stride, len) = (&self.gates, self.shape.stride, self.shape.len);
        if flow.last {
            flow.d_m -= along_forget;
        }
        let mut by_key = [0.0; CHUNK];
        let mut by_query = [0.0; CHUNK];
        self.level.run(Dots { a: room.k, b: room.dk, stride, to: &mut by_key[..len] });
        self.level.run(Dots { a: room.q, b: room.dq, stride, to: &mut by_query[..len] });
        let slopes = gates.slopes(self.level, head, inputs, self.chunk.start);
        for (j, p) in self.chunk.clone().enumerate().rev() {
            along_forget += by_query[j] - by_key[j];
            if self.state.is_none() && j == 0 {
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
    }

    /// Adds dq, dk and dv to where they belong; that of k is k'/√K.
    fn add_inputs(&self, room: &Room) {
        let Context { head, into, .. } = *self.context;
        let stride = self.shape.stride;
        for (to, scale, from) in [
            (&into.q, 1.0, &*room.dq),
            (&into.k, key_scale(head), &*room.dk),
            (&into.v, 1.0, &*room.dv),
        ] {
            if let Some(to) = to {
                self.level.run(Disperse { head, from, chunk: &self.chunk, scale, stride, to });
            }
        }
    }
}

/// Turns the gradients of a chunk's outputs (in `d_numerator`) into those of its numerators, and
/// writes those of n·q and of the stabiliser.
struct ThroughDenominator<'a> {
    head: &'a Head<'a>,
    gates: &'a Gates,
    outputs: Outputs<'a>,
    chunk: &'a Range<usize>,
    stride: usize,
    /// `[len, stride]`: gradients of the outputs become those of the numerators.
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

/// Row by row: d = (d + dn)·remains, the gradient of a key that was written; dk += d, and
/// the sum += d·k.
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
    /// `[len, stride]`: the chunk's gradients.
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
    /// Rows of features times transposed rows: up to the diagonal.
    fn scores<'a>(self, a: &'a [f32], transposed: &'a [f32]) -> Product<'a> {
        Product { n: self.rows, triangle: Triangle::Result, ..self.by_row(a, transposed) }
    }

    /// Rows of features times a square of them.
    fn by_row<'a>(self, a: &'a [f32], b: &'a [f32]) -> Product<'a> {
        let Self { len, width, stride, form, .. } = self;
        let (strides, triangle) = (Strides::Rows(stride / form.depth), Triangle::None);
        Product { a, strides, b, m: len, k: form.lanes(width), n: stride, add: false, triangle }
    }

    /// Scores, or their transpose, times rows of features.
    fn by_score<'a>(
        self,
        a: &'a [f32],
        strides: Strides,
        b: &'a [f32],
        triangle: Triangle,
    ) -> Product<'a> {
        let Self { len, stride, form, .. } = self;
        Product { a, strides, b, m: len, k: form.lanes(len), n: stride, add: false, triangle }
    }
}

fn add(into: &Option<Shards<f32>>, place: usize, value: f64) {
    let Some(into) = into else { return };
    // SAFETY: each head of each sequence belongs to one thread.
    unsafe { into.part(place..place + 1)[0] += value as f32 };
}
