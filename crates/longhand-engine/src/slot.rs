//! Slots of a batch, and why a batch refuses them.

use std::fmt;

/// The most streams of one batch.
pub const MOST_STREAMS: usize = 1 << 16;

/// A place in a batch of [`Streams`](crate::Streams), from admission to release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    pub(crate) row: usize,
    /// No other slot of any batch has the same one.
    pub(crate) serial: u64,
}

/// Why a batch refuses a slot or its size.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamsError {
    /// All slots are taken.
    #[error("all {capacity} slots are taken: release a stream first")]
    Full {
        /// How many slots there are.
        capacity: usize,
    },
    /// A slot that was released, or belongs to another batch.
    #[error("the slot {0} holds no stream: it was released, or it belongs to another batch")]
    Vacant(Slot),
    /// A slot that is named twice in one call.
    #[error("the slot {0} is named twice in one step")]
    Repeated(Slot),
    /// A capacity out of range.
    #[error("a batch of {0} streams was asked for, but must have from 1 to {MOST_STREAMS}")]
    Capacity(usize),
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (stream {})", self.row, self.serial)
    }
}
