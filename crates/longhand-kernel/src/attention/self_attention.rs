//! Self-attention over a sequence: laying out per head, the ring before and after, gradients.

use super::blocks::{self, AddRows, Gradients, within};
use super::layout::{BLOCK, Layout, real_positions, time_of};
use super::rotary::turn;
use super::{Mask, Sizes};
use crate::cpu::{Cpu, Shards, Worker};
use crate::sequence::Sequence;
use crate::simd::{Kernel, Vector};

/// Positions laid out per task; rotary angles start anew at each.
const POSITIONS: usize = 64;

/// What a windowed attention remembers of each stream: the last W keys and values, in rings.
/// The position `p` of a stream lies in slot `p mod W`.
///
/// It is advanced in place, because copying it would cost a decoded token more than reading it;
/// whoever needs the state before keeps a copy. All zeros is the empty state.
pub struct State<'a> {
    /// `[B, W, G·K]`, turned by their positions.
    pub keys: &'a mut [f32],
    /// `[B, W, G·K]`.
    pub values: &'a mut [f32],
    /// `[B]`: positions read so far.
    pub position: &'a mut [u64],
    /// `[B]`: how many of the last positions belong to the current document, at most W.
    pub filled: &'a mut [u32],
}

impl State<'_> {
    pub(super) fn check(&self, sizes: &Sizes, batch: usize) {
        let ring = batch * sizes.ring_len();
        assert_eq!(self.keys.len(), ring, "attention: the length of the carried keys");
        assert_eq!(self.values.len(), ring, "attention: the length of the carried values");
        assert_eq!(self.position.len(), batch, "attention: one position per stream");
        assert_eq!(self.filled.len(), batch, "attention: one filling per stream");
    }
}

/// Elements of the buffer that [`forward`] leaves for [`backward`].
pub fn saved_len(sizes: Sizes, sequence: &Sequence) -> usize {
    layout(sizes, sequence).len()
}

fn layout(sizes: Sizes, sequence: &Sequence) -> Layout {
    Layout {
        batch: sequence.batch,
        heads: sizes.heads,
        groups: sizes.groups,
        width: sizes.width,
        queries: sequence.time,
        keys: carried(sizes) + sequence.time,
        angles: if sizes.rotary.is_some() { sizes.width } else { 0 },
    }
}

/// W − 1: carried positions that the first new one may see.
fn carried(sizes: Sizes) -> usize {
    sizes.window().saturating_sub(1)
}

/// `y [T·B, H·K]` from `qkv [T·B, (H+2G)·K]`. With a window, the state's keys and values are seen
/// too, and it is advanced over the real positions; without a state it begins empty and nothing
/// is kept. At padded positions y is zero.
///
/// # Panics
/// If a length does not fit the sizes, or a state is given to [`Mask::Full`].
pub fn forward(
    cpu: &Cpu,
    sizes: Sizes,
    sequence: &Sequence,
    qkv: &[f32],
    state: Option<State>,
    y: &mut [f32],
    saved: &mut [f32],
) {
    sizes.check();
    let layout = layout(sizes, sequence);
    assert_eq!(qkv.len(), sequence.rows() * sizes.row(), "attention: the length of qkv");
    assert_eq!(y.len(), sequence.rows() * sizes.heads * sizes.width, "attention: the length of y");
    assert_eq!(saved.len(), layout.len(), "attention: the length of `saved`");
    if let Some(state) = &state {
        assert!(sizes.mask != Mask::Full, "attention over whole examples carries no state");
        state.check(&sizes, sequence.batch);
    }
    if sequence.rows() == 0 || sizes.width == 0 {
        return;
    }
    let (saved, y) = (Shards::new(saved), Shards::new(y));
    let mut counters = None;
    let ring = state.map(|state| {
        let State { keys, values, position, filled } = state;
        let (position, filled) = &*counters.insert((position, filled));
        Ring { keys: Shards::new(keys), values: Shards::new(values), position, filled }
    });
    let reading = Reading { sizes, layout, sequence, qkv, ring, saved: &saved };
    let (pieces, blocks) = (sequence.time.div_ceil(POSITIONS), layout.rows() / BLOCK);
    let lay_out = |worker: &Worker, b: usize, piece: usize| {
        // SAFETY: every task has positions of its own, and they are read after it.
        unsafe { reading.lay_out(worker, b, piece) }
    };
    let attend = |worker: &mut Worker, b: usize, task: usize| {
        let at = [b, task / blocks, task % blocks];
        // SAFETY: every task has heads and positions of its own, laid out before it.
        unsafe { blocks::forward(worker, &layout, sequence, &saved, &y, at) }
    };
    let remember = |b: usize| {
        // SAFETY: every task has a ring of its own, recalled before it.
        unsafe { reading.remember(b) }
    };
    let tasks = sizes.groups * blocks;
    if sequence.batch >= 2 * cpu.threads() {
        // What is laid out for a sequence is read while it is near.
        cpu.for_each(sequence.batch, |worker, b| {
            (0..pieces).for_each(|piece| lay_out(worker, b, piece));
            (0..tasks).for_each(|task| attend(worker, b, task));
            remember(b);
        });
    } else {
        let batch = sequence.batch;
        cpu.for_each(batch * pieces, |worker, i| lay_out(worker, i / pieces, i % pieces));
        cpu.for_each(batch * tasks, |worker, i| attend(worker, i / tasks, i % tasks));
        cpu.for_each(batch, |_, b| remember(b));
    }
    if let Some((position, filled)) = counters {
        advance(sizes, sequence, position, filled);
    }
}

