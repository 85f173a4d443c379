//! Self-attention over a sequence: operands for each head, the KV cache before and
//! after, and all gradients.

use std::ops::Range;

use super::blocks::{Blocks, Laid, Source};
use super::layout::{Layout, MOST_KEYS, time_of, within};
use super::rotary::rotate;
use super::rows::{AddRows, fetch, fetch_to_write};
use super::{Mask, Sizes, blocks_backward, blocks_forward, cache};
use crate::buffer::Buffer;
use crate::call::Call;
use crate::cpu::Shards;
use crate::level::Level;
use crate::precision::Precision;
use crate::sequence::Sequence;
use crate::simd::{Kernel, Vector};

/// Positions after which rotary angles start anew.
const POSITIONS: usize = 64;

/// The KV cache of a windowed attention: the last W keys and values of each stream, in rings.
/// Slot `p mod W` holds position p.
///
/// It is advanced in place, because a copy would cost a decoded token more than reading it. A
/// caller that needs the state before keeps a copy. The empty state is all zeros.
pub struct State<'a> {
    /// `[S, G, W, K]`, rotated by their positions and stored in the format of
    /// [`cache`]. S is B unless
    /// `rows` picks B of more streams.
    pub keys: &'a mut [f32],
    /// `[S, G, W, K]`, in the same format.
    pub values: &'a mut [f32],
    /// `[B]`: the row of `keys` and `values` that belongs to each stream of the batch, ascending.
    /// By default stream b has row b. Only [`step`](super::step()) takes rows.
    pub rows: Option<&'a [usize]>,
    /// `[B]`: positions read so far.
    pub position: &'a mut [u64],
    /// `[B]`: how many of the last positions belong to the current document, at most W.
    pub filled: &'a mut [u32],
}

impl State<'_> {
    pub(super) fn check(&self, sizes: &Sizes, batch: usize) {
        let mut streams = batch;
        if let Some(rows) = self.rows {
            assert_eq!(rows.len(), batch, "attention: one row per stream");
            assert!(rows.is_sorted_by(|a, b| a < b), "attention: rows in ascending order");
            streams = self.keys.len() / sizes.ring_len().max(1);
            assert!(rows.last().is_none_or(|&row| row < streams), "attention: a row out of range");
        }
        let ring = streams * sizes.ring_len();
        assert_eq!(self.keys.len(), ring, "attention: the length of the cached keys");
        assert_eq!(self.values.len(), ring, "attention: the length of the cached values");
        assert_eq!(self.position.len(), batch, "attention: one position per stream");
        assert_eq!(self.filled.len(), batch, "attention: one filling per stream");
    }
}

/// Elements of the buffer that [`forward`] leaves for [`backward`].
pub fn saved_len(sizes: Sizes, sequence: &Sequence) -> usize {
    layout(sizes, sequence).len()
}

fn layout(sizes: Sizes, sequence: &Sequence) -> Layout {
    let keys = carried(sizes) + sequence.time;
    assert!(keys < MOST_KEYS, "attention over {keys} positions at once: read them in chunks");
    Layout {
        batch: sequence.batch,
        heads: sizes.heads,
        groups: sizes.groups,
        width: sizes.width,
        queries: sequence.time,
        carried: carried(sizes),
        angles: if sizes.rotary.is_some() { sizes.width } else { 0 },
    }
}

/// W − 1: cached positions that the first new one may see.
fn carried(sizes: Sizes) -> usize {
    sizes.window().saturating_sub(1)
}

