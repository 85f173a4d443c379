//! A model folder on disk: `config.json`, `model.safetensors`, `tokenizer.json`.

use std::path::Path;

use anyhow::{Result, bail};
use longhand_text::Tokenizer;

/// The tokeniser's file in a model folder.
pub(crate) const TOKENIZER_FILE: &str = "tokenizer.json";

/// Reads a model folder's tokeniser.
pub(crate) fn tokenizer(folder: &Path) -> Result<Tokenizer> {
    if !folder.is_dir() {
        bail!(
            "there is no folder {}: give the folder that `longhand train` wrote",
            folder.display()
        );
    }
    let path = folder.join(TOKENIZER_FILE);
    if !path.is_file() {
        bail!(
            "{} is missing: a model folder holds config.json, model.safetensors and \
             {TOKENIZER_FILE}",
            path.display()
        );
    }
    Ok(Tokenizer::load(&path)?)
}
