//! The decode step of self-attention: one position, read from the KV cache in place.

use std::marker::PhantomData;
use std::ops::Range;

use super::cache::{self, Halves, Held, Whole, lower_half};
use super::rotary::{Angles, rotate_heads};
use super::self_attention::State;
use super::{Mask, Sizes};
use crate::call::Call;
use crate::cpu::{Cpu, Shards, Worker};
use crate::precision::Precision;
use crate::scratch;
use crate::sequence::Sequence;
use crate::simd::{Kernel, Vector, exp};
use crate::small_product::LANES;

/// With fewer products than this a second thread costs more than it gains.
const SERIAL_PRODUCTS: usize = 1 << 15;

/// [`forward`](super::forward) for one position (T = 1) of each stream, without a backward pass.
/// The new key and value go into the ring, which is then read in place. The cost does not depend
/// on the position. `angles` is reused from layer to layer of a step.
///
/// # Panics
/// If a length does not fit the sizes, the sequence has another number of positions than one, or
/// the mask is [`Mask::Full`].
pub fn step(call: Call<Sizes>, qkv: &[f32], state: State, angles: &mut Angles, y: &mut [f32]) {
    let Call { cpu, sizes, sequence } = call;
    sizes.check();
    let batch = sequence.batch;
    assert!(sequence.time == 1, "attention: a step is one position");
    assert!(sizes.mask != Mask::Full, "attention over whole examples has no decode step");
    assert_eq!(qkv.len(), batch * sizes.row(), "attention: the length of qkv");
    assert_eq!(y.len(), batch * sizes.heads * sizes.width, "attention: the length of y");
    state.check(&sizes, batch);
    if sizes.width == 0 {
        return;
    }
    let (width, y_row, ring) = (sizes.width, sizes.heads * sizes.width, sizes.ring_len());
    let State { keys, values, rows, position, filled } = state;
    let ring_of = |b: usize| rows.map_or(b, |rows| rows[b]);
    let mut query = scratch::take(cpu, batch * y_row);
    let angles = match sizes.rotary {
        Some(rotary) => angles.at(rotary, width, position),
        None => &[],
    };
    let taken_in = TakenIn { sizes, sequence, qkv, angles };
    {
        let (query, position, filled) =
            (Shards::new(&mut query), Shards::new(&mut *position), Shards::new(&mut *filled));
        let (keys, values) = (Shards::new(&mut *keys), Shards::new(&mut *values));
        cpu.for_each(1, |worker, _| {
            for b in 0..batch {
                // SAFETY: one thread runs this, stream after stream.
                unsafe {
                    taken_in.remember(
                        worker,
                        b,
                        query.part(b * y_row..(b + 1) * y_row),
                        State {
                            keys: keys.part(ring_of(b) * ring..(ring_of(b) + 1) * ring),
                            values: values.part(ring_of(b) * ring..(ring_of(b) + 1) * ring),
                            rows: None,
                            position: position.part(b..b + 1),
                            filled: filled.part(b..b + 1),
                        },
                    );
                }
            }
        });
    }
    let (shared, held) = (sizes.heads / sizes.groups * width, sizes.word_width());
    let y = Shards::new(y);
    let read = |worker: &mut Worker, b: usize, group: usize| {
        let heads = b * y_row + group * shared..b * y_row + (group + 1) * shared;
        // SAFETY: each group of each stream is visited by one thread.
        let y = unsafe { y.part(heads.clone()) };
        if !sequence.is_real(0, b) {
            return y.fill(0.0);
        }
        let spans = spans(sizes.window(), position[b], filled[b] as usize);
        let mut scores = worker.buffers.take(sizes.window().next_multiple_of(LANES));
        let ring = sizes.window() * held;
        let head = ring_of(b) * sizes.groups + group;
        let ring = head * ring..(head + 1) * ring;
        let read = Read {
            width,
            query: &query[heads],
            held,
            keys: &keys[ring.clone()],
            values: &values[ring],
            spans,
            scores: &mut scores,
            y,
        };
        match sizes.cache {
            Precision::F32 => worker.level.run(As::<Whole>(read, PhantomData)),
            Precision::Bf16 => worker.level.run(As::<Halves>(read, PhantomData)),
        }
        worker.buffers.give(scores);
    };
    let products = filled.iter().map(|&filled| filled as usize * y_row).sum();
    for_each_group(cpu, products, [batch, sizes.groups], read);
    scratch::give(cpu, query);
}

