//! The loops over blocks of queries, forward and backward, for any layout of queries and keys.
//!
//! Scores are held transposed, `[keys, BLOCK]` (see [`softmax`](super::softmax)). All products have
//! operands in the processor's precision: what is laid out in `f32` is packed once for all blocks
//! that read it, and the passes between the products leave their results packed.

use std::ops::Range;

use super::lanes::Form;
use super::layout::{BLOCK, Layout, time_of, within};
use super::rows::{AddRows, Gather, Normalise, fetch, fetch_to_write};
use super::softmax::{PerKey, Seen, Softmax, SoftmaxGradient};
use crate::buffer::Buffer;
use crate::cpu::{Cpu, Shards, Worker};
use crate::level::Level;
use crate::sequence::Sequence;
use crate::small_product::{Lying, Product, Transpose, Triangle};

/// Queries of a piece of a long sequence, where there are too few heads for the threads.
const PIECE: usize = 64;

/// Blocks whose gradients of keys and values are summed in one product: each of them by itself
/// would read and write all sums for sixteen products each.
const TOGETHER: usize = 4;

/// Queries, keys and values of one key head of one sequence, side by side.
pub(super) struct Laid {
    /// Positions that ask, in reading order.
    pub(super) rows: Range<usize>,
    /// Places of the keys that any of them may see.
    pub(super) seen: Range<usize>,
    /// For each query head `[rows, stride]`, turned and divided by √K; zeros where nothing asks.
    pub(super) queries: Buffer,
    /// `[seen, stride]`, turned; then zeros up to a multiple of the form's depth.
    pub(super) keys: Buffer,
    /// `[seen, stride]`, and zeros as after the keys.
    pub(super) values: Buffer,
}

/// Where queries, keys and values come from.
pub(super) trait Source: Sync {
    /// Places of the keys that some rows may see. The first place is even, so that neighbours are
    /// the same in whatever pieces a sequence is handled.
    fn seen(&self, b: usize, rows: &Range<usize>) -> Range<usize>;
    /// Asks the caches for what of some rows will soon be laid out, and written if they are
    /// gradients: every row of a batch lies in a page of its own, far from the one before.
    fn fetch(&self, b: usize, group: usize, rows: Range<usize>);
    /// Fills in what is to be laid out of sequence `b` and key head `group`.
    fn lay_out(&self, level: Level, b: usize, group: usize, laid: &mut Laid);
    /// Takes note of keys and values, each time after some rows have read them.
    fn remember(&self, level: Level, b: usize, group: usize, laid: &Laid);
}