/// `y [T·B, H·K]` from `qkv [T·B, (H+2G)·K]`. With a window, the queries see the cached keys and
/// values too, and the state advances over the real positions. Without a state the cache begins
/// empty and is dropped. At padded positions y is zero.
///
/// # Panics
/// If a length does not fit the sizes, or a state is given to [`Mask::Full`].
pub fn forward(
    call: Call<Sizes>,
    qkv: &[f32],
    state: Option<State>,
    y: &mut [f32],
    saved: &mut [f32],
) {
    let Call { cpu, sizes, sequence } = call;
    sizes.check();
    let layout = layout(sizes, sequence);
    assert_eq!(qkv.len(), sequence.rows() * sizes.row(), "attention: the length of qkv");
    assert_eq!(y.len(), sequence.rows() * sizes.heads * sizes.width, "attention: the length of y");
    assert_eq!(saved.len(), layout.len(), "attention: the length of `saved`");
    if let Some(state) = &state {
        assert!(sizes.mask != Mask::Full, "attention over whole examples has no KV cache");
        assert!(state.rows.is_none(), "attention over a sequence reads a state of its own");
        state.check(&sizes, sequence.batch);
    }
    if sequence.rows() == 0 || sizes.width == 0 {
        return;
    }
    let (prepared, statistics) = saved.split_at_mut(layout.prepared());
    let mut counters = None;
    let ring = state.map(|state| {
        let State { keys, values, position, filled, .. } = state;
        let (position, filled) = &*counters.insert((position, filled));
        Ring { keys: Shards::new(keys), values: Shards::new(values), position, filled }
    });
    {
        let preparing = Preparing {
            sizes,
            layout,
            sequence,
            ring: ring.as_ref(),
            to: Shards::new(&mut *prepared),
        };
        // SAFETY: every sequence belongs to one thread, and nothing else runs meanwhile.
        cpu.for_each(sequence.batch, |worker, b| unsafe { preparing.prepare(worker.level, b) });
    }
    let source =
        Projection { sizes, layout, sequence, qkv, prepared, ring: ring.as_ref(), d_qkv: None };
    let blocks = Blocks { layout: &layout, sequence, source: &source, prepared };
    blocks_forward::forward(cpu, blocks, statistics, y);
    if let Some((position, filled)) = counters {
        advance(sizes, sequence, position, filled);
    }
}

/// Adds the gradients of [`forward`], which read the same `qkv`, to `d_qkv [T·B, (H+2G)·K]`. Where
/// `d_carried` is given, adds those of the cached `(keys, values)` before forward, each
/// `[B, G, W, K]`; the cached keys are rotated, and so are their gradients. Training passes `None`.
///
/// # Panics
/// If a length does not fit the sizes.
pub fn backward(
    call: Call<Sizes>,
    qkv: &[f32],
    saved: &[f32],
    dy: &[f32],
    d_qkv: &mut [f32],
    d_carried: Option<(&mut [f32], &mut [f32])>,
) {
    let Call { cpu, sizes, sequence } = call;
    sizes.check();
    let layout = layout(sizes, sequence);
    let row = sizes.row();
    assert_eq!(qkv.len(), sequence.rows() * row, "attention: the length of qkv");
    assert_eq!(d_qkv.len(), qkv.len(), "attention: the length of d_qkv");
    assert_eq!(dy.len(), sequence.rows() * sizes.heads * sizes.width, "attention: dy's length");
    assert_eq!(saved.len(), layout.len(), "attention: the length of `saved`");
    if sequence.rows() == 0 || sizes.width == 0 {
        return;
    }
    let (width, stride) = (sizes.width, layout.stride());
    let ring = sequence.batch * sizes.ring_values();
    let d_carried = d_carried.map(|(keys, values)| {
        assert_eq!((keys.len(), values.len()), (ring, ring), "attention: the cache's gradients");
        (Shards::new(keys), Shards::new(values))
    });
    let d_qkv = Shards::new(d_qkv);
    let level = cpu.level();
    let add_keys = |b: usize, group: usize, place: usize, dkeys: &[f32], dvalues: &[f32]| {
        let (real, before) = (sequence.real(b), carried(sizes));
        if real == 0 {
            return;
        }
        for (from, part, angles) in [
            (dkeys, sizes.heads + group, layout.angles > 0),
            (dvalues, sizes.heads + sizes.groups + group, false),
        ] {
            level.run(AddRows {
                from: &from[(before - place) * stride..],
                stride,
                width,
                count: real,
                angles: angles.then(|| &saved[layout.angle(b)]),
                scale: 1.0,
                to: &d_qkv,
                at: |r| {
                    let time = time_of(sequence.reverse, real, r);
                    (time * sequence.batch + b) * row + part * width
                },
            });
        }
        if let Some((to_keys, to_values)) = &d_carried {
            let [slot, filled] = saved_carried(&layout, saved, b);
            for (from, to) in [(dkeys, to_keys), (dvalues, to_values)] {
                level.run(AddRows {
                    from: &from[(before - filled - place) * stride..],
                    stride,
                    width,
                    count: filled,
                    angles: None,
                    scale: 1.0,
                    to,
                    at: |r| width * ring_at(sizes, b, group, slot, before - filled + r),
                });
            }
        }
    };
    let gradients = blocks_backward::Gradients {
        queries: Some(&d_qkv),
        queries_row: row,
        keys: Some(&add_keys),
        keys_from: if d_carried.is_some() { 0 } else { carried(sizes) },
    };
    let (prepared, statistics) = saved.split_at(layout.prepared());
    let d_qkv = Some(&d_qkv);
    let source = Projection { sizes, layout, sequence, qkv, prepared, ring: None, d_qkv };
    let blocks = Blocks { layout: &layout, sequence, source: &source, prepared };
    blocks_backward::backward(cpu, blocks, statistics, dy, &gradients);
}

