//! A text as tokens of another one that it is within.

use std::borrow::Cow;

use longhand_text::{Tokenizer, TokenizerKind};

use crate::error::TaskError;

/// The ids of a text whose first word has the token that it has within a text.
pub(super) fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, TaskError> {
    Ok(tokenizer.encode(&within(tokenizer, text))?)
}

/// A text as it is within another one: behind a space, where tokens begin with it.
pub(super) fn within<'a>(tokenizer: &Tokenizer, text: &'a str) -> Cow<'a, str> {
    match tokenizer.kind() {
        TokenizerKind::Bpe | TokenizerKind::Unigram => format!(" {text}").into(),
        _ => text.into(),
    }
}