/// Adds the gradients of [`forward`] to `d_qkv [T·B, (H+2G)·K]` and, where wanted, to those of the
/// carried `(keys, values)`, each `[B, W, G·K]`, as they were before forward. The keys are turned,
/// and so are their gradients. Training cuts the gradient there and gives `None`.
///
/// # Panics
/// If a length does not fit the sizes.
pub fn backward(
    cpu: &Cpu,
    sizes: Sizes,
    sequence: &Sequence,
    saved: &[f32],
    dy: &[f32],
    d_qkv: &mut [f32],
    d_carried: Option<(&mut [f32], &mut [f32])>,
) {
    sizes.check();
    let layout = layout(sizes, sequence);
    let row = sizes.row();
    assert_eq!(d_qkv.len(), sequence.rows() * row, "attention: the length of d_qkv");
    assert_eq!(dy.len(), sequence.rows() * sizes.heads * sizes.width, "attention: dy's length");
    assert_eq!(saved.len(), layout.len(), "attention: the length of `saved`");
    if sequence.rows() == 0 || sizes.width == 0 {
        return;
    }
    let (width, stride) = (sizes.width, layout.stride());
    let ring = sequence.batch * sizes.ring_len();
    let d_carried = d_carried.map(|(keys, values)| {
        assert_eq!((keys.len(), values.len()), (ring, ring), "attention: the carried gradients");
        (Shards::new(keys), Shards::new(values))
    });
    let d_qkv = Shards::new(d_qkv);
    let level = cpu.level();
    let add_keys = |b: usize, group: usize, dkeys: &[f32], dvalues: &[f32]| {
        let real = real_positions(sequence, b);
        let before = carried(sizes);
        for (from, part, angles) in [
            (dkeys, sizes.heads + group, layout.angles > 0),
            (dvalues, sizes.heads + sizes.groups + group, false),
        ] {
            level.run(AddRows {
                from: &from[before * stride..],
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
                    from: &from[(before - filled) * stride..],
                    stride,
                    width,
                    count: filled,
                    angles: None,
                    scale: 1.0,
                    to,
                    at: |r| ring_at(sizes, b, group, slot, before - filled + r),
                });
            }
        }
    };
    let gradients = Gradients { queries: Some(&d_qkv), queries_row: row, keys: Some(&add_keys) };
    blocks::backward(cpu, &layout, sequence, saved, dy, &gradients);
}

/// The probabilities with which one query reads the positions it sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// The first position it sees, counted in reading order from the first one of the sequence;
    /// below zero for a carried one.
    pub first: i64,
    /// The probability of that position and of each after it; they sum to 1.
    pub values: Vec<f32>,
}

