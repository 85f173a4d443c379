//! Longhand: language models whose every layer fuses a working memory with a long short-term
//! memory.
//!
//! The path from raw text to words, one crate for each step:
//! 1. [`text`]: files → tokeniser → ids → batches; the built-in sample;
//! 2. [`model`]: a configuration with its weights, and what its memories hold;
//! 3. [`engine`]: reading, sampling, sessions and their snapshots.
//!
//! Beside it: [`plot`] draws curves and bars.

pub mod plot;

pub use longhand_engine as engine;
pub use longhand_model as model;
pub use longhand_text as text;
