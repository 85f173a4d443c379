//! One position of self-attention, read straight from the ring: for decoding.

use super::rotary::rotate;
use super::self_attention::State;
use super::{Mask, Sizes};
use crate::cpu::{Cpu, Shards, Worker};
use crate::sequence::Sequence;
use crate::simd::{Kernel, Vector, exp_slice};

/// With fewer products than this a second thread costs more than it gains.
const SERIAL_PRODUCTS: usize = 1 << 18;

/// As [`forward`](super::forward) for one position (T = 1) of each stream, without what backward
/// needs: the new key and value go into the ring, which is then read where it lies. The cost does
/// not depend on the position.
///
/// # Panics
/// If a length does not fit the sizes, the sequence has not one position, or the mask is
/// [`Mask::Full`].
pub fn step(
    cpu: &Cpu,
    sizes: Sizes,
    sequence: &Sequence,
    qkv: &[f32],
    state: State,
    y: &mut [f32],
) {
    sizes.check();
    let batch = sequence.batch;
    assert!(sequence.time == 1, "attention: a step is one position");
    assert!(sizes.mask != Mask::Full, "attention over whole examples has no steps");
    assert_eq!(qkv.len(), batch * sizes.row(), "attention: the length of qkv");
    assert_eq!(y.len(), batch * sizes.heads * sizes.width, "attention: the length of y");
    state.check(&sizes, batch);
    if sizes.width == 0 {
        return;
    }
    let (window, ring) = (sizes.window(), sizes.ring_len());
    let y_row = sizes.heads * sizes.width;
    let (keys, values) = (Shards::new(state.keys), Shards::new(state.values));
    let (position, filled) = (Shards::new(state.position), Shards::new(state.filled));
    let y = Shards::new(y);
    let stream = |worker: &mut Worker, b: usize| {
        // SAFETY: each stream is visited by one thread.
        let (keys, values, position, filled, y) = unsafe {
            (
                keys.part(b * ring..(b + 1) * ring),
                values.part(b * ring..(b + 1) * ring),
                &mut position.part(b..b + 1)[0],
                &mut filled.part(b..b + 1)[0],
                y.part(b * y_row..(b + 1) * y_row),
            )
        };
        if !sequence.is_real(0, b) {
            return y.fill(0.0);
        }
        if sequence.starts_empty(0, b) {
            *filled = 0;
        }
        let slot = (*position % window as u64) as usize;
        let mut angles = worker.buffers.take(sizes.width);
        let mut query = worker.buffers.take(sizes.width);
        let mut scores = worker.buffers.take(window);
        if let Some(rotary) = sizes.rotary {
            rotary.fill(*position, sizes.width, &mut angles);
        }
        *position += 1;
        *filled = (*filled + 1).min(window as u32);
        let mut kernel = Step {
            sizes,
            qkv: &qkv[b * sizes.row()..(b + 1) * sizes.row()],
            angles: &angles,
            query: &mut query,
            scores: &mut scores,
            keys,
            values,
            slot,
            filled: *filled as usize,
            y,
        };
        kernel.keep_new();
        for head in 0..sizes.heads {
            kernel.attend(worker, head);
        }
        [angles, query, scores].into_iter().for_each(|buffer| worker.buffers.give(buffer));
    };
    if batch * sizes.heads * sizes.width * window < SERIAL_PRODUCTS {
        cpu.for_each(1, |worker, _| (0..batch).for_each(|b| stream(worker, b)));
    } else {
        cpu.for_each(batch, stream);
    }
}

struct Step<'a> {
    sizes: Sizes,
    qkv: &'a [f32],
    angles: &'a [f32],
    query: &'a mut [f32],
    scores: &'a mut [f32],
    keys: &'a mut [f32],
    values: &'a mut [f32],
    slot: usize,
    filled: usize,
    y: &'a mut [f32],
}