/// Runs `read` for every stream and key head, on the threads where that many products pay.
pub(super) fn for_each_group(
    cpu: &Cpu,
    products: usize,
    [batch, groups]: [usize; 2],
    read: impl Fn(&mut Worker, usize, usize) + Sync,
) {
    let tasks = batch * groups;
    let read = |worker: &mut Worker, i: usize| read(worker, i / groups, i % groups);
    if products < SERIAL_PRODUCTS {
        cpu.for_each(1, |worker, _| (0..tasks).for_each(|i| read(worker, i)));
    } else {
        cpu.for_each(tasks, read);
    }
}

/// The slots of the last `count` positions before `position`; they may wrap around the ring's end.
fn spans(window: usize, position: u64, count: usize) -> [Range<usize>; 2] {
    let newest = (position.saturating_sub(1) % window as u64) as usize;
    let oldest = (newest + window + 1 - count) % window;
    let end = (oldest + count).min(window);
    [oldest..end, 0..count - (end - oldest)]
}

/// The new position of each stream.
struct TakenIn<'a> {
    sizes: Sizes,
    sequence: &'a Sequence<'a>,
    qkv: &'a [f32],
    /// `[B, K]`, or nothing without rotary positions.
    angles: &'a [f32],
}

impl TakenIn<'_> {
    /// Puts the new key and value of stream `b` into its ring and rotates its queries.
    fn remember(&self, worker: &mut Worker, b: usize, query: &mut [f32], state: State) {
        let Self { sizes, sequence, qkv, angles } = self;
        if !sequence.is_real(0, b) {
            return;
        }
        let (position, filled) = (&mut state.position[0], &mut state.filled[0]);
        if sequence.starts_empty(0, b) {
            *filled = 0;
        }
        let window = sizes.window();
        let slot = (*position % window as u64) as usize;
        let (width, new) = (sizes.width, sizes.groups * sizes.width);
        let (held, window_words) = (sizes.word_width(), window * sizes.word_width());
        let (queries, others) = qkv[b * sizes.row()..(b + 1) * sizes.row()].split_at(query.len());
        let angles = sizes.rotary.map(|_| &angles[b * width..(b + 1) * width]);
        rotate_heads(worker.level, queries, angles, 1.0 / (width as f32).sqrt(), width, query);
        let mut keys = worker.buffers.take(new);
        rotate_heads(worker.level, &others[..new], angles, 1.0, width, &mut keys);
        for (from, ring) in [(&keys[..], &mut *state.keys), (&others[new..], &mut *state.values)] {
            for (head, ring) in from.chunks_exact(width).zip(ring.chunks_exact_mut(window_words)) {
                let words = &mut ring[slot * held..(slot + 1) * held];
                cache::encode(worker.level, sizes.cache, width, head, words);
            }
        }
        *position += 1;
        *filled = (*filled + 1).min(window as u32);
        worker.buffers.give(keys);
    }
}

/// Softmax of the queries of one group of one stream against its keys.
pub(super) struct Read<'a> {
    /// K: features of a head.
    pub(super) width: usize,
    /// Words from one position to the next.
    pub(super) held: usize,
    /// Adjacent heads, rotated and divided by √K.
    pub(super) query: &'a [f32],
    /// A head at each position, as the values.
    pub(super) keys: &'a [f32],
    pub(super) values: &'a [f32],
    /// The positions that may be seen.
    pub(super) spans: [Range<usize>; 2],
    /// Room for a score of each position, rounded up to whole vectors.
    pub(super) scores: &'a mut [f32],
    pub(super) y: &'a mut [f32],
}

