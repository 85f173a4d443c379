//! Longhand: language models whose every layer fuses a working memory with
//! a long short-term memory.
//!
//! The path from raw text to words, one crate for each step:
//! 1. [`text`]: files → tokeniser → ids → batches; the built-in sample.
//! 2. [`model`]: a configuration → weights, memories, blocks and heads → logits and the next state.
//! 3. [`train`]: batches → gradients → weights, with checkpoints on the way.
//! 4. [`engine`]: reading, sampling, sessions and their snapshots.
//!
//! Over them, [`run`] trains a model by a [`recipe`] and writes its folder, and [`plot`]
//! draws curves and bars.
//!
//! A model from a recipe, some text that it writes, and its memory in a file:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use longhand::engine::{Cpu, Engine, GenerateOptions, Generation, Snapshot};
//! use longhand::run::{Existing, Recipe, Run};
//!
//! let folder = std::env::temp_dir().join("longhand-story");
//! let recipe = "data = { sample_bytes = 60000 }\ntraining = { budget = { steps = 3 } }";
//! let run = Run::new(Recipe::parse(recipe, "story")?, &folder).existing(Existing::Overwrite);
//! run.start(&mut ())?;
//!
//! let engine = Engine::load(&folder)?;
//! let mut reader = engine.reader(&std::sync::Arc::new(Cpu::new(2)));
//! let mut session = engine.session(engine.generation().sampler)?;
//! session.read(&mut reader, &engine.tokenizer().encode("One day")?)?;
//! let options = GenerateOptions { max_tokens: 20, ..Default::default() };
//! let mut generation = Generation::new(session, options)?;
//! while let Some(next) = generation.next(&mut reader)? {
//!     print!("{}", next.text);
//! }
//! let memory = folder.join("story.safetensors");
//! Snapshot::of(&generation.into_session()).save(&memory)?;
//! let resumed = Snapshot::load(&memory)?.session(&engine)?;
//! println!("{} tokens are remembered", resumed.position());
//! # Ok(())
//! # }
//! ```

pub mod plot;

pub use longhand_engine as engine;
pub use longhand_model as model;
pub use longhand_run as run;
pub use longhand_run::recipe;
pub use longhand_tasks as tasks;
pub use longhand_text as text;
pub use longhand_train as train;
