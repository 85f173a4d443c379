//! From inputs and state to outputs and the next state.

mod few;
mod packed;

use std::marker::PhantomData;
use std::ops::Range;

use super::layout::{Block, Shape};
use super::links::{self, Link};
use super::product::{ROW_GROUP, TILE_VECTORS, add_product};
use super::{Cell, CellPanels, Input, MAX_GATES, MAX_STATES, Outputs, Weights, pack};
use crate::amx::Tiles;
use crate::call::Call;
use crate::cpu::{Cpu, Worker};
use crate::gemm::{Into, Matrix, MatrixMut, Packed, gemm_with_packed};
use crate::operand::{self, Operand, ProductKernel, run_product};
use crate::precision::Precision;
use crate::scratch::{self, List};
use crate::sequence::Sequence;
use crate::simd::Vector;
use crate::weights::Gathered;

/// Reads the sequence. `state` is h (`[B, N]`), then the cell's other states; `next` likewise.
/// `saved` gets what [`backward`](super::backward()) needs.
pub(crate) fn forward<C: Cell>(
    call: Call<Shape>,
    weights: &Weights,
    x: Input,
    state: &[&[f32]],
    outputs: Outputs,
) {
    let Call { cpu, sequence, .. } = call;
    call.sizes.check(sequence, weights, &x, outputs.y);
    around::<C>(call, state, outputs, Keeps::All, |run| match x {
        Input::Rows(x) if few::applies(sequence) => few::forward::<C>(cpu, run, weights, x),
        _ => forward_many::<C>(cpu, run, weights, x),
    });
}

/// As [`forward`], with weights that are packed for reading.
pub(crate) fn forward_packed<C: Cell>(
    call: Call<Shape>,
    weights: &CellPanels,
    x: &[f32],
    state: &[&[f32]],
    outputs: Outputs,
) {
    let Call { cpu, sizes: shape, sequence } = call;
    weights.check(&shape, sequence.rows());
    assert_eq!(x.len(), sequence.rows() * shape.input, "x is [T·B, D]");
    assert_eq!(outputs.y.len(), sequence.rows() * shape.hidden(), "y is [T·B, N]");
    let keeps = if outputs.saved.is_some() { Keeps::All } else { Keeps::LastStates };
    around::<C>(call, state, outputs, keeps, |run| {
        packed::forward::<C>(cpu, run, weights, x);
    });
}

/// What a pass keeps of its positions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    /// Gates and states, for a backward pass.
    All,
    /// The states of the last two positions, which stay in a near cache.
    LastStates,
}

/// The frame of every form: it pads the states before, and checks the sizes.
fn around<C: Cell>(
    call: Call<Shape>,
    state: &[&[f32]],
    outputs: Outputs,
    keeps: Keeps,
    form: impl FnOnce(&Run),
) {
    let (Call { cpu, sizes: shape, sequence }, Outputs { y, next, saved }) = (call, outputs);
    let (rows, hidden) = (sequence.rows(), shape.hidden());
    assert!(state.len() == 1 + C::STATES && next.len() == state.len());
    assert!(state.iter().all(|s| s.len() == sequence.batch * hidden), "states are [B, N]");
    assert!(next.iter().all(|s| s.len() == sequence.batch * hidden), "states are [B, N]");

    if rows == 0 {
        next.iter_mut().zip(state).for_each(|(next, state)| next.copy_from_slice(state));
        return;
    }
    let kept = match keeps {
        Keeps::All => shape.saved_len(sequence),
        Keeps::LastStates => rows * shape.gate_stride() + 2 * sequence.batch * shape.state_stride(),
    };
    let mut own = scratch::take(cpu, if saved.is_some() { 0 } else { kept });
    let saved = saved.unwrap_or(&mut own);
    assert_eq!(saved.len(), kept, "saved is as long as `saved_len` says");
    let (gates, states) = saved.split_at_mut(rows * shape.gate_stride());
    let mut start = scratch::take(cpu, sequence.batch * shape.state_stride());
    let mut zeros = scratch::take(cpu, hidden.max(shape.state_stride()));
    zeros.fill(0.0);
    let run = Run {
        shape,
        sequence,
        gates: gates.as_mut_ptr(),
        states: states.as_mut_ptr(),
        y: y.as_mut_ptr(),
        before: std::array::from_fn(|s| state.get(s).map_or(std::ptr::null(), |s| s.as_ptr())),
        start: start.as_mut_ptr(),
        next: std::array::from_fn(|s| {
            next.get_mut(s).map_or(std::ptr::null_mut(), |s| s.as_mut_ptr())
        }),
        zeros: zeros.as_ptr(),
        gathered: None,
        operands: None,
        keeps,
    };
    form(&run);
    scratch::give(cpu, own);
    scratch::give(cpu, start);
    scratch::give(cpu, zeros);
}

