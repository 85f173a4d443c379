//! Passages that are held out, all of them or a sample.

use std::sync::Arc;

use longhand_text::Tokens;
use longhand_text::batch::{Measured, Passage, PassageBatch, Passages};

use crate::TrainError;
use crate::objective::{Part, Watch};
use crate::random::draw;

/// Rows read at once when nothing is learnt.
const ROWS: usize = 4096;
/// Keeps the draws of a sample apart from others of the same seed.
const SAMPLE: u64 = 0x7061_7373_6167;

/// The passages of a held-out text, all of them or a sample.
pub(super) struct HeldOut {
    tokens: Arc<Tokens>,
    passages: Vec<Passage>,
    /// Passages side by side.
    batch: usize,
}

impl HeldOut {
    /// All passages of at most `longest` tokens; none of a text without any.
    pub(super) fn new(tokens: Arc<Tokens>, longest: usize) -> Option<Self> {
        let passages = Passage::of(&tokens, longest);
        let batch = (ROWS / longest.max(1)).max(1);
        (!passages.is_empty()).then_some(Self { tokens, passages, batch })
    }

    /// Tokens that a measurement reads.
    pub(super) fn tokens(&self) -> u64 {
        self.passages.iter().map(|passage| passage.size() as u64).sum()
    }

    /// Keeps a sample of about `tokens` tokens, drawn from `seed`: at least one batch.
    pub(super) fn sample(&mut self, tokens: u64, seed: u64) {
        let mut read = self.tokens();
        if tokens >= read {
            return;
        }
        self.passages.sort_by_key(|passage| draw([seed, SAMPLE, passage.first]));
        while read > tokens
            && self.passages.len() > self.batch
            && let Some(passage) = self.passages.pop()
        {
            read -= passage.size() as u64;
        }
    }

    /// The sum of what `measure` finds in each batch. Calls `watch` after each.
    pub(super) fn measure(
        &self,
        watch: &mut Watch<'_>,
        mut measure: impl FnMut(&PassageBatch) -> Result<Part, TrainError>,
    ) -> Result<Part, TrainError> {
        let all = self.tokens().max(1) as f64;
        let passages = self.passages.clone();
        let mut passages = Passages::by_length(self.tokens.clone(), passages, self.batch)?;
        let (mut total, mut batch) = (Part::default(), PassageBatch::default());
        for _ in 0..passages.batches_per_epoch() {
            passages.next(&mut batch)?;
            total.add(measure(&batch)?);
            watch.done((total.tokens as f64 / all).min(1.0))?;
        }
        Ok(total)
    }
}
