//! Batches of separate, labelled examples.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::TextError;

/// An example as ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledIds {
    /// The text's ids.
    pub ids: Vec<u32>,
    /// The label's id.
    pub label: u32,
}

/// B examples padded to the longest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelledBatch {
    /// Examples B.
    pub batch: usize,
    /// Tokens of the longest example T, at least 1.
    pub time: usize,
    /// The ids, T·B in time-major order, padded.
    pub ids: Vec<u32>,
    /// Tokens of each example, at least 1: an empty text counts as one padding token.
    pub lengths: Vec<usize>,
    /// The label of each example.
    pub labels: Vec<u32>,
    /// The place of each example in the list that was given.
    pub examples: Vec<usize>,
}

/// Where a [`LabelledBatches`] stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelledPosition {
    /// Passes over the examples that are done.
    pub epoch: u64,
    /// Batches of this pass that are done.
    pub batch: u64,
}

/// Batches of examples of similar length, in an order drawn anew for each epoch.
///
/// Each epoch shuffles the examples, sorts runs of 32 batches by length, cuts them into
/// batches and shuffles the batches, so that little is padded and the order stays random.
#[derive(Clone, Debug)]
pub struct LabelledBatches {
    examples: Vec<LabelledIds>,
    batch: usize,
    padding: u32,
    /// None keeps the examples in the given order.
    seed: Option<u64>,
    position: LabelledPosition,
    order: Vec<Vec<usize>>,
}

/// Batches whose examples are sorted by length together.
const RUN: usize = 32;

impl LabelledBatches {
    /// Shuffled, length-bucketed batches for training.
    ///
    /// # Errors
    /// No examples, or a batch size of 0.
    pub fn shuffled(
        examples: Vec<LabelledIds>,
        batch: usize,
        padding: u32,
        seed: u64,
    ) -> Result<Self, TextError> {
        Self::new(examples, batch, padding, Some(seed))
    }

    /// Batches in the given order, for evaluation.
    ///
    /// # Errors
    /// As [`LabelledBatches::shuffled`].
    pub fn in_order(
        examples: Vec<LabelledIds>,
        batch: usize,
        padding: u32,
    ) -> Result<Self, TextError> {
        Self::new(examples, batch, padding, None)
    }

    fn new(
        examples: Vec<LabelledIds>,
        batch: usize,
        padding: u32,
        seed: Option<u64>,
    ) -> Result<Self, TextError> {
        if batch == 0 {
            return Err(TextError::Setting {
                what: "the batch size",
                value: "0".into(),
                allowed: "at least 1",
            });
        }
        if examples.is_empty() {
            return Err(TextError::Empty("the list of examples".into()));
        }
        let position = LabelledPosition::default();
        let mut batches = Self { examples, batch, padding, seed, position, order: Vec::new() };
        batches.draw();
        Ok(batches)
    }

    /// Batches of an epoch.
    pub fn batches_per_epoch(&self) -> u64 {
        self.examples.len().div_ceil(self.batch) as u64
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there is no example; never so, as none are refused.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// Where the next batch lies.
    pub fn position(&self) -> LabelledPosition {
        self.position
    }

    /// Goes on from a saved position.
    ///
    /// # Errors
    /// [`TextError::Position`] where the position lies beyond an epoch's end.
    pub fn seek(&mut self, position: LabelledPosition) -> Result<(), TextError> {
        let batches = self.batches_per_epoch();
        if position.batch >= batches {
            return Err(TextError::Position {
                position: format!("epoch {}, batch {}", position.epoch, position.batch),
                reason: format!("an epoch has {batches} batches; resume with the same examples"),
            });
        }
        let drawn = self.position.epoch;
        self.position = position;
        if drawn != position.epoch {
            self.draw();
        }
        Ok(())
    }

    /// Fills in the next batch and moves on. The last batch of the given order may be smaller.
    pub fn next(&mut self, out: &mut LabelledBatch) {
        let chosen = &self.order[self.position.batch as usize];
        let examples = || chosen.iter().map(|&example| &self.examples[example]);
        let batch = chosen.len();
        let time = examples().map(|example| example.ids.len()).max().unwrap_or(0).max(1);
        out.batch = batch;
        out.time = time;
        out.ids.clear();
        out.ids.resize(batch * time, self.padding);
        out.lengths.clear();
        out.labels.clear();
        out.examples.clear();
        out.examples.extend_from_slice(chosen);
        for (stream, example) in examples().enumerate() {
            for (step, &id) in example.ids.iter().enumerate() {
                out.ids[step * batch + stream] = id;
            }
            out.lengths.push(example.ids.len().max(1));
            out.labels.push(example.label);
        }
        self.position.batch += 1;
        if self.position.batch == self.batches_per_epoch() {
            self.position = LabelledPosition { epoch: self.position.epoch + 1, batch: 0 };
            self.draw();
        }
    }

    /// Draws the order of the current epoch.
    fn draw(&mut self) {
        let mut order: Vec<usize> = (0..self.examples.len()).collect();
        let Some(seed) = self.seed else {
            self.order = order.chunks(self.batch).map(<[_]>::to_vec).collect();
            return;
        };
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(self.position.epoch);
        order.shuffle(&mut random);
        for run in order.chunks_mut(self.batch.saturating_mul(RUN)) {
            run.sort_by_key(|&example| self.examples[example].ids.len());
        }
        let mut batches: Vec<Vec<usize>> = order.chunks(self.batch).map(<[_]>::to_vec).collect();
        batches.shuffle(&mut random);
        self.order = batches;
    }
}
