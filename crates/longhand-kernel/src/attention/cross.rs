//! Cross-attention: every position of one sequence reads all real positions of another, as a
//! decoder reads the encoder's outputs over the source (Vaswani et al., 2017).

use std::ops::Range;

use super::blocks::{Blocks, Laid, Source};
use super::layout::{Layout, MOST_KEYS};
use super::rotary::rotate;
use super::rows::AddRows;
use super::{blocks_backward, blocks_forward};
use crate::call::Call;
use crate::cpu::Shards;
use crate::level::Level;
use crate::sequence::Sequence;
use crate::simd::{Kernel, Vector};

pub mod kept;

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

/// The inputs of cross-attention.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// `[T·B, H·K]`: queries of the decoder.
    pub q: &'a [f32],
    /// `[S·B, 2·G·K]`: G key heads, then G value heads, of the encoder.
    pub kv: &'a [f32],
}

/// Where [`backward`] adds gradients, in the shapes of [`Inputs`]; `None` costs no work.
#[derive(Debug, Default)]
pub struct Gradients<'a> {
    /// `[T·B, H·K]`: gradient of the queries.
    pub q: Option<&'a mut [f32]>,
    /// `[S·B, 2·G·K]`: gradient of the keys and values.
    pub kv: Option<&'a mut [f32]>,
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
        carried: 0,
        angles: 0,
    }
}

/// `y [T·B, H·K]`: every query of the call's sequence over every real position of `source`. Of both
/// sequences only the lengths matter, not the resets or directions. Padded positions of the source
/// are never read. y is zero at padded positions of the sequence and where the source is empty.
///
/// # Panics
/// If a length does not fit the sizes.
pub fn forward(
    call: Call<Sizes>,
    source: &Sequence,
    inputs: Inputs,
    y: &mut [f32],
    saved: &mut [f32],
) {
    let (Call { cpu, sizes, sequence }, Inputs { q, kv }) = (call, inputs);
    let layout = layout(sizes, sequence);
    check(sizes, sequence, source, [q.len(), y.len()], kv.len(), saved.len());
    if sequence.rows() == 0 || sizes.width == 0 {
        return;
    }
    let (prepared, statistics) = saved.split_at_mut(layout.prepared());
    prepared.fill(0.0);
    for b in 0..sequence.batch {
        let real = sequence.real(b);
        prepared[layout.end(b)][..real].fill(source.real(b) as f32);
    }
    let sequence = Sequence { reverse: false, ..*sequence };
    let projections = Projections { sizes, layout, sequence, source, q, kv };
    let blocks = Blocks { layout: &layout, sequence: &sequence, source: &projections, prepared };
    blocks_forward::forward(cpu, blocks, statistics, y);
}

