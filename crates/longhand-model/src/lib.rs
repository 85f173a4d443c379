//! The model: one definition, many configurations.
//!
//! The path of the data:
//! 1. [`config`] describes a model; [`preset`] names some configurations.
//! 2. [`weights`] holds the parameters by PyTorch's names, as they are trained or packed for
//!    reading; [`mod@file`] reads and writes them, with the [`checksum`]s of every tensor, and
//!    [`adapter`] reads and writes what was trained beside a base model.
//! 3. [`model`] lays out embedding → [`block`]s → norm → [`head`], where each block holds
//!    [`memory`]s and their fusion. With an encoder it reads a [`source`] by [`mod@cross`]-attention.
//! 4. [`tape`] records a forward pass as a list of coarse operations, and runs the backward pass.
//! 5. [`state`] is what the memories carry from pass to pass: constant in size, borrowed by each
//!    pass, which advances it.
//!
//! ```
//! use longhand_model::{Model, Preset};
//!
//! // A small LSTM over 50 tokens, with weights drawn from seed 1.
//! let model = Model::new(Preset::Lstm.config(50), 1)?;
//! let file = model.to_bytes();
//! let read = Model::from_bytes(model.config().clone(), &file)?;
//! assert_eq!(read.weights.hash(), model.weights.hash());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod adapter;
pub mod block;
mod bottleneck;
pub mod characters;
pub mod checksum;
pub mod config;
mod convolution;
pub mod cross;
pub mod error;
pub mod file;
pub mod head;
mod low_rank;
pub mod memory;
pub mod model;
mod pointer;
pub mod preset;
pub mod source;
pub mod state;
pub mod tape;
#[cfg(test)]
mod tests;
pub mod weights;
pub mod words;

pub use adapter::{Adapter, AdapterError};
pub use characters::Characters;
pub use config::{Config, ConfigError};
pub use error::{HeadError, ModelError};
pub use file::{FileError, WeightsError};
pub use head::{Head, Targets};
pub use longhand_kernel::candidates::{
    Candidates, Excluded, NO_CANDIDATE, candidates, log_probability,
};
pub use longhand_kernel::crf::Legal as LegalTags;
pub use longhand_kernel::loss::most_probable;
pub use longhand_kernel::nearest;
pub use longhand_kernel::random::split_mix64;
pub use longhand_kernel::weights::Format;
pub use longhand_kernel::{Buffer, Cpu, InstructionSet, Level, Precision, Sequence};
pub use low_rank::{LowRankForm, LowRankSettings, SingularChange};
pub use model::{Input, Model};
pub use preset::{Preset, UnknownPreset};
pub use source::{Source, SourceInput};
pub use state::{NamedTensor, State, StateError, StateLayout};
pub use tape::{
    Ablation, Gates, IGNORE, LossOptions, Mode, Pass, Profile, Sampler, Tape, Total, Var,
};
pub use weights::{Gradients, Group, Packed, Parameter, ParameterId, Weights};
pub use words::{WordVector, Words};