/// The same for keys and values held as `H`.
pub(super) struct As<'a, H>(pub(super) Read<'a>, pub(super) PhantomData<H>);

/// Vectors in each half of a head that are multiplied together, at most: the registers hold the sums
/// of twice as many.
const fn widest<V: Vector>() -> usize {
    V::LANES / 4
}

impl<H: Held> Kernel for As<'_, H> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Read { width, held, query, keys, values, spans, scores, y } = self.0;
        let (keys, values, scores) = (keys.as_ptr(), values.as_ptr(), scores.as_mut_ptr());
        let heads = query.chunks_exact(width).zip(y.chunks_exact_mut(width));
        // SAFETY: the spans are within the ring, there is a score for each of their slots, and
        // every key and value has `width` elements.
        unsafe {
            for (query, y) in heads {
                let (query, y) = (query.as_ptr(), y.as_mut_ptr());
                let count = scores_of::<V, H>(query, keys, held, width, &spans, scores);
                let scale = 1.0 / exponentials::<V>(scores, count);
                let values = Piece { heads: values, held, width, spans: &spans, first: 0 };
                mix::<V, H>(&values, scores, scale, y);
            }
        }
    }
}

/// Writes the product of a query with the key of each slot, and gives their number.
///
/// # Safety
/// The caller gives keys of `width` elements, `held` words apart, in all slots of the spans, and
/// room for as many scores.
#[inline(always)]
pub(super) unsafe fn scores_of<V: Vector, H: Held>(
    query: *const f32,
    keys: *const f32,
    held: usize,
    width: usize,
    spans: &[Range<usize>; 2],
    scores: *mut f32,
) -> usize {
    let vectors = lower_half(width).div_ceil(V::LANES);
    for at in (0..vectors).step_by(widest::<V>()) {
        let piece = Piece { heads: keys, held, width, spans, first: at * V::LANES };
        // SAFETY: as the caller promises.
        unsafe {
            match (vectors - at).min(widest::<V>()) {
                1 => piece.scores::<V, H, 1>(query, scores),
                2 => piece.scores::<V, H, 2>(query, scores),
                3 => piece.scores::<V, H, 3>(query, scores),
                _ => piece.scores::<V, H, 4>(query, scores),
            }
        }
    }
    spans.iter().map(Range::len).sum()
}

/// Writes the values' sum by their weights, times `scale`, into the head's `y`.
///
/// # Safety
/// The caller gives values in every slot of the spans, a weight for each slot, and room for a head.
#[inline(always)]
unsafe fn mix<V: Vector, H: Held>(values: &Piece, weights: *const f32, scale: f32, y: *mut f32) {
    let vectors = lower_half(values.width).div_ceil(V::LANES);
    for at in (0..vectors).step_by(widest::<V>()) {
        let piece = Piece { first: at * V::LANES, ..*values };
        // SAFETY: as the caller promises.
        unsafe {
            match (vectors - at).min(widest::<V>()) {
                1 => piece.mix::<V, H, 1>(weights, scale, y),
                2 => piece.mix::<V, H, 2>(weights, scale, y),
                3 => piece.mix::<V, H, 3>(weights, scale, y),
                _ => piece.mix::<V, H, 4>(weights, scale, y),
            }
        }
    }
}

/// Some vectors of features in either half of the keys or values of all slots.
struct Piece<'a> {
    /// The ring's first head.
    heads: *const f32,
    /// Words from one position to the next.
    held: usize,
    /// K: features of a head.
    width: usize,
    spans: &'a [Range<usize>; 2],
    /// From this feature of either half on.
    first: usize,
}

