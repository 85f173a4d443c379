//! Ids to batches.
//!
//! Everything is in **time-major** order: the element of stream b at time t lies at t·B + b.

mod labelled;
mod streams;
mod sweep;
#[cfg(test)]
mod tests;

pub use labelled::{LabelledBatch, LabelledBatches, LabelledIds, LabelledPosition};
pub use streams::{Streams, StreamsPosition};
pub use sweep::Sweep;

/// The target of a place where nothing is to be predicted.
pub const IGNORED: u32 = u32::MAX;

/// A chunk of B parallel streams of T tokens; each vector has T·B elements in time-major order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Streams B.
    pub batch: usize,
    /// Tokens of each stream T.
    pub time: usize,
    /// The tokens read.
    pub inputs: Vec<u32>,
    /// The token after each; [`IGNORED`] where there is none to predict.
    pub targets: Vec<u32>,
    /// Whether the state that a stream carries must be zero before this token.
    pub resets: Vec<bool>,
}

impl Batch {
    /// Gives the vectors the sizes of B streams of T tokens, keeping their memory.
    fn resize(&mut self, batch: usize, time: usize) {
        self.batch = batch;
        self.time = time;
        self.inputs.clear();
        self.inputs.resize(batch * time, 0);
        self.targets.clear();
        self.targets.resize(batch * time, IGNORED);
        self.resets.clear();
        self.resets.resize(batch * time, false);
    }

    /// Number of targets that are not [`IGNORED`].
    pub fn predictions(&self) -> usize {
        self.targets.iter().filter(|&&target| target != IGNORED).count()
    }
}
