//! Why a recipe is refused.

use std::path::PathBuf;

use longhand_model::{ConfigError, UnknownPreset};

use crate::objective::PretrainingObjective;

/// The variable that names the folder of a recipe's data.
pub const DATA_VARIABLE: &str = "LONGHAND_DATA";

/// Why a recipe is refused.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// There is no such file.
    #[error(
        "there is no recipe {}: name a file, as `recipes/sample-recall.toml` of the sources is one",
        .0.display()
    )]
    NoFile(PathBuf),
    /// The file is not a valid recipe.
    #[error("{name} is not a usable recipe: {reason}")]
    Form {
        /// Name of the refused file.
        name: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// A data file is not there.
    #[error(
        "the recipe's data file {} is not there: set {DATA_VARIABLE} to the folder that holds the \
         data{}", path.display(), from(source_of_data)
    )]
    Missing {
        /// Path of the missing file.
        path: PathBuf,
        /// Where it can be had; empty where the recipe does not tell.
        source_of_data: String,
    },
    /// A data file is another one.
    #[error(
        "{} is not the file that the recipe names: its SHA-256 is {got}, not {expected}",
        path.display()
    )]
    Hash {
        /// Path of the file that was found.
        path: PathBuf,
        /// SHA-256 that the recipe names.
        expected: String,
        /// SHA-256 of the file.
        got: String,
    },
    /// The recipe names an unknown preset.
    #[error(transparent)]
    Preset(#[from] UnknownPreset),
    /// A model without the head that its training needs.
    #[error(
        "the model ({0}) has no language-model head and cannot learn to predict text: choose \
         another preset or head, or say in `task` what it learns"
    )]
    NoLanguageModel(String),
    /// A model that cannot learn the objective.
    #[error(
        "the model ({model}) cannot learn the objective {objective}, which needs {}: choose \
         another preset, such as {}, or another objective", objective.needs(), objective.preset()
    )]
    Unfit {
        /// Name of the model.
        model: String,
        /// The objective that was asked for.
        objective: PretrainingObjective,
    },
    /// A refused model configuration.
    #[error("invalid model configuration: {0}")]
    Config(ConfigError),
}

impl From<ConfigError> for RecipeError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// The part of a sentence that tells where data comes from.
fn from(source: &str) -> String {
    if source.is_empty() { String::new() } else { format!("; it comes from {source}") }
}
