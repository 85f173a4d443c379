//! Why an adapter cannot be read or applied.

use std::path::PathBuf;

use super::config::AdapterConfigError;
use crate::config::ConfigError;
use crate::error::ModelError;
use crate::file::{FileError, WeightsError};

/// Why an adapter cannot be read, applied or written.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// There is no folder of that path.
    #[error(
        "there is no adapter folder {}: give one that holds adapter_config.json and \
         adapter_model.safetensors", .0.display()
    )]
    NoFolder(PathBuf),
    /// The folder lacks a file.
    #[error(
        "{} is missing: an adapter folder holds adapter_config.json and \
         adapter_model.safetensors", .0.display()
    )]
    Missing(PathBuf),
    /// Weights in a form that is not read.
    #[error(
        "{} is a pickle, which can run code where it is read: save the adapter again as \
         adapter_model.safetensors", .0.display()
    )]
    Pickled(PathBuf),
    /// Several adapters, of which one is wrong.
    #[error("the adapter `{name}`: {what}")]
    Named {
        /// Name of the adapter that is wrong.
        name: String,
        /// What is wrong with it.
        what: Box<AdapterError>,
    },
    /// Two adapters with the same name.
    #[error("two adapters are called `{0}`: give each a name of its own, as in NAME=DIR")]
    SameName(String),
    /// Two adapters that each bring parameters, such as a head.
    #[error(
        "the adapters `{one}` and `{other}` both have parameters of their own{}, and a model has one \
         of each: leave one of the adapters out",
        such_as(parameter)
    )]
    TwoOwners {
        /// Name of the first one.
        one: String,
        /// Name of the second one.
        other: String,
        /// A parameter of the second one; empty where its configuration alone differs.
        parameter: String,
    },
    /// A file cannot be read; the message names it.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A base model that cannot be read, or a file that cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The settings in `adapter_config.json` are refused.
    #[error("{}: {what}", path.display())]
    Config {
        /// Path of the settings file.
        path: PathBuf,
        /// The setting that is wrong.
        what: AdapterConfigError,
    },
    /// Weights that are damaged, or not those of an adapter.
    #[error("{}: {what}", path.display())]
    Weights {
        /// Path of the weights file.
        path: PathBuf,
        /// What is wrong with it.
        what: WeightsError,
    },
    /// Settings and weights that were not written together.
    #[error(
        "{} is damaged or belongs to another adapter: its settings are not those that the weights \
         beside it were saved with", .0.display()
    )]
    Seal(PathBuf),
    /// A base model that is not where the adapter says.
    #[error(
        "{} holds an adapter, and its base model {base:?} is not there: name the base model's folder, \
         and this one as its adapter", adapter.display()
    )]
    NoBase {
        /// The adapter's folder.
        adapter: PathBuf,
        /// The base model's folder or name.
        base: String,
    },
    /// A base model that the adapter was not trained on.
    #[error(
        "the adapter belongs to the base model with hash {expected}, but this model has hash {got}: \
         give the model that it was trained on"
    )]
    OtherBase {
        /// The hash of the adapter's base.
        expected: String,
        /// The hash of the given model.
        got: String,
    },
    /// The same, where both are folders.
    #[error(transparent)]
    OtherFolder(Box<OtherFolder>),
    /// An adapted model whose configuration is refused.
    #[error("invalid configuration of the adapted model: {0}")]
    Model(#[from] ConfigError),
    /// A base model that cannot be adapted, or a change that does not fit a matrix.
    #[error(transparent)]
    Base(#[from] ModelError),
    /// A weight of an adapter that has no changes to be weighed.
    #[error(
        "{0} has no changes of low rank to be weighed: its parameters are taken as they are, so leave \
         out its weight"
    )]
    NothingToWeigh(String),
    /// A base that is packed for reading.
    #[error(
        "an adapter is applied to weights in f32, and these are packed for reading: apply it to the \
         model that they were made of, with `longhand adapter merge`, and quantize the result"
    )]
    Packed,
    /// A base with changes of its own.
    #[error("the base model has unmerged changes of low rank: merge them first")]
    Unmerged,
    /// A change of what is no matrix.
    #[error(
        "the adapter changes `{0}`, which is neither a matrix between layers of the base model nor an \
         embedding"
    )]
    NoMatrix(String),
    /// A change of an embedding that is the head too.
    #[error(
        "the adapter changes `{0}`, which is the base model's head too: a change of the embedding \
         alone is for models whose head is not tied to it"
    )]
    Tied(String),
    /// A model that differs from the adapted one.
    #[error("the adapter was saved from a model of another form than the one it is read into")]
    OtherForm,
}

/// An adapter's folder, and that of a model that it was not trained on.
#[derive(Debug, thiserror::Error)]
#[error(
    "the adapter in {} belongs to the base model with hash {expected} (once in {once:?}), but the model \
     in {} has hash {got}: give the model that it was trained on",
    adapter.display(), base.display()
)]
pub struct OtherFolder {
    /// The adapter's folder.
    pub adapter: PathBuf,
    /// The folder of the model that was given.
    pub base: PathBuf,
    /// The folder or name of the adapter's base, as of its training.
    pub once: String,
    /// The hash of the adapter's base.
    pub expected: String,
    /// The hash of the given model.
    pub got: String,
}

fn such_as(parameter: &str) -> String {
    if parameter.is_empty() { String::new() } else { format!(", such as `{parameter}`") }
}
