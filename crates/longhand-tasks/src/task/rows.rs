//! What a model reads beside the tokens of a batch: its words, its characters and its sources.

use longhand_model::{Characters, Sequence, SourceInput, WordVector, Words};

/// The words of a batch that the model answers, see [`Words`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordRows {
    /// `[S·B]`: the tokens of each word.
    pub ranges: Vec<(u32, u32)>,
    /// `[B]`: the number of words of each sequence.
    pub lengths: Vec<u32>,
    /// The row of a word; none for the one that suits the model.
    pub vector: Option<WordVector>,
}

/// The characters of an example's tokens or of a batch's, see [`Characters`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CharacterRows {
    /// `[C·B]`: the characters of each sequence, one token's after another's.
    pub ids: Vec<u32>,
    /// `[T·B]`: the characters of each token.
    pub ranges: Vec<(u32, u32)>,
}

/// The sequences that an encoder reads for a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceRows {
    /// `[T·B]`: the tokens in time-major order, padded.
    pub ids: Vec<u32>,
    /// `[B]`: the tokens of each sequence, at least 1.
    pub lengths: Vec<u32>,
    /// Tokens of the longest sequence T, at least 1.
    pub time: usize,
}

impl SourceRows {
    /// Sequences side by side. An empty one counts as one padding token.
    pub fn of<'a>(sequences: impl Iterator<Item = &'a [u32]> + Clone) -> Self {
        let lengths: Vec<u32> = sequences.clone().map(|ids| ids.len().max(1) as u32).collect();
        let (time, batch) = (lengths.iter().copied().max().unwrap_or(1) as usize, lengths.len());
        let mut ids = vec![0; time * batch];
        for (b, sequence) in sequences.enumerate() {
            for (t, &id) in sequence.iter().enumerate() {
                ids[t * batch + b] = id;
            }
        }
        Self { ids, lengths, time }
    }

    /// The sequences as a pass reads them.
    pub fn source(&self) -> SourceInput<'_> {
        let sequence = Sequence::new(self.time, self.lengths.len());
        let sequence = Sequence { lengths: Some(&self.lengths), ..sequence };
        SourceInput::Text { ids: &self.ids, sequence }
    }
}

impl CharacterRows {
    /// The characters as a pass reads them.
    pub fn characters(&self) -> Characters<'_> {
        Characters { ids: &self.ids, ranges: &self.ranges }
    }
}

impl WordRows {
    /// The words as a pass reads them.
    pub fn words(&self) -> Words<'_> {
        Words { ranges: &self.ranges, lengths: &self.lengths, vector: self.vector }
    }
}