/// The probabilities with which one query reads the positions it sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// The first position it sees, counted in reading order from the first one of the sequence.
    /// Cached positions are below zero.
    pub first: i64,
    /// Probabilities of that position and of each one after it; they sum to 1.
    pub values: Vec<f32>,
}

/// The attention weights of query head `head` at time `t` of sequence `b`, in the [`forward`] that
/// read `qkv` and left `saved`. It is meant for plots: it allocates, and runs on one thread.
///
/// # Panics
/// If the head or the position does not exist.
pub fn weights(
    sizes: Sizes,
    sequence: &Sequence,
    qkv: &[f32],
    saved: &[f32],
    b: usize,
    head: usize,
    t: usize,
) -> Weights {
    assert!(
        b < sequence.batch && head < sizes.heads && t < sequence.time,
        "attention: no such query"
    );
    let layout = layout(sizes, sequence);
    let row = time_of(sequence.reverse, sequence.real(b), t);
    let (stride, shared) = (layout.stride(), layout.shared());
    let (prepared, statistics) = saved.split_at(layout.prepared());
    let source = Projection { sizes, layout, sequence, qkv, prepared, ring: None, d_qkv: None };
    let rows = row..row + 1;
    let seen = source.seen(b, &rows);
    let mut laid = Laid {
        queries: Buffer::zeros(shared * stride),
        keys: Buffer::zeros(seen.len() * stride),
        values: Buffer::zeros(seen.len() * stride),
        rows,
        seen,
    };
    source.lay_out(Level::detect(), b, head / shared, &mut laid);
    let query = &laid.queries[head % shared * stride..][..sizes.width];
    let (first, end) =
        (prepared[layout.first(b)][row] as usize, prepared[layout.end(b)][row] as usize);
    let (largest, inverse) =
        (statistics[layout.largest(b, head)][row], statistics[layout.inverse(b, head)][row]);
    let values = (first..end)
        .map(|j| {
            let key = &laid.keys[(j - laid.seen.start) * stride..];
            let score: f32 = query.iter().zip(key).map(|(q, k)| q * k).sum();
            (score - largest).exp() * inverse
        })
        .collect();
    Weights { first: first as i64 - carried(sizes) as i64, values }
}

/// The number, among the heads of all rings, of the key or value of cached position `index` (of
/// W − 1, oldest first), if the first new position goes into `slot`.
fn ring_at(sizes: Sizes, b: usize, group: usize, slot: usize, index: usize) -> usize {
    let window = sizes.window();
    (b * sizes.groups + group) * window + (slot + 1 + index) % window
}

