//! The model: configuration, memories, blocks, heads, state, tape and weights.
