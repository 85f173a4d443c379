//! Weights rearranged for the time loop, from PyTorch's layout to interleaved gates and back.
//! Padding units get zeros, so that their gates and gradients stay zero.

use std::ops::Range;

use super::layout::{Block, Shape};
use crate::cpu::{Cpu, Shards};
use crate::gemm::{pack_columns, pack_columns_of};
use crate::operand::{self, Operand, ProductKernel, run_product};
use crate::simd::Vector;

/// Input weights `[G·N, D]` as the packed right operand of `x · Wᵀ`: `[D, gate columns]`.
pub(super) fn input_columns(cpu: &Cpu, shape: &Shape, weights: &[f32], to: &mut [f32]) {
    let (lanes, columns, width) = (cpu.level().lanes(), shape.gate_columns(), shape.input);
    let to = Shards::new(to);
    cpu.for_each(shape.padded_hidden() / lanes, |worker, index| {
        let block = shape.block(index, lanes);
        for gate in 0..shape.gates {
            let row = shape.weight_row(block, gate);
            let rows = match block.count {
                0 => &[],
                count => &weights[row * width..(row + count) * width],
            };
            let column = (index * shape.gates + gate) * lanes;
            pack_columns_of(worker, rows, width, column, columns, &to);
        }
    });
}

/// Some of the input weights `[G·N, D]` with their rows interleaved: `[columns, D]`, of whole
/// blocks of gate columns.
pub(super) fn input_rows(
    cpu: &Cpu,
    shape: &Shape,
    weights: &[f32],
    columns: Range<usize>,
    to: &mut [f32],
) {
    let row = |block, gate| shape.weight_row(block, gate);
    interleave(cpu, shape, (weights, shape.input), columns, row, to);
}

/// One head's rows of a matrix `[H·G·P, width]` with the gates interleaved: `[columns, width]`.
pub(super) fn recurrent_rows(
    cpu: &Cpu,
    shape: &Shape,
    head: usize,
    (rows, width): (&[f32], usize),
    to: &mut [f32],
) {
    let columns = 0..shape.gates * shape.padded_units();
    let row = |block: Block, gate| recurrent_row(shape, head, gate, block.first);
    interleave(cpu, shape, (rows, width), columns, row, to);
}

/// Rows with the gates interleaved, of whole blocks of gate columns; `row` is the first one of a
/// block's gate.
fn interleave(
    cpu: &Cpu,
    shape: &Shape,
    (rows, width): (&[f32], usize),
    columns: Range<usize>,
    row: impl Fn(Block, usize) -> usize + Sync,
    to: &mut [f32],
) {
    let lanes = cpu.level().lanes();
    let to = Shards::new(to);
    for_blocks(cpu, shape, &columns, |index| {
        let block = shape.block(index, lanes);
        for gate in 0..shape.gates {
            let column = (index * shape.gates + gate) * lanes - columns.start;
            let from = row(block, gate) * width;
            // SAFETY: each gate of a block has rows of its own.
            let to = unsafe { to.part(column * width..(column + lanes) * width) };
            let (real, padding) = to.split_at_mut(block.count * width);
            if !real.is_empty() {
                real.copy_from_slice(&rows[from..from + real.len()]);
            }
            padding.fill(0.0);
        }
    });
}

/// Recurrent weights as the right operand of `h · Wᵀ`: the lanes of P elements for each
/// vector of gate columns.
pub(super) fn recurrent_forward(cpu: &Cpu, shape: &Shape, weights: &[f32], to: &mut [f32]) {
    let (lanes, units) = (cpu.level().lanes(), shape.units);
    let len = lanes * units.div_ceil(operand::depth(cpu.level(), cpu.precision()));
    let to = Shards::new(to);
    cpu.for_each(shape.padded_hidden() / lanes, |worker, index| {
        let block = shape.block(index, lanes);
        for gate in 0..shape.gates {
            let panel = (index * shape.gates + gate) * len;
            // SAFETY: each gate of a block has a panel of its own.
            let to = unsafe { to.part(panel..panel + len) };
            let row = recurrent_row(shape, block.head, gate, block.first.min(units));
            let rows = &weights[row * units..(row + block.count) * units];
            pack_columns(worker, rows, units, to);
        }
    });
}

/// Recurrent weights as the right operand of `d gates · W`: for each vector of units, the lanes of
/// the gate columns of its head.
pub(super) fn recurrent_backward(cpu: &Cpu, shape: &Shape, weights: &[f32], to: &mut [f32]) {
    let (lanes, units) = (cpu.level().lanes(), shape.units);
    let columns = shape.gates * shape.padded_units();
    let len = lanes * columns / operand::depth(cpu.level(), cpu.precision());
    let to = Shards::new(to);
    cpu.for_each(shape.padded_hidden() / lanes, |worker, index| {
        let block = shape.block(index, lanes);
        let mut rows = worker.buffers.take(columns * lanes);
        for (column, row) in rows.chunks_exact_mut(lanes).enumerate() {
            let (gate, unit) = gate_and_unit(shape, lanes, column);
            let count = if unit < units { block.count } else { 0 };
            if count > 0 {
                let from = recurrent_row(shape, block.head, gate, unit) * units + block.first;
                row[..count].copy_from_slice(&weights[from..from + count]);
            }
            row[count..].fill(0.0);
        }
        // SAFETY: each block has a panel of its own.
        let to = unsafe { to.part(index * len..(index + 1) * len) };
        run_product(worker.level, worker.precision, Join { rows: &rows, to });
        worker.buffers.give(rows);
    });
}

