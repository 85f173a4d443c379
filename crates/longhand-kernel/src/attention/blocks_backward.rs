//! The backward pass over blocks of queries (Dao, "FlashAttention-2", 2023, algorithm 2).
//!
//! For each query head, with S = Q·Kᵀ the scores, P = softmax(S), O = P·V, and dO given:
//!
//! 1. dP = dO·Vᵀ, and S again from the queries and keys,
//! 2. P from S and the saved statistics, dS = P ∘ (dP − Σ P∘dP),
//! 3. dQ = dS·K,
//! 4. dV += Pᵀ·dO and dK += dSᵀ·Q.

use std::ops::Range;

use super::blocks::{Blocks, Laid, head_of, mix_of, part, scores_of};
use super::layout::{BLOCK, time_of, within};
use super::rows::{AddRows, Gather, fetch};
use super::softmax::{PerKey, Seen, SoftmaxGradient};
use crate::buffer::Buffer;
use crate::cpu::{Cpu, Shards, Worker};
use crate::lanes::{Form, Lanes};
use crate::small_product::{Product, Strides, Transpose, Triangle};

/// Blocks whose gradients of keys and values are summed in one product. A product for each block
/// would read and write all sums for only sixteen queries.
const TOGETHER: usize = 4;

/// Adds the gradients of the rotated keys and of the values of `(b, group)`, both `[keys, stride]`,
/// from the place on that the third argument names.
pub(super) type AddKeys<'a> = dyn Fn(usize, usize, usize, &[f32], &[f32]) + Sync + 'a;

/// Where the gradients of [`backward`] go.
pub(super) struct Gradients<'a, 'b> {
    /// Queries, at `[row · queries_row + head · K]`.
    pub(super) queries: Option<&'a Shards<'b, f32>>,
    /// Elements from row to row of `queries`.
    pub(super) queries_row: usize,
    /// Keys and values; `None` where they are not wanted.
    pub(super) keys: Option<&'a AddKeys<'a>>,
    /// The first place whose gradients of keys and values are wanted.
    pub(super) keys_from: usize,
}

/// Adds the gradients, given `dy [T·B, H·K]` and the statistics of the forward pass. Each key head
/// of each sequence is one task, so that its sums have one order.
pub(super) fn backward(
    cpu: &Cpu,
    blocks: Blocks,
    statistics: &[f32],
    dy: &[f32],
    gradients: &Gradients,
) {
    let layout = blocks.layout;
    let units = layout.batch * layout.groups;
    cpu.for_each(units, |worker, unit| {
        let at = head_of(layout, unit);
        let next = unit + worker.threads;
        let next = (next < units).then(|| head_of(layout, next));
        let laid = Laid::new(worker, &blocks, at, 0..layout.rows());
        let operands = Operands::pack(worker, &blocks, &laid);
        let form = Form::of(worker);
        let pass = Pass { blocks, statistics, dy, gradients, at, laid: &laid, operands, form };
        let mut sums = KeySums::new(worker, &pass);
        let mut scratch = Scratch::new(worker, &pass);
        for start in (0..blocks.sequence.real(at[0])).step_by(TOGETHER * BLOCK) {
            if let Some(next) = next {
                pass.fetch(next, start);
            }
            let mut group = Group::new(worker, &pass, start);
            for index in 0..layout.shared() {
                pass.query_head(worker, &mut group, index, &mut scratch, &mut sums);
            }
            group.give(worker);
        }
        if let Some(add) = gradients.keys {
            add(at[0], at[1], laid.seen.start + sums.wanted.start, &sums.keys, &sums.values);
        }
        scratch.give(worker);
        sums.give(worker);
        pass.operands.give(worker);
        laid.give(worker);
    });
}

/// One key head of one sequence, and everything that its backward pass reads.
struct Pass<'a, 'b> {
    blocks: Blocks<'a>,
    statistics: &'a [f32],
    dy: &'a [f32],
    gradients: &'a Gradients<'a, 'b>,
    /// The sequence and the key head.
    at: [usize; 2],
    laid: &'a Laid,
    operands: Operands<'a>,
    form: Form,
}

