//! From ids to batches.
//!
//! Everything is in **time-major** order: the element of stream b at time t has index t·B + b.

mod bucketed;
mod chunk;
mod labelled;
mod passages;
mod streams;
#[cfg(test)]
mod tests;
mod windows;

pub use bucketed::{Bucketed, BucketedPosition, Measured};
pub use chunk::{Batch, IGNORED};
pub use labelled::{LabelledBatch, LabelledBatches, LabelledIds};
pub use passages::{Passage, PassageBatch, Passages};
pub use streams::{Streams, StreamsPosition};
pub use windows::Windows;

/// The place of a [`LabelledBatches`] among its batches.
pub type LabelledPosition = BucketedPosition;
