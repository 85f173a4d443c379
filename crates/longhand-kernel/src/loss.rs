//! The last linear layer, softmax and cross-entropy in one, in blocks of rows, so that the logits
//! of a whole batch are never in memory at once.
//!
//! Within a block the logits are transposed, [V, rows]. Each thread owns a range of the vocabulary,
//! with it the rows of the weight's gradient and a part of the sum that is the gradient of x. The
//! passes over a softmax run across rows, one per lane. The threads pack the block's rows of x once
//! for all of them. Rows with an ignored target are left out from the start.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::cpu::{Cpu, Shards, Worker};
use crate::gemm::{
    Into, Matrix, MatrixMut, Packed, gemm_packed, gemm_serial, pack_together, packed_room,
};
use crate::linear;
use crate::pointwise::for_rows;
use crate::scratch;

pub mod binary;
pub mod ordinal;
mod passes;
pub mod pointer;
pub mod reference;
mod sampled;
mod softmax;
pub mod span;
#[cfg(test)]
mod tests;

use passes::{Exponentials, Largest, LogSoftmax, MostProbable, Scale, SumLanes};
pub use sampled::{Candidates, Sampler, sampled_cross_entropy};
pub use softmax::{cross_entropy_of_logits, softmax};

/// The target of a row that counts neither in the loss nor in its gradient.
pub const IGNORE: u32 = u32::MAX;

/// Sizes of the last layer.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// R: rows of x.
    pub rows: usize,
    /// D: columns of x and of the weight.
    pub width: usize,
    /// V: rows of the weight.
    pub vocabulary: usize,
}

/// The last layer, whose logits are x·Wᵀ + b.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a, R = f32> {
    /// `[R, D]`: the rows that the layer reads.
    pub x: &'a [R],
    /// `[V, D]`: W, one row per entry of the vocabulary.
    pub weight: &'a [R],
    /// `[V]`: b, or none.
    pub bias: Option<&'a [R]>,
}

/// The answers that [`cross_entropy`] compares the logits with.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a, R = f32> {
    /// `[R]`: ids below V, or [`IGNORE`].
    pub ids: &'a [u32],
    /// Label smoothing ε, a probability; 0 for none.
    pub smoothing: R,
}

/// The sums that [`cross_entropy`] returns.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    /// The sum of the losses, in nats.
    pub nats: f64,
    /// Rows with a target.
    pub count: usize,
    /// Rows whose target has the largest logit (equal ones included).
    pub correct: usize,
}

/// The wanted gradients of the sum of the losses times `scale`; each is added to.
pub struct Gradient<'a> {
    /// Usually 1 / the number of targets, so that the gradient is that of the mean.
    pub scale: f32,
    /// `[R, D]`: gradient of the rows that the layer reads.
    pub x: Option<&'a mut [f32]>,
    /// [V, D]; where the weight is also the embedding, its gradient.
    pub weight: Option<&'a mut [f32]>,
    /// `[V]`: gradient of the bias.
    pub bias: Option<&'a mut [f32]>,
}

/// The first target that is neither [`IGNORE`] nor below `vocabulary`, with its row. A caller that
/// takes targets from outside checks them here, since [`cross_entropy`] panics on such a target.
pub fn target_out_of_range(targets: &[u32], vocabulary: usize) -> Option<(usize, u32)> {
    let outside = |&id: &u32| id != IGNORE && id as usize >= vocabulary;
    let row = targets.iter().position(outside)?;
    Some((row, targets[row]))
}