/// The operands of the products, in the lanes of the form.
struct Operands<'a> {
    queries: Lanes<'a>,
    queries_across: Lanes<'a>,
    keys: Lanes<'a>,
    keys_across: Lanes<'a>,
    values: Lanes<'a>,
}

impl<'a> Operands<'a> {
    fn pack(worker: &mut Worker, blocks: &Blocks, laid: &'a Laid) -> Self {
        let (form, width, stride) = (Form::of(worker), blocks.layout.width, blocks.layout.stride());
        Self {
            queries: form.pack_along(worker.buffers, &laid.queries, stride, width),
            queries_across: form.pack_across(worker.buffers, &laid.queries, stride),
            keys: form.pack_along(worker.buffers, &laid.keys, stride, width),
            keys_across: form.pack_across(worker.buffers, &laid.keys, stride),
            values: form.pack_along(worker.buffers, &laid.values, stride, width),
        }
    }

    fn give(self, worker: &mut Worker) {
        let Self { queries, queries_across, keys, keys_across, values } = self;
        for packed in [queries, queries_across, keys, keys_across, values] {
            packed.give(worker.buffers);
        }
    }
}

/// The gradients of the keys and values of a key head, summed over its queries.
struct KeySums {
    /// The keys whose gradients are wanted, counted from the first gathered one.
    wanted: Range<usize>,
    /// `[wanted, stride]`: gradients of the rotated keys.
    keys: Buffer,
    /// `[wanted, stride]`: gradients of the values.
    values: Buffer,
}

impl KeySums {
    fn new(worker: &mut Worker, pass: &Pass) -> Self {
        let (laid, stride) = (pass.laid, pass.blocks.layout.stride());
        let places = laid.keys.len() / stride;
        let wanted = match pass.gradients.keys {
            Some(_) => pass.gradients.keys_from.saturating_sub(laid.seen.start).min(places)..places,
            None => places..places,
        };
        let [keys, values] = [(); 2].map(|()| worker.buffers.take_zeros(wanted.len() * stride));
        Self { wanted, keys, values }
    }

    fn give(self, worker: &mut Worker) {
        worker.buffers.give(self.keys);
        worker.buffers.give(self.values);
    }
}

/// Memory that every group of blocks uses again.
struct Scratch {
    /// One block of queries, transposed.
    query: Buffer,
    /// One block of gradients of outputs, transposed.
    dy_transposed: Buffer,
    /// `[TOGETHER · BLOCK, stride]`: gradients of outputs.
    dy_rows: Buffer,
    /// `[BLOCK, stride]`: gradients of queries.
    dquery: Buffer,
}

impl Scratch {
    fn new(worker: &mut Worker, pass: &Pass) -> Self {
        let stride = pass.blocks.layout.stride();
        let row = pass.form.row(pass.blocks.layout.width);
        Self {
            query: worker.buffers.take(row * BLOCK),
            dy_transposed: worker.buffers.take(row * BLOCK),
            dy_rows: worker.buffers.take_zeros(TOGETHER * BLOCK * stride),
            dquery: worker.buffers.take(BLOCK * stride),
        }
    }

    fn give(self, worker: &mut Worker) {
        for buffer in [self.query, self.dy_transposed, self.dy_rows, self.dquery] {
            worker.buffers.give(buffer);
        }
    }
}

/// Up to [`TOGETHER`] blocks of queries, and the scores of one query head in them.
struct Group {
    /// The first position, in reading order.
    start: usize,
    count: usize,
    seen: [Seen; TOGETHER],
    /// From the first to the last key that any of the blocks sees.
    span: Range<usize>,
    /// `[keys, BLOCK]`: S, then P, of one block.
    scores: Buffer,
    /// `[keys, BLOCK]`: dP, then dS, of one block.
    dscores: Buffer,
    /// `[span, TOGETHER, BLOCK]` in lanes along the queries: P of all blocks; empty where the
    /// gradients of keys and values are not wanted.
    weights_per_key: Buffer,
    /// dS in the layout of `weights_per_key`.
    dscores_per_key: Buffer,
}

