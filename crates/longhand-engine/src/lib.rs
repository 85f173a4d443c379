//! Reading and stepping, sampling, sessions and their snapshots. Synchronous, and without
//! gradients.
//!
//! The path of the data:
//! 1. [`engine`]: a model with its tokeniser, checked to belong together; a [`Reader`] runs it;
//! 2. [`stream`]: bytes that arrive without end → text that can be cut there → ids;
//! 3. [`session`]: one stream's memory, moved forward by reading and stepping;
//! 4. [`sampler`] draws the next token, [`generate`] turns tokens into text as they come, and
//!    [`generation_config`] is what a model folder says of both;
//! 5. [`snapshot`]: a session as a file;
//! 6. [`score`] and [`inspect`] say how surprising each token was, and which memory helped;
//!    [`recall`] asks for facts at chosen distances, and [`equality`] compares the ways to read.

pub mod engine;
pub mod equality;
mod error;
pub mod generate;
pub mod generation_config;
pub mod inspect;
pub mod recall;
pub mod sampler;
pub mod score;
pub mod session;
pub mod snapshot;
pub mod stream;

pub use engine::{Engine, Reader};
pub use error::EngineError;
pub use generate::{FinishReason, GenerateOptions, Generation};
pub use generation_config::{GENERATION_FILE, GenerationConfig, GenerationConfigError};
pub use longhand_model::{Ablation, Cpu, ModelError, StateError};
pub use sampler::{Sampler, SamplerError, SamplerSettings, SamplerState};
pub use session::Session;
pub use snapshot::{Snapshot, SnapshotError};
pub use stream::TextStream;

#[cfg(test)]
mod testing;
