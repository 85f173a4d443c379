//! Batches of separate, labelled examples.

use super::bucketed::{Bucketed, BucketedPosition, Measured};
use crate::error::TextError;

/// An example as ids, with the right answer: `L` is a label's id, or what another task learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledIds<L = u32> {
    /// The ids of the text.
    pub ids: Vec<u32>,
    /// The right answer for these ids.
    pub label: L,
}

/// An example with the number of tokens that are read beside its own.
#[derive(Clone, Debug)]
struct Item<L> {
    example: LabelledIds<L>,
    beside: usize,
}

impl<L> Measured for Item<L> {
    fn size(&self) -> usize {
        self.example.ids.len() + self.beside
    }
}

/// B examples padded to the longest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledBatch<L = u32> {
    /// The number of examples B.
    pub batch: usize,
    /// Tokens of the longest example T, at least 1.
    pub time: usize,
    /// The ids, T·B in time-major order, padded.
    pub ids: Vec<u32>,
    /// Tokens of each example, at least 1: an empty text counts as one padding token.
    pub lengths: Vec<usize>,
    /// The right answer of each example.
    pub labels: Vec<L>,
    /// The place of each example in the list that was given.
    pub examples: Vec<usize>,
}

/// A batch without any example.
impl<L> Default for LabelledBatch<L> {
    fn default() -> Self {
        let (ids, lengths, labels, examples) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { batch: 0, time: 0, ids, lengths, labels, examples }
    }
}

/// Labelled examples in [`Bucketed`] batches, padded.
#[derive(Clone, Debug)]
pub struct LabelledBatches<L = u32> {
    examples: Bucketed<Item<L>>,
    padding: u32,
}

impl<L: Clone> LabelledBatches<L> {
    /// Shuffled, length-bucketed batches for training.
    ///
    /// # Errors
    /// [`TextError::Empty`] for no examples, [`TextError::Setting`] for a batch size of 0.
    pub fn shuffled(
        examples: Vec<LabelledIds<L>>,
        batch: usize,
        padding: u32,
        seed: u64,
    ) -> Result<Self, TextError> {
        Self::shuffled_beside(examples, |_| 0, batch, padding, seed)
    }

    /// As [`LabelledBatches::shuffled`], of examples that are read with further tokens, such as those
    /// of a source: `beside` tells how many, and they count for the length.
    ///
    /// # Errors
    /// The errors of [`LabelledBatches::shuffled`] for these examples.
    pub fn shuffled_beside(
        examples: Vec<LabelledIds<L>>,
        beside: impl Fn(&L) -> usize,
        batch: usize,
        padding: u32,
        seed: u64,
    ) -> Result<Self, TextError> {
        let item = |example: LabelledIds<L>| Item { beside: beside(&example.label), example };
        let items = examples.into_iter().map(item).collect();
        Ok(Self { examples: Bucketed::shuffled(items, batch, seed)?, padding })
    }

    /// The number of batches in an epoch.
    pub fn batches_per_epoch(&self) -> u64 {
        self.examples.batches_per_epoch()
    }

    /// The number of examples.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there is no example; always false, as an empty list is refused.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// The place of the next batch.
    pub fn position(&self) -> BucketedPosition {
        self.examples.position()
    }

    /// Goes on from a saved position.
    ///
    /// # Errors
    /// The errors of [`Bucketed::seek`] for this position.
    pub fn seek(&mut self, position: BucketedPosition) -> Result<(), TextError> {
        self.examples.seek(position)
    }

    /// Fills in the next batch and moves on.
    pub fn next(&mut self, out: &mut LabelledBatch<L>) {
        out.examples.clear();
        out.examples.extend_from_slice(self.examples.next_batch());
        let items = self.examples.examples();
        let examples: Vec<_> = out.examples.iter().map(|&place| &items[place].example).collect();
        out.fill(&examples, self.padding);
    }
}

impl<L: Clone> LabelledBatch<L> {
    /// Puts examples side by side, each with `padding` behind it to the longest one's end. Their places
    /// are the caller's.
    pub fn fill(&mut self, examples: &[&LabelledIds<L>], padding: u32) {
        self.batch = examples.len();
        self.time = examples.iter().map(|example| example.ids.len()).max().unwrap_or(0).max(1);
        self.ids.clear();
        self.ids.resize(self.batch * self.time, padding);
        self.lengths.clear();
        self.labels.clear();
        for (stream, example) in examples.iter().enumerate() {
            for (step, &id) in example.ids.iter().enumerate() {
                self.ids[step * self.batch + stream] = id;
            }
            self.lengths.push(example.ids.len().max(1));
            self.labels.push(example.label.clone());
        }
    }
}