/// What query head `head` at time `t` of sequence `b` attended to in the [`forward`] that left
/// `saved`. For plots: it allocates and takes its time.
///
/// # Panics
/// If the head or the position does not exist.
pub fn weights(
    sizes: Sizes,
    sequence: &Sequence,
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
    let row = time_of(sequence.reverse, real_positions(sequence, b), t);
    let stride = layout.stride();
    let query = &saved[within(layout.query(b, head), row * stride..row * stride + sizes.width)];
    let keys = &saved[layout.key(b, head / layout.shared())];
    let (first, end) = (saved[layout.first(b)][row] as usize, saved[layout.end(b)][row] as usize);
    let (largest, inverse) =
        (saved[layout.largest(b, head)][row], saved[layout.inverse(b, head)][row]);
    let values = (first..end)
        .map(|j| {
            let score: f32 = query.iter().zip(&keys[j * stride..]).map(|(q, k)| q * k).sum();
            (score - largest).exp() * inverse
        })
        .collect();
    Weights { first: first as i64 - carried(sizes) as i64, values }
}

/// Where the key or value of carried position `index` lies (W − 1 of them, oldest first), if the
/// first new position goes into `slot`.
fn ring_at(sizes: Sizes, b: usize, group: usize, slot: usize, index: usize) -> usize {
    let window = sizes.window();
    (((b * window) + (slot + 1 + index) % window) * sizes.groups + group) * sizes.width
}

/// The slot of the first new position and the number of carried ones that it may see.
fn saved_carried(layout: &Layout, saved: &[f32], b: usize) -> [usize; 2] {
    let carried = &saved[layout.carried(b)];
    [carried[0] as usize, carried[1] as usize]
}

/// The carried state while threads read and write parts of it.
struct Ring<'a> {
    keys: Shards<'a, f32>,
    values: Shards<'a, f32>,
    position: &'a [u64],
    filled: &'a [u32],
}

/// What the tasks of [`forward`] share.
struct Reading<'a> {
    sizes: Sizes,
    layout: Layout,
    sequence: &'a Sequence<'a>,
    qkv: &'a [f32],
    ring: Option<Ring<'a>>,
    saved: &'a Shards<'a, f32>,
}

