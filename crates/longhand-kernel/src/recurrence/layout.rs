//! The layout of the buffer that forward saves for backward: gates and states of every unit.

use std::ops::Range;

use super::{Input, MAX_GATES, MAX_STATES, Weights};
use crate::cpu::Worker;
use crate::sequence::Sequence;

/// Units of a head are padded to a multiple of this, the longest vector.
const PADDING: usize = 16;

/// The sizes of a recurrent cell.
///
/// Kept for backward, per position: the gates, interleaved in blocks of one vector of units (all
/// gates of the block side by side), then elsewhere the states, one vector of units after another.
/// The units of each head are padded to whole vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// D: elements of an input row.
    pub(crate) input: usize,
    /// H: heads whose recurrent weights do not touch each other.
    pub(crate) heads: usize,
    /// P: hidden units per head.
    pub(crate) units: usize,
    /// G: gates per unit.
    pub(crate) gates: usize,
    /// State vectors besides h.
    pub(crate) states: usize,
}

/// Up to one vector of units of one head.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Its number among the blocks of all heads.
    pub(super) index: usize,
    pub(super) head: usize,
    /// The first unit within the head.
    pub(super) first: usize,
    /// Units that are not padding.
    pub(super) count: usize,
}

/// Adjacent units of one head.
pub(super) struct Part {
    /// Their places with every head padded.
    pub(super) padded: Range<usize>,
    /// The first one's place without padding.
    pub(super) column: usize,
    /// Units that are not padding; they come first.
    pub(super) count: usize,
}

impl Shape {
    /// N: hidden units of all heads.
    pub(crate) fn hidden(&self) -> usize {
        self.heads * self.units
    }

    /// Elements kept for backward.
    pub(crate) fn saved_len(&self, sequence: &Sequence) -> usize {
        sequence.rows() * (self.gate_stride() + self.state_stride())
    }

    pub(super) fn padded_units(&self) -> usize {
        self.units.next_multiple_of(PADDING)
    }

    /// N with each head padded.
    pub(super) fn padded_hidden(&self) -> usize {
        self.heads * self.padded_units()
    }

    /// Columns of the interleaved gates.
    pub(super) fn gate_columns(&self) -> usize {
        self.gates * self.padded_hidden()
    }

    /// From one position's gates to the next one's.
    pub(super) fn gate_stride(&self) -> usize {
        apart(self.gate_columns())
    }

    /// From one position's states to the next one's.
    pub(super) fn state_stride(&self) -> usize {
        self.states * self.padded_hidden()
    }

    /// A thread's units, padded: whole heads where each thread gets as many, whose units then read
    /// nothing of another thread's.
    pub(super) fn share(&self, worker: &Worker, lanes: usize) -> Range<usize> {
        let block = if self.apart(worker) { self.padded_units() } else { lanes };
        worker.share(self.padded_hidden(), block)
    }

    /// Whether [`Shape::share`] gives each thread whole heads.
    pub(super) fn apart(&self, worker: &Worker) -> bool {
        self.units > 0 && self.heads.is_multiple_of(worker.threads)
    }

    /// Waits for the other threads, if they read each other's units.
    pub(super) fn meet(&self, worker: &Worker) {
        if !self.apart(worker) {
            worker.barrier();
        }
    }

    /// Lanes of one head's h in the form of a product's operand.
    pub(super) fn hidden_lanes(&self, depth: usize) -> usize {
        self.padded_units() / depth
    }

    /// From one position's h in that form to the next one's.
    pub(super) fn hidden_stride(&self, depth: usize) -> usize {
        apart(self.heads * self.hidden_lanes(depth))
    }

    /// From one position's gates' gradients in that form to the next one's.
    pub(super) fn gate_lanes_stride(&self, depth: usize) -> usize {
        apart(self.gate_columns() / depth)
    }

    /// Block `index` of `lanes` units.
    pub(super) fn block(&self, index: usize, lanes: usize) -> Block {
        let (head, first) =
            (index * lanes / self.padded_units(), index * lanes % self.padded_units());
        Block { index, head, first, count: self.units.saturating_sub(first).min(lanes) }
    }

    /// The blocks of `range` in groups of at most `most`, none of which crosses a head.
    pub(super) fn groups(
        &self,
        range: Range<usize>,
        lanes: usize,
        most: usize,
    ) -> impl Iterator<Item = Range<usize>> {
        let per_head = (self.padded_units() / lanes).max(1);
        let mut next = range.start;
        std::iter::from_fn(move || {
            let head_end = (next / per_head + 1) * per_head;
            let group = next..(next + most).min(head_end).min(range.end);
            next = group.end;
            (!group.is_empty()).then_some(group)
        })
    }

    /// A range of padded units, cut at the heads' ends.
    pub(super) fn parts(&self, own: Range<usize>) -> impl Iterator<Item = Part> {
        let (units, per_head) = (self.units, self.padded_units());
        let mut next = own.start;
        std::iter::from_fn(move || {
            if next >= own.end {
                return None;
            }
            let (head, first) = (next / per_head, next % per_head);
            let padded = next..own.end.min((head + 1) * per_head);
            next = padded.end;
            let count = units.saturating_sub(first).min(padded.len());
            Some(Part { column: head * units + first.min(units), count, padded })
        })
    }

    /// The first row of the input weights and biases that belongs to a block's gate.
    pub(super) fn weight_row(&self, block: Block, gate: usize) -> usize {
        gate * self.hidden() + block.head * self.units + block.first
    }

    pub(super) fn check(&self, sequence: &Sequence, weights: &Weights, x: &Input, y: &[f32]) {
        assert!(self.gates <= MAX_GATES && self.states <= MAX_STATES);
        let (hidden, columns) = (self.hidden(), self.gates * self.hidden());
        x.check(sequence.rows(), self.input);
        assert_eq!(y.len(), sequence.rows() * hidden, "y is [T·B, N]");
        assert_eq!(weights.input.len(), columns * self.input, "input weights are [G·N, D]");
        assert_eq!(weights.recurrent.len(), columns * self.units, "recurrent weights");
        for bias in weights.biases {
            assert!(bias.is_empty() || bias.len() == columns, "biases are [G·N]");
        }
        assert!(sequence.resets.is_none_or(|r| r.len() == sequence.rows()), "resets are [T·B]");
        assert!(sequence.lengths.is_none_or(|l| l.len() == sequence.batch), "lengths are [B]");
    }
}

/// A distance of rows that is never a multiple of 2 KiB, since rows that far apart push each
/// other out of the cache.
fn apart(elements: usize) -> usize {
    if elements > 0 && elements.is_multiple_of(512) { elements + PADDING } else { elements }
}