/// Softmax cross-entropy of the layer's logits against the targets, and its gradient
/// in the same pass.
///
/// With label smoothing ε the target distribution is (1 − ε) on the target plus ε / V on every
/// entry, the target's included. `losses` `[R]` receives each row's loss in nats, 0 for ignored
/// rows. dlogits = (softmax − target distribution) · scale. Stable for any finite logits. A logit
/// that is not a number makes the loss not a number.
///
/// # Panics
/// If a target is neither below V nor [`IGNORE`] ([`target_out_of_range`] finds it), or a slice's
/// length is not that of its shape.
pub fn cross_entropy(
    cpu: &Cpu,
    size: Size,
    layer: Layer,
    targets: Targets,
    losses: Option<&mut [f32]>,
    gradient: Option<Gradient>,
) -> Total {
    check(size, &layer, &targets);
    let mut total = Total::default();
    let mut scratch = Scratch::take(cpu, size, gradient.as_ref());
    let pass = Pass::new(size, layer, targets, losses, gradient, &mut scratch, &mut total);
    cpu.run(|worker| pass.run(worker));
    scratch.give(cpu);
    total
}

/// `out` [R, V] = x·Wᵀ + b, the logits themselves.
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn logits(
    cpu: &Cpu,
    size: Size,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let Size { rows, width, vocabulary } = size;
    let size = linear::Size { rows, input: width, output: vocabulary };
    linear::forward(cpu, size, &[x], weight, bias, out);
}

/// Replaces each row of `x` [R, V] by the logarithm of its softmax, in nats.
///
/// # Panics
/// If `x` is not whole rows of `vocabulary`.
pub fn log_softmax(cpu: &Cpu, vocabulary: usize, x: &mut [f32]) {
    if vocabulary == 0 {
        return;
    }
    assert_eq!(x.len() % vocabulary, 0, "whole rows of logits");
    let rows = x.len() / vocabulary;
    let x = Shards::new(x);
    for_rows(cpu, rows, vocabulary, |worker, range| {
        for r in range {
            // SAFETY: each row belongs to one thread.
            let row = unsafe { x.part(r * vocabulary..(r + 1) * vocabulary) };
            worker.level.run(LogSoftmax(row));
        }
    });
}

/// The place of each row's largest value, the first of equal ones, among `x` [R, V]: what greedy
/// decoding reads next. What is not a number is passed over; a row of nothing else gives 0.
///
/// # Panics
/// If `x` is not a row of `vocabulary` for each place.
pub fn most_probable(cpu: &Cpu, vocabulary: usize, x: &[f32], places: &mut [u32]) {
    assert_eq!(x.len(), places.len() * vocabulary, "a row of logits for each place");
    let rows = places.len();
    let places = Shards::new(places);
    for_rows(cpu, rows, vocabulary, |worker, range| {
        for r in range {
            let row = &x[r * vocabulary..(r + 1) * vocabulary];
            // SAFETY: each row belongs to one thread.
            let place = unsafe { places.part(r..r + 1) };
            place[0] = worker.level.run(MostProbable(row)) as u32;
        }
    });
}

/// Most rows of a block.
const MOST_ROWS: usize = 512;
/// Fewest rows of a block: with fewer, reading the weight costs more than the product.
const FEWEST_ROWS: usize = 64;
/// Logits of a block, where it may have fewer than [`MOST_ROWS`]: 16 MB stay in the last cache.
/// Each block reads the weight twice and its gradient once, so that few blocks are better.
const BLOCK_LOGITS: usize = 1 << 22;
/// Vocabulary entries handled at once, so that their logits are still near when they are used.
const ENTRIES: usize = 768;
/// Padding of rows of logits. Without it their distance would be a power of two, and their
/// addresses would collide in the cache.
const PAD: usize = 16;

fn check(size: Size, layer: &Layer, targets: &Targets) {
    let Size { rows, width, vocabulary } = size;
    let Layer { x, weight, bias } = layer;
    assert_eq!(targets.ids.len(), rows, "one target per row");
    assert_eq!(x.len(), rows * width, "the input of the last layer");
    assert_eq!(weight.len(), vocabulary * width, "the weight of the last layer");
    assert!(bias.is_none_or(|bias| bias.len() == vocabulary), "the bias of the last layer");
    if let Some((row, target)) = target_out_of_range(targets.ids, vocabulary) {
        panic!("target {target} of row {row} is outside a vocabulary of {vocabulary}");
    }
}

fn sized(gradient: &mut [f32], len: usize) -> Shards<'_, f32> {
    assert_eq!(gradient.len(), len, "a gradient of the last layer");
    Shards::new(gradient)
}

