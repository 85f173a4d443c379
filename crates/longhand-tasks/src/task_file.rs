//! `task.json`: the meaning of a model's answers.

use std::num::NonZeroUsize;
use std::path::Path;

use longhand_text::corpus::table::Labels;
use serde::{Deserialize, Serialize};

use crate::error::TaskError;

/// The file of a model folder that gives the meaning of the model's answers.
pub const TASK_FILE: &str = "task.json";

/// The meaning of a model's answers, as `task.json` holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TaskFile {
    /// One label for each text.
    Classify {
        /// The labels, in the order of the model's outputs.
        labels: Labels,
        /// The number of first tokens of a text that are read.
        longest: NonZeroUsize,
    },
}

impl TaskFile {
    /// Reads the file of a model folder; none where there is no such file, as for a language model.
    ///
    /// # Errors
    /// If it cannot be read or has another form.
    pub fn load(folder: &Path) -> Result<Option<Self>, TaskError> {
        let path = folder.join(TASK_FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = fs_err::read(&path)?;
        let file = serde_json::from_slice(&bytes);
        file.map(Some).map_err(|error| TaskError::TaskFile { path, reason: error.to_string() })
    }

    /// The content of the file.
    pub fn to_json(&self) -> Vec<u8> {
        // Plain data with string keys: serialising it cannot fail.
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }
}
