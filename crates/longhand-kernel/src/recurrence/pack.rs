//! Weights rearranged for the time loop, from PyTorch's layout to interleaved gates and back.
//! Padding units get zeros, so that their gates and gradients stay zero.

use super::layout::{Block, Shape};
use crate::cpu::{Cpu, Shards};

/// Rows or columns moved by one call of a thread.
const CHUNK: usize = 16;

/// Input weights `[G·N, D]` as the right operand of `x · Wᵀ`: `[D, gate columns]`.
pub(super) fn input_transposed(cpu: &Cpu, shape: &Shape, weights: &[f32], to: &mut [f32]) {
    let (lanes, columns, width) = (cpu.level().lanes(), shape.gate_columns(), shape.input);
    let to = Shards::new(to);
    cpu.for_each(width.div_ceil(CHUNK), |_, chunk| {
        let rows = chunk * CHUNK..(chunk * CHUNK + CHUNK).min(width);
        // SAFETY: each chunk has rows of its own.
        let to = unsafe { to.part(rows.start * columns..rows.end * columns) };
        for (block, gate, column) in gate_blocks(shape, lanes) {
            let from = shape.weight_row(block, gate) * width + rows.start;
            transpose(
                weights,
                from,
                width,
                block.count,
                rows.len(),
                lanes,
                |k| k * columns + column,
                to,
            );
        }
    });
}

/// Input weights `[G·N, D]` with their rows interleaved: `[gate columns, D]`.
pub(super) fn input_rows(cpu: &Cpu, shape: &Shape, weights: &[f32], to: &mut [f32]) {
    let (lanes, width) = (cpu.level().lanes(), shape.input);
    let to = Shards::new(to);
    cpu.for_each(shape.padded_hidden() / lanes, |_, index| {
        let block = shape.block(index, lanes);
        for gate in 0..shape.gates {
            let column = (index * shape.gates + gate) * lanes;
            let from = shape.weight_row(block, gate) * width;
            // SAFETY: each gate of a block has rows of its own.
            let to = unsafe { to.part(column * width..(column + lanes) * width) };
            let (real, padding) = to.split_at_mut(block.count * width);
            if !real.is_empty() {
                real.copy_from_slice(&weights[from..from + real.len()]);
            }
            padding.fill(0.0);
        }
    });
}

/// Recurrent weights as the right operand of `h · Wᵀ`: for each vector of gate columns, P rows.
pub(super) fn recurrent_forward(cpu: &Cpu, shape: &Shape, weights: &[f32], to: &mut [f32]) {
    let (lanes, units) = (cpu.level().lanes(), shape.units);
    let to = Shards::new(to);
    cpu.for_each(shape.padded_hidden() / lanes, |_, index| {
        let block = shape.block(index, lanes);
        for gate in 0..shape.gates {
            let panel = (index * shape.gates + gate) * lanes * units;
            // SAFETY: each gate of a block has a panel of its own.
            let to = unsafe { to.part(panel..panel + lanes * units) };
            let from = recurrent_row(shape, block.head, gate, block.first) * units;
            transpose(weights, from, units, block.count, units, lanes, |k| k * lanes, to);
        }
    });
}

/// Recurrent weights as the right operand of `d gates · W`: for each vector of units, one row per
/// gate column of its head.
pub(super) fn recurrent_backward(cpu: &Cpu, shape: &Shape, weights: &[f32], to: &mut [f32]) {
    let (lanes, units) = (cpu.level().lanes(), shape.units);
    let columns = shape.gates * shape.padded_units();
    let to = Shards::new(to);
    cpu.for_each(shape.padded_hidden() / lanes, |_, index| {
        let block = shape.block(index, lanes);
        // SAFETY: each block has a panel of its own.
        let to = unsafe { to.part(index * columns * lanes..(index + 1) * columns * lanes) };
        for (column, to) in to.chunks_exact_mut(lanes).enumerate() {
            let (gate, unit) = gate_and_unit(shape, lanes, column);
            let count = if unit < units { block.count } else { 0 };
            if count > 0 {
                let from = recurrent_row(shape, block.head, gate, unit) * units + block.first;
                to[..count].copy_from_slice(&weights[from..from + count]);
            }
            to[count..].fill(0.0);
        }
    });
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

/// Adds the interleaved rows `from` (`[gate columns, width]`) to `[G·N, width]`.
pub(super) fn add_rows(cpu: &Cpu, shape: &Shape, width: usize, from: &[f32], to: &mut [f32]) {
    let lanes = cpu.level().lanes();
    let to = Shards::new(to);
    cpu.for_each(shape.padded_hidden() / lanes, |_, index| {
        let block = shape.block(index, lanes);
        for gate in 0..shape.gates {
            let column = (index * shape.gates + gate) * lanes;
            if block.count > 0 {
                let row = shape.weight_row(block, gate);
                // SAFETY: each gate of a block has rows of its own.
                let to = unsafe { to.part(row * width..(row + block.count) * width) };
                add(&from[column * width..][..to.len()], to);
            }
        }
    });
}

/// Adds one head's interleaved rows `from` (`[G·padded P, P]`) to its part of `[H, G·P, P]`.
pub(super) fn add_recurrent(cpu: &Cpu, shape: &Shape, head: usize, from: &[f32], to: &mut [f32]) {
    let (lanes, units) = (cpu.level().lanes(), shape.units);
    let to = Shards::new(to);
    cpu.for_each(shape.padded_units() / lanes, |_, index| {
        let block = shape.block(index, lanes);
        for gate in 0..shape.gates {
            let column = (index * shape.gates + gate) * lanes;
            if block.count > 0 {
                let row = recurrent_row(shape, head, gate, block.first);
                // SAFETY: each gate of a block has rows of its own.
                let to = unsafe { to.part(row * units..(row + block.count) * units) };
                add(&from[column * units..][..to.len()], to);
            }
        }
    });
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

/// `to[at(k) + lane] = from[start + lane · stride + k]`, with zeros for lanes from `count` on.
#[inline(always)]
fn transpose(
    from: &[f32],
    start: usize,
    stride: usize,
    count: usize,
    length: usize,
    lanes: usize,
    at: impl Fn(usize) -> usize,
    to: &mut [f32],
) {
    let rows: [&[f32]; CHUNK] = std::array::from_fn(|lane| {
        if lane < count { &from[start + lane * stride..][..length] } else { &[] }
    });
    for k in 0..length {
        let to = &mut to[at(k)..][..lanes];
        if count == lanes {
            for (to, row) in to.iter_mut().zip(&rows) {
                *to = row[k];
            }
        } else {
            for (lane, to) in to.iter_mut().enumerate() {
                *to = if lane < count { rows[lane][k] } else { 0.0 };
            }
        }
    }
}

fn add(from: &[f32], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}