/// Rows of a block: the most that the bounds above allow, evenly over the blocks.
fn block_rows(size: Size) -> usize {
    let most = (BLOCK_LOGITS / size.vocabulary.max(1)).clamp(FEWEST_ROWS, MOST_ROWS);
    let blocks = size.rows.div_ceil(most).max(1);
    size.rows.div_ceil(blocks).max(1).next_multiple_of(16)
}

/// The memory that the threads of one call share.
struct Scratch {
    /// Elements from one vocabulary entry's logits to the next one's.
    stride: usize,
    /// Rows of a block.
    block: usize,
    /// `[V, stride]`: the logits of a block.
    logits: Buffer,
    /// `[block, D]`: the block's rows of x, where they are not adjacent.
    block_x: Buffer,
    /// The block's rows as the right operand of W·xᵀ, `[D, block]`.
    packed_x: Buffer,
    /// The block's rows as the right operand of dlogits·x, `[block, D]`.
    packed_rows: Buffer,
    /// `[threads, block, D]`: for each thread, the part of the gradient of x that
    /// comes through its entries.
    block_dx: Buffer,
    /// `[threads, 3, stride]`: for each thread and row, over the thread's part of the vocabulary,
    /// the largest logit, the sum of exponentials, the sum of logits less the largest.
    per_thread: Buffer,
    /// `[stride]`: the logit of each row's target.
    target_logits: Buffer,
}

impl Scratch {
    fn take(cpu: &Cpu, size: Size, gradient: Option<&Gradient>) -> Self {
        let Size { width, vocabulary, .. } = size;
        let block = block_rows(size);
        let (stride, threads) = (block + PAD, cpu.threads());
        let with_weight = gradient.is_some_and(|gradient| gradient.weight.is_some());
        let with_x = gradient.is_some_and(|gradient| gradient.x.is_some());
        let packed_rows = if with_weight { packed_room(cpu, block, width) } else { 0 };
        Self {
            stride,
            block,
            logits: scratch::take(cpu, vocabulary * stride),
            block_x: scratch::take(cpu, block * width),
            packed_x: scratch::take(cpu, packed_room(cpu, width, block)),
            packed_rows: scratch::take(cpu, packed_rows),
            block_dx: scratch::take(cpu, if with_x { threads * block * width } else { 0 }),
            per_thread: scratch::take(cpu, 3 * threads * stride),
            target_logits: scratch::take(cpu, stride),
        }
    }

    fn give(self, cpu: &Cpu) {
        let Self { logits, block_x, packed_x, packed_rows, .. } = self;
        let Self { block_dx, per_thread, target_logits, .. } = self;
        for buffer in [logits, block_x, packed_x, packed_rows, block_dx, per_thread, target_logits]
        {
            scratch::give(cpu, buffer);
        }
    }
}

/// The arguments and the memory of one call, shared by the threads.
struct Pass<'a> {
    size: Size,
    layer: Layer<'a>,
    targets: Targets<'a>,
    /// [`Gradient::scale`], where gradients are wanted.
    scale: Option<f32>,
    losses: Option<Shards<'a, f32>>,
    dx: Option<Shards<'a, f32>>,
    dweight: Option<Shards<'a, f32>>,
    dbias: Option<Shards<'a, f32>>,
    // As in `Scratch`.
    stride: usize,
    block: usize,
    logits: Shards<'a, f32>,
    block_x: Shards<'a, f32>,
    packed_x: Shards<'a, f32>,
    packed_rows: Shards<'a, f32>,
    block_dx: Shards<'a, f32>,
    per_thread: Shards<'a, f32>,
    target_logits: Shards<'a, f32>,
    total: Shards<'a, Total>,
}