/// The arguments and buffers of one call, shared by the threads.
#[derive(Clone, Copy)]
struct Run<'a> {
    shape: Shape,
    sequence: &'a Sequence<'a>,
    /// `[T·B]` rows of `gate_stride`: the input's part of the gates, then what backward needs.
    gates: *mut f32,
    /// Rows of `state_stride`, of which [`Run::state_row`] says whose they are.
    states: *mut f32,
    /// `[T·B, N]`: the outputs.
    y: *mut f32,
    /// `[B, N]` each: h and the other states before the first position.
    before: [*const f32; 1 + MAX_STATES],
    /// `[B]` rows of `state_stride`: the other states before the first position.
    start: *mut f32,
    /// `[B, N]` each: h and the other states after the last position.
    next: [*mut f32; 1 + MAX_STATES],
    /// Zeros, as long as a row of any state.
    zeros: *const f32,
    /// The input's part of the gates, where it is not in `gates` already.
    gathered: Option<Gathered<'a>>,
    /// Buffers for h as an operand; none where `f32` outputs are read in place.
    operands: Option<Operands>,
    keeps: Keeps,
}

/// h in the form that products read: rows of `stride` lanes, with `per_head` lanes for each head.
#[derive(Clone, Copy)]
struct Operands {
    /// `[2, B]` rows: the last two positions, in turns.
    ring: *mut f32,
    /// `[B]` rows: before the first position.
    start: *mut f32,
    stride: usize,
    per_head: usize,
}

// SAFETY: threads write the gates, states and outputs of units of their own, and read those of
// other units only after the barrier that follows their writing.
unsafe impl Sync for Run<'_> {}

/// A row to compute, and where its state comes from.
#[derive(Clone, Copy)]
struct Active {
    row: usize,
    /// The row of the states after this position.
    state_row: usize,
    /// The input's part of the gates.
    input: *const f32,
    /// `[N]`: h before this position.
    hidden: *const f32,
    /// The same as an operand.
    operand: *const f32,
    /// h after this position as an operand, to be written.
    next_operand: *mut f32,
    states: *const f32,
}

