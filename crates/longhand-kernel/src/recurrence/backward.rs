//! The backward pass of every cell: gradients of weights, inputs and states.

use std::marker::PhantomData;

use super::layout::Shape;
use super::links::{self, Link};
use super::product::{ROW_GROUP, TILE_VECTORS, add_product};
use super::{Cell, Input, Kept, MAX_GATES, MAX_STATES, OutputGradients, WeightGradients, pack};
use crate::amx::Tiles;
use crate::buffer::Buffer;
use crate::call::Call;
use crate::cpu::{Cpu, Shards, Worker};
use crate::gemm::{Into, Matrix, MatrixMut, gemm};
use crate::operand::{self, Operand, ProductKernel, run_product};
use crate::pointwise::{apply_serial, for_columns, pointwise};
use crate::precision::Precision;
use crate::scratch::{self, List};
use crate::sequence::Sequence;
use crate::simd::Vector;

/// Backward through time: overwrites the saved gates with their gradients, which [`products`]
/// reads, and adds to the gradients of the biases and of the states before the first position.
/// `d_state` may leave out the last states.
pub(crate) fn through_time<C: Cell>(
    call: Call<Shape>,
    recurrent: &[f32],
    state: &[&[f32]],
    saved: &mut [f32],
    d: OutputGradients,
    d_biases: [Option<&mut [f32]>; 2],
    d_state: Option<&mut [&mut [f32]]>,
) {
    let Call { cpu, sizes: shape, sequence } = call;
    let OutputGradients { y: d_y, next: d_next } = d;
    let (rows, hidden, columns) = (sequence.rows(), shape.hidden(), shape.gate_columns());
    assert_eq!(recurrent.len(), shape.gates * hidden * shape.units, "recurrent weights");
    assert_eq!(saved.len(), shape.saved_len(sequence), "saved is as long as `saved_len` says");
    assert_eq!(d_y.len(), rows * hidden, "dy is [T·B, N]");
    assert!(state.len() == 1 + C::STATES && d_next.len() <= state.len());
    assert!(state.iter().all(|s| s.len() == sequence.batch * hidden), "states are [B, N]");
    assert!(d_next.iter().all(|s| s.len() == sequence.batch * hidden), "states are [B, N]");

    let (gates, states) = saved.split_at_mut(rows * shape.gate_stride());
    let start = padded_states(cpu, &shape, sequence.batch, &state[1..]);
    let mut carry = padded_states(cpu, &shape, sequence.batch, d_next.get(1..).unwrap_or(&[]));
    let mut zeros = scratch::take(cpu, shape.state_stride().max(1));
    zeros.fill(0.0);
    let mut bias = scratch::take(cpu, columns);
    bias.fill(0.0);
    let mut d_hidden = d_state.is_some().then(|| scratch::take(cpu, sequence.batch * hidden));
    if let Some(d_hidden) = &mut d_hidden {
        d_hidden.fill(0.0);
    }
    let depth = operand::depth(cpu.level(), cpu.precision());
    let mut panels = scratch::take(cpu, columns * shape.padded_units() / depth);
    pack::recurrent_backward(cpu, &shape, recurrent, &mut panels);
    let in_place = cpu.precision() == Precision::F32;
    let stride = shape.gate_lanes_stride(depth);
    let mut operands = scratch::take(cpu, if in_place { 0 } else { 2 * sequence.batch * stride });
    let run = Run {
        shape,
        sequence,
        gates: gates.as_mut_ptr(),
        states: states.as_ptr(),
        d_y: d_y.as_ptr(),
        d_next: d_next.first().map(|d| d.as_ptr()),
        start: start.as_ptr(),
        carry: carry.as_mut_ptr(),
        zeros: zeros.as_ptr(),
        bias: bias.as_mut_ptr(),
        d_hidden: d_hidden.as_mut().map(|d| d.as_mut_ptr()),
        panels: &panels,
        operands: (!in_place).then_some((operands.as_mut_ptr(), stride)),
    };
    cpu.run(|worker| {
        let (level, precision) = (worker.level, worker.precision);
        run_product(level, precision, TimeLoop::<C> { run: &run, worker, cell: PhantomData });
    });
    for to in d_biases.into_iter().flatten() {
        pack::add_rows(cpu, &shape, 1, 0..columns, &bias, to);
    }
    if let (Some(to), Some(d_hidden)) = (d_state, d_hidden) {
        add_states(&shape, &d_hidden, &carry, to);
        scratch::give(cpu, d_hidden);
    }
    for buffer in [operands, start, zeros, panels, carry, bias] {
        scratch::give(cpu, buffer);
    }
}

