//! The forward pass over few positions, decode steps above all: the weights are read in place.

use std::marker::PhantomData;

use super::{Active, Run};
use crate::cpu::{Cpu, Worker};
use crate::gemm::{Into, Matrix, MatrixMut, gemm_serial};
use crate::recurrence::layout::Block;
use crate::recurrence::{Cell, Weights};
use crate::scratch::List;
use crate::sequence::Sequence;
use crate::simd::{Kernel, Vector};

/// Up to this many rows, rearranging the weights costs more than it gains.
const FEW_ROWS: usize = 24;
/// Below this many multiplications a second thread costs more than it gains.
const SERIAL_PRODUCTS: usize = 1 << 17;

/// Whether this form is the faster one.
pub(super) fn applies(sequence: &Sequence) -> bool {
    sequence.rows() <= FEW_ROWS || sequence.time == 1
}

/// As the packed form; each thread reads the weights of its own units.
pub(super) fn forward<C: Cell>(cpu: &Cpu, run: &Run, weights: &Weights, x: &[f32]) {
    let shape = &run.shape;
    let products = x.len() + run.sequence.rows() * shape.units;
    if products * C::GATES * shape.hidden() < SERIAL_PRODUCTS {
        cpu.for_each(1, |worker, _| time_loop::<C>(run, weights, x, worker));
    } else {
        cpu.run(|worker| time_loop::<C>(run, weights, x, worker));
    }
}

/// The units of one head that one thread computes.
#[derive(Clone)]
struct Piece {
    blocks: std::ops::Range<usize>,
    /// The units without padding, as if they were one block.
    units: Block,
    /// First element of its gates `[T·B, G, units]` in the scratch buffer.
    gates: usize,
}

fn time_loop<C: Cell>(run: &Run, weights: &Weights, x: &[f32], worker: &mut Worker) {
    let (shape, sequence, lanes) = (&run.shape, run.sequence, worker.level.lanes());
    let (rows, batch, hidden) = (sequence.rows(), sequence.batch, shape.hidden());
    let padded = worker.share(shape.padded_hidden(), lanes);
    let own = padded.start / lanes..padded.end / lanes;
    let mut gates = worker.buffers.take(rows * C::GATES * own.len() * lanes);
    let mut previous = worker.buffers.take(batch * hidden);
    let mut active = List::new(worker.buffers, batch);
    let pieces = || {
        let mut end = 0;
        shape.groups(own.clone(), lanes, shape.padded_hidden()).map(move |blocks| {
            let first = shape.block(blocks.start, lanes);
            let count = shape.units.saturating_sub(first.first).min(blocks.len() * lanes);
            let piece = Piece { blocks, units: Block { count, ..first }, gates: end };
            end += rows * C::GATES * count;
            piece
        })
    };

    for piece in pieces().filter(|piece| piece.units.count > 0) {
        let (count, columns) = (piece.units.count, C::GATES * piece.units.count);
        for gate in 0..C::GATES {
            let row = shape.weight_row(piece.units, gate);
            let gates = &mut gates[piece.gates + gate * count..];
            for gates in gates.chunks_mut(columns).take(rows) {
                gates[..count].fill(0.0);
                for bias in weights.biases.into_iter().filter(|bias| !bias.is_empty()) {
                    gates.iter_mut().zip(&bias[row..row + count]).for_each(|(to, b)| *to += b);
                }
            }
            let width = shape.input;
            let input = &weights.input[row * width..(row + count) * width];
            gemm_serial(
                worker,
                Matrix::new(x, rows, width),
                Matrix::new(input, count, width).t(),
                MatrixMut::strided(gates, rows, count, columns),
                Into::Add,
            );
        }
    }

    // SAFETY: units are this thread's own; what it reads of others was written before the last
    // barrier.
    unsafe {
        if worker.index == 0 && sequence.lengths.is_some() {
            run.clear_padding();
        }
        run.take_states(padded.clone());
        for t in sequence.steps() {
            run.active(t, &mut active);
            previous.fill(0.0);
            for active in active.iter() {
                // SAFETY: a row of y, of the state or of zeros.
                let from = std::slice::from_raw_parts(active.hidden, hidden);
                previous[active.row % batch * hidden..][..hidden].copy_from_slice(from);
            }
            for piece in pieces() {
                let at = piece.gates + t * batch * C::GATES * piece.units.count;
                let gates = &mut gates[at..];
                add_recurrent::<C>(run, weights, &piece, &previous, gates, worker);
                worker.level.run(Cells::<C> {
                    run,
                    active: &active,
                    piece: &piece,
                    gates,
                    cell: PhantomData,
                });
            }
            worker.barrier();
        }
        run.hand_on(padded);
    }
    active.give(worker.buffers);
    worker.buffers.give(gates);
    worker.buffers.give(previous);
}

/// `gates += h[t−1] · Uᵀ` for the units of one piece.
fn add_recurrent<C: Cell>(
    run: &Run,
    weights: &Weights,
    piece: &Piece,
    previous: &[f32],
    gates: &mut [f32],
    worker: &mut Worker,
) {
    let (units, batch) = (run.shape.units, run.sequence.batch);
    let Block { head, first, count, .. } = piece.units;
    if count == 0 {
        return;
    }
    let h = Matrix::new(previous, batch, run.shape.hidden());
    for gate in 0..C::GATES {
        let row = (head * C::GATES + gate) * units + first;
        let recurrent = &weights.recurrent[row * units..(row + count) * units];
        gemm_serial(
            worker,
            h.columns(head * units..(head + 1) * units),
            Matrix::new(recurrent, count, units).t(),
            MatrixMut::strided(&mut gates[gate * count..], batch, count, C::GATES * count),
            Into::Add,
        );
    }
}

struct Cells<'a, C> {
    run: &'a Run<'a>,
    active: &'a [Active],
    piece: &'a Piece,
    /// `[B, G, units]`: preactivations of the gates.
    gates: &'a [f32],
    cell: PhantomData<C>,
}

impl<C: Cell> Kernel for Cells<'_, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Piece { blocks, units, .. } = self.piece;
        for index in blocks.clone() {
            let block = self.run.shape.block(index, V::LANES);
            let first = block.first - units.first;
            let place = self.run.place::<C>(block, V::LANES);
            for active in self.active {
                let b = active.row % self.run.sequence.batch;
                let gates = self.gates[b * C::GATES * units.count..].as_ptr();
                // SAFETY: only the block's units are loaded, and they are this thread's own.
                unsafe {
                    place.cell::<C, V>(active, |g| {
                        V::load_first(gates.wrapping_add(g * units.count + first), block.count)
                    });
                }
            }
        }
    }
}