impl Laid {
    fn new(
        worker: &mut Worker,
        layout: &Layout,
        source: &dyn Source,
        [b, group]: [usize; 2],
        rows: Range<usize>,
    ) -> Self {
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

    fn give(self, worker: &mut Worker) {
        for buffer in [self.queries, self.keys, self.values] {
            worker.buffers.give(buffer);
        }
    }
}

/// Writes `y [T·B, H·K]` and each query's statistics; zeros at padded positions and where nothing
/// may be seen. `prepared` is the first part of what is saved.
pub(super) fn forward(
    cpu: &Cpu,
    layout: &Layout,
    sequence: &Sequence,
    source: &dyn Source,
    prepared: &[f32],
    statistics: &mut [f32],
    y: &mut [f32],
) {
    let (statistics, y) = (Shards::new(statistics), Shards::new(y));
    let (units, rows) = (layout.batch * layout.groups, layout.rows());
    let piece = match units {
        0 => return,
        units if units >= 2 * cpu.threads() => rows,
        units => (rows * units).div_ceil(4 * cpu.threads()).next_multiple_of(PIECE),
    };
    let pieces = rows.div_ceil(piece);
    cpu.for_each(units * pieces, |worker, task| {
        let at = [task / pieces / layout.groups, task / pieces % layout.groups];
        let start = task % pieces * piece;
        let laid = Laid::new(worker, layout, source, at, start..(start + piece).min(rows));
        // Where this thread, in all likelihood, goes on.
        let next = (task + worker.threads) / pieces;
        let next = (pieces == 1 && next < units).then(|| next_of(layout, next));
        // SAFETY: every task has heads and positions of its own.
        unsafe {
            attend(worker, layout, sequence, source, prepared, &statistics, &y, at, &laid, next);
        }
        source.remember(worker.level, at[0], at[1], &laid);
        laid.give(worker);
    });
}

/// The queries that are laid out, of the heads of `group`.
///
/// # Safety
/// No other thread may touch the outputs and the statistics of these queries.
unsafe fn attend(
    worker: &mut Worker,
    layout: &Layout,
    sequence: &Sequence,
    source: &dyn Source,
    prepared: &[f32],
    statistics: &Shards<f32>,
    y: &Shards<f32>,
    [b, group]: [usize; 2],
    laid: &Laid,
    next: Option<[usize; 2]>,
) {
    let (width, stride) = (layout.width, layout.stride());
    let form = Form::of(worker);
    let row = form.row(width);
    let real = sequence.real(b);
    let queries = form.along(worker.buffers, &laid.queries, stride, width);
    let keys = form.along(worker.buffers, &laid.keys, stride, width);
    let values = form.across(worker.buffers, &laid.values, stride);
    let mut turned = worker.buffers.take(row * BLOCK);
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
            worker.level.run(Transpose {
                from: part(&queries, query..query + BLOCK, row),
                stride: row,
                to: &mut turned,
            });
            form.multiply(scores_of(&keys, &seen, &turned, form, width), &mut scores);
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
    worker.buffers.give(turned);
    worker.buffers.give(output);
}

/// Adds the gradients of the turned keys and of the values of `(b, group)`, both `[keys, stride]`, from
/// the place on that the third argument says.
pub(super) type AddKeys<'a> = dyn Fn(usize, usize, usize, &[f32], &[f32]) + Sync + 'a;

/// Where the gradients of [`backward`] go.
pub(super) struct Gradients<'a, 'b> {
    /// Queries, at `[row · queries_row + head · K]`.
    pub(super) queries: Option<&'a Shards<'b, f32>>,
    /// Elements from row to row of `queries`.
    pub(super) queries_row: usize,
    /// Keys and values; `None` where they are not wanted.
    pub(super) keys: Option<&'a AddKeys<'a>>,
    /// The gradients of keys and values before this place are not wanted.
    pub(super) keys_from: usize,
}

/// Adds the gradients, given `dy [T·B, H·K]`. Each key head of each sequence is one task, so that
/// its sums have one order.
pub(super) fn backward(
    cpu: &Cpu,
    layout: &Layout,
    sequence: &Sequence,
    source: &dyn Source,
    saved: &[f32],
    dy: &[f32],
    gradients: &Gradients,
) {
    let (prepared, statistics) = saved.split_at(layout.prepared());
    let (width, stride) = (layout.width, layout.stride());
    let scale = 1.0 / (width as f32).sqrt();
    cpu.for_each(layout.batch * layout.groups, |worker, unit| {
        let (b, group) = (unit / layout.groups, unit % layout.groups);
        let real = sequence.real(b);
        let form = Form::of(worker);
        let row = form.row(width);
        // Lanes of the queries of a block, and of those of all blocks together.
        let lanes = BLOCK / form.depth;
        let per_key = TOGETHER * lanes;
        let laid = Laid::new(worker, layout, source, [b, group], 0..layout.rows());
        let queries = form.along(worker.buffers, &laid.queries, stride, width);
        let queries_across = form.across(worker.buffers, &laid.queries, stride);
        let keys = form.along(worker.buffers, &laid.keys, stride, width);
        let keys_across = form.across(worker.buffers, &laid.keys, stride);
        let values = form.along(worker.buffers, &laid.values, stride, width);
        // The keys whose gradients are wanted, counted from the first one laid out.
        let places = laid.keys.len() / stride;
        let wanted = match gradients.keys {
            Some(_) => gradients.keys_from.saturating_sub(laid.seen.start).min(places)..places,
            None => places..places,
        };
        let mut dkeys = worker.buffers.take_zeros(wanted.len() * stride);
        let mut dvalues = worker.buffers.take_zeros(wanted.len() * stride);
        let mut turned = worker.buffers.take(row * BLOCK);
        let mut dy_turned = worker.buffers.take(row * BLOCK);
        let mut dy_rows = worker.buffers.take_zeros(TOGETHER * BLOCK * stride);
        let mut dquery = worker.buffers.take(BLOCK * stride);
        let next = unit + worker.threads;
        let next = (next < layout.batch * layout.groups).then(|| next_of(layout, next));
        for start in (0..real).step_by(TOGETHER * BLOCK) {
            if let Some([b, group]) = next {
                let rows = start..start + TOGETHER * BLOCK;
                source.fetch(b, group, rows.clone());
                let real = sequence.real(b);
                for r in rows.start..rows.end.min(real) {
                    let time = time_of(sequence.reverse, real, r);
                    let row = (time * layout.batch + b) * layout.groups + group;
                    let shared = layout.shared() * width;
                    fetch(&dy[row * shared..(row + 1) * shared]);
                }
            }
            let blocks = (real - start).div_ceil(BLOCK).min(TOGETHER);
            let mut seen = [Seen::NOTHING; TOGETHER];
            for (block, seen) in seen.iter_mut().enumerate().take(blocks) {
                let first = start + block * BLOCK;
                let rows = first..first + BLOCK;
                *seen = Seen::of(layout, prepared, b, &rows, laid.seen.start, form.depth);
            }
            let seen = &seen[..blocks];
            let most = seen.iter().map(|seen| seen.count).max().unwrap_or(0);
            let span = span_of(seen);
            let room = if gradients.keys.is_some() { span.len() * per_key } else { 0 };
            let mut scores = worker.buffers.take(most * BLOCK);
            let mut dscores = worker.buffers.take(most * BLOCK);
            let mut weights_per_key = worker.buffers.take(room);
            let mut dscores_per_key = worker.buffers.take(room);
            for index in 0..layout.shared() {
                let head = group * layout.shared() + index;
                let query = index * laid.rows.len() + start;
                let dy_rows = &mut dy_rows[..blocks * BLOCK * stride];
                worker.level.run(Gather {
                    dy,
                    width,
                    stride,
                    count: real - start,
                    at: |r| {
                        let time = time_of(sequence.reverse, real, start + r);
                        ((time * layout.batch + b) * layout.heads + head) * width
                    },
                    to: dy_rows,
                });
                let dy_along = form.along(worker.buffers, dy_rows, stride, width);
                let dy_across = form.across(worker.buffers, dy_rows, stride);
                for (block, seen) in seen.iter().enumerate() {
                    let rows = block * BLOCK..(block + 1) * BLOCK;
                    let asking = query + rows.start..query + rows.end;
                    worker.level.run(Transpose {
                        from: part(&queries, asking, row),
                        stride: row,
                        to: &mut turned,
                    });
                    worker.level.run(Transpose {
                        from: part(&dy_along, rows.clone(), row),
                        stride: row,
                        to: &mut dy_turned,
                    });
                    form.multiply(scores_of(&keys, seen, &turned, form, width), &mut scores);
                    form.multiply(scores_of(&values, seen, &dy_turned, form, width), &mut dscores);
                    let rows = start + rows.start..start + rows.end;
                    let at = seen.start.saturating_sub(span.start) * per_key + block * lanes;
                    form.run(SoftmaxGradient {
                        scores: &mut scores,
                        dscores: &mut dscores,
                        seen,
                        largest: &statistics[within(layout.largest(b, head), rows.clone())],
                        inverse: &statistics[within(layout.inverse(b, head), rows.clone())],
                        per_key: (room > 0).then(|| PerKey {
                            weights: &mut weights_per_key[at..],
                            dscores: &mut dscores_per_key[at..],
                            row: per_key,
                        }),
                    });
                    let Some(to) = gradients.queries else { continue };
                    form.multiply(mix_of(&dscores, &keys_across, seen, stride, form), &mut dquery);
                    worker.level.run(AddRows {
                        from: &dquery,
                        stride,
                        width,
                        count: BLOCK.min(real - rows.start),
                        angles: (layout.angles > 0)
                            .then(|| &prepared[layout.angle(b)][rows.start * width..]),
                        scale,
                        to,
                        at: |r| {
                            let time = time_of(sequence.reverse, real, rows.start + r);
                            (time * layout.batch + b) * gradients.queries_row + head * width
                        },
                    });
                }
                if room > 0 {
                    let asking = part(
                        &queries_across,
                        query / form.depth..queries_across.len() / stride,
                        stride,
                    );
                    each_run(seen, wanted.start.max(span.start)..span.end, |keys, blocks| {
                        let at = (keys.start - span.start) * per_key + blocks.start * lanes;
                        let of_blocks = blocks.start * lanes * stride;
                        let to = (keys.start - wanted.start) * stride;
                        for (a, b, c) in [
                            (&weights_per_key[at..], &dy_across[of_blocks..], &mut dvalues),
                            (&dscores_per_key[at..], &asking[of_blocks..], &mut dkeys),
                        ] {
                            let product = Product {
                                a,
                                lying: Lying::Rows(per_key),
                                b,
                                m: keys.len(),
                                k: blocks.len() * lanes,
                                n: stride,
                                add: true,
                                triangle: Triangle::None,
                            };
                            form.multiply(product, &mut c[to..to + keys.len() * stride]);
                        }
                    });
                }
                dy_along.give(worker.buffers);
                dy_across.give(worker.buffers);
            }
            for buffer in [scores, dscores, weights_per_key, dscores_per_key] {
                worker.buffers.give(buffer);
            }
        }
        if let Some(add) = gradients.keys {
            add(b, group, laid.seen.start + wanted.start, &dkeys, &dvalues);
        }
        for packed in [queries, queries_across, keys, keys_across, values] {
            packed.give(worker.buffers);
        }
        laid.give(worker);
        for buffer in [dkeys, dvalues, turned, dy_turned, dy_rows, dquery] {
            worker.buffers.give(buffer);
        }
    });
}

/// The sequence and the key head of a unit.
fn next_of(layout: &Layout, unit: usize) -> [usize; 2] {
    [unit / layout.groups, unit % layout.groups]
}

/// From the first to the last key that any of the blocks sees.
fn span_of(seen: &[Seen]) -> Range<usize> {
    let seen = || seen.iter().filter(|seen| seen.count > 0).map(Seen::keys);
    match (seen().map(|keys| keys.start).min(), seen().map(|keys| keys.end).max()) {
        (Some(start), Some(end)) => start..end,
        _ => 0..0,
    }
}

/// Cuts a span of keys into runs that the same blocks see, and gives each with those blocks.
fn each_run(seen: &[Seen], span: Range<usize>, mut run: impl FnMut(Range<usize>, Range<usize>)) {
    let mut at = span.start;
    while at < span.end {
        let bounds = seen.iter().map(Seen::keys).flat_map(|keys| [keys.start, keys.end]);
        let end = bounds.filter(|&bound| bound > at).min().unwrap_or(span.end).min(span.end);
        let mut from = 0;
        for block in 0..=seen.len() {
            if seen.get(block).is_none_or(|seen| !seen.keys().contains(&at)) {
                if from < block {
                    run(at..end, from..block);
                }
                from = block + 1;
            }
        }
        at = end;
    }
}

/// Some rows of a matrix.
fn part(matrix: &[f32], rows: Range<usize>, row: usize) -> &[f32] {
    &matrix[rows.start * row..rows.end * row]
}

/// `[keys, BLOCK]`: keys (or values) against turned queries (or turned gradients of outputs), lanes
/// along the features.
fn scores_of<'a>(
    keys: &'a [f32],
    seen: &Seen,
    turned: &'a [f32],
    form: Form,
    width: usize,
) -> Product<'a> {
    let row = form.row(width);
    Product {
        a: part(keys, seen.keys(), row),
        lying: Lying::Rows(row),
        b: turned,
        m: seen.count,
        k: width.div_ceil(form.depth),
        n: BLOCK,
        add: false,
        triangle: Triangle::None,
    }
}

/// `[BLOCK, stride]`: the rows of `values` summed with the weights in `scores [keys, BLOCK]`, both in
/// lanes across the keys.
fn mix_of<'a>(
    scores: &'a [f32],
    values: &'a [f32],
    seen: &Seen,
    stride: usize,
    form: Form,
) -> Product<'a> {
    let pairs = seen.keys().start / form.depth..seen.keys().end / form.depth;
    Product {
        a: scores,
        lying: Lying::LaneColumns,
        k: pairs.len(),
        b: part(values, pairs, stride),
        m: BLOCK,
        n: stride,
        add: false,
        triangle: Triangle::None,
    }
}
