use std::path::PathBuf;

use longhand_model::{AdapterError, FileError, ModelError, StateError};
use longhand_ngram::NgramError;
use longhand_text::TextError;
use longhand_text::chat::ChatFault;

use crate::datastore_error::DatastoreError;
use crate::model_name::ModelName;
use crate::rules::RulesError;
use crate::sampler::SamplerError;
use crate::search_error::SearchError;
use crate::slot::StreamsError;
use crate::snapshot_error::SnapshotError;

/// An error between a model folder and its text. Each message is one sentence for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The model folder cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// An adapter cannot be read or applied.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The tokeniser or a text cannot be read.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The model refuses an input.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A state that does not fit the model.
    #[error(transparent)]
    State(#[from] StateError),
    /// A setting of the sampler, or logits that are no numbers.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// A generation_config.json that cannot be used.
    #[error(transparent)]
    Generation(#[from] GenerationConfigError),
    /// A snapshot that cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A chat template that refuses a conversation, or cannot hold one.
    #[error(transparent)]
    Chat(#[from] ChatFault),
    /// A prompt that no search can begin with.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// Rules that are refused, or that no token can follow.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// A batch of streams that refuses a session or a slot.
    #[error(transparent)]
    Streams(#[from] StreamsError),
    /// A session that was given to another model.
    #[error(
        "the session belongs to the model {session}, but was given to the model {engine}: use the \
         engine that it was made with"
    )]
    OtherModel {
        /// Name and hash of the session's model.
        session: Box<ModelName>,
        /// Name and hash of the model that was given the session.
        engine: Box<ModelName>,
    },
    /// A model whose memories look ahead.
    #[error(
        "the model reads in both directions, so it can neither continue nor score a text: begin a \
         task with it, or use a model whose memories all look backward"
    )]
    NotCausal,
    /// A model that writes from a source, and cannot continue a text by itself.
    #[error(
        "the model writes from a source that its encoder reads: use `longhand predict` or \
         `longhand eval` with it"
    )]
    NeedsSource,
    /// A model whose head does not predict tokens.
    #[error("the model is a classifier, not a language model")]
    NotLanguageModel,
    /// A model whose answer is pooled over the whole text.
    #[error("the model pools over the whole text, so it has no answer at each position")]
    Pooled,
    /// An n-gram model where a network is needed.
    #[error(
        "the model is an n-gram model, which has neither weights to change nor memories to look \
         into: give a network"
    )]
    NotNetwork,
    /// An n-gram model where a datastore is built or used.
    #[error(
        "the model is an n-gram model, which has no hidden states to keep in a datastore or to look \
         up: give a network"
    )]
    NoHiddenStates,
    /// A datastore that cannot be built or used.
    #[error(transparent)]
    Datastore(#[from] DatastoreError),
    /// An n-gram model that cannot be read.
    #[error(transparent)]
    Ngram(#[from] NgramError),
    /// Sampling before anything was read.
    #[error("nothing has been read yet: give a prompt or a memory to continue from")]
    NothingRead,
    /// An option out of its range.
    #[error("{name} is {value}, but must be {allowed}")]
    Option {
        /// Name of the refused option.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// The allowed values, in words.
        allowed: &'static str,
    },
}

/// Why a generation_config.json is refused.
#[derive(Debug, thiserror::Error)]
pub enum GenerationConfigError {
    /// It is not JSON of the expected form.
    #[error("{} is not usable: {what}", path.display())]
    Form {
        /// Path of the refused file.
        path: PathBuf,
        /// The error, with its line and column.
        what: serde_json::Error,
    },
    /// A setting is out of its range.
    #[error("{}: {what}", path.display())]
    Setting {
        /// Path of the refused file.
        path: PathBuf,
        /// Names the setting and its range.
        what: SamplerError,
    },
}