impl Piece<'_> {
    /// The products of a query with N vectors of each half of the keys. The first piece replaces the
    /// scores, and each further one adds to them.
    #[inline(always)]
    unsafe fn scores<V: Vector, H: Held, const N: usize>(
        &self,
        query: *const f32,
        scores: *mut f32,
    ) {
        // SAFETY: the caller gives a query, keys in all slots and room for their scores.
        unsafe {
            let query = self.vectors::<V, Whole, N>(query);
            let mut to = scores;
            for span in self.spans {
                let mut key = self.heads.add(span.start * self.held);
                for _ in 0..span.len() / 4 {
                    let sums = self.dots::<V, H, N, 4>(&query, key);
                    if self.first == 0 {
                        V::store_sums(sums, to);
                    } else {
                        let mut more = [0.0f32; 4];
                        V::store_sums(sums, more.as_mut_ptr());
                        (0..4).for_each(|i| *to.add(i) += more[i]);
                    }
                    (key, to) = (key.wrapping_add(4 * self.held), to.add(4));
                }
                for _ in 0..span.len() % 4 {
                    let sum = self.dots::<V, H, N, 1>(&query, key)[0].sum();
                    *to = if self.first == 0 { sum } else { *to + sum };
                    (key, to) = (key.wrapping_add(self.held), to.add(1));
                }
            }
        }
    }

    /// The products of a query with C keys. The caller sums the lanes of each product.
    #[inline(always)]
    unsafe fn dots<V: Vector, H: Held, const N: usize, const C: usize>(
        &self,
        query: &[[V; 2]; N],
        keys: *const f32,
    ) -> [V; C] {
        // SAFETY: the caller gives C keys.
        unsafe {
            let mut sums = [V::zero(); C];
            for (i, sum) in sums.iter_mut().enumerate() {
                let key = self.vectors::<V, H, N>(keys.add(i * self.held));
                for n in 0..N {
                    *sum = query[n][1].mul_add(key[n][1], query[n][0].mul_add(key[n][0], *sum));
                }
            }
            sums
        }
    }

    /// The sum of N vectors of each half of the values by their weights, times `scale`.
    #[inline(always)]
    unsafe fn mix<V: Vector, H: Held, const N: usize>(
        &self,
        weights: *const f32,
        scale: f32,
        y: *mut f32,
    ) {
        // SAFETY: the caller gives values in all slots of the spans, as many weights, and a head's `y`.
        unsafe {
            // Two sums of each, so that one product need not wait for the one before.
            let mut sums = [[[V::zero(); 2]; N]; 2];
            let mut weight = weights;
            for span in self.spans {
                let mut at = self.heads.add(span.start * self.held);
                for _ in 0..span.len() / 2 {
                    for sums in &mut sums {
                        self.add::<V, H, N>(at, *weight, sums);
                        (at, weight) = (at.wrapping_add(self.held), weight.wrapping_add(1));
                    }
                }
                if span.len() % 2 == 1 {
                    self.add::<V, H, N>(at, *weight, &mut sums[0]);
                    weight = weight.wrapping_add(1);
                }
            }
            let (half, scale) = (lower_half(self.width), V::splat(scale));
            for n in 0..N {
                let at = self.first + n * V::LANES;
                for (part, count) in [half, self.width - half].into_iter().enumerate() {
                    let sum = sums[0][n][part].add(sums[1][n][part]).mul(scale);
                    sum.store_first(y.wrapping_add(part * half + at), count.saturating_sub(at));
                }
            }
        }
    }

    /// Adds one position's values by their weight.
    #[inline(always)]
    unsafe fn add<V: Vector, H: Held, const N: usize>(
        &self,
        value: *const f32,
        weight: f32,
        sums: &mut [[V; 2]; N],
    ) {
        // SAFETY: as in `mix`.
        unsafe {
            let (value, weight) = (self.vectors::<V, H, N>(value), V::splat(weight));
            for n in 0..N {
                for half in 0..2 {
                    sums[n][half] = value[n][half].mul_add(weight, sums[n][half]);
                }
            }
        }
    }

    /// N vectors of either half of a head.
    #[inline(always)]
    unsafe fn vectors<V: Vector, H: Held, const N: usize>(&self, head: *const f32) -> [[V; 2]; N] {
        // SAFETY: the caller gives a head; all vectors before the piece's last one are whole.
        unsafe {
            let mut vectors = [[V::zero(); 2]; N];
            for (n, vector) in vectors.iter_mut().enumerate() {
                let at = self.first + n * V::LANES;
                *vector = H::halves::<V>(head, at, self.width, n + 1 == N);
            }
            vectors
        }
    }
}

