//! A conversation as text, and its ids.

use std::ops::Range;

use crate::error::TextError;
use crate::tokenizer::Tokenizer;

/// The text that a template makes of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The whole text, as `transformers` renders it.
    pub text: String,
    /// The places, in bytes, of special tokens' names that the template wrote. Those that a message
    /// spells are not among them.
    pub special: Vec<Range<usize>>,
    /// The places, in bytes, of what the assistant says, each with what ends its turn.
    pub spoken: Vec<Range<usize>>,
}

/// A conversation as ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationIds {
    /// The ids of the tokens.
    pub ids: Vec<u32>,
    /// For each token whether it is, at least in part, what the assistant says or the end of its
    /// turn: what a model learns to write.
    pub spoken: Vec<bool>,
}

impl Rendered {
    /// The ids of the text. Names of special tokens that messages spell are plain text.
    ///
    /// # Errors
    /// [`TextError::Encode`] if the tokeniser cannot express the text.
    pub fn encode(&self, tokenizer: &Tokenizer) -> Result<ConversationIds, TextError> {
        let encoding = tokenizer.encode_with_special_tokens_at(&self.text, &self.special)?;
        let mut spoken = vec![false; encoding.ids.len()];
        for span in &self.spoken {
            for (spoken, place) in spoken.iter_mut().zip(&encoding.offsets) {
                *spoken |= place.bytes.start < span.end && span.start < place.bytes.end;
            }
        }
        Ok(ConversationIds { ids: encoding.ids, spoken })
    }

    /// What follows a place.
    pub(super) fn split_off(self, at: usize) -> Self {
        let behind = |ranges: Vec<Range<usize>>| {
            let ranges = ranges.into_iter().filter(|range| range.start >= at);
            ranges.map(|range| range.start - at..range.end - at).collect()
        };
        Self {
            text: self.text[at..].to_owned(),
            special: behind(self.special),
            spoken: behind(self.spoken),
        }
    }
}
