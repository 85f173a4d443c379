//! Batches of examples of similar length.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::TextError;

/// An example whose length decides which others it shares a batch with.
pub trait Measured {
    /// The length in tokens.
    fn size(&self) -> usize;
}

/// The place of a [`Bucketed`] among its batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketedPosition {
    /// Passes over the examples that are done.
    pub epoch: u64,
    /// Batches of this pass that are done.
    pub batch: u64,
}

/// Batches of examples of similar length, in an order drawn anew for each epoch.
///
/// Each epoch shuffles the examples, sorts runs of 32 batches by length, cuts them into
/// batches and shuffles the batches. Little is padded and the order stays random.
#[derive(Clone, Debug)]
pub struct Bucketed<E> {
    examples: Vec<E>,
    batch: usize,
    /// None keeps the examples in the given order.
    seed: Option<u64>,
    position: BucketedPosition,
    order: Vec<Vec<usize>>,
    /// The batch that was handed out last.
    handed_out: Vec<usize>,
}

/// Batches whose examples are sorted by length together.
const RUN: usize = 32;

impl<E: Measured> Bucketed<E> {
    /// Shuffled batches of at most `batch` examples of similar length, for training.
    ///
    /// # Errors
    /// [`TextError::Empty`] for no examples, [`TextError::Setting`] for a batch size of 0.
    pub fn shuffled(examples: Vec<E>, batch: usize, seed: u64) -> Result<Self, TextError> {
        Self::new(examples, batch, Some(seed))
    }

    /// Batches in the given order, for evaluation.
    ///
    /// # Errors
    /// The errors of [`Bucketed::shuffled`] for these examples.
    pub fn in_order(examples: Vec<E>, batch: usize) -> Result<Self, TextError> {
        Self::new(examples, batch, None)
    }

    fn new(examples: Vec<E>, batch: usize, seed: Option<u64>) -> Result<Self, TextError> {
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
        let position = BucketedPosition::default();
        let (order, handed_out) = (Vec::new(), Vec::new());
        let mut batches = Self { examples, batch, seed, position, order, handed_out };
        batches.draw();
        Ok(batches)
    }

    /// The examples in the given order.
    pub fn examples(&self) -> &[E] {
        &self.examples
    }

    /// The number of batches in an epoch.
    pub fn batches_per_epoch(&self) -> u64 {
        self.examples.len().div_ceil(self.batch) as u64
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
        self.position
    }

    /// Goes on from a saved position. With the same examples, size and seed
    /// the same batches follow.
    ///
    /// # Errors
    /// [`TextError::Position`] where the position is beyond an epoch's end.
    pub fn seek(&mut self, position: BucketedPosition) -> Result<(), TextError> {
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

    /// The next batch as places of its examples; moves on.
    pub fn next_batch(&mut self) -> &[usize] {
        self.handed_out.clone_from(&self.order[self.position.batch as usize]);
        self.position.batch += 1;
        if self.position.batch == self.batches_per_epoch() {
            self.position = BucketedPosition { epoch: self.position.epoch + 1, batch: 0 };
            self.draw();
        }
        &self.handed_out
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
            run.sort_by_key(|&example| self.examples[example].size());
        }
        let mut batches: Vec<Vec<usize>> = order.chunks(self.batch).map(<[_]>::to_vec).collect();
        batches.shuffle(&mut random);
        self.order = batches;
    }
}