impl Run<'_> {
    /// The real positions of time t.
    ///
    /// # Safety
    /// The pointers are as long as their fields say.
    unsafe fn active(&self, t: usize, to: &mut List<Active>) {
        let (hidden, stride) = (self.shape.hidden(), self.shape.state_stride());
        let batch = self.sequence.batch;
        to.clear();
        for b in (0..batch).filter(|&b| self.sequence.is_real(t, b)) {
            let row = t * batch + b;
            let link = links::previous(self.sequence, t, b);
            // SAFETY: positions and sequences are within the sequence's sizes.
            unsafe {
                let (hidden, states) = match link {
                    Link::Row(p) => (
                        self.y.add(p * hidden).cast_const(),
                        self.states.add(self.state_row(p) * stride).cast_const(),
                    ),
                    Link::State => {
                        (self.before[0].add(b * hidden), self.start.add(b * stride).cast_const())
                    }
                    Link::Nothing => (self.zeros, self.zeros),
                };
                let (mut operand, mut next_operand) = (hidden, std::ptr::null_mut());
                if let Some(Operands { ring, start, stride, .. }) = self.operands {
                    let place = |row: usize| ring.add((row / batch % 2 * batch + b) * stride);
                    next_operand = place(row);
                    operand = match link {
                        Link::Row(p) => place(p),
                        Link::State => start.add(b * stride),
                        Link::Nothing => self.zeros,
                    };
                }
                let input = match self.gathered {
                    None => self.gates.add(row * self.shape.gate_stride()).cast_const(),
                    Some(gathered) => gathered.row(row).as_ptr(),
                };
                let state_row = self.state_row(row);
                to.push(Active { row, state_row, input, hidden, operand, next_operand, states });
            }
        }
    }

    /// Where the states of a position are.
    fn state_row(&self, row: usize) -> usize {
        let batch = self.sequence.batch;
        match self.keeps {
            Keeps::All => row,
            Keeps::LastStates => row / batch % 2 * batch + row % batch,
        }
    }

    /// Pads the states before the first position. Each thread pads its own units, so that
    /// its cache holds them.
    ///
    /// # Safety
    /// No other thread touches these units.
    unsafe fn take_states(&self, own: Range<usize>) {
        let (hidden, stride) = (self.shape.hidden(), self.shape.state_stride());
        for b in 0..self.sequence.batch {
            for units in self.shape.parts(own.clone()) {
                for s in 0..self.shape.states {
                    // SAFETY: the units are within rows of both.
                    unsafe {
                        let from = self.before[1 + s].add(b * hidden + units.column);
                        let to = self.start.add(b * stride + s * self.shape.padded_hidden());
                        let to = to.add(units.padded.start);
                        to.copy_from_nonoverlapping(from, units.count);
                        if units.count < units.padded.len() {
                            to.add(units.count).write_bytes(0, units.padded.len() - units.count);
                        }
                    }
                }
            }
        }
    }

    /// Writes the states after the last position, for some (padded) units.
    ///
    /// # Safety
    /// This thread has computed these units to the end, and no other one touches them.
    unsafe fn hand_on(&self, own: Range<usize>) {
        let (hidden, stride) = (self.shape.hidden(), self.shape.state_stride());
        for b in 0..self.sequence.batch {
            let last = links::last(self.sequence, b).map(|t| t * self.sequence.batch + b);
            for units in self.shape.parts(own.clone()) {
                for s in 0..1 + self.shape.states {
                    let column = b * hidden + units.column;
                    // SAFETY: the units are within rows of all of them.
                    unsafe {
                        let from = match (last, s) {
                            (None, s) => self.before[s].add(column),
                            (Some(row), 0) => self.y.add(row * hidden + units.column).cast_const(),
                            (Some(row), s) => {
                                let padded = (s - 1) * self.shape.padded_hidden();
                                let at = self.state_row(row) * stride;
                                self.states.add(at + padded + units.padded.start)
                            }
                        };
                        self.next[s].add(column).copy_from_nonoverlapping(from, units.count);
                    }
                }
            }
        }
    }

    /// Zeros as the outputs of padding.
    ///
    /// # Safety
    /// No other thread writes these outputs.
    unsafe fn clear_padding(&self) {
        let (hidden, batch) = (self.shape.hidden(), self.sequence.batch);
        for row in 0..self.sequence.rows() {
            if !self.sequence.is_real(row / batch, row % batch) {
                // SAFETY: a row of y.
                unsafe { self.y.add(row * hidden).write_bytes(0, hidden) };
            }
        }
    }

    /// Pointers to the values of a block.
    #[inline(always)]
    fn place<C: Cell>(&self, block: Block, lanes: usize) -> Place {
        let (shape, unit) = (&self.shape, block.index * lanes);
        let column = block.head * shape.units + block.first.min(shape.units);
        Place {
            gates: self.gates.wrapping_add(unit * C::GATES),
            gate_stride: shape.gate_stride(),
            keeps_gates: self.keeps == Keeps::All,
            unit,
            states: self.states.wrapping_add(unit),
            state_stride: shape.state_stride(),
            padded_hidden: shape.padded_hidden(),
            y: self.y.wrapping_add(column),
            hidden: shape.hidden(),
            count: block.count,
        }
    }
}

/// Pointers to the values of one block and the distances from row to row, computed once for
/// all of its rows.
#[derive(Clone, Copy)]
struct Place {
    gates: *mut f32,
    gate_stride: usize,
    keeps_gates: bool,
    /// The block's first unit in a row of states.
    unit: usize,
    states: *mut f32,
    state_stride: usize,
    padded_hidden: usize,
    y: *mut f32,
    hidden: usize,
    /// Units that are not padding.
    count: usize,
}

impl Place {
    /// Runs the cell on the block in one row; gives h.
    ///
    /// # Safety
    /// `gate(g)` gives the pre-activations of the block; no other thread touches the block.
    #[inline(always)]
    unsafe fn cell<C: Cell, V: Vector>(self, active: &Active, gate: impl Fn(usize) -> V) -> V {
        // SAFETY: the block is within the padded rows; y is written up to the block's count.
        unsafe {
            let Active { row, state_row, states, .. } = *active;
            let mut gates = [V::zero(); MAX_GATES];
            let mut previous = [V::zero(); MAX_STATES];
            for (g, to) in gates.iter_mut().take(C::GATES).enumerate() {
                *to = gate(g);
            }
            for (s, to) in previous.iter_mut().take(C::STATES).enumerate() {
                *to = V::load(states.add(s * self.padded_hidden + self.unit));
            }
            let (kept, next, h) = C::forward(gates, previous);
            if self.keeps_gates {
                let to = self.gates.add(row * self.gate_stride);
                for (g, kept) in kept.iter().take(C::GATES).enumerate() {
                    kept.store(to.add(g * V::LANES));
                }
            }
            let to = self.states.add(state_row * self.state_stride);
            for (s, next) in next.iter().take(C::STATES).enumerate() {
                next.store(to.add(s * self.padded_hidden));
            }
            h.store_first(self.y.add(row * self.hidden), self.count);
            h
        }
    }
}

