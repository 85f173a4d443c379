//! Which position follows which: the order of reading, document starts and padding.

use crate::sequence::Sequence;

/// The neighbour of a position in the order of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// The row of another position.
    Row(usize),
    /// The state outside the sequence: handed in before the first position, back after the last.
    State,
    /// Nothing: a document starts here.
    Nothing,
}

/// Where position `(t, b)` has its state from.
#[inline(always)]
pub(super) fn previous(sequence: &Sequence, t: usize, b: usize) -> Link {
    if sequence.starts_empty(t, b) {
        return Link::Nothing;
    }
    if sequence.reverse { later(sequence, t, b) } else { earlier(sequence, t, b) }
}

/// Where the state of position `(t, b)` goes.
#[inline(always)]
pub(super) fn next(sequence: &Sequence, t: usize, b: usize) -> Link {
    let (link, at) = if sequence.reverse {
        (earlier(sequence, t, b), t.wrapping_sub(1))
    } else {
        (later(sequence, t, b), t + 1)
    };
    match link {
        Link::Row(_) if sequence.starts_empty(at, b) => Link::Nothing,
        link => link,
    }
}

/// The first position of sequence `b` in the order of reading, where it has any.
pub(super) fn first(sequence: &Sequence, b: usize) -> Option<usize> {
    let real = sequence.real(b);
    (real > 0).then(|| if sequence.reverse { real - 1 } else { 0 })
}

/// The last position of sequence `b` in the order of reading, where it has any.
pub(super) fn last(sequence: &Sequence, b: usize) -> Option<usize> {
    let real = sequence.real(b);
    (real > 0).then(|| if sequence.reverse { 0 } else { real - 1 })
}

/// Whether every position has its state from its neighbour or from outside.
pub(super) fn plain(sequence: &Sequence) -> bool {
    sequence.resets.is_none() && sequence.lengths.is_none()
}

fn earlier(sequence: &Sequence, t: usize, b: usize) -> Link {
    if t > 0 { Link::Row((t - 1) * sequence.batch + b) } else { Link::State }
}

fn later(sequence: &Sequence, t: usize, b: usize) -> Link {
    if t + 1 < sequence.real(b) { Link::Row((t + 1) * sequence.batch + b) } else { Link::State }
}
