//! Cross-attention: every position of one sequence reads all real positions of another, as a
//! decoder reads what the encoder made of the source (Vaswani et al., 2017).

use super::blocks::{self, AddRows, Gradients, within};
use super::layout::{BLOCK, Layout, real_positions};
use super::rotary::turn;
use crate::cpu::{Cpu, Shards};
use crate::sequence::Sequence;
use crate::simd::{Kernel, Vector};

/// Rows laid out per task.
const POSITIONS: usize = 64;

/// The sizes of cross-attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// H: query heads, a multiple of `groups`.
    pub heads: usize,
    /// G: key and value heads.
    pub groups: usize,
    /// K: features of a head.
    pub width: usize,
}

/// Elements of the buffer that [`forward`] leaves for [`backward`].
pub fn saved_len(sizes: Sizes, sequence: &Sequence, source: &Sequence) -> usize {
    layout(sizes, sequence, source).len()
}

fn layout(sizes: Sizes, sequence: &Sequence, source: &Sequence) -> Layout {
    Layout {
        batch: sequence.batch,
        heads: sizes.heads,
        groups: sizes.groups,
        width: sizes.width,
        queries: sequence.time,
        keys: source.time,
        angles: 0,
    }
}

/// `y [T·B, H·K]` from queries `q [T·B, H·K]` of `sequence` and `kv [S·B, 2·G·K]` (G key heads,
/// then G value heads) of `source`. Only the lengths of the two matter, not their resets or
/// directions: padded positions of the source are never read, and y is zero at those of the
/// sequence and where the source is empty.
///
/// # Panics
/// If a length does not fit the sizes.
pub fn forward(
    cpu: &Cpu,
    sizes: Sizes,
    sequence: &Sequence,
    source: &Sequence,
    q: &[f32],
    kv: &[f32],
    y: &mut [f32],
    saved: &mut [f32],
) {
    let layout = layout(sizes, sequence, source);
    check(sizes, sequence, source, [q.len(), y.len()], kv.len(), saved.len());
    if sequence.rows() == 0 || sizes.width == 0 {
        return;
    }
    let saved = Shards::new(saved);
    let tasks = sequence.time.max(source.time).div_ceil(POSITIONS);
    cpu.for_each(sequence.batch * tasks, |worker, task| {
        let (b, task) = (task / tasks, task % tasks);
        let rows = task * POSITIONS..(task + 1) * POSITIONS;
        let real = real_positions(sequence, b);
        if task == 0 {
            // SAFETY: one task per sequence comes here.
            let (first, end) = unsafe { (saved.part(layout.first(b)), saved.part(layout.end(b))) };
            first.fill(0.0);
            end.fill(0.0);
            end[..real].fill(real_positions(source, b) as f32);
        }
        worker.level.run(LayOut {
            sizes,
            layout,
            real: [real, real_positions(source, b)],
            q,
            kv,
            b,
            rows,
            saved: &saved,
        });
    });
    let sequence = Sequence { reverse: false, ..*sequence };
    let y = Shards::new(y);
    let blocks = layout.rows() / BLOCK;
    cpu.for_each(layout.batch * layout.groups * blocks, |worker, task| {
        let at = [task / blocks / layout.groups, task / blocks % layout.groups, task % blocks];
        // SAFETY: every task has heads and positions of its own.
        unsafe { blocks::forward(worker, &layout, &sequence, &saved, &y, at) }
    });
}