/// Adds the gradients of the states before the first position: that of h `[B, N]`, and those of the
/// others from rows of `state_stride`.
fn add_states(shape: &Shape, d_hidden: &[f32], d_others: &[f32], to: &mut [&mut [f32]]) {
    to[0].iter_mut().zip(d_hidden).for_each(|(to, d)| *to += d);
    for (s, to) in to[1..].iter_mut().enumerate() {
        for (i, to) in to.chunks_exact_mut(shape.units.max(1)).enumerate() {
            let at = i / shape.heads * shape.state_stride()
                + s * shape.padded_hidden()
                + i % shape.heads * shape.padded_units();
            to.iter_mut().zip(&d_others[at..]).for_each(|(to, d)| *to += d);
        }
    }
}

/// The gradients of weights and inputs, from what [`through_time`] left in `saved`: products over
/// all positions at once.
pub(crate) fn products(
    call: Call<Shape>,
    weights: &[f32],
    x: Input,
    hidden: &[f32],
    kept: Kept,
    gradients: WeightGradients,
    d_x: Option<&mut [f32]>,
) {
    let Call { cpu, sizes: shape, sequence } = call;
    let Kept { y, saved } = kept;
    let WeightGradients { input: d_input, recurrent: d_recurrent, .. } = gradients;
    let (rows, columns, stride) = (sequence.rows(), shape.gate_columns(), shape.gate_stride());
    assert_eq!(saved.len(), shape.saved_len(sequence), "saved is as long as `saved_len` says");
    assert_eq!(y.len(), rows * shape.hidden(), "y is [T·B, N]");
    assert_eq!(hidden.len(), sequence.batch * shape.hidden(), "states are [B, N]");
    assert_eq!(weights.len(), shape.gates * shape.hidden() * shape.input, "input weights");
    x.check(rows, shape.input);
    let (gates, room) = saved.split_at_mut(rows * stride);
    let d_gates = Matrix::strided(gates, rows, columns, stride);
    if let Some(to) = d_recurrent {
        recurrent_gradient(&call, d_gates, hidden, y, room, to);
    }
    if d_input.is_some() || d_x.is_some() {
        with_input(cpu, &shape, x, gates, |x, d_gates| {
            input_gradients(cpu, &shape, InputProduct { weights, x, d_gates }, room, d_input, d_x);
        });
    }
}

/// Calls `body` with the rows that the input weights multiplied, `[·, D]`, and the gradients of
/// their gates: of all positions, or of all entries of a table.
pub(super) fn with_input(
    cpu: &Cpu,
    shape: &Shape,
    x: Input,
    gates: &[f32],
    body: impl FnOnce(&[f32], Matrix),
) {
    let (columns, stride) = (shape.gate_columns(), shape.gate_stride());
    match x {
        Input::Rows(x) => {
            // Without units, the rows of x say how many there are.
            let rows = gates.len().checked_div(stride);
            let rows = rows.or_else(|| x.len().checked_div(shape.input)).unwrap_or(0);
            body(x, Matrix::strided(gates, rows, columns, stride));
        }
        Input::Tokens { ids, table } => {
            let tokens = table.len() / shape.input;
            let mut sums = scratch::take(cpu, tokens * stride);
            sums.fill(0.0);
            sum_by_token(cpu, shape, ids, gates, &mut sums);
            body(table, Matrix::strided(&sums, tokens, columns, stride));
            scratch::give(cpu, sums);
        }
    }
}

