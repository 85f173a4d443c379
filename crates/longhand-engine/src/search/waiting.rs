//! A prompt that was checked.

/// A prompt that waits for its turn.
pub(super) struct Waiting<'a> {
    /// Which prompt of the call.
    pub(super) index: usize,
    /// What the encoder reads; empty for a model without one.
    pub(super) source: &'a [u32],
    /// What is read before the first token is written, never empty.
    pub(super) prefix: &'a [u32],
    /// The first tokens of what is written.
    pub(super) forced: &'a [u32],
    /// The most tokens to write.
    pub(super) maximum: usize,
}