/// The slot of the first new position, and how many cached positions it may see.
fn saved_carried(layout: &Layout, prepared: &[f32], b: usize) -> [usize; 2] {
    let counts = &prepared[layout.counts(b)];
    [counts[0] as usize, counts[1] as usize]
}

/// The KV cache while threads read and write parts of it.
struct Ring<'a> {
    keys: Shards<'a, f32>,
    values: Shards<'a, f32>,
    position: &'a [u64],
    filled: &'a [u32],
}

/// The work before the blocks: the range of keys that each query sees, the rotary angles, and a
/// copy of the KV cache in `f32`.
struct Preparing<'a> {
    sizes: Sizes,
    layout: Layout,
    sequence: &'a Sequence<'a>,
    ring: Option<&'a Ring<'a>>,
    to: Shards<'a, f32>,
}

impl Preparing<'_> {
    /// Prepares the operands of sequence `b`.
    ///
    /// # Safety
    /// No other thread may prepare the same sequence, read the prepared part, or write the ring.
    unsafe fn prepare(&self, level: Level, b: usize) {
        let Self { sizes, layout, sequence, .. } = self;
        // SAFETY: as promised by the caller.
        unsafe {
            self.see(b);
            if let Some(rotary) = sizes.rotary {
                let real = sequence.real(b);
                let start = self.ring.map_or(0, |ring| ring.position[b]);
                for row in (0..real).step_by(POSITIONS) {
                    let rows = row..(row + POSITIONS).min(real);
                    let part = rows.start * sizes.width..rows.end * sizes.width;
                    let table = self.to.part(within(layout.angle(b), part));
                    rotary.fill(start + row as u64, sizes.width, table);
                }
            }
            if let Some(ring) = self.ring {
                self.copy_cache(level, ring, b);
            }
        }
    }

    /// The ring's slot of the first new position, and how many cached positions it may see.
    fn carried(&self, b: usize) -> [usize; 2] {
        let before = carried(self.sizes);
        self.ring.as_ref().map_or([0, 0], |ring| {
            let slot = ring.position[b] % self.sizes.window() as u64;
            [slot as usize, (ring.filled[b] as usize).min(before)]
        })
    }

    /// Writes the range of keys that each query of sequence `b` sees.
    ///
    /// # Safety
    /// The same as for `prepare`.
    unsafe fn see(&self, b: usize) {
        let Self { sizes, layout, sequence, to, .. } = self;
        let before = carried(*sizes);
        let real = sequence.real(b);
        let [slot, filled] = self.carried(b);
        // SAFETY: as promised by the caller.
        let (first, end, carried) = unsafe {
            (to.part(layout.first(b)), to.part(layout.end(b)), to.part(layout.counts(b)))
        };
        carried.copy_from_slice(&[slot as f32, filled as f32]);
        first.fill(0.0);
        end.fill(0.0);
        let starts = |row: usize| {
            sequence.resets.is_some()
                && sequence.starts_empty(time_of(sequence.reverse, real, row), b)
        };
        let mut document = before - filled;
        for row in 0..real {
            if starts(row) {
                document = before + row;
            }
            match sizes.mask {
                Mask::Window(_) => {
                    first[row] = document.max(row) as f32;
                    end[row] = (before + row + 1) as f32;
                }
                Mask::Full => first[row] = document as f32,
            }
        }
        if sizes.mask == Mask::Full {
            let mut next = real;
            for row in (0..real).rev() {
                end[row] = next as f32;
                if starts(row) {
                    next = row;
                }
            }
        }
    }

    /// Copies the cached keys and values that sequence `b` may still see.
    ///
    /// # Safety
    /// The same as for `prepare`.
    unsafe fn copy_cache(&self, level: Level, ring: &Ring, b: usize) {
        let Self { sizes, layout, .. } = self;
        let (before, width, held) = (carried(*sizes), sizes.width, sizes.word_width());
        let [slot, filled] = self.carried(b);
        let first = before - filled;
        // Up to the end of the ring, and from its beginning on.
        let start = (slot + 1 + first) % sizes.window();
        let until_end = filled.min(sizes.window() - start);
        let spans = [(first, start, until_end), (first + until_end, 0, filled - until_end)];
        for group in 0..sizes.groups {
            let keys = (layout.carried_keys(b, group), &ring.keys);
            let values = (layout.carried_values(b, group), &ring.values);
            for (to, from) in [keys, values] {
                for (place, slot, count) in spans {
                    let at = ((b * sizes.groups + group) * sizes.window() + slot) * held;
                    let part = within(to.clone(), place * width..(place + count) * width);
                    // SAFETY: as promised by the caller.
                    let (to, from) =
                        unsafe { (self.to.part(part), from.read(at..at + count * held)) };
                    cache::decode(level, sizes.cache, width, from, to);
                }
            }
        }
    }
}

