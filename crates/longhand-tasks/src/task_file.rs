//! `task.json`: the meaning of a model's answers.

use std::path::Path;

use crate::ensemble::{ENSEMBLE_FILE, ENSEMBLE_WEIGHTS_FILE};
use crate::error::TaskError;
use crate::tasks::TaskFile;
use crate::writing::vocabulary::SOURCE_TOKENIZER_FILE;

/// The file of a model folder that gives the meaning of the model's answers.
pub const TASK_FILE: &str = "task.json";
/// The files of a task beside those of its network: a copy of the model needs them all.
pub const TASK_FILES: [&str; 4] =
    [TASK_FILE, ENSEMBLE_FILE, ENSEMBLE_WEIGHTS_FILE, SOURCE_TOKENIZER_FILE];

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

    /// Whether the model writes texts from sources, so that its examples are pairs of the two.
    pub fn writes_from_source(&self) -> bool {
        matches!(self, Self::Translate(_) | Self::Summarize(_) | Self::Answer(_))
    }

    /// The content of the file.
    pub fn to_json(&self) -> Vec<u8> {
        // Plain data with string keys: serialising it cannot fail.
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Classify;

    /// Folders of version 0.1 hold this file.
    #[test]
    fn a_file_written_before_tasks_were_a_trait_is_read_and_written_alike() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(TaskFile::load(folder.path()).unwrap(), None);
        let earlier = "{\n  \"type\": \"classify\",\n  \"labels\": [\n    \"bad\",\n    \
                       \"good\"\n  ],\n  \"longest\": 1024\n}\n";
        fs_err::write(folder.path().join(TASK_FILE), earlier).unwrap();
        let file = TaskFile::load(folder.path()).unwrap().unwrap();
        let task = Classify::try_from(file.clone()).unwrap();
        assert_eq!(task.labels.names(), ["bad", "good"]);
        assert_eq!(task.longest.get(), 1024);
        assert_eq!(String::from_utf8(file.to_json()).unwrap(), earlier);
        let strange = earlier.replace("longest", "widest");
        fs_err::write(folder.path().join(TASK_FILE), strange).unwrap();
        let error = TaskFile::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("widest"), "{error}");
    }
}
