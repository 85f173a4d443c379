//! One position of self-attention, read straight from the ring: for decoding.

use std::ops::Range;

use super::products::LANES;
use super::rotary::turn_heads;
use super::self_attention::State;
use super::{Mask, Sizes};
use crate::cpu::{Cpu, Shards, Worker};
use crate::sequence::Sequence;
use crate::simd::{Kernel, Vector, exp};

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
        let (width, new) = (sizes.width, sizes.groups * sizes.width);
        let qkv = &qkv[b * sizes.row()..(b + 1) * sizes.row()];
        let (queries, others) = qkv.split_at(y_row);
        let mut angles = worker.buffers.take(width);
        let mut query = worker.buffers.take(y_row);
        let mut scores = worker.buffers.take(window.next_multiple_of(LANES));
        if let Some(rotary) = sizes.rotary {
            rotary.fill(*position, width, &mut angles);
        }
        let turned = sizes.rotary.map(|_| &angles[..]);
        let scale = 1.0 / (width as f32).sqrt();
        turn_heads(worker.level, queries, turned, scale, width, &mut query);
        let at = slot * new..(slot + 1) * new;
        turn_heads(worker.level, &others[..new], turned, 1.0, width, &mut keys[at.clone()]);
        values[at].copy_from_slice(&others[new..]);
        *position += 1;
        *filled = (*filled + 1).min(window as u32);
        let count = *filled as usize;
        // The visible positions end at `slot`; they may wrap around the ring's end.
        let oldest = (slot + window + 1 - count) % window;
        let end = (oldest + count).min(window);
        worker.level.run(Read {
            sizes,
            query: &query,
            keys,
            values,
            spans: [oldest..end, 0..count - (end - oldest)],
            scores: &mut scores,
            y,
        });
        [angles, query, scores].into_iter().for_each(|buffer| worker.buffers.give(buffer));
    };
    if batch * sizes.heads * sizes.width * window < SERIAL_PRODUCTS {
        cpu.for_each(1, |worker, _| (0..batch).for_each(|b| stream(worker, b)));
    } else {
        cpu.for_each(batch, stream);
    }
}

/// Softmax of the queries of one stream against its ring.
struct Read<'a> {
    sizes: Sizes,
    /// `[H, K]`, turned and divided by √K.
    query: &'a [f32],
    /// `[W, G·K]`, as the values.
    keys: &'a [f32],
    values: &'a [f32],
    /// The slots that may be seen.
    spans: [Range<usize>; 2],
    /// Room for W elements, rounded up to whole vectors.
    scores: &'a mut [f32],
    y: &'a mut [f32],
}

impl Kernel for Read<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Sizes { heads, groups, width, .. } = self.sizes;
        let stride = groups * width;
        let scores = self.scores.as_mut_ptr();
        // SAFETY: the spans lie in the ring, there is a score for each of their slots, and every
        // key and value has `width` elements.
        unsafe {
            for head in 0..heads {
                let column = head / (heads / groups) * width;
                let query = self.query.as_ptr().add(head * width);
                let keys = self.keys.as_ptr().add(column);
                let values = self.values.as_ptr().add(column);
                let mut count = 0;
                for span in self.spans.clone() {
                    let mut slot = span.start;
                    while slot < span.end {
                        let at = keys.add(slot * stride);
                        if slot + 4 <= span.end {
                            let sums = dots::<V, 4>(query, at, stride, width);
                            sums.into_iter()
                                .enumerate()
                                .for_each(|(i, x)| *scores.add(count + i) = x);
                            (slot, count) = (slot + 4, count + 4);
                        } else {
                            *scores.add(count) = dots::<V, 1>(query, at, stride, width)[0];
                            (slot, count) = (slot + 1, count + 1);
                        }
                    }
                }
                let scale = V::splat(1.0 / exponentials::<V>(scores, count));
                let y = self.y.as_mut_ptr().add(head * width);
                for k in (0..width).step_by(V::LANES) {
                    let lanes = width - k;
                    // Four sums, so that one product need not wait for the one before.
                    let mut sums = [V::zero(); 4];
                    for (i, slot) in self.spans.iter().cloned().flatten().enumerate() {
                        let value = V::load_first(values.add(slot * stride + k), lanes);
                        sums[i % 4] = value.mul_add(V::splat(*scores.add(i)), sums[i % 4]);
                    }
                    let sum = sums[0].add(sums[1]).add(sums[2].add(sums[3]));
                    sum.mul(scale).store_first(y.add(k), lanes);
                }
            }
        }
    }
}

/// The products of a query with N keys that lie `stride` apart.
#[inline(always)]
unsafe fn dots<V: Vector, const N: usize>(
    query: *const f32,
    keys: *const f32,
    stride: usize,
    width: usize,
) -> [f32; N] {
    // SAFETY: the caller gives N keys and a query of `width` elements.
    unsafe {
        let mut sums = [V::zero(); N];
        for k in (0..width).step_by(V::LANES) {
            let query = V::load_first(query.add(k), width - k);
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = query.mul_add(V::load_first(keys.add(i * stride + k), width - k), *sum);
            }
        }
        sums.map(|sum| sum.sum())
    }
}

/// Replaces scores by the exponentials of their distance from the largest, and gives their sum.
#[inline(always)]
unsafe fn exponentials<V: Vector>(scores: *mut f32, count: usize) -> f32 {
    // SAFETY: the caller gives room for `count` scores rounded up to whole vectors.
    unsafe {
        // What fills the last vector vanishes in `exp`.
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