impl<'a> Pass<'a> {
    fn new(
        size: Size,
        layer: Layer<'a>,
        targets: Targets<'a>,
        losses: Option<&'a mut [f32]>,
        gradient: Option<Gradient<'a>>,
        scratch: &'a mut Scratch,
        total: &'a mut Total,
    ) -> Self {
        let Size { rows, width, vocabulary } = size;
        let (scale, dx, dweight, dbias) = match gradient {
            None => (None, None, None, None),
            Some(gradient) => (
                Some(gradient.scale),
                gradient.x.map(|dx| sized(dx, rows * width)),
                gradient.weight.map(|dweight| sized(dweight, vocabulary * width)),
                gradient.bias.map(|dbias| sized(dbias, vocabulary)),
            ),
        };
        let losses = losses.map(|losses| {
            assert_eq!(losses.len(), rows, "one loss per row");
            losses.fill(0.0);
            Shards::new(losses)
        });
        Self {
            size,
            layer,
            targets,
            scale,
            losses,
            dx,
            dweight,
            dbias,
            stride: scratch.stride,
            block: scratch.block,
            logits: Shards::new(&mut scratch.logits),
            block_x: Shards::new(&mut scratch.block_x),
            packed_x: Shards::new(&mut scratch.packed_x),
            packed_rows: Shards::new(&mut scratch.packed_rows),
            block_dx: Shards::new(&mut scratch.block_dx),
            per_thread: Shards::new(&mut scratch.per_thread),
            target_logits: Shards::new(&mut scratch.target_logits),
            total: Shards::new(std::slice::from_mut(total)),
        }
    }

    fn run(&self, worker: &mut Worker) {
        let entries = worker.share(self.size.vocabulary, 1);
        // For each row of the block: the largest logit, then the factor of its exponentials.
        let mut by_row = worker.buffers.take(self.stride);
        let mut rows = [0usize; MOST_ROWS];
        let mut next = 0;
        loop {
            let mut count = 0;
            while next < self.size.rows && count < self.block {
                if self.targets.ids[next] != IGNORE {
                    rows[count] = next;
                    count += 1;
                }
                next += 1;
            }
            let rows = &rows[..count];
            if rows.is_empty() {
                break;
            }
            self.pack(worker, rows);
            worker.barrier();
            self.write_logits(worker, rows, entries.clone());
            worker.barrier();
            self.exponentiate(worker, rows.len(), entries.clone(), &mut by_row);
            worker.barrier();
            if worker.index == 0 {
                self.record(worker.threads, rows);
            }
            if let Some(scale) = self.scale {
                self.factors(worker.threads, scale, &mut by_row);
                self.by_entry(worker, rows, entries.clone(), scale, &by_row);
                worker.barrier();
                self.add_dx(worker, rows);
            }
            worker.barrier();
        }
        worker.buffers.give(by_row);
    }

    /// Puts the block's rows of x together and packs them.
    fn pack(&self, worker: &Worker, rows: &[usize]) {
        let width = self.size.width;
        let (first, last) = (rows[0], rows[rows.len() - 1]);
        let x = if last + 1 - first == rows.len() {
            &self.layer.x[first * width..(last + 1) * width]
        } else {
            for i in worker.share(rows.len(), 1) {
                // SAFETY: each row belongs to one thread.
                unsafe { self.block_x.part(i * width..(i + 1) * width) }
                    .copy_from_slice(&self.layer.x[rows[i] * width..(rows[i] + 1) * width]);
            }
            worker.barrier();
            // SAFETY: from here to the next block, block_x is only read.
            unsafe { self.block_x.read(0..rows.len() * width) }
        };
        let x = Matrix::new(x, rows.len(), width);
        pack_together(worker, x.t(), &self.packed_x);
        if self.dweight.is_some() {
            pack_together(worker, x, &self.packed_rows);
        }
    }