impl Group {
    fn new(worker: &mut Worker, pass: &Pass, start: usize) -> Self {
        let Blocks { layout, sequence, prepared, .. } = pass.blocks;
        let b = pass.at[0];
        let count = (sequence.real(b) - start).div_ceil(BLOCK).min(TOGETHER);
        let mut seen = [Seen::NOTHING; TOGETHER];
        for (block, seen) in seen.iter_mut().enumerate().take(count) {
            let first = start + block * BLOCK;
            let rows = first..first + BLOCK;
            *seen = Seen::of(layout, prepared, b, &rows, pass.laid.seen.start, pass.form.depth);
        }
        let most = seen[..count].iter().map(|seen| seen.count).max().unwrap_or(0);
        let span = span_of(&seen[..count]);
        let room = if pass.gradients.keys.is_some() { span.len() * pass.per_key() } else { 0 };
        Self {
            start,
            count,
            seen,
            span,
            scores: worker.buffers.take(most * BLOCK),
            dscores: worker.buffers.take(most * BLOCK),
            weights_per_key: worker.buffers.take(room),
            dscores_per_key: worker.buffers.take(room),
        }
    }

    fn give(self, worker: &mut Worker) {
        let Self { scores, dscores, weights_per_key, dscores_per_key, .. } = self;
        for buffer in [scores, dscores, weights_per_key, dscores_per_key] {
            worker.buffers.give(buffer);
        }
    }
}

impl Pass<'_, '_> {
    /// Lanes of the queries of one block.
    fn lanes(&self) -> usize {
        BLOCK / self.form.depth
    }

    /// Lanes of the queries of all blocks of a group.
    fn per_key(&self) -> usize {
        TOGETHER * self.lanes()
    }

    /// Prefetches the inputs and the gradients of outputs that another key head will read.
    fn fetch(&self, [b, group]: [usize; 2], start: usize) {
        let Blocks { layout, sequence, source, .. } = self.blocks;
        let rows = start..start + TOGETHER * BLOCK;
        source.fetch(b, group, rows.clone());
        let real = sequence.real(b);
        for r in rows.start..rows.end.min(real) {
            let time = time_of(sequence.reverse, real, r);
            let row = (time * layout.batch + b) * layout.groups + group;
            let shared = layout.shared() * layout.width;
            fetch(&self.dy[row * shared..(row + 1) * shared]);
        }
    }

    /// The gradients that flow through one query head of a group of blocks.
    fn query_head(
        &self,
        worker: &mut Worker,
        group: &mut Group,
        index: usize,
        scratch: &mut Scratch,
        sums: &mut KeySums,
    ) {
        let Blocks { layout, sequence, .. } = self.blocks;
        let (width, stride, form) = (layout.width, layout.stride(), self.form);
        let [b, key_head] = self.at;
        let head = key_head * layout.shared() + index;
        let (real, start) = (sequence.real(b), group.start);
        let Scratch { dy_rows, .. } = scratch;
        let dy_rows = &mut dy_rows[..group.count * BLOCK * stride];
        worker.level.run(Gather {
            dy: self.dy,
            width,
            stride,
            count: real - start,
            at: |r| {
                let time = time_of(sequence.reverse, real, start + r);
                ((time * layout.batch + b) * layout.heads + head) * width
            },
            to: dy_rows,
        });
        let dy_along = form.pack_along(worker.buffers, dy_rows, stride, width);
        let dy_across = form.pack_across(worker.buffers, dy_rows, stride);
        let query = index * self.laid.rows.len() + start;
        for block in 0..group.count {
            self.scores(
                worker,
                group,
                block,
                [query, head],
                &dy_along,
                [&mut scratch.query, &mut scratch.dy_transposed],
            );
            self.query_gradient(worker, group, block, head, &mut scratch.dquery);
        }
        if !group.weights_per_key.is_empty() {
            self.key_gradients(group, query, &dy_across, sums);
        }
        dy_along.give(worker.buffers);
        dy_across.give(worker.buffers);
    }