impl Step<'_> {
    fn keep_new(&mut self) {
        let Sizes { heads, groups, width, .. } = self.sizes;
        let at = self.slot * groups * width;
        let (_, new) = self.qkv.split_at(heads * width);
        let (keys, values) = new.split_at(groups * width);
        let to = &mut self.keys[at..at + groups * width];
        if self.sizes.rotary.is_some() {
            for (key, to) in keys.chunks_exact(width).zip(to.chunks_exact_mut(width)) {
                rotate(key, self.angles, 1.0, to);
            }
        } else {
            to.copy_from_slice(keys);
        }
        self.values[at..at + groups * width].copy_from_slice(values);
    }

    fn attend(&mut self, worker: &Worker, head: usize) {
        let Sizes { heads, groups, width, .. } = self.sizes;
        let window = self.sizes.window();
        let scale = 1.0 / (width as f32).sqrt();
        let x = &self.qkv[head * width..(head + 1) * width];
        if self.sizes.rotary.is_some() {
            rotate(x, self.angles, scale, self.query);
        } else {
            self.query.iter_mut().zip(x).for_each(|(q, x)| *q = x * scale);
        }
        // The visible positions end at `slot`; they may wrap around the ring's end.
        let oldest = (self.slot + window + 1 - self.filled) % window;
        let spans = if oldest + self.filled <= window {
            [oldest..oldest + self.filled, 0..0]
        } else {
            [oldest..window, 0..oldest + self.filled - window]
        };
        let column = head / (heads / groups) * width;
        let y = &mut self.y[head * width..(head + 1) * width];
        read(
            worker,
            self.query,
            Rows {
                keys: &self.keys[column..],
                values: &self.values[column..],
                stride: groups * width,
                spans,
            },
            &mut self.scores[..self.filled],
            y,
        );
    }
}

/// Keys and values where they lie: rows `spans`, `stride` apart.
pub(super) struct Rows<'a> {
    pub(super) keys: &'a [f32],
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
    pub(super) spans: [std::ops::Range<usize>; 2],
}

/// `y` = softmax of `query` against the keys, over the values. `scores` has one element per row.
pub(super) fn read(worker: &Worker, query: &[f32], rows: Rows, scores: &mut [f32], y: &mut [f32]) {
    worker.level.run(Scores { query, rows: &rows, scores });
    let largest = scores.iter().copied().fold(f32::MIN, f32::max);
    scores.iter_mut().for_each(|score| *score -= largest);
    exp_slice(worker.level, scores);
    let inverse = 1.0 / scores.iter().sum::<f32>();
    worker.level.run(Mix { scores, rows: &rows, scale: inverse, y });
}

struct Scores<'a> {
    query: &'a [f32],
    rows: &'a Rows<'a>,
    scores: &'a mut [f32],
}

impl Kernel for Scores<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let width = self.query.len();
        let mut scores = self.scores.iter_mut();
        for row in self.rows.spans.iter().cloned().flatten() {
            let key = &self.rows.keys[row * self.rows.stride..][..width];
            // SAFETY: query and key have `width` elements.
            unsafe {
                let mut sum = V::zero();
                for k in (0..width).step_by(V::LANES) {
                    let query = V::load_first(self.query.as_ptr().add(k), width - k);
                    sum = query.mul_add(V::load_first(key.as_ptr().add(k), width - k), sum);
                }
                if let Some(score) = scores.next() {
                    *score = sum.sum();
                }
            }
        }
    }
}

struct Mix<'a> {
    scores: &'a [f32],
    rows: &'a Rows<'a>,
    scale: f32,
    y: &'a mut [f32],
}

impl Kernel for Mix<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let width = self.y.len();
        for k in (0..width).step_by(V::LANES) {
            let count = width - k;
            let rows = self.rows.spans.iter().cloned().flatten();
            // SAFETY: every value and y have `width` elements.
            unsafe {
                // Two sums, so that one product need not wait for the one before.
                let mut sums = [V::zero(); 2];
                for (i, (row, &weight)) in rows.zip(self.scores).enumerate() {
                    let value = &self.rows.values[row * self.rows.stride..][..width];
                    let value = V::load_first(value.as_ptr().add(k), count);
                    sums[i % 2] = value.mul_add(V::splat(weight), sums[i % 2]);
                }
                let sum = sums[0].add(sums[1]).mul(V::splat(self.scale));
                sum.store_first(self.y.as_mut_ptr().add(k), count);
            }
        }
    }
}