/// Adds the gradients of [`forward`], given `dy [T·B, H·K]`. It takes the same `inputs`, and
/// `saved` as [`forward`] left it.
///
/// # Panics
/// If a length does not fit the sizes.
pub fn backward(
    call: Call<Sizes>,
    source: &Sequence,
    inputs: Inputs,
    saved: &[f32],
    dy: &[f32],
    gradients: Gradients,
) {
    let (Call { cpu, sizes, sequence }, Inputs { q, kv }) = (call, inputs);
    let Gradients { q: dq, kv: dkv } = gradients;
    let layout = layout(sizes, sequence);
    let (width, stride) = (sizes.width, layout.stride());
    check(sizes, sequence, source, [q.len(), dy.len()], kv.len(), saved.len());
    assert!(dq.as_ref().is_none_or(|dq| dq.len() == q.len()), "cross-attention: dq's length");
    assert!(dkv.as_ref().is_none_or(|dkv| dkv.len() == kv.len()), "cross-attention: dkv's length");
    if sequence.rows() == 0 || width == 0 {
        return;
    }
    let level = cpu.level();
    let dq = dq.map(Shards::new);
    let dkv = dkv.map(Shards::new);
    let add = dkv.as_ref().map(|dkv| {
        move |b: usize, group: usize, _: usize, dkeys: &[f32], dvalues: &[f32]| {
            for (from, part) in [(dkeys, group), (dvalues, sizes.groups + group)] {
                level.run(AddRows {
                    from,
                    stride,
                    width,
                    count: source.real(b),
                    angles: None,
                    scale: 1.0,
                    to: dkv,
                    at: |s| ((s * source.batch + b) * 2 * sizes.groups + part) * width,
                });
            }
        }
    });
    let gradients = blocks_backward::Gradients {
        queries: dq.as_ref(),
        queries_row: sizes.heads * width,
        keys: add.as_ref().map(|add| add as &blocks_backward::AddKeys),
        keys_from: 0,
    };
    let sequence = Sequence { reverse: false, ..*sequence };
    let projections = Projections { sizes, layout, sequence, source, q, kv };
    let (prepared, statistics) = saved.split_at(layout.prepared());
    let blocks = Blocks { layout: &layout, sequence: &sequence, source: &projections, prepared };
    blocks_backward::backward(cpu, blocks, statistics, dy, &gradients);
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
    let keys = source.time;
    assert!(keys < MOST_KEYS, "attention over {keys} positions at once: read them in chunks");
    assert_eq!(sequence.batch, source.batch, "cross-attention: one source per sequence");
    for len in queries {
        assert_eq!(len, sequence.rows() * heads * width, "cross-attention: the length of q, y");
    }
    assert_eq!(kv, source.rows() * 2 * groups * width, "cross-attention: the length of kv");
    assert_eq!(saved, saved_len(sizes, sequence), "cross-attention: `saved`");
}

/// Queries of a sequence, keys and values of its source.
struct Projections<'a> {
    sizes: Sizes,
    layout: Layout,
    sequence: Sequence<'a>,
    source: &'a Sequence<'a>,
    q: &'a [f32],
    kv: &'a [f32],
}

impl Source for Projections<'_> {
    fn seen(&self, b: usize, _: &Range<usize>) -> Range<usize> {
        0..self.source.real(b)
    }

    fn fetch(&self, _: usize, _: usize, _: Range<usize>) {}

    fn lay_out(&self, level: Level, b: usize, group: usize, laid: &mut Laid) {
        level.run(LayOut { projections: self, b, group, laid });
    }

    /// Cross-attention has no KV cache to fill.
    fn remember(&self, _: Level, _: usize, _: usize, _: &Laid) {}
}

struct LayOut<'a> {
    projections: &'a Projections<'a>,
    b: usize,
    group: usize,
    laid: &'a mut Laid,
}

impl Kernel for LayOut<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { projections, b, group, laid } = self;
        let Projections { sizes, layout, q, kv, sequence, .. } = projections;
        let Sizes { heads, groups, width } = *sizes;
        let (stride, shared) = (layout.stride(), layout.shared());
        let (real, batch) = (sequence.real(b), sequence.batch);
        let scale = 1.0 / (width as f32).sqrt();
        // SAFETY: the caller has the instruction set.
        unsafe {
            for (index, to) in laid.queries.chunks_exact_mut(stride).enumerate() {
                let (row, to) = (laid.rows.start + index % laid.rows.len(), &mut to[..width]);
                if row < real {
                    let head = group * shared + index / laid.rows.len();
                    let at = ((row * batch + b) * heads + head) * width;
                    rotate::<V>(&q[at..at + width], None, scale, to);
                } else {
                    // A lane without a query still takes part in the products.
                    to.fill(0.0);
                }
            }
            for (part, to) in [(group, &mut laid.keys), (groups + group, &mut laid.values)] {
                for (place, to) in laid.seen.clone().zip(to.chunks_exact_mut(stride)) {
                    let at = ((place * batch + b) * 2 * groups + part) * width;
                    rotate::<V>(&kv[at..at + width], None, 1.0, &mut to[..width]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
