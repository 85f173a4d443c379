//! Attention: softmax of scaled products of queries and keys, summed over values (Vaswani et al.,
//! "Attention is all you need", 2017).
//!
//! - This module: self-attention, over a causal sliding window with a KV cache of constant size (a
//!   ring), or over whole examples in both directions.
//! - [`cross`]: a decoder's queries over an encoder's keys and values; in [`cross::kept`] over those
//!   that are kept while the decoder writes.
//! - [`mod@pointer`]: the distribution over a source by which a pointer-generator copies.
//! - [`step()`]: the decode step, one position of self-attention read from the KV cache.
//!
//! Query head h reads key/value head `h / (H/G)`: grouped heads (Ainslie et al., "GQA", 2023). The
//! ordinary form has H = G. Scores are divided by √K. Positions enter by [`Rotary`] or not at all.
//!
//! How the fast form works: every query sees one contiguous range of keys, whatever the mask, the
//! document starts and the padding. For each key head of each sequence, queries, keys and values
//! are rotated and gathered in scratch memory that stays in the cache. Blocks of sixteen queries
//! then meet the keys that any of them sees, so that the cost is O(T · (W + 16)). Forward saves the
//! cached keys and values, and each query's largest score and sum. Backward gathers again and
//! recomputes the probabilities from them (Dao et al., "FlashAttention", 2022). The largest score
//! is taken out before `exp`, so that scores of any finite size give finite results.
//!
//! All products, forward and backward, read operands in the processor's [`Precision`]. Under bf16,
//! queries, keys, values, probabilities, their gradients and those of the outputs are rounded
//! before they are multiplied. Sums and the softmax stay `f32`, and so does the KV cache, unless
//! [`Sizes::cache`] says otherwise. [`step()`] multiplies in `f32` under both.

mod blocks;
mod blocks_backward;
mod blocks_forward;
pub mod cache;
pub mod cross;
mod layout;
pub mod pointer;
pub mod reference;
mod rotary;
mod rows;
mod self_attention;
mod softmax;
mod step;
#[cfg(test)]
mod tests;

use crate::precision::Precision;

pub use rotary::{Angles, Rotary};
pub use self_attention::{State, Weights, backward, forward, saved_len, weights};
pub use step::step;

/// Which positions a query may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Itself and up to W − 1 positions read before it, the cached ones included.
    Window(usize),
    /// Every position of its document: an encoder, which has no KV cache.
    Full,
}

/// The sizes of self-attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// H: query heads, a multiple of `groups`.
    pub heads: usize,
    /// G: key and value heads.
    pub groups: usize,
    /// K: features of a head; even where there are rotary positions.
    pub width: usize,
    /// Which positions a query may see.
    pub mask: Mask,
    /// Rotary positions, if any.
    pub rotary: Option<Rotary>,
    /// The format of the KV cache. Every key and value is rounded to it where it is computed, so
    /// that the chunks in which a text is read do not matter. Gradients ignore the rounding.
    pub cache: Precision,
}

impl Sizes {
    /// Elements of a row of the fused projection: H queries, then G keys, then G values.
    pub fn row(&self) -> usize {
        (self.heads + 2 * self.groups) * self.width
    }

    /// W, or 0 where there is no KV cache.
    pub fn window(&self) -> usize {
        match self.mask {
            Mask::Window(window) => window,
            Mask::Full => 0,
        }
    }

    /// Words of 32 bits for the cached keys of one stream: W·G·K, or half of that in bf16. The
    /// cached values take the same number.
    pub fn ring_len(&self) -> usize {
        self.window() * self.groups * self.word_width()
    }

    /// Cached keys of one stream in features: W·G·K.
    pub fn ring_values(&self) -> usize {
        self.window() * self.groups * self.width
    }

    /// Words of 32 bits that store a head.
    fn word_width(&self) -> usize {
        cache::words(self.cache, self.width)
    }

    fn check(&self) {
        assert!(
            self.groups > 0 && self.heads.is_multiple_of(self.groups),
            "attention: {} heads over {} groups",
            self.heads,
            self.groups
        );
        assert!(self.mask != Mask::Window(0), "attention: a window of at least one position");
        assert!(
            self.rotary.is_none() || self.width.is_multiple_of(2),
            "attention: rotary positions need an even head width, not {}",
            self.width
        );
        assert!(
            self.cache == Precision::F32 || self.width.is_multiple_of(2),
            "attention: a cache in bf16 needs an even head width, not {}",
            self.width
        );
    }
}