/// Adds the gradients of [`forward`] to `dq [T·B, H·K]` and `dkv [S·B, 2·G·K]`, where wanted.
///
/// # Panics
/// If a length does not fit the sizes.
pub fn backward(
    cpu: &Cpu,
    sizes: Sizes,
    sequence: &Sequence,
    source: &Sequence,
    saved: &[f32],
    dy: &[f32],
    dq: Option<&mut [f32]>,
    dkv: Option<&mut [f32]>,
) {
    let layout = layout(sizes, sequence, source);
    let (width, stride) = (sizes.width, layout.stride());
    let dq_len = dq.as_deref().map_or(dy.len(), <[f32]>::len);
    let kv_len = source.rows() * 2 * sizes.groups * width;
    let dkv_len = dkv.as_deref().map_or(kv_len, <[f32]>::len);
    check(sizes, sequence, source, [dy.len(), dq_len], dkv_len, saved.len());
    if sequence.rows() == 0 || width == 0 {
        return;
    }
    let level = cpu.level();
    let dq = dq.map(Shards::new);
    let dkv = dkv.map(Shards::new);
    let add = dkv.as_ref().map(|dkv| {
        move |b: usize, group: usize, dkeys: &[f32], dvalues: &[f32]| {
            for (from, part) in [(dkeys, group), (dvalues, sizes.groups + group)] {
                level.run(AddRows {
                    from,
                    stride,
                    width,
                    count: real_positions(source, b),
                    angles: None,
                    scale: 1.0,
                    to: dkv,
                    at: |s| ((s * source.batch + b) * 2 * sizes.groups + part) * width,
                });
            }
        }
    });
    let gradients = Gradients {
        queries: dq.as_ref(),
        queries_row: sizes.heads * width,
        keys: add.as_ref().map(|add| add as &blocks::AddKeys),
    };
    let sequence = Sequence { reverse: false, ..*sequence };
    blocks::backward(cpu, &layout, &sequence, saved, dy, &gradients);
}

fn check(
    sizes: Sizes,
    sequence: &Sequence,
    source: &Sequence,
    queries: [usize; 2],
    kv: usize,
    saved: usize,
) {
    let Sizes { heads, groups, width } = sizes;
    assert!(
        groups > 0 && heads.is_multiple_of(groups),
        "cross-attention: {heads} heads over {groups} groups"
    );
    assert_eq!(sequence.batch, source.batch, "cross-attention: one source per sequence");
    for len in queries {
        assert_eq!(len, sequence.rows() * heads * width, "cross-attention: the length of q, y");
    }
    assert_eq!(kv, source.rows() * 2 * groups * width, "cross-attention: the length of kv");
    assert_eq!(saved, saved_len(sizes, sequence, source), "cross-attention: `saved`");
}

/// Lays out some rows of sequence `b` per head.
struct LayOut<'a, 'b> {
    sizes: Sizes,
    layout: Layout,
    /// Real positions of the sequence and of its source.
    real: [usize; 2],
    q: &'a [f32],
    kv: &'a [f32],
    b: usize,
    rows: std::ops::Range<usize>,
    saved: &'a Shards<'b, f32>,
}

impl Kernel for LayOut<'_, '_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { layout, b, rows, real: [queries, keys], .. } = self;
        let Sizes { heads, groups, width } = self.sizes;
        let stride = layout.stride();
        let scale = 1.0 / (width as f32).sqrt();
        let part = |range: std::ops::Range<usize>, row: usize| {
            // SAFETY: each row belongs to one task.
            unsafe { self.saved.part(within(range, row * stride..row * stride + width)) }
        };
        for row in rows.start..rows.end.min(layout.rows()) {
            for head in 0..heads {
                let to = part(layout.query(b, head), row);
                if row >= queries {
                    // A lane without a query still takes part in the products.
                    to.fill(0.0);
                    continue;
                }
                let at = ((row * layout.batch + b) * heads + head) * width;
                let from = &self.q[at..at + width];
                // SAFETY: the caller has the instruction set.
                unsafe { turn::<V>(from, None, scale, to) }
            }
        }
        for row in rows.start..rows.end.min(keys) {
            let at = (row * layout.batch + b) * 2 * groups * width;
            let mut from = self.kv[at..].chunks_exact(width);
            for (group, x) in (0..groups).zip(&mut from) {
                part(layout.key(b, group), row).copy_from_slice(x);
            }
            for (group, x) in (0..groups).zip(&mut from) {
                part(layout.value(b, group), row).copy_from_slice(x);
            }
        }
    }
}

#[cfg(test)]
mod tests;