    /// Steps 1 and 2: P and dS of one block, from S and dP. `query` is the head's first row of the
    /// operands; `transposed` is memory for one block of queries and one of gradients.
    fn scores(
        &self,
        worker: &mut Worker,
        group: &mut Group,
        block: usize,
        [query, head]: [usize; 2],
        dy_along: &[f32],
        [query_transposed, dy_transposed]: [&mut Buffer; 2],
    ) {
        let (form, layout, operands) = (self.form, self.blocks.layout, &self.operands);
        let (width, row) = (layout.width, form.row(layout.width));
        let seen = &group.seen[block];
        let rows = block * BLOCK..(block + 1) * BLOCK;

        // 1. S = Q·Kᵀ and dP = dO·Vᵀ.
        let from = part(&operands.queries, query + rows.start..query + rows.end, row);
        worker.level.run(Transpose { from, stride: row, to: query_transposed });
        let from = part(dy_along, rows.clone(), row);
        worker.level.run(Transpose { from, stride: row, to: dy_transposed });
        let (scores, dscores) = (&mut group.scores, &mut group.dscores);
        form.multiply(scores_of(&operands.keys, seen, query_transposed, form, width), scores);
        form.multiply(scores_of(&operands.values, seen, dy_transposed, form, width), dscores);

        // 2. P = exp(S − largest) / sum and dS = P ∘ (dP − Σ P∘dP).
        let rows = group.start + rows.start..group.start + rows.end;
        let per_key = self.per_key();
        let at = seen.start.saturating_sub(group.span.start) * per_key + block * self.lanes();
        let b = self.at[0];
        form.run(SoftmaxGradient {
            scores,
            dscores,
            seen,
            largest: &self.statistics[within(layout.largest(b, head), rows.clone())],
            inverse: &self.statistics[within(layout.inverse(b, head), rows)],
            per_key: (!group.weights_per_key.is_empty()).then(|| PerKey {
                weights: &mut group.weights_per_key[at..],
                dscores: &mut group.dscores_per_key[at..],
                row: per_key,
            }),
        });
    }

    /// Step 3: dQ = dS·K of one block, rotated back and added to the gradient of the queries.
    fn query_gradient(
        &self,
        worker: &mut Worker,
        group: &Group,
        block: usize,
        head: usize,
        dquery: &mut Buffer,
    ) {
        let Some(to) = self.gradients.queries else { return };
        let Blocks { layout, sequence, prepared, .. } = self.blocks;
        let (width, stride, b) = (layout.width, layout.stride(), self.at[0]);
        let (real, start) = (sequence.real(b), group.start + block * BLOCK);
        let keys = &self.operands.keys_across;
        self.form
            .multiply(mix_of(&group.dscores, keys, &group.seen[block], stride, self.form), dquery);
        worker.level.run(AddRows {
            from: dquery,
            stride,
            width,
            count: BLOCK.min(real - start),
            angles: (layout.angles > 0).then(|| &prepared[layout.angle(b)][start * width..]),
            scale: 1.0 / (width as f32).sqrt(),
            to,
            at: |r| {
                let time = time_of(sequence.reverse, real, start + r);
                (time * layout.batch + b) * self.gradients.queries_row + head * width
            },
        });
    }

    /// Step 4: dV += Pᵀ·dO and dK += dSᵀ·Q over all blocks of a group.
    fn key_gradients(&self, group: &Group, query: usize, dy_across: &[f32], sums: &mut KeySums) {
        let stride = self.blocks.layout.stride();
        let (lanes, per_key) = (self.lanes(), self.per_key());
        let queries = &self.operands.queries_across;
        let queries = part(queries, query / self.form.depth..queries.len() / stride, stride);
        let (span, wanted) = (&group.span, sums.wanted.start);
        each_run(&group.seen[..group.count], wanted.max(span.start)..span.end, |keys, blocks| {
            let at = (keys.start - span.start) * per_key + blocks.start * lanes;
            let of_blocks = blocks.start * lanes * stride;
            let to = (keys.start - wanted) * stride;
            for (a, b, c) in [
                (&group.weights_per_key[at..], &dy_across[of_blocks..], &mut sums.values),
                (&group.dscores_per_key[at..], &queries[of_blocks..], &mut sums.keys),
            ] {
                let product = Product {
                    a,
                    strides: Strides::Rows(per_key),
                    b,
                    m: keys.len(),
                    k: blocks.len() * lanes,
                    n: stride,
                    add: true,
                    triangle: Triangle::None,
                };
                self.form.multiply(product, &mut c[to..to + keys.len() * stride]);
            }
        });
    }
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
