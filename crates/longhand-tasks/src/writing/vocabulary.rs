//! A tokeniser of the sources beside that of the targets.

use std::path::Path;
use std::sync::Arc;

use longhand_text::Tokenizer;

use crate::error::TaskError;

/// The file of the tokeniser that reads sources, where it is not the model's own.
pub(crate) const SOURCE_TOKENIZER_FILE: &str = "source_tokenizer.json";

/// The tokeniser of the sources; none where the model's own reads them.
#[derive(Clone, Debug, Default)]
pub(super) struct SourceVocabulary(Option<Arc<Tokenizer>>);

impl SourceVocabulary {
    /// A tokeniser that was trained.
    pub(super) fn new(tokenizer: Tokenizer) -> Self {
        Self(Some(Arc::new(tokenizer)))
    }

    /// Whether a model folder has such a tokeniser.
    pub(super) fn is_in(folder: &Path) -> bool {
        folder.join(SOURCE_TOKENIZER_FILE).is_file()
    }

    /// Reads it from a model folder.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub(super) fn load(folder: &Path) -> Result<Self, TaskError> {
        let path = folder.join(SOURCE_TOKENIZER_FILE);
        if !path.is_file() {
            let reason = "it is missing, and reads the sources: copy the whole folder".into();
            return Err(TaskError::TaskFile { path, reason });
        }
        Ok(Self::new(Tokenizer::load(&path)?))
    }

    /// The tokeniser of the sources, or else `own`.
    pub(super) fn or<'a>(&'a self, own: &'a Tokenizer) -> &'a Tokenizer {
        self.0.as_deref().unwrap_or(own)
    }

    /// The number of its tokens; none where the model's own tokeniser reads the sources.
    pub(super) fn size(&self) -> Option<usize> {
        self.0.as_ref().map(|tokenizer| tokenizer.vocab_size())
    }

    /// The name and the content of its file, if there is one.
    ///
    /// # Errors
    /// If the tokeniser cannot be written.
    pub(super) fn file(&self) -> Result<Option<(&'static str, Vec<u8>)>, TaskError> {
        let Some(tokenizer) = &self.0 else { return Ok(None) };
        Ok(Some((SOURCE_TOKENIZER_FILE, tokenizer.to_json()?.into_bytes())))
    }
}

impl PartialEq for SourceVocabulary {
    fn eq(&self, other: &Self) -> bool {
        let hash = |it: &Self| it.0.as_ref().map(|tokenizer| tokenizer.hash().to_owned());
        hash(self) == hash(other)
    }
}