/// `to` (rows of `gate_stride`, one for each entry of a table) += the gates' gradients of the
/// positions of that entry, in their order.
fn sum_by_token(cpu: &Cpu, shape: &Shape, ids: &[u32], d_gates: &[f32], to: &mut [f32]) {
    pointwise!(Accumulate {} [x] [y] { [y.add(x)] });
    let stride = shape.gate_stride();
    let to = Shards::new(to);
    for_columns(cpu, ids.len(), shape.gate_columns(), |worker, columns: std::ops::Range<usize>| {
        for (row, &id) in ids.iter().enumerate() {
            let (from, at) = (row * stride, id as usize * stride);
            let from = &d_gates[from + columns.start..from + columns.end];
            // SAFETY: each column belongs to one thread.
            let into = unsafe { to.part(at + columns.start..at + columns.end) };
            apply_serial(worker.level, Accumulate {}, [from], [into]);
        }
    });
}

/// From this many elements on (4 MiB), scratch that fits in a few pieces where the states were is
/// used in pieces: each costs another packing of the other operand.
const LARGE: usize = 1 << 20;
/// The most pieces that scratch is used in.
const MOST_PIECES: usize = 4;
/// Pieces of gate columns begin at multiples of this: whole blocks of units with all their gates,
/// and whole blocks of a product's inner size, so that its sums are those of one piece.
const PIECE: usize = 512;

/// Calls `body` with ranges of `columns` that cover all of them, and scratch for a row of `width`
/// for each column of a range: `room`, or else memory for all of them.
fn in_pieces(
    cpu: &Cpu,
    columns: usize,
    width: usize,
    room: &mut [f32],
    mut body: impl FnMut(std::ops::Range<usize>, &mut [f32]),
) {
    let piece = room.len().checked_div(width).unwrap_or(0) / PIECE * PIECE;
    if columns * width < LARGE || columns > MOST_PIECES * piece {
        let mut scratch = scratch::take(cpu, columns * width);
        body(0..columns, &mut scratch);
        return scratch::give(cpu, scratch);
    }
    for start in (0..columns).step_by(piece) {
        let range = start..columns.min(start + piece);
        let len = range.len() * width;
        body(range, &mut room[..len]);
    }
}

/// The product gates = x·Wᵀ of the forward pass, and the gradient of its result.
struct InputProduct<'a> {
    /// `[G·N, D]`: input weights in PyTorch's layout.
    weights: &'a [f32],
    /// Rows of D elements, one for each row of `d_gates`.
    x: &'a [f32],
    /// Interleaved as in the saved buffer.
    d_gates: Matrix<'a>,
}

/// `d W += d gatesᵀ · x` and `d x += d gates · W`, where wanted.
fn input_gradients(
    cpu: &Cpu,
    shape: &Shape,
    read: InputProduct,
    room: &mut [f32],
    d_weights: Option<&mut [f32]>,
    d_x: Option<&mut [f32]>,
) {
    let InputProduct { weights, x, d_gates } = read;
    let (columns, width) = (shape.gate_columns(), shape.input);
    let rows = d_gates.row_count();
    if let Some(to) = d_weights {
        in_pieces(cpu, columns, width, room, |piece, scratch| {
            let product = MatrixMut::new(scratch, piece.len(), width);
            let d_gates = d_gates.columns(piece.clone()).t();
            gemm(cpu, d_gates, Matrix::new(x, rows, width), product, Into::Replace);
            pack::add_rows(cpu, shape, width, piece, scratch, to);
        });
    }
    if let Some(d_x) = d_x {
        in_pieces(cpu, columns, width, room, |piece, packed| {
            pack::input_rows(cpu, shape, weights, piece.clone(), packed);
            let packed = Matrix::new(packed, piece.len(), width);
            let product = MatrixMut::new(d_x, rows, width);
            gemm(cpu, d_gates.columns(piece), packed, product, Into::Add);
        });
    }
}