/// Queries, keys and values of the fused projection, after the cached keys and values.
struct Projection<'a> {
    sizes: Sizes,
    layout: Layout,
    sequence: &'a Sequence<'a>,
    qkv: &'a [f32],
    prepared: &'a [f32],
    /// The KV cache that receives the new keys and values.
    ring: Option<&'a Ring<'a>>,
    /// The gradient of `qkv`, in a backward pass.
    d_qkv: Option<&'a Shards<'a, f32>>,
}

impl Source for Projection<'_> {
    fn seen(&self, b: usize, rows: &Range<usize>) -> Range<usize> {
        let real = self.sequence.real(b);
        match self.sizes.mask {
            Mask::Full => 0..real,
            Mask::Window(_) if rows.start >= real => 0..0,
            Mask::Window(_) => {
                let before = carried(self.sizes);
                let [_, filled] = saved_carried(&self.layout, self.prepared, b);
                rows.start.max(before - filled) & !1..before + rows.end.min(real)
            }
        }
    }

    fn fetch(&self, b: usize, group: usize, rows: Range<usize>) {
        let Sizes { heads, groups, width, .. } = self.sizes;
        let (real, shared) = (self.sequence.real(b), heads / groups);
        let [_, filled] = saved_carried(&self.layout, self.prepared, b);
        let before = carried(self.sizes);
        for place in rows.start.max(before - filled)..rows.end.min(before) {
            let keys = self.layout.carried_keys(b, group);
            for carried in [keys, self.layout.carried_values(b, group)] {
                fetch(&self.prepared[within(carried, place * width..(place + 1) * width)]);
            }
        }
        for row in rows.start..rows.end.min(real) {
            let time = time_of(self.sequence.reverse, real, row);
            let row = (time * self.sequence.batch + b) * self.sizes.row();
            for (head, count) in
                [(group * shared, shared), (heads + group, 1), (heads + groups + group, 1)]
            {
                let part = row + head * width..row + (head + count) * width;
                if let Some(d_qkv) = self.d_qkv {
                    fetch_to_write(d_qkv, part.clone());
                }
                fetch(&self.qkv[part]);
            }
        }
    }

    fn lay_out(&self, level: Level, b: usize, group: usize, laid: &mut Laid) {
        level.run(LayOut { projection: self, b, group, laid });
    }

    /// Writes the last keys and values of sequence `b` into its ring.
    fn remember(&self, level: Level, b: usize, group: usize, laid: &Laid) {
        let Self { sizes, layout, sequence, prepared, .. } = self;
        let Some(ring) = self.ring else { return };
        let real = sequence.real(b);
        if real == 0 || !laid.rows.contains(&(real - 1)) {
            return;
        }
        let (width, held) = (sizes.width, sizes.word_width());
        let (stride, before) = (layout.stride(), carried(*sizes));
        let [slot, _] = saved_carried(layout, prepared, b);
        for (from, to) in [(&laid.keys, &ring.keys), (&laid.values, &ring.values)] {
            for row in real.saturating_sub(sizes.window())..real {
                // The slot after W − 1 cached positions and `row` new ones.
                let at = held * ring_at(*sizes, b, group, slot, before + row);
                let from = &from[(before + row - laid.seen.start) * stride..][..width];
                // SAFETY: the rows at the end of a sequence belong to one task, and nothing reads
                // the ring once it has been copied.
                let to = unsafe { to.part(at..at + held) };
                cache::encode(level, sizes.cache, width, from, to);
            }
        }
    }
}

