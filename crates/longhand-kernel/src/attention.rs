//! Attention: softmax of scaled products of queries and keys, summed over values (Vaswani et al.,
//! "Attention is all you need", 2017).
//!
//! - This module: self-attention, over a causal sliding window whose keys and values are carried
//!   in a ring of constant size, or over whole examples in both directions.
//! - [`cross`]: a decoder's queries over an encoder's keys and values.
//! - [`step`]: one position of self-attention read from the ring, for decoding.
//!
//! Query head h reads key/value head `h / (H/G)`: grouped heads (Ainslie et al., "GQA", 2023); H = G
//! is the ordinary form. Scores are divided by √K. Positions are told by [`Rotary`] or not at all.
//!
//! How the fast form works: every query sees one contiguous range of keys, whatever the mask, the
//! document starts and the padding. For each key head of each sequence, queries, keys and values are
//! turned and laid out in scratch memory that stays in the cache; then blocks of sixteen queries meet
//! the keys that any of them sees, so that the cost is O(T · (W + 16)). What is kept for the backward
//! pass is what is carried and, of each query, the largest score and the sum: it lays out again and
//! computes the probabilities from them (as Dao et al., "FlashAttention", 2022, do). The largest score
//! is taken out before `exp`, so that scores of any finite size give finite results.
//!
//! Of all products, forward and backward, the operands are in the processor's
//! [`Precision`]: under bf16 queries, keys, values, probabilities, their gradients and
//! those of the outputs are rounded before they are multiplied. Sums and the softmax stay `f32`, and so
//! does what is carried, unless [`Sizes::cache`] says otherwise. [`step`] multiplies in `f32` under both.

mod blocks;
pub mod cache;
pub mod cross;
mod lanes;
mod layout;
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
    /// Itself and up to W − 1 positions read before it, the carried ones included.
    Window(usize),
    /// Every position of its document: an encoder, which carries no state.
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
    /// How carried keys and values are held. Every key and value is rounded to it where it is made,
    /// so that it does not matter in what chunks a text is read; gradients pass the rounding.
    pub cache: Precision,
}

impl Sizes {
    /// Elements of a row of the fused projection: H queries, then G keys, then G values.
    pub fn row(&self) -> usize {
        (self.heads + 2 * self.groups) * self.width
    }

    /// W, or 0 where nothing is carried.
    pub fn window(&self) -> usize {
        match self.mask {
            Mask::Window(window) => window,
            Mask::Full => 0,
        }
    }

    /// Words that hold the carried keys of one stream, and as many its carried values: W·G·K, or
    /// half of that in bf16.
    pub fn ring_len(&self) -> usize {
        self.window() * self.groups * self.held_width()
    }

    /// Values among them: W·G·K.
    pub fn ring_values(&self) -> usize {
        self.window() * self.groups * self.width
    }

    /// Words that hold a head.
    fn held_width(&self) -> usize {
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