/// Packs the weights, then multiplies and runs the cells in one region.
fn forward_many<C: Cell>(cpu: &Cpu, run: &Run, weights: &Weights, x: Input) {
    let shape = &run.shape;
    let tokens = match x {
        Input::Rows(_) => 0,
        Input::Tokens { table, .. } => table.len() / shape.input,
    };
    let mut by_token = scratch::take(cpu, tokens * shape.gate_stride());
    let ids = match x {
        Input::Rows(x) => {
            let len = run.sequence.rows() * shape.gate_stride();
            // SAFETY: `gates` points to as many elements, which nothing else uses before the
            // time loop.
            let gates = unsafe { std::slice::from_raw_parts_mut(run.gates, len) };
            project_input(cpu, shape, weights.input, x, gates);
            None
        }
        Input::Tokens { ids, table } => {
            project_input(cpu, shape, weights.input, table, &mut by_token);
            Some(ids)
        }
    };
    let columns = shape.gate_columns();
    let depth = operand::depth(cpu.level(), cpu.precision());
    let mut packed = scratch::take(cpu, columns * shape.units.div_ceil(depth));
    pack::recurrent_forward(cpu, shape, weights.recurrent, &mut packed);
    let mut bias = scratch::take(cpu, columns);
    pack::biases(shape, cpu.level().lanes(), weights.biases, &mut bias);
    let (batch, stride) = (run.sequence.batch, shape.hidden_stride(depth));
    let in_place = cpu.precision() == Precision::F32;
    let mut operands = scratch::take(cpu, if in_place { 0 } else { 3 * batch * stride });
    let third = operands.len() / 3;
    let (start, ring) = operands.split_at_mut(third);
    let operands_of_h = Operands {
        ring: ring.as_mut_ptr(),
        start: start.as_mut_ptr(),
        stride,
        per_head: shape.hidden_lanes(depth),
    };
    let run = &Run {
        gathered: ids.map(|ids| Gathered::new(&by_token, shape.gate_stride(), ids)),
        operands: (!in_place).then_some(operands_of_h),
        ..*run
    };
    cpu.run(|worker| {
        let (level, precision) = (worker.level, worker.precision);
        let time_loop =
            TimeLoop::<C> { run, panels: &packed, bias: &bias, worker, cell: PhantomData };
        run_product(level, precision, time_loop);
    });
    scratch::give(cpu, packed);
    scratch::give(cpu, bias);
    scratch::give(cpu, operands);
    scratch::give(cpu, by_token);
}

/// `gates` (rows of `gate_stride`) = x · Wᵀ, interleaved.
fn project_input(cpu: &Cpu, shape: &Shape, weights: &[f32], x: &[f32], gates: &mut [f32]) {
    let rows = x.len().checked_div(shape.input).unwrap_or(gates.len() / shape.gate_stride().max(1));
    let columns = shape.gate_columns();
    let depth = operand::depth(cpu.level(), cpu.precision());
    let mut packed = scratch::take(cpu, shape.input.div_ceil(depth) * columns);
    pack::input_columns(cpu, shape, weights, &mut packed);
    gemm_with_packed(
        cpu,
        Matrix::new(x, rows, shape.input),
        Packed { data: &packed, k: shape.input, n: columns },
        MatrixMut::strided(gates, rows, columns, shape.gate_stride()),
        Into::Replace,
    );
    scratch::give(cpu, packed);
}

struct TimeLoop<'a, 'b, C> {
    run: &'a Run<'a>,
    panels: &'a [f32],
    bias: &'a [f32],
    worker: &'a mut Worker<'b>,
    cell: PhantomData<C>,
}