/// `d W = Σ d gates[t]ᵀ · h[t−1]`, head by head.
fn recurrent_gradient(
    call: &Call<Shape>,
    d_gates: Matrix,
    hidden: &[f32],
    y: &[f32],
    room: &mut [f32],
    to: &mut [f32],
) {
    let Call { cpu, sizes: ref shape, .. } = *call;
    let columns = shape.gates * shape.padded_units();
    with_previous(call, d_gates, hidden, y, |parts| {
        for head in 0..shape.heads {
            let units = head * shape.units..(head + 1) * shape.units;
            in_pieces(cpu, columns, shape.units, room, |piece, scratch| {
                let first = head * columns;
                let piece_of_all = first + piece.start..first + piece.end;
                let mut into = Into::Replace;
                for (d_gates, h) in parts {
                    let product = MatrixMut::new(scratch, piece.len(), shape.units);
                    let d_gates = d_gates.columns(piece_of_all.clone()).t();
                    gemm(cpu, d_gates, h.columns(units.clone()), product, into);
                    into = Into::Add;
                }
                pack::add_recurrent(cpu, shape, (head, shape.units), piece, scratch, to);
            });
        }
    });
}

/// Calls `body` with the rows of the gates' gradients and, beside each part of them, the outputs h
/// that these positions read, `[rows, N]`. Not at all where there is no position.
pub(super) fn with_previous(
    call: &Call<Shape>,
    d_gates: Matrix,
    hidden: &[f32],
    y: &[f32],
    body: impl FnOnce(&[(Matrix, Matrix)]),
) {
    let Call { cpu, sizes: ref shape, sequence } = *call;
    let (rows, batch, width) = (sequence.rows(), sequence.batch, shape.hidden());
    if rows == 0 {
        return;
    }
    // Where every position follows its neighbour, the previous outputs are rows of y.
    if links::plain(sequence) {
        let edge = if sequence.reverse { rows - batch..rows } else { 0..batch };
        let (later, earlier) = if sequence.reverse {
            (0..rows - batch, batch..rows)
        } else {
            (batch..rows, 0..rows - batch)
        };
        let (y, hidden) = (Matrix::new(y, rows, width), Matrix::new(hidden, batch, width));
        return body(&[(d_gates.rows(later), y.rows(earlier)), (d_gates.rows(edge), hidden)]);
    }
    let mut copy = scratch::take(cpu, rows * width);
    for (row, to) in copy.chunks_exact_mut(width.max(1)).enumerate() {
        let (t, b) = (row / batch, row % batch);
        match links::previous(sequence, t, b) {
            _ if !sequence.is_real(t, b) => to.fill(0.0),
            Link::Row(p) => to.copy_from_slice(&y[p * width..(p + 1) * width]),
            Link::State => to.copy_from_slice(&hidden[b * width..(b + 1) * width]),
            Link::Nothing => to.fill(0.0),
        }
    }
    body(&[(d_gates, Matrix::new(&copy, rows, width))]);
    scratch::give(cpu, copy);
}

/// The states `[B, N]` with each head padded, side by side in rows of `state_stride`.
fn padded_states(cpu: &Cpu, shape: &Shape, batch: usize, states: &[&[f32]]) -> Buffer {
    let (hidden, units) = (shape.hidden(), shape.units);
    let mut padded = scratch::take(cpu, batch * shape.state_stride());
    padded.fill(0.0);
    for (s, state) in states.iter().enumerate() {
        for (i, from) in state.chunks_exact(units.max(1)).enumerate() {
            let (b, head) = (i * units / hidden, i % shape.heads);
            let at =
                b * shape.state_stride() + s * shape.padded_hidden() + head * shape.padded_units();
            padded[at..at + units].copy_from_slice(from);
        }
    }
    padded
}

