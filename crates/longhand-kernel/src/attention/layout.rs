//! The layout of the buffer that the forward pass saves for the backward pass, and the order in
//! which positions are read.

use std::ops::Range;

use crate::small_product::LANES;

/// Queries that are handled together: one per lane of the longest vector.
pub(super) const BLOCK: usize = LANES;

/// Keys have to be fewer: where they begin and end is kept as `f32`, exact up to here.
pub(super) const MOST_KEYS: usize = 1 << 24;

/// The sizes of a saved buffer. The part that is written before the blocks run comes first; the
/// statistics that the blocks write come after it.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) batch: usize,
    pub(super) heads: usize,
    pub(super) groups: usize,
    /// K: features of a head.
    pub(super) width: usize,
    /// T: positions that bring a query.
    pub(super) queries: usize,
    /// Cached positions before the new ones: W − 1, or 0 without a window.
    pub(super) carried: usize,
    /// Elements per position for the angles of rotary positions: K or 0.
    pub(super) angles: usize,
}

impl Layout {
    /// Elements from row to row of gathered queries, keys and values. The padding of a row may hold
    /// anything, because lanes do not mix.
    pub(super) fn stride(&self) -> usize {
        self.width.next_multiple_of(LANES)
    }

    /// Query rows per head: whole blocks.
    pub(super) fn rows(&self) -> usize {
        self.queries.next_multiple_of(BLOCK)
    }

    /// Query heads that share a key head.
    pub(super) fn shared(&self) -> usize {
        self.heads / self.groups
    }

    /// The cached keys `[carried, K]` of a key head, oldest first.
    pub(super) fn carried_keys(&self, b: usize, group: usize) -> Range<usize> {
        piece(0, b * self.groups + group, self.carried * self.width)
    }

    /// The cached values `[carried, K]`, oldest first.
    pub(super) fn carried_values(&self, b: usize, group: usize) -> Range<usize> {
        let before = self.carried_keys(self.batch, 0).start;
        piece(before, b * self.groups + group, self.carried * self.width)
    }

    /// The first key each query sees.
    pub(super) fn first(&self, b: usize) -> Range<usize> {
        piece(self.carried_values(self.batch, 0).start, b, self.rows())
    }

    /// The key after the last one each query sees.
    pub(super) fn end(&self, b: usize) -> Range<usize> {
        piece(self.first(self.batch).start, b, self.rows())
    }

    /// Angles `[T, K]` of the positions.
    pub(super) fn angle(&self, b: usize) -> Range<usize> {
        piece(self.end(self.batch).start, b, self.queries * self.angles)
    }

    /// The ring's slot of the first new position, and how many cached positions it may see.
    pub(super) fn counts(&self, b: usize) -> Range<usize> {
        piece(self.angle(self.batch).start, b, 2)
    }

    /// Elements of the first part of the buffer, which is written before the blocks run.
    pub(super) fn prepared(&self) -> usize {
        self.counts(self.batch).start
    }

    /// Among the statistics: the largest score of each query.
    pub(super) fn largest(&self, b: usize, head: usize) -> Range<usize> {
        piece(0, b * self.heads + head, self.rows())
    }

    /// Among the statistics: one over the sum of each query's exponentials, or 0 for a query
    /// that sees no key.
    pub(super) fn inverse(&self, b: usize, head: usize) -> Range<usize> {
        piece(self.largest(self.batch, 0).start, b * self.heads + head, self.rows())
    }

    /// Elements of the whole buffer.
    pub(super) fn len(&self) -> usize {
        self.prepared() + self.inverse(self.batch, 0).start
    }
}

fn piece(before: usize, index: usize, len: usize) -> Range<usize> {
    before + index * len..before + (index + 1) * len
}

/// The part `inner` of a longer range.
pub(super) fn within(range: Range<usize>, inner: Range<usize>) -> Range<usize> {
    assert!(inner.end <= range.len(), "a part of a saved buffer");
    range.start + inner.start..range.start + inner.end
}

/// The time of the `row`-th position in reading order: the real ones first, then the padding.
#[inline(always)]
pub(super) fn time_of(reverse: bool, real: usize, row: usize) -> usize {
    if reverse && row < real { real - 1 - row } else { row }
}