impl<C: Cell> ProductKernel for TimeLoop<'_, '_, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, O: Operand<V>>(self) {
        let (run, worker) = (self.run, self.worker);
        let shape = &run.shape;
        let units = shape.share(worker, V::LANES);
        let own = units.start / V::LANES..units.end / V::LANES;
        let mut active = List::new(worker.buffers, run.sequence.batch);
        let mut sums = worker.buffers.take(ROW_GROUP * TILE_VECTORS * V::LANES);
        let tiles = Tiles::of(worker.level, worker.precision);
        // SAFETY: units are this thread's own; what it reads of others was written before the
        // last barrier.
        unsafe {
            if worker.index == 0 && run.sequence.lengths.is_some() {
                run.clear_padding();
            }
            run.take_states(units.clone());
            if let Some(operands) = &run.operands {
                own.clone().for_each(|index| start_operands::<V, O>(run, operands, index));
                shape.meet(worker);
            }
            for t in run.sequence.steps() {
                run.active(t, &mut active);
                for group in shape.groups(own.clone(), V::LANES, TILE_VECTORS / C::GATES) {
                    for rows in active.chunks(ROW_GROUP) {
                        let (panels, bias) = (self.panels, self.bias);
                        self::group::<C, V, O>(
                            run,
                            tiles.as_ref(),
                            group.clone(),
                            rows,
                            panels,
                            bias,
                            &mut sums,
                        );
                    }
                }
                shape.meet(worker);
            }
            run.hand_on(units);
        }
        active.give(worker.buffers);
        worker.buffers.give(sums);
    }
}

/// One block of h before the first position, as an operand.
#[inline(always)]
unsafe fn start_operands<V: Vector, O: Operand<V>>(run: &Run, to: &Operands, index: usize) {
    let shape = &run.shape;
    let block = shape.block(index, V::LANES);
    let unit = block.head * shape.units + block.first.min(shape.units);
    for b in 0..run.sequence.batch {
        // SAFETY: the block's units are this thread's own.
        unsafe {
            let h = V::load_first(run.before[0].add(b * shape.hidden() + unit), block.count);
            O::store_along(h, to.start.add(b * to.stride + to.place(block, O::DEPTH)));
        }
    }
}

impl Operands {
    /// Where a block begins in a row.
    #[inline(always)]
    fn place(&self, block: Block, depth: usize) -> usize {
        block.head * self.per_head + block.first / depth
    }
}

/// A group of blocks over a group of rows: product, then cells.
#[inline(always)]
unsafe fn group<C: Cell, V: Vector, O: Operand<V>>(
    run: &Run,
    tiles: Option<&Tiles>,
    blocks: Range<usize>,
    rows: &[Active],
    panels: &[f32],
    bias: &[f32],
    sums: &mut [f32],
) {
    let shape = &run.shape;
    let vectors = blocks.len() * C::GATES;
    let column = blocks.start * C::GATES * V::LANES;
    let head = shape.block(blocks.start, V::LANES).head;
    let per_head = run.operands.map_or(shape.units, |operands| operands.per_head);
    let inner = shape.units.div_ceil(O::DEPTH);
    // SAFETY: the columns of the blocks are within the rows; the scratch holds the group.
    unsafe {
        for (i, active) in rows.iter().enumerate() {
            let input = active.input.add(column);
            for v in (0..vectors).map(|v| v * V::LANES) {
                V::load(input.add(v))
                    .add(V::load(bias.as_ptr().add(column + v)))
                    .store(sums.as_mut_ptr().add(i * vectors * V::LANES + v));
            }
        }
        add_product::<V, O>(
            tiles,
            vectors,
            rows.len(),
            |i| rows.get_unchecked(i).operand.add(head * per_head),
            inner,
            (panels.as_ptr().add(column * inner), inner * V::LANES),
            sums.as_mut_ptr(),
        );
        for (j, index) in blocks.clone().enumerate() {
            let block = shape.block(index, V::LANES);
            let place = run.place::<C>(block, V::LANES);
            let operand = run.operands.map(|operands| operands.place(block, O::DEPTH));
            for (i, active) in rows.iter().enumerate() {
                let sums = sums.as_ptr().add((i * vectors + j * C::GATES) * V::LANES);
                let h = place.cell::<C, V>(active, |g| V::load(sums.add(g * V::LANES)));
                if let Some(operand) = operand {
                    let to = active.next_operand.add(operand);
                    O::store_along(first_of(h, block.count), to);
                }
            }
        }
    }
}

/// The first `count` lanes, and zeros.
#[inline(always)]
unsafe fn first_of<V: Vector>(vector: V, count: usize) -> V {
    if count == V::LANES {
        return vector;
    }
    let mut lanes = [0.0f32; 16];
    // SAFETY: no vector is longer; the caller has the instruction set.
    unsafe {
        vector.store(lanes.as_mut_ptr());
        V::load_first(lanes.as_ptr(), count)
    }
}