/// The arguments and buffers of one call, shared by the threads.
struct Run<'a> {
    shape: Shape,
    sequence: &'a Sequence<'a>,
    /// `[T·B]` rows of `gate_stride`: what forward kept, overwritten by the gates' gradients.
    gates: *mut f32,
    /// `[T·B]` rows of `state_stride`.
    states: *const f32,
    /// `[T·B, N]`: the gradients of the outputs.
    d_y: *const f32,
    /// `[B, N]`: the gradient of the next state's h.
    d_next: Option<*const f32>,
    /// `[B]` rows of `state_stride`: the states before the first position.
    start: *const f32,
    /// `[B]` rows of `state_stride`: gradients of the states, which flow to the first position.
    carry: *mut f32,
    /// A row of states.
    zeros: *const f32,
    /// `[gate columns]`: sums of the gates' gradients.
    bias: *mut f32,
    /// `[B, N]`: the gradient of h before the first position.
    d_hidden: Option<*mut f32>,
    panels: &'a [f32],
    /// The gates' gradients in the form that products read, and the lanes of a row: `[2, B]` rows,
    /// for the last two positions in turns. None where `f32` gradients are read in place.
    operands: Option<(*mut f32, usize)>,
}

// SAFETY: threads write the gates, sums and state gradients of units of their own, and read the
// gates' gradients of other units only after the barrier that follows their writing.
unsafe impl Sync for Run<'_> {}

/// A row to compute.
#[derive(Clone, Copy)]
struct Active {
    row: usize,
    b: usize,
    /// The gates' gradients of the position read next, as an operand: `None` where there is none.
    d_gates: Option<*const f32>,
    /// The gates' gradients of this position as an operand, to be written.
    operand: *mut f32,
    /// The gradient that the next state's h adds.
    d_next: Option<*const f32>,
    /// The states before this position; `None` where a document starts.
    previous: Option<*const f32>,
}

impl Run<'_> {
    /// The real positions of time t, those with a position after them first.
    ///
    /// # Safety
    /// The pointers are as long as their fields say.
    unsafe fn active(&self, t: usize, to: &mut List<Active>) {
        let (shape, sequence) = (&self.shape, self.sequence);
        to.clear();
        for b in (0..sequence.batch).filter(|&b| sequence.is_real(t, b)) {
            // SAFETY: positions and sequences are within the sequence's sizes.
            unsafe {
                let (d_gates, d_next) = match links::next(sequence, t, b) {
                    Link::Row(n) => (Some(self.operand(n).cast_const()), None),
                    Link::State => (None, self.d_next.map(|d| d.add(b * shape.hidden()))),
                    Link::Nothing => (None, None),
                };
                let previous = match links::previous(sequence, t, b) {
                    Link::Row(p) => Some(self.states.add(p * shape.state_stride())),
                    Link::State => Some(self.start.add(b * shape.state_stride())),
                    Link::Nothing => None,
                };
                let row = t * sequence.batch + b;
                let operand = self.operand(row);
                to.push(Active { row, b, d_gates, operand, d_next, previous });
            }
        }
        to.sort_unstable_by_key(|active| (active.d_gates.is_none(), active.b));
    }

    /// The place of the gates' gradients of a row as an operand.
    ///
    /// # Safety
    /// The same as for `active`.
    unsafe fn operand(&self, row: usize) -> *mut f32 {
        let batch = self.sequence.batch;
        // SAFETY: a row of the gates, or of the last two positions.
        unsafe {
            match self.operands {
                Some((ring, stride)) => ring.add((row / batch % 2 * batch + row % batch) * stride),
                None => self.gates.add(row * self.shape.gate_stride()),
            }
        }
    }

    /// The rows that give h before the first position its gradient: through the gates of the first
    /// position, or, for a sequence without positions, directly from the next state.
    ///
    /// # Safety
    /// The same as for `active`.
    unsafe fn entries(&self, to: &mut List<Active>) {
        let (shape, sequence) = (&self.shape, self.sequence);
        to.clear();
        for b in 0..sequence.batch {
            // SAFETY: as in `active`.
            unsafe {
                let first = links::first(sequence, b);
                let (d_gates, d_next) = match first {
                    Some(t) if sequence.starts_empty(t, b) => (None, None),
                    // Still there: positions after a sequence's last one write nothing.
                    Some(t) => (Some(self.operand(t * sequence.batch + b).cast_const()), None),
                    None => (None, self.d_next.map(|d| d.add(b * shape.hidden()))),
                };
                let operand = std::ptr::null_mut();
                to.push(Active { row: b, b, d_gates, operand, d_next, previous: None });
            }
        }
        to.sort_unstable_by_key(|active| (active.d_gates.is_none(), active.b));
    }

    /// Zeros as the gates' gradients of padding.
    ///
    /// # Safety
    /// No other thread touches these gates.
    unsafe fn clear_padding(&self) {
        let (shape, batch) = (&self.shape, self.sequence.batch);
        for row in 0..self.sequence.rows() {
            if !self.sequence.is_real(row / batch, row % batch) {
                // SAFETY: a row of gates.
                unsafe {
                    let gates = self.gates.add(row * shape.gate_stride());
                    gates.write_bytes(0, shape.gate_columns());
                }
            }
        }
    }
}

