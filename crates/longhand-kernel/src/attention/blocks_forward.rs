//! The forward pass over blocks of queries.

use super::blocks::{Blocks, Laid, head_of, mix_of, part, scores_of};
use super::layout::{BLOCK, time_of, within};
use super::rows::{Normalise, fetch_to_write};
use super::softmax::{Seen, Softmax};
use crate::cpu::{Cpu, Shards, Worker};
use crate::lanes::Form;
use crate::small_product::Transpose;

/// Queries of a piece of a long sequence, where there are too few heads for the threads.
const PIECE: usize = 64;

/// Where the results of the forward pass go.
struct Outputs<'a> {
    /// The largest score and the inverse sum of each query, in
    /// the places of [`Layout`](super::layout::Layout).
    statistics: Shards<'a, f32>,
    /// `[T·B, H·K]`: the outputs of every head.
    y: Shards<'a, f32>,
}

/// Writes `y [T·B, H·K]` and each query's statistics. y is zero at padded positions and where a
/// query sees no key.
pub(super) fn forward(cpu: &Cpu, blocks: Blocks, statistics: &mut [f32], y: &mut [f32]) {
    let layout = blocks.layout;
    let outputs = Outputs { statistics: Shards::new(statistics), y: Shards::new(y) };
    let (units, rows) = (layout.batch * layout.groups, layout.rows());
    let piece = match units {
        0 => return,
        units if units >= 2 * cpu.threads() => rows,
        units => (rows * units).div_ceil(4 * cpu.threads()).next_multiple_of(PIECE),
    };
    let pieces = rows.div_ceil(piece);
    cpu.for_each(units * pieces, |worker, task| {
        let at = head_of(layout, task / pieces);
        let start = task % pieces * piece;
        let laid = Laid::new(worker, &blocks, at, start..(start + piece).min(rows));
        // The unit that this thread will probably take next.
        let next = (task + worker.threads) / pieces;
        let next = (pieces == 1 && next < units).then(|| head_of(layout, next));
        // SAFETY: every task has heads and positions of its own.
        unsafe { attend(worker, &blocks, at, &laid, next, &outputs) };
        blocks.source.remember(worker.level, at[0], at[1], &laid);
        laid.give(worker);
    });
}

/// The outputs of the queries in `laid`, for all query heads of a key head. `next` is the key head
/// whose inputs are prefetched meanwhile.
///
/// # Safety
/// No other thread may touch the outputs and the statistics of these queries.
unsafe fn attend(
    worker: &mut Worker,
    blocks: &Blocks,
    [b, group]: [usize; 2],
    laid: &Laid,
    next: Option<[usize; 2]>,
    outputs: &Outputs,
) {
    let Blocks { layout, sequence, source, prepared } = *blocks;
    let Outputs { statistics, y } = outputs;
    let (width, stride) = (layout.width, layout.stride());
    let form = Form::of(worker);
    let row = form.row(width);
    let real = sequence.real(b);
    let queries = form.pack_along(worker.buffers, &laid.queries, stride, width);
    let keys = form.pack_along(worker.buffers, &laid.keys, stride, width);
    let values = form.pack_across(worker.buffers, &laid.values, stride);
    let mut transposed = worker.buffers.take(row * BLOCK);
    let mut output = worker.buffers.take(BLOCK * stride);
    for start in laid.rows.clone().step_by(BLOCK) {
        let rows = start..start + BLOCK;
        if let Some([b, group]) = next {
            source.fetch(b, group, rows.clone());
        }
        let here = BLOCK.min(layout.queries - start);
        let shared = layout.shared() * width;
        for r in 0..here {
            let time = time_of(sequence.reverse, real, start + r);
            let row = (time * layout.batch + b) * layout.groups + group;
            fetch_to_write(y, row * shared..(row + 1) * shared);
        }
        let seen = Seen::of(layout, prepared, b, &rows, laid.seen.start, form.depth);
        let mut scores = worker.buffers.take(seen.count * BLOCK);
        for index in 0..layout.shared() {
            let head = group * layout.shared() + index;
            // SAFETY: as promised by the caller.
            let (largest, inverse) = unsafe {
                (
                    statistics.part(within(layout.largest(b, head), rows.clone())),
                    statistics.part(within(layout.inverse(b, head), rows.clone())),
                )
            };
            let query = index * laid.rows.len() + start - laid.rows.start;
            let from = part(&queries, query..query + BLOCK, row);
            worker.level.run(Transpose { from, stride: row, to: &mut transposed });
            form.multiply(scores_of(&keys, &seen, &transposed, form, width), &mut scores);
            form.run(Softmax { scores: &mut scores, seen: &seen, largest, inverse });
            form.multiply(mix_of(&scores, &values, &seen, stride, form), &mut output);
            worker.level.run(Normalise {
                from: &output,
                stride,
                width,
                count: here,
                scales: inverse,
                to: y,
                at: |r| {
                    let time = time_of(sequence.reverse, real, start + r);
                    ((time * layout.batch + b) * layout.heads + head) * width
                },
            });
        }
        worker.buffers.give(scores);
    }
    for packed in [queries, keys, values] {
        packed.give(worker.buffers);
    }
    worker.buffers.give(transposed);
    worker.buffers.give(output);
}
