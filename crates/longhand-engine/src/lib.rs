//! Reading and writing text with a model: sessions, sampling, many streams at once, snapshots.
//! Synchronous, and without gradients.
//!
//! ```
//! use std::sync::Arc;
//!
//! use longhand_engine::{Cpu, Engine, GenerateOptions, Generation, SamplerSettings, Snapshot};
//! use longhand_model::{Model, Preset};
//! use longhand_text::Tokenizer;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // `Engine::load(folder)` reads a trained model; this one has random weights.
//! let tokenizer = Tokenizer::byte()?;
//! let model = Model::new(Preset::LonghandNano.config(tokenizer.vocab_size()), 1)?;
//! let engine = Engine::new(model, tokenizer)?;
//! let mut reader = engine.reader(&Arc::new(Cpu::new(1)));
//!
//! let mut session = engine.session(SamplerSettings::default())?;
//! session.read_text(&mut reader, "One day")?;
//! let options = GenerateOptions { max_tokens: 8, ..GenerateOptions::default() };
//! let mut generation = Generation::new(session, options)?;
//! for piece in generation.pieces(&mut reader) {
//!     print!("{}", piece?);
//! }
//!
//! // The session goes into a file, and goes on from there.
//! let path = std::env::temp_dir().join(format!("longhand-{}.safetensors", std::process::id()));
//! Snapshot::of(&generation.into_session()).save(&path)?;
//! let resumed = Snapshot::load(&path)?.session(&engine)?;
//! assert_eq!(resumed.position(), 7 + 8);
//! # std::fs::remove_file(path)?;
//! # Ok(())
//! # }
//! ```
//!
//! The path of the data:
//! 1. [`engine`]: a network or an n-gram model with its tokeniser, checked to belong together. A [`Reader`] runs it;
//! 2. [`text_stream`]: bytes that arrive without end → text that can be cut there → ids;
//! 3. [`session`]: one stream's state, advanced by prefill and decode steps; [`streams`]: many of
//!    them in one batch;
//! 4. [`sampler`] draws the next token, [`continuation`] turns logits into ids and text as they
//!    come, [`generate`] does so for one session, and [`generation_config`] holds the settings of a
//!    model folder for both; [`mod@search`] writes the most probable texts, or draws texts, for
//!    many prompts at once;
//! 5. [`snapshot`]: a session as a file; [`threads`]: how many threads decode fastest;
//! 6. [`rules`] say which tokens may come next, so that what is written matches a schema, an expression,
//!    a grammar or lists of words;
//! 7. [`chat`]: a session whose text is turns, by the model's chat template;
//! 8. `rows.rs`: a prefill that also gives the logits, or the body's output, at each position;
//! 9. [`score`] and [`inspect`] say how surprising each token was, and which memory helped; [`texts`]
//!    scores many texts side by side, and [`Quantiles`] judge a score by those of a reference;
//!    [`shares`] says which memory helped with each token as it is written;
//!    [`recall`] asks for facts at chosen distances, and [`equality`] compares the ways to read;
//! 10. [`datastore`]: what followed each place of a text, mixed with what the model says.

pub mod chat;
pub mod continuation;
pub mod datastore;
mod datastore_error;
pub mod engine;
pub mod equality;
mod error;
pub mod generate;
pub mod generation_config;
pub mod inspect;
mod language_model;
mod log_probability;
mod model_name;
mod quantiles;
pub mod recall;
mod recent;
mod rows;
pub mod rules;
pub mod sampler;
pub mod score;
pub mod search;
mod search_error;
pub mod session;
pub mod shares;
mod slot;
pub mod snapshot;
mod snapshot_error;
mod stop;
pub mod streams;
pub mod text_stream;
pub mod texts;
pub mod threads;

pub use chat::{Answer, Chat, WayBack};
pub use continuation::{Continuation, FinishReason, GenerateOptions, Next, Rewind};
pub use datastore::{Datastore, DatastoreError, Neighbours};
pub use engine::{Engine, LanguageModel, ModelName, Reader};
pub use error::EngineError;
pub use generate::Generation;
pub use generation_config::{GENERATION_FILE, GenerationConfig, GenerationConfigError};
pub use longhand_model::{Ablation, Cpu, ModelError, StateError};
pub use quantiles::Quantiles;
pub use rules::{Rules, RulesError};
pub use sampler::{Sampler, SamplerError, SamplerSettings, SamplerState};
pub use search::{Hypothesis, Prompt, SearchError, SearchSettings, search};
pub use session::Session;
pub use shares::TokenMemory;
pub use snapshot::{Snapshot, SnapshotError};
pub use streams::{NotAdmitted, Rows, Slot, Streams, StreamsError};
pub use text_stream::TextStream;
pub use texts::{Frame, Marks, TextScore, TextScorer};

#[cfg(test)]
mod testing;