struct TimeLoop<'a, 'b, C> {
    run: &'a Run<'a>,
    worker: &'a mut Worker<'b>,
    cell: PhantomData<C>,
}

impl<C: Cell> ProductKernel for TimeLoop<'_, '_, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, O: Operand<V>>(self) {
        let (run, worker) = (self.run, self.worker);
        let shape = &run.shape;
        let own = shape.share(worker, V::LANES);
        let own = own.start / V::LANES..own.end / V::LANES;
        let mut active = List::new(worker.buffers, run.sequence.batch);
        let mut sums = worker.buffers.take(ROW_GROUP * TILE_VECTORS * V::LANES);
        let tiles = Tiles::of(worker.level, worker.precision);
        // SAFETY: units are this thread's own; what it reads of others was written before the
        // last barrier.
        unsafe {
            if worker.index == 0 && run.sequence.lengths.is_some() {
                run.clear_padding();
            }
            // One step more than there are positions: the last one is for the state.
            let steps = run.sequence.steps().rev().map(Some).chain([None]);
            for t in steps {
                match t {
                    Some(t) => run.active(t, &mut active),
                    None => run.entries(&mut active),
                }
                if t.is_none() && run.d_hidden.is_none() {
                    break;
                }
                for group in shape.groups(own.clone(), V::LANES, TILE_VECTORS) {
                    for rows in active.chunks(ROW_GROUP) {
                        d_hidden::<V, O>(
                            run,
                            tiles.as_ref(),
                            group.clone(),
                            rows,
                            t.is_some(),
                            &mut sums,
                        );
                        match t {
                            Some(_) => cells::<C, V, O>(run, group.clone(), rows, &sums),
                            None => hand_back::<V>(run, group.clone(), rows, &sums),
                        }
                    }
                }
                shape.meet(worker);
            }
        }
        active.give(worker.buffers);
        worker.buffers.give(sums);
    }
}

/// d h of a group of blocks over a group of rows, into the scratch buffer.
#[inline(always)]
unsafe fn d_hidden<V: Vector, O: Operand<V>>(
    run: &Run,
    tiles: Option<&Tiles>,
    blocks: std::ops::Range<usize>,
    rows: &[Active],
    with_outputs: bool,
    sums: &mut [f32],
) {
    let shape = &run.shape;
    let vectors = blocks.len();
    let lanes = shape.gates * shape.padded_units() / O::DEPTH;
    let head = shape.block(blocks.start, V::LANES).head;
    // SAFETY: only the blocks' units are touched; the scratch holds the group.
    unsafe {
        let (d_y, hidden) = (run.d_y, shape.hidden());
        for (v, index) in blocks.clone().enumerate() {
            let block = shape.block(index, V::LANES);
            let unit = head * shape.units + block.first.min(shape.units);
            for (i, active) in rows.iter().enumerate() {
                let mut sum = V::zero();
                if with_outputs {
                    sum = V::load_first(d_y.add(active.row * hidden + unit), block.count);
                }
                if let Some(d_next) = active.d_next {
                    sum = sum.add(V::load_first(d_next.add(unit), block.count));
                }
                sum.store(sums.as_mut_ptr().add((i * vectors + v) * V::LANES));
            }
        }
        let followed = rows.iter().take_while(|active| active.d_gates.is_some()).count();
        add_product::<V, O>(
            tiles,
            vectors,
            followed,
            |i| rows.get_unchecked(i).d_gates.unwrap_or(run.gates).add(head * lanes),
            lanes,
            (run.panels.as_ptr().add(blocks.start * lanes * V::LANES), lanes * V::LANES),
            sums.as_mut_ptr(),
        );
    }
}