impl Reading<'_> {
    /// Lays out some positions of sequence `b`, and before the first ones what is carried.
    ///
    /// # Safety
    /// No other thread may lay out the same, or read it yet.
    unsafe fn lay_out(&self, worker: &Worker, b: usize, piece: usize) {
        let ring = self.ring.as_ref();
        // SAFETY: as promised by the caller.
        unsafe {
            if piece == 0 {
                self.see(b);
                if let Some(ring) = ring {
                    self.recall(ring, b);
                }
            }
        }
        let rows = piece * POSITIONS..((piece + 1) * POSITIONS).min(self.layout.rows());
        let position = ring.map_or(0, |ring| ring.position[b]);
        worker.level.run(LayOut { reading: self, b, rows, position });
    }

    /// The ring's slot of the first new position, and how many carried ones it may see.
    fn carried(&self, b: usize) -> [usize; 2] {
        let before = carried(self.sizes);
        self.ring.as_ref().map_or([0, 0], |ring| {
            let slot = ring.position[b] % self.sizes.window() as u64;
            [slot as usize, (ring.filled[b] as usize).min(before)]
        })
    }

    /// Writes which keys each query of sequence `b` sees.
    ///
    /// # Safety
    /// No other thread may read or write this meanwhile.
    unsafe fn see(&self, b: usize) {
        let Self { sizes, layout, sequence, saved, .. } = self;
        let before = carried(*sizes);
        let real = real_positions(sequence, b);
        let [slot, filled] = self.carried(b);
        // SAFETY: as promised by the caller.
        let (first, end, carried) = unsafe {
            (saved.part(layout.first(b)), saved.part(layout.end(b)), saved.part(layout.carried(b)))
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

    /// Copies what sequence `b` may still see of the ring before its new keys and values.
    ///
    /// # Safety
    /// No other thread may touch this meanwhile, nor write the ring.
    unsafe fn recall(&self, ring: &Ring, b: usize) {
        let Self { sizes, layout, saved, .. } = self;
        let before = carried(*sizes);
        let (width, stride) = (sizes.width, layout.stride());
        let [slot, filled] = self.carried(b);
        for group in 0..sizes.groups {
            for (to, from) in
                [(layout.key(b, group), &ring.keys), (layout.value(b, group), &ring.values)]
            {
                for index in before - filled..before {
                    let at = ring_at(*sizes, b, group, slot, index);
                    let row = to.start + index * stride;
                    // SAFETY: as promised by the caller; the new rows lie behind.
                    let (to, from) =
                        unsafe { (saved.part(row..row + width), from.part(at..at + width)) };
                    to.copy_from_slice(from);
                }
            }
        }
    }

    /// Writes the new keys and values of sequence `b` into its ring.
    ///
    /// # Safety
    /// No other thread may touch this ring or write what was laid out meanwhile.
    unsafe fn remember(&self, b: usize) {
        let Self { sizes, layout, sequence, saved, .. } = self;
        let Some(ring) = &self.ring else { return };
        let (window, before) = (sizes.window(), carried(*sizes));
        let (width, stride) = (sizes.width, layout.stride());
        let real = real_positions(sequence, b);
        let [slot, _] = self.carried(b);
        for group in 0..sizes.groups {
            for (from, to) in
                [(layout.key(b, group), &ring.keys), (layout.value(b, group), &ring.values)]
            {
                for row in real.saturating_sub(window)..real {
                    // The slot after W − 1 carried positions and `row` new ones.
                    let at = ring_at(*sizes, b, group, slot, before + row);
                    let row = from.start + (before + row) * stride;
                    // SAFETY: as promised by the caller.
                    let (to, from) =
                        unsafe { (to.part(at..at + width), saved.part(row..row + width)) };
                    to.copy_from_slice(from);
                }
            }
        }
    }
}

/// Counts the real positions read.
fn advance(sizes: Sizes, sequence: &Sequence, position: &mut [u64], filled: &mut [u32]) {
    for b in 0..sequence.batch {
        let real = real_positions(sequence, b);
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

/// Lays out some rows of sequence `b` per head, turned by their positions.
struct LayOut<'a> {
    reading: &'a Reading<'a>,
    b: usize,
    rows: std::ops::Range<usize>,
    /// Of the first row of the sequence.
    position: u64,
}

impl Kernel for LayOut<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Reading { sizes, layout, sequence, saved, qkv, .. } = *self.reading;
        let b = self.b;
        let (width, stride, row_len) = (sizes.width, layout.stride(), sizes.row());
        let real = real_positions(sequence, b);
        let scale = 1.0 / (width as f32).sqrt();
        let rows = self.rows.start..self.rows.end.min(real);
        if let Some(rotary) = sizes.rotary
            && !rows.is_empty()
        {
            // SAFETY: each row belongs to one task, here and below.
            let table = unsafe {
                saved.part(within(layout.angle(b), rows.start * width..rows.end * width))
            };
            rotary.fill(self.position + rows.start as u64, width, table);
        }
        for row in self.rows {
            let part = |range: std::ops::Range<usize>, row: usize| {
                let at = range.start + row * stride;
                // SAFETY: as above.
                unsafe { saved.part(at..at + width) }
            };
            if row >= real {
                // A lane without a query still takes part in the products.
                (0..sizes.heads).for_each(|head| part(layout.query(b, head), row).fill(0.0));
                continue;
            }
            let time = time_of(sequence.reverse, real, row);
            let from = &qkv[(time * sequence.batch + b) * row_len..][..row_len];
            // SAFETY: as above; only read from here on.
            let angles = sizes.rotary.map(|_| unsafe {
                &*saved.part(within(layout.angle(b), row * width..(row + 1) * width))
            });
            let mut heads = from.chunks_exact(width);
            // SAFETY: the caller has the instruction set.
            unsafe {
                for (head, x) in (0..sizes.heads).zip(&mut heads) {
                    turn::<V>(x, angles, scale, part(layout.query(b, head), row));
                }
                let row = carried(sizes) + row;
                for (group, x) in (0..sizes.groups).zip(&mut heads) {
                    turn::<V>(x, angles, 1.0, part(layout.key(b, group), row));
                }
                for (group, x) in (0..sizes.groups).zip(&mut heads) {
                    turn::<V>(x, None, 1.0, part(layout.value(b, group), row));
                }
            }
        }
    }
}

const _: () = assert!(POSITIONS.is_multiple_of(BLOCK));