/// Rows of one vector each, an even number of them, as lanes of the inner size.
struct Join<'a> {
    rows: &'a [f32],
    to: &'a mut [f32],
}

impl ProductKernel for Join<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, O: Operand<V>>(self) {
        let Self { rows, to } = self;
        let rows = rows.chunks_exact(O::DEPTH * V::LANES);
        for (rows, to) in rows.zip(to.chunks_exact_mut(V::LANES)) {
            // SAFETY: both have whole vectors.
            unsafe {
                let last = V::load(rows.as_ptr().add((O::DEPTH - 1) * V::LANES));
                O::join(V::load(rows.as_ptr()), last).store(to.as_mut_ptr());
            }
        }
    }
}

/// The sum of the biases, interleaved.
pub(super) fn biases(shape: &Shape, lanes: usize, biases: [&[f32]; 2], to: &mut [f32]) {
    to.fill(0.0);
    for (block, gate, column) in gate_blocks(shape, lanes) {
        let row = shape.weight_row(block, gate);
        for bias in biases.into_iter().filter(|bias| !bias.is_empty()) {
            for j in 0..block.count {
                to[column + j] += bias[row + j];
            }
        }
    }
}

/// Adds interleaved rows to rows in PyTorch's order: `from` is `[columns, width]`, of whole blocks
/// of gate columns, and `to` is `[G·N, width]`.
pub(super) fn add_rows(
    cpu: &Cpu,
    shape: &Shape,
    width: usize,
    columns: Range<usize>,
    from: &[f32],
    to: &mut [f32],
) {
    let lanes = cpu.level().lanes();
    let to = Shards::new(to);
    for_blocks(cpu, shape, &columns, |index| {
        let block = shape.block(index, lanes);
        for gate in 0..shape.gates {
            let column = (index * shape.gates + gate) * lanes - columns.start;
            if block.count > 0 {
                let row = shape.weight_row(block, gate);
                // SAFETY: each gate of a block has rows of its own.
                let to = unsafe { to.part(row * width..(row + block.count) * width) };
                add(&from[column * width..][..to.len()], to);
            }
        }
    });
}

/// Adds interleaved rows `from` (`[columns, width]`, of whole blocks of one head's gate columns) to
/// that head's part of `[H, G·P, width]`.
pub(super) fn add_recurrent(
    cpu: &Cpu,
    shape: &Shape,
    (head, width): (usize, usize),
    columns: Range<usize>,
    from: &[f32],
    to: &mut [f32],
) {
    let lanes = cpu.level().lanes();
    let to = Shards::new(to);
    for_blocks(cpu, shape, &columns, |index| {
        let block = shape.block(index, lanes);
        for gate in 0..shape.gates {
            let column = (index * shape.gates + gate) * lanes - columns.start;
            if block.count > 0 {
                let row = recurrent_row(shape, head, gate, block.first);
                // SAFETY: each gate of a block has rows of its own.
                let to = unsafe { to.part(row * width..(row + block.count) * width) };
                add(&from[column * width..][..to.len()], to);
            }
        }
    });
}

/// Calls `body` with each block of units whose gates are in a range of interleaved columns.
fn for_blocks(cpu: &Cpu, shape: &Shape, columns: &Range<usize>, body: impl Fn(usize) + Sync) {
    let of_block = shape.gates * cpu.level().lanes();
    assert!(columns.start.is_multiple_of(of_block) && columns.end.is_multiple_of(of_block));
    let first = columns.start / of_block;
    cpu.for_each(columns.len() / of_block, |_, i| body(first + i));
}

/// Every gate of every block, and its first interleaved column.
fn gate_blocks(shape: &Shape, lanes: usize) -> impl Iterator<Item = (Block, usize, usize)> {
    (0..shape.padded_hidden() / lanes).flat_map(move |index| {
        let block = shape.block(index, lanes);
        (0..shape.gates).map(move |gate| (block, gate, (index * shape.gates + gate) * lanes))
    })
}

/// The gate and the unit of a head that an interleaved column of that head belongs to.
fn gate_and_unit(shape: &Shape, lanes: usize, column: usize) -> (usize, usize) {
    let vector = column / lanes;
    (vector % shape.gates, vector / shape.gates * lanes + column % lanes)
}

fn recurrent_row(shape: &Shape, head: usize, gate: usize, unit: usize) -> usize {
    (head * shape.gates + gate) * shape.units + unit
}

fn add(from: &[f32], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}