/// The cells of a group of blocks over a group of rows.
#[inline(always)]
unsafe fn cells<C: Cell, V: Vector, O: Operand<V>>(
    run: &Run,
    blocks: std::ops::Range<usize>,
    rows: &[Active],
    sums: &[f32],
) {
    let shape = &run.shape;
    let vectors = blocks.len();
    // Worked out once: after each store the compiler would have to read `run` again.
    let (gate_stride, state_stride) = (shape.gate_stride(), shape.state_stride());
    let (padded_hidden, as_operand) = (shape.padded_hidden(), run.operands.is_some());
    let (all_gates, all_states, all_carry, zeros) = (run.gates, run.states, run.carry, run.zeros);
    for (v, index) in blocks.enumerate() {
        let unit = index * V::LANES;
        // SAFETY: the block's gates, states and sums are this thread's own.
        unsafe {
            let mut bias = [V::zero(); MAX_GATES];
            for (i, active) in rows.iter().enumerate() {
                let gates = all_gates.add(active.row * gate_stride + unit * C::GATES);
                let next = all_states.add(active.row * state_stride + unit);
                let previous = active.previous.unwrap_or(zeros).wrapping_add(unit);
                let carry = all_carry.add(active.b * state_stride + unit);
                let states = |from: *const f32| {
                    let mut states = [V::zero(); MAX_STATES];
                    for (s, to) in states.iter_mut().take(C::STATES).enumerate() {
                        *to = V::load(from.wrapping_add(s * padded_hidden));
                    }
                    states
                };
                let mut kept = [V::zero(); MAX_GATES];
                for (g, to) in kept.iter_mut().take(C::GATES).enumerate() {
                    *to = V::load(gates.add(g * V::LANES));
                }
                let d_h = V::load(sums.as_ptr().add((i * vectors + v) * V::LANES));
                let (d_gates, d_previous) =
                    C::backward(kept, states(previous), states(next), d_h, states(carry));
                for (g, d) in d_gates.iter().take(C::GATES).enumerate() {
                    d.store(gates.add(g * V::LANES));
                    if as_operand {
                        let column = unit * C::GATES + g * V::LANES;
                        O::store_along(*d, active.operand.add(column / O::DEPTH));
                    }
                    bias[g] = bias[g].add(*d);
                }
                for (s, d) in d_previous.iter().take(C::STATES).enumerate() {
                    let d = if active.previous.is_some() { *d } else { V::zero() };
                    d.store(carry.add(s * padded_hidden));
                }
            }
            for (g, sum) in bias.iter().take(C::GATES).enumerate() {
                let to = run.bias.add((index * C::GATES + g) * V::LANES);
                V::load(to).add(*sum).store(to);
            }
        }
    }
}

/// Writes d h before the first position.
#[inline(always)]
unsafe fn hand_back<V: Vector>(
    run: &Run,
    blocks: std::ops::Range<usize>,
    rows: &[Active],
    sums: &[f32],
) {
    let Some(to) = run.d_hidden else { return };
    let shape = &run.shape;
    let vectors = blocks.len();
    for (i, active) in rows.iter().enumerate() {
        for (v, index) in blocks.clone().enumerate() {
            let block = shape.block(index, V::LANES);
            let unit = block.head * shape.units + block.first.min(shape.units);
            // SAFETY: the block's units of d h are this thread's own.
            unsafe {
                V::load(sums.as_ptr().add((i * vectors + v) * V::LANES))
                    .store_first(to.add(active.b * shape.hidden() + unit), block.count);
            }
        }
    }
}
