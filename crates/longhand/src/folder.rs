//! A model folder on disk: `config.json`, `model.safetensors`, `tokenizer.json`.

use std::path::Path;

use anyhow::{Result, bail};
use longhand_model::Model;
use longhand_model::config::HeadConfig;
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

/// Reads a language model and its tokeniser, and checks that they belong together.
pub(crate) fn language_model(folder: &Path) -> Result<(Model, Tokenizer)> {
    let tokenizer = tokenizer(folder)?;
    let model = Model::load(folder)?;
    if !matches!(model.config().head, HeadConfig::LanguageModel { .. }) {
        bail!("the model in {} does not predict text: it has another head", folder.display());
    }
    let (known, tokens) = (model.config().vocab_size, tokenizer.vocab_size());
    if known != tokens {
        bail!(
            "the tokenizer in {} has {tokens} tokens but its model knows {known}: it is another \
             model's, copy the right one",
            folder.display()
        );
    }
    Ok((model, tokenizer))
}
