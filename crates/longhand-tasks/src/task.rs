//! What is learnt, as a recipe and a model folder write it.

use std::num::NonZeroUsize;
use std::path::Path;

use longhand_text::corpus::table::Labels;
use serde::{Deserialize, Serialize};

use crate::TaskError;
use crate::classify::Settings;

/// The file of a model folder that says what its answers mean.
pub const TASK_FILE: &str = "task.json";

/// What is learnt: the table `task` of a recipe. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Task {
    /// One label for each text.
    Classify(Settings),
}

/// What a model's answers mean: `task.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TaskFile {
    /// One label for each text.
    Classify {
        /// The labels, by the place of their output.
        labels: Labels,
        /// Tokens of a text that are read, its first ones.
        longest: NonZeroUsize,
    },
}

impl TaskFile {
    /// Reads a model folder's; none where the folder has none, as a language model's.
    ///
    /// # Errors
    /// If it cannot be read or is of another form.
    pub fn load(folder: &Path) -> Result<Option<Self>, TaskError> {
        let path = folder.join(TASK_FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = fs_err::read(&path)?;
        let file = serde_json::from_slice(&bytes);
        file.map(Some).map_err(|error| TaskError::TaskFile { path, reason: error.to_string() })
    }

    /// As it is written into a file.
    pub fn to_json(&self) -> Vec<u8> {
        // Plain data with string keys: serialising it cannot fail.
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }
}