/// Replaces scores by the exponentials of their distance from the largest, and gives their sum.
///
/// # Safety
/// The caller gives room for `count` scores, rounded up to whole vectors.
#[inline(always)]
pub(super) unsafe fn exponentials<V: Vector>(scores: *mut f32, count: usize) -> f32 {
    // SAFETY: the caller gives room for `count` scores rounded up to whole vectors.
    unsafe {
        // The padding of the last vector vanishes in `exp`.
        (count..count.next_multiple_of(V::LANES)).for_each(|i| *scores.add(i) = f32::MIN);
        let mut most = V::splat(f32::MIN);
        for i in (0..count).step_by(V::LANES) {
            most = most.max(V::load(scores.add(i)));
        }
        let most = V::splat(most.largest());
        let mut sum = V::zero();
        for i in (0..count).step_by(V::LANES) {
            let weight = exp(V::load(scores.add(i)).sub(most));
            sum = sum.add(weight);
            weight.store(scores.add(i));
        }
        sum.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::Rotary;
    use crate::testing::values;

    /// Some rows of a larger cache, stepped in one batch, and each stepped alone: equal bits, and
    /// no other row is touched.
    #[test]
    fn picked_rows_step_as_each_does_alone() {
        for (cache, threads) in [(Precision::F32, 1), (Precision::F32, 2), (Precision::Bf16, 2)] {
            let cpu = Cpu::new(threads);
            let (heads, groups, width, mask) = (4, 2, 6, Mask::Window(5));
            let rotary = Some(Rotary::default());
            let sizes = Sizes { heads, groups, width, mask, rotary, cache };
            let (streams, picked) = (7, [1, 2, 5]);
            let ring = sizes.ring_len();
            let seeded = |seed| {
                let mut words = vec![0.0; streams * ring];
                let numbers = values(streams * sizes.ring_values(), seed);
                cache::encode(cpu.level(), cache, width, &numbers, &mut words);
                words
            };
            let (mut keys, mut others) = (seeded(1), seeded(2));
            let before = (keys.clone(), others.clone());
            let qkv = values(picked.len() * sizes.row(), 3);
            let (at, seen) = ([3u64, 90, 4], [3u32, 5, 4]);
            let mut y = vec![f32::NAN; picked.len() * heads * width];
            let (mut position, mut filled) = (at, seen);
            let state = State {
                keys: &mut keys,
                values: &mut others,
                rows: Some(&picked),
                position: &mut position,
                filled: &mut filled,
            };
            let sequence = Sequence::new(1, picked.len());
            let call = Call::new(&cpu, sizes, &sequence);
            step(call, &qkv, state, &mut Angles::default(), &mut y);
            let mut alone = before;
            for (b, row) in picked.into_iter().enumerate() {
                let (mut position, mut filled) = ([at[b]], [seen[b]]);
                let state = State {
                    keys: &mut alone.0[row * ring..(row + 1) * ring],
                    values: &mut alone.1[row * ring..(row + 1) * ring],
                    rows: None,
                    position: &mut position,
                    filled: &mut filled,
                };
                let mut own = vec![f32::NAN; heads * width];
                let qkv = &qkv[b * sizes.row()..(b + 1) * sizes.row()];
                let angles = &mut Angles::default();
                step(Call::new(&cpu, sizes, &Sequence::new(1, 1)), qkv, state, angles, &mut own);
                assert_eq!(own, y[b * heads * width..(b + 1) * heads * width]);
            }
            let bits = |words: &[f32]| words.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!((bits(&keys), bits(&others)), (bits(&alone.0), bits(&alone.1)));
            assert_eq!((position, filled), ([4, 91, 5], [4, 5, 5]));
        }
    }
}
