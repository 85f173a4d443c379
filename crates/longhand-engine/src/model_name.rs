//! How an error names a model.

use std::fmt;

/// A model as an error names it: the beginning of its hash, and its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    /// The hash of configuration and weights.
    pub model: String,
    /// The hash of the tokeniser.
    pub tokenizer: String,
    /// How many parameters the model has.
    pub parameters: usize,
    /// V: how many tokens it knows.
    pub vocab_size: usize,
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, tokenizer, parameters, vocab_size } = self;
        write!(
            f,
            "{model:.12}… ({parameters} parameters, {vocab_size} tokens, tokeniser \
             {tokenizer:.12}…)"
        )
    }
}
