//! Where things lie in the buffer that forward leaves for backward, and in which order positions
//! are read.

use std::ops::Range;

use super::products::LANES;
use crate::sequence::Sequence;

/// Queries that are handled together: one per lane of the longest vector.
pub(super) const BLOCK: usize = LANES;

/// The sizes of a saved buffer. Rows of features are padded to whole vectors; what stands in the
/// padding is never used, because lanes do not mix.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) batch: usize,
    pub(super) heads: usize,
    pub(super) groups: usize,
    /// K.
    pub(super) width: usize,
    /// Positions that ask.
    pub(super) queries: usize,
    /// Positions that may be seen, the carried ones before the others.
    pub(super) keys: usize,
    /// Elements per position for the angles of rotary positions: K or 0.
    pub(super) angles: usize,
}

impl Layout {
    /// Elements from row to row of queries, keys and values.
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

    /// Queries `[rows, stride]`, turned and divided by √K.
    pub(super) fn query(&self, b: usize, head: usize) -> Range<usize> {
        let len = self.rows() * self.stride();
        piece(0, b * self.heads + head, len)
    }

    /// Keys `[keys, stride]`, turned.
    pub(super) fn key(&self, b: usize, group: usize) -> Range<usize> {
        let before = self.batch * self.heads * self.rows() * self.stride();
        piece(before, b * self.groups + group, self.keys * self.stride())
    }

    /// Values `[keys, stride]`.
    pub(super) fn value(&self, b: usize, group: usize) -> Range<usize> {
        let before = self.key(self.batch, 0).start;
        piece(before, b * self.groups + group, self.keys * self.stride())
    }

    /// The largest score of each query.
    pub(super) fn largest(&self, b: usize, head: usize) -> Range<usize> {
        piece(self.value(self.batch, 0).start, b * self.heads + head, self.rows())
    }

    /// One over the sum of each query's exponentials; 0 where it sees nothing.
    pub(super) fn inverse(&self, b: usize, head: usize) -> Range<usize> {
        piece(self.largest(self.batch, 0).start, b * self.heads + head, self.rows())
    }

    /// The first key each query sees.
    pub(super) fn first(&self, b: usize) -> Range<usize> {
        piece(self.inverse(self.batch, 0).start, b, self.rows())
    }

    /// The key after the last one each query sees.
    pub(super) fn end(&self, b: usize) -> Range<usize> {
        piece(self.first(self.batch).start, b, self.rows())
    }

    /// Angles `[T, K]` of the positions.
    pub(super) fn angle(&self, b: usize) -> Range<usize> {
        piece(self.end(self.batch).start, b, self.queries * self.angles)
    }

    /// The ring's slot of the first new position, and how many carried positions may be seen.
    pub(super) fn carried(&self, b: usize) -> Range<usize> {
        piece(self.angle(self.batch).start, b, 2)
    }

    /// Elements of the whole buffer.
    pub(super) fn len(&self) -> usize {
        self.carried(self.batch).start
    }
}

fn piece(before: usize, index: usize, len: usize) -> Range<usize> {
    before + index * len..before + (index + 1) * len
}

/// How many positions of sequence `b` are real.
pub(super) fn real_positions(sequence: &Sequence, b: usize) -> usize {
    sequence.lengths.map_or(sequence.time, |lengths| (lengths[b] as usize).min(sequence.time))
}

/// The time of the `row`-th position in reading order: the real ones first, then the padding.
#[inline(always)]
pub(super) fn time_of(reverse: bool, real: usize, row: usize) -> usize {
    if reverse && row < real { real - 1 - row } else { row }
}
