//! Words of several tokens: one row of the body's output for each of them.

use longhand_kernel::Sequence;
use longhand_kernel::segments::Reduction;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Stacks};
use crate::error::ModelError;
use crate::tape::{Pass, Var};

/// The words of the sequences that a pass reads. The body's output then has a row for each word in
/// place of one for each token, and heads answer words.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// `[S·B]`, row s·B + b: the first token of word s of sequence b, and the one behind its last.
    /// Words may share tokens. Rows behind a sequence's last word have an empty range.
    pub ranges: &'a [(u32, u32)],
    /// `[B]`: the number of words of each sequence.
    pub lengths: &'a [u32],
    /// The row of a word (default: [`WordVector::suited`] to the model).
    pub vector: Option<WordVector>,
}

/// The row of the body's output that a word has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WordVector {
    /// That of the token which is read first.
    First,
    /// That of the token which is read last. A stack that reads backward reads the first token of a
    /// word last (Akbik et al., "Contextual string embeddings for sequence labeling", 2018,
    /// section 2.3).
    Last,
    /// The sum of the rows of its tokens.
    Sum,
}

impl WordVector {
    /// The last token where stacks read in one direction, as their state has then read the whole
    /// word; the first one where memories read both ways.
    pub fn suited(config: &Config) -> Self {
        match config.stacks == Stacks::Bicausal || config.is_causal() {
            true => Self::Last,
            false => Self::First,
        }
    }

    /// As positions of the sequence, in a stack that reads forward or `backward`.
    fn reduction(self, backward: bool) -> Reduction {
        match (self, backward) {
            (Self::First, false) | (Self::Last, true) => Reduction::First,
            (Self::Last, false) | (Self::First, true) => Reduction::Last,
            (Self::Sum, _) => Reduction::Sum,
        }
    }
}

impl Words<'_> {
    /// The rows of the words in the output of each stack, the forward one's first.
    pub(crate) fn gather<const N: usize>(
        self,
        pass: &mut Pass<'_>,
        config: &Config,
        stacks: [Var; N],
    ) -> [Var; N] {
        let batch = self.lengths.len();
        let lengths = Some(self.lengths);
        let words = self.ranges.len() / batch.max(1);
        let span = pass.open_span(&Sequence { lengths, ..Sequence::new(words, batch) });
        let vector = self.vector.unwrap_or_else(|| WordVector::suited(config));
        let mut backward = false;
        stacks.map(|x| {
            let reduction = vector.reduction(backward);
            backward = true;
            pass.segment(x, self.ranges, reduction, span)
        })
    }

    /// Checks that the words belong to a sequence.
    pub(crate) fn check(&self, sequence: &Sequence<'_>) -> Result<(), ModelError> {
        let (batch, count) = (sequence.batch, self.ranges.len());
        if self.lengths.len() != batch || !count.is_multiple_of(batch) {
            return Err(ModelError::Words { ranges: count, sequences: batch });
        }
        let words = count / batch.max(1);
        let fits = |row: usize, (start, end): (u32, u32)| {
            let (word, b) = (row / batch, row % batch);
            let has_tokens = start < end && end as usize <= sequence.real(b);
            if word < self.lengths[b] as usize { has_tokens } else { start == end }
        };
        let misfit = (0..count).find(|&row| !fits(row, self.ranges[row]));
        if let Some(row) = misfit {
            let ((start, end), b) = (self.ranges[row], row % batch);
            let (word, length) = (row / batch, sequence.real(b));
            return Err(ModelError::Word { word, sequence: b, start, end, length });
        }
        match (0..batch).find(|&b| self.lengths[b] as usize > words) {
            Some(_) => Err(ModelError::Words { ranges: count, sequences: batch }),
            None => Ok(()),
        }
    }
}
