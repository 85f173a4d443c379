//! Examples as token ids, long texts cut.

use std::num::NonZeroUsize;

use longhand_text::Tokenizer;
use longhand_text::batch::LabelledIds;
use longhand_text::corpus::table::Example;

use crate::error::TaskError;
use crate::tables::Examples;

/// The examples of a task as ids.
pub struct Data {
    /// Examples to learn from.
    pub train: Vec<LabelledIds>,
    /// Examples to validate on; may be empty.
    pub valid: Vec<LabelledIds>,
    /// Examples to test on; may be empty.
    pub test: Vec<LabelledIds>,
    /// Number of texts that are longer than the model reads.
    pub cut: usize,
    /// Number of tokens of the training examples that the vocabulary lacks.
    pub unknown: usize,
}

impl Data {
    /// Encodes the examples, each text to its first `longest` tokens.
    ///
    /// # Errors
    /// If the tokeniser refuses a text.
    pub fn encode(
        examples: &Examples,
        tokenizer: &Tokenizer,
        longest: NonZeroUsize,
    ) -> Result<Self, TaskError> {
        let mut cut = 0;
        let mut encode = |part: &[Example]| -> Result<Vec<LabelledIds>, TaskError> {
            let ids = part.iter().map(|example| {
                let (ids, is_cut) = encode(tokenizer, &example.text, longest)?;
                cut += usize::from(is_cut);
                let label = example.label.as_deref().unwrap_or_default();
                Ok(LabelledIds { ids, label: examples.labels.id(label)? })
            });
            ids.collect()
        };
        let [train, valid, test] = examples.parts();
        let (train, valid, test) = (encode(train)?, encode(valid)?, encode(test)?);
        let unknown = train.iter().map(|example| tokenizer.count_unknown(&example.ids)).sum();
        Ok(Self { train, valid, test, cut, unknown })
    }
}

/// The first `longest` tokens of a text, and whether it has more.
pub(crate) fn encode(
    tokenizer: &Tokenizer,
    text: &str,
    longest: NonZeroUsize,
) -> Result<(Vec<u32>, bool), TaskError> {
    let mut ids = tokenizer.encode(text)?;
    let is_cut = ids.len() > longest.get();
    ids.truncate(longest.get());
    Ok((ids, is_cut))
}