    /// The logits of this thread's entries, and the largest of each row.
    fn write_logits(&self, worker: &mut Worker, rows: &[usize], entries: Range<usize>) {
        let Size { width, .. } = self.size;
        let stride = self.stride;
        // SAFETY: between barriers, what is packed is only read.
        let data = unsafe { self.packed_x.whole() };
        let x = Packed { data, k: width, n: rows.len() };
        let largest = self.own(worker.index, 0);
        largest.fill(f32::NEG_INFINITY);
        for part in parts(entries.clone()) {
            // SAFETY: each entry belongs to one thread.
            let logits = unsafe { self.logits.part(part.start * stride..part.end * stride) };
            let weight = &self.layer.weight[part.start * width..part.end * width];
            gemm_packed(
                worker,
                Matrix::new(weight, part.len(), width),
                x,
                MatrixMut::strided(logits, part.len(), rows.len(), stride),
                Into::Replace,
            );
            let bias = self.layer.bias.map(|bias| &bias[part.clone()]);
            worker.level.run(Largest { logits, stride, bias, lanes: rows.len(), largest });
        }
        for (i, &row) in rows.iter().enumerate() {
            let target = self.targets.ids[row] as usize;
            if entries.contains(&target) {
                // SAFETY: the entry is this thread's, and so is, with it, the row's target.
                unsafe {
                    let at = target * stride + i;
                    self.target_logits.part(i..i + 1)[0] = self.logits.read(at..at + 1)[0];
                }
            }
        }
    }

    /// Turns logits into exponentials, and sums them.
    fn exponentiate(
        &self,
        worker: &Worker,
        lanes: usize,
        entries: Range<usize>,
        largest: &mut [f32],
    ) {
        largest.copy_from_slice(self.of_thread(0, 0));
        for thread in 1..worker.threads {
            for (all, &of_thread) in largest.iter_mut().zip(self.of_thread(thread, 0)) {
                *all = all.max(of_thread);
            }
        }
        let [sums, logit_sums] = [1, 2].map(|what| self.own(worker.index, what));
        sums.fill(0.0);
        logit_sums.fill(0.0);
        for part in parts(entries) {
            // SAFETY: each entry belongs to one thread.
            let logits =
                unsafe { self.logits.part(part.start * self.stride..part.end * self.stride) };
            worker.level.run(Exponentials {
                logits,
                stride: self.stride,
                lanes,
                largest,
                sums,
                logit_sums: (self.targets.smoothing != 0.0).then_some(&mut *logit_sums),
            });
        }
    }

    /// Adds the block's losses up.
    fn record(&self, threads: usize, rows: &[usize]) {
        // SAFETY: only the first thread comes here, and between barriers these are only read.
        let (total, target_logits) =
            unsafe { (&mut self.total.part(0..1)[0], self.target_logits.read(0..rows.len())) };
        let over_threads = |what: usize, i: usize| {
            (0..threads).map(move |thread| f64::from(self.of_thread(thread, what)[i]))
        };
        let smoothing = f64::from(self.targets.smoothing);
        for (i, &row) in rows.iter().enumerate() {
            let largest = over_threads(0, i).fold(f64::NEG_INFINITY, f64::max);
            let log_sum = over_threads(1, i).sum::<f64>().ln();
            let target = f64::from(target_logits[i]) - largest;
            let mut loss = log_sum - target;
            if smoothing != 0.0 {
                let mean = over_threads(2, i).sum::<f64>() / self.size.vocabulary as f64;
                loss = (1.0 - smoothing) * loss + smoothing * (log_sum - mean);
            }
            total.nats += loss;
            total.count += 1;
            total.correct += usize::from(target == 0.0);
            if let Some(losses) = &self.losses {
                // SAFETY: only the first thread writes losses.
                unsafe { losses.part(row..row + 1)[0] = loss as f32 };
            }
        }
    }

    /// scale / the sum of exponentials, for each row.
    fn factors(&self, threads: usize, scale: f32, factors: &mut [f32]) {
        for (i, factor) in factors.iter_mut().enumerate() {
            let sum: f64 = (0..threads).map(|t| f64::from(self.of_thread(t, 1)[i])).sum();
            *factor = (f64::from(scale) / sum) as f32;
        }
    }

