//! Blocks of queries against their keys: the operands of both passes, whatever the mask.
//!
//! Scores are held transposed, `[keys, BLOCK]` (see [`softmax`](super::softmax)). All products read
//! operands in the precision of the processor. The `f32` rows are packed once for all blocks that
//! read them, and the passes between the products leave their results packed.

use std::ops::Range;

use super::layout::{BLOCK, Layout};
use super::softmax::Seen;
use crate::buffer::Buffer;
use crate::cpu::Worker;
use crate::lanes::Form;
use crate::level::Level;
use crate::sequence::Sequence;
use crate::small_product::{Product, Strides, Triangle};

/// The inputs of the forward and the backward pass over the blocks.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a> {
    pub(super) layout: &'a Layout,
    pub(super) sequence: &'a Sequence<'a>,
    pub(super) source: &'a dyn Source,
    /// The first part of the saved buffer, written before the blocks run.
    pub(super) prepared: &'a [f32],
}

/// Queries, keys and values of one key head of one sequence, gathered from the batch.
pub(super) struct Laid {
    /// Positions of the queries, in reading order.
    pub(super) rows: Range<usize>,
    /// Places of the keys that any of the queries may see.
    pub(super) seen: Range<usize>,
    /// `[rows, stride]` for each query head, rotated and divided by √K; zeros at padded positions.
    pub(super) queries: Buffer,
    /// `[seen, stride]`, rotated, then zeros up to a multiple of the form's depth.
    pub(super) keys: Buffer,
    /// `[seen, stride]`, then zeros as after the keys.
    pub(super) values: Buffer,
}

/// Where queries, keys and values come from.
pub(super) trait Source: Sync {
    /// Places of the keys that some rows may see. The first place is even, so that neighbours are
    /// the same in whatever pieces a sequence is handled.
    fn seen(&self, b: usize, rows: &Range<usize>) -> Range<usize>;
    /// Prefetches the inputs of some rows, and their gradients where they will be written. Every
    /// row of a batch is in a page of its own, so that the processor cannot foresee them.
    fn fetch(&self, b: usize, group: usize, rows: Range<usize>);
    /// Fills `laid` for sequence `b` and key head `group`.
    fn lay_out(&self, level: Level, b: usize, group: usize, laid: &mut Laid);
    /// Stores keys and values in the KV cache, each time after some rows have read them.
    fn remember(&self, level: Level, b: usize, group: usize, laid: &Laid);
}

impl Laid {
    pub(super) fn new(
        worker: &mut Worker,
        blocks: &Blocks,
        [b, group]: [usize; 2],
        rows: Range<usize>,
    ) -> Self {
        let Blocks { layout, source, .. } = blocks;
        let seen = source.seen(b, &rows);
        let stride = layout.stride();
        let places = seen.len().next_multiple_of(Form::of(worker).depth);
        let mut laid = Self {
            queries: worker.buffers.take(layout.shared() * rows.len() * stride),
            keys: worker.buffers.take(places * stride),
            values: worker.buffers.take(places * stride),
            rows,
            seen,
        };
        source.lay_out(worker.level, b, group, &mut laid);
        let end = laid.seen.len() * stride;
        laid.keys[end..].fill(0.0);
        laid.values[end..].fill(0.0);
        laid
    }

    pub(super) fn give(self, worker: &mut Worker) {
        for buffer in [self.queries, self.keys, self.values] {
            worker.buffers.give(buffer);
        }
    }
}

/// The sequence and the key head of a unit of work.
pub(super) fn head_of(layout: &Layout, unit: usize) -> [usize; 2] {
    [unit / layout.groups, unit % layout.groups]
}

/// Some rows of a matrix.
pub(super) fn part(matrix: &[f32], rows: Range<usize>, row: usize) -> &[f32] {
    &matrix[rows.start * row..rows.end * row]
}

/// S = K·Qᵀ `[keys, BLOCK]`, or dP = V·dOᵀ: rows of keys or values times transposed queries or
/// gradients of outputs, with lanes along the features.
pub(super) fn scores_of<'a>(
    keys: &'a [f32],
    seen: &Seen,
    transposed: &'a [f32],
    form: Form,
    width: usize,
) -> Product<'a> {
    let row = form.row(width);
    Product {
        a: part(keys, seen.keys(), row),
        strides: Strides::Rows(row),
        b: transposed,
        m: seen.count,
        k: width.div_ceil(form.depth),
        n: BLOCK,
        add: false,
        triangle: Triangle::None,
    }
}

/// O = P·V `[BLOCK, stride]`, or dQ = dS·K: the rows of `values` summed with the weights in
/// `scores [keys, BLOCK]`, both in lanes across the keys.
pub(super) fn mix_of<'a>(
    scores: &'a [f32],
    values: &'a [f32],
    seen: &Seen,
    stride: usize,
    form: Form,
) -> Product<'a> {
    let pairs = seen.keys().start / form.depth..seen.keys().end / form.depth;
    Product {
        a: scores,
        strides: Strides::LaneColumns,
        k: pairs.len(),
        b: part(values, pairs, stride),
        m: BLOCK,
        n: stride,
        add: false,
        triangle: Triangle::None,
    }
}
