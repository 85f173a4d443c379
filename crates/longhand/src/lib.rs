//! Longhand: language models whose every layer fuses a working memory with a long short-term
//! memory.
//!
//! The path from raw text to words, one crate for each step:
//! 1. [`text`]: files → tokeniser → ids → batches; the built-in sample.
//! 2. [`model`]: a configuration → weights, memories, blocks and heads → logits and the next state.
//! 3. [`train`]: batches → gradients → weights, with checkpoints on the way.
//! 4. [`engine`]: reading, sampling, sessions and their snapshots.
//!
//! Over them, [`run`] trains a model by a [`recipe`] and writes its folder; [`plot`] draws curves
//! and bars.

pub mod plot;

pub use longhand_engine as engine;
pub use longhand_model as model;
pub use longhand_run as run;
pub use longhand_run::recipe;
pub use longhand_tasks as tasks;
pub use longhand_text as text;
pub use longhand_train as train;