/// Advances the counters by the real positions that were read.
fn advance(sizes: Sizes, sequence: &Sequence, position: &mut [u64], filled: &mut [u32]) {
    for b in 0..sequence.batch {
        let real = sequence.real(b);
        position[b] += real as u64;
        let document = (0..real)
            .rev()
            .find(|&row| sequence.starts_empty(time_of(sequence.reverse, real, row), b));
        let seen = match document {
            Some(start) => real - start,
            None => filled[b] as usize + real,
        };
        filled[b] = seen.min(sizes.window()) as u32;
    }
}

/// Rounds features to bf16.
///
/// # Safety
/// The machine must have the instruction set of `V`.
#[inline(always)]
unsafe fn round<V: Vector>(features: &mut [f32]) {
    for i in (0..features.len()).step_by(V::LANES) {
        let count = features.len() - i;
        // SAFETY: only the lanes within are touched.
        unsafe {
            let at = features.as_mut_ptr().add(i);
            V::load_first(at, count).round_bf16().store_first(at, count);
        }
    }
}

/// Gathers the queries of one key head and the keys and values they see, rotated by position.
struct LayOut<'a> {
    projection: &'a Projection<'a>,
    b: usize,
    group: usize,
    laid: &'a mut Laid,
}

impl Kernel for LayOut<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { projection, b, group, laid } = self;
        let Projection { sizes, layout, sequence, qkv, prepared, .. } = *projection;
        let (width, stride, shared) = (sizes.width, layout.stride(), layout.shared());
        let (real, before) = (sequence.real(b), carried(sizes));
        let scale = 1.0 / (width as f32).sqrt();
        let angles = &prepared[layout.angle(b)];
        let angles = |row: usize| sizes.rotary.map(|_| &angles[row * width..(row + 1) * width]);
        let head = |row: usize, head: usize| {
            let time = time_of(sequence.reverse, real, row);
            &qkv[(time * sequence.batch + b) * sizes.row() + head * width..][..width]
        };
        // SAFETY: the caller has the instruction set.
        unsafe {
            for (index, to) in laid.queries.chunks_exact_mut(stride).enumerate() {
                let (row, to) = (laid.rows.start + index % laid.rows.len(), &mut to[..width]);
                if row < real {
                    let from = head(row, group * shared + index / laid.rows.len());
                    rotate::<V>(from, angles(row), scale, to);
                } else {
                    // A lane without a query still takes part in the products.
                    to.fill(0.0);
                }
            }
            let [_, filled] = saved_carried(&layout, prepared, b);
            let keys = laid.keys.chunks_exact_mut(stride);
            let values = laid.values.chunks_exact_mut(stride);
            for ((place, key), value) in laid.seen.clone().zip(keys).zip(values) {
                let (key, value) = (&mut key[..width], &mut value[..width]);
                if place >= before {
                    let row = place - before;
                    rotate::<V>(head(row, sizes.heads + group), angles(row), 1.0, key);
                    rotate::<V>(head(row, sizes.heads + sizes.groups + group), None, 1.0, value);
                    if sizes.cache == Precision::Bf16 {
                        round::<V>(key);
                        round::<V>(value);
                    }
                } else if place >= before - filled {
                    let part = place * width..(place + 1) * width;
                    let from = within(layout.carried_keys(b, group), part.clone());
                    rotate::<V>(&prepared[from], None, 1.0, key);
                    let from = within(layout.carried_values(b, group), part);
                    rotate::<V>(&prepared[from], None, 1.0, value);
                } else {
                    // No query sees it, but it takes part in the products.
                    key.fill(0.0);
                    value.fill(0.0);
                }
            }
        }
    }
}