    /// Turns exponentials into dlogits, adds to the gradients of this thread's entries, and sums
    /// what comes through them to the gradient of x.
    fn by_entry(
        &self,
        worker: &mut Worker,
        rows: &[usize],
        entries: Range<usize>,
        scale: f32,
        factors: &[f32],
    ) {
        let Size { width, vocabulary, .. } = self.size;
        let (stride, lanes) = (self.stride, rows.len());
        let everywhere = scale * self.targets.smoothing / vocabulary as f32;
        let at_target = scale * (1.0 - self.targets.smoothing);
        // SAFETY: between barriers, what is packed is only read, and each thread has a part of the
        // gradient of x.
        let (packed_rows, dx) = unsafe {
            let len = self.block * width;
            let dx = self.dx.as_ref().map(|_| {
                let start = worker.index * len;
                self.block_dx.part(start..start + lanes * width)
            });
            (self.packed_rows.whole(), dx)
        };
        let mut dx = dx;
        let mut into = Into::Replace;
        if let (Some(dx), true) = (&mut dx, entries.is_empty()) {
            dx.fill(0.0);
        }
        for part in parts(entries) {
            // SAFETY: each entry belongs to one thread.
            let dlogits = unsafe { self.logits.part(part.start * stride..part.end * stride) };
            worker.level.run(Scale { values: dlogits, stride, lanes, factors, less: everywhere });
            for (i, &row) in rows.iter().enumerate() {
                let target = self.targets.ids[row] as usize;
                if part.contains(&target) {
                    dlogits[(target - part.start) * stride + i] -= at_target;
                }
            }
            if let Some(dbias) = &self.dbias {
                // SAFETY: each entry belongs to one thread.
                let sums = unsafe { dbias.part(part.clone()) };
                worker.level.run(SumLanes { values: dlogits, stride, lanes, sums });
            }
            if let Some(dweight) = &self.dweight {
                // SAFETY: each entry belongs to one thread.
                let dweight = unsafe { dweight.part(part.start * width..part.end * width) };
                gemm_packed(
                    worker,
                    Matrix::strided(dlogits, part.len(), lanes, stride),
                    Packed { data: packed_rows, k: lanes, n: width },
                    MatrixMut::new(dweight, part.len(), width),
                    Into::Add,
                );
            }
            if let Some(dx) = &mut dx {
                let weight = &self.layer.weight[part.start * width..part.end * width];
                gemm_serial(
                    worker,
                    Matrix::strided(dlogits, part.len(), lanes, stride).t(),
                    Matrix::new(weight, part.len(), width),
                    MatrixMut::new(dx, lanes, width),
                    into,
                );
                into = Into::Add;
            }
        }
    }

    /// Adds the threads' parts of the gradient of x together, for this thread's rows.
    fn add_dx(&self, worker: &Worker, rows: &[usize]) {
        let Some(dx) = &self.dx else { return };
        let width = self.size.width;
        for i in worker.share(rows.len(), 1) {
            // SAFETY: each row belongs to one thread, and the parts are only read.
            let dx = unsafe { dx.part(rows[i] * width..(rows[i] + 1) * width) };
            for thread in 0..worker.threads {
                let start = (thread * self.block + i) * width;
                // SAFETY: as above.
                let part = unsafe { self.block_dx.read(start..start + width) };
                dx.iter_mut().zip(part).for_each(|(dx, part)| *dx += *part);
            }
        }
    }

    /// One of the three parts of `per_thread` that this thread writes.
    #[allow(clippy::mut_from_ref)]
    fn own(&self, thread: usize, what: usize) -> &mut [f32] {
        let start = (3 * thread + what) * self.stride;
        // SAFETY: a thread writes its own part only, and others read it after a barrier.
        unsafe { self.per_thread.part(start..start + self.stride) }
    }

    /// The results of a thread, to be read after a barrier.
    fn of_thread(&self, thread: usize, what: usize) -> &[f32] {
        let start = (3 * thread + what) * self.stride;
        // SAFETY: after the barrier nobody writes it until the next one.
        unsafe { self.per_thread.read(start..start + self.stride) }
    }
}

/// A range of entries in pieces of [`ENTRIES`].
fn parts(entries: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = entries.end;
    entries.step_by(ENTRIES).map(move |start| start..(start + ENTRIES).min(end))
}
