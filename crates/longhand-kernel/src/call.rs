//! The context that every memory's functions take.

use crate::cpu::Cpu;
use crate::sequence::Sequence;

/// The processor, the sizes of a layer, and the batch of sequences that it reads.
///
/// `S` is the `Sizes` of the operation's module.
#[derive(Clone, Copy)]
pub struct Call<'a, S> {
    /// The threads and buffers to compute with.
    pub cpu: &'a Cpu,
    /// The sizes of the layer.
    pub sizes: S,
    /// Positions, document starts, lengths and direction of the batch.
    pub sequence: &'a Sequence<'a>,
}

impl<'a, S> Call<'a, S> {
    /// The context of one call.
    pub fn new(cpu: &'a Cpu, sizes: S, sequence: &'a Sequence<'a>) -> Self {
        Self { cpu, sizes, sequence }
    }

    /// The same call for another description of the sizes.
    pub(crate) fn with<T>(&self, sizes: T) -> Call<'a, T> {
        Call { cpu: self.cpu, sizes, sequence: self.sequence }
    }
}
