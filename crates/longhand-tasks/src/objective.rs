//! Training on the examples of a task, in the one training loop.
//!
//! Each sequence is read from an empty state. Shorter ones are padded, and a recurrence stops at the
//! last token of a sequence.

use longhand_model::{Gates, Mode, Model, ModelError, Tape, Targets};
use longhand_text::Tokenizer;
use longhand_text::batch::{LabelledBatch, LabelledBatches, LabelledIds, LabelledPosition};
use longhand_train::objective::{Objective, Part, Pass, Score, Watch};
use longhand_train::{Adversarial, Settings, TrainError};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::batches::{ROWS, padding, read};
use crate::error::TaskError;
use crate::ids::Measured;
use crate::score::score;
use crate::task::Task;

/// Training of a task on examples.
pub struct TaskObjective<T: Task> {
    task: T,
    batches: LabelledBatches<T::Target>,
    batch: LabelledBatch<T::Target>,
    valid: Measured<T>,
    padding: u32,
    label_smoothing: f32,
    adversarial: Option<Adversarial>,
}

impl<T: Task> TaskObjective<T> {
    /// Trains on `train` in shuffled batches of similar lengths, and validates on `valid`
    /// unless it is empty.
    ///
    /// # Errors
    /// If there is no example.
    pub fn new(
        task: T,
        settings: &Settings,
        tokenizer: &Tokenizer,
        train: Vec<LabelledIds<T::Target>>,
        valid: Measured<T>,
    ) -> Result<Self, TaskError> {
        let padding = padding(tokenizer);
        let Settings { batch, seed, .. } = *settings;
        let batches = LabelledBatches::shuffled_beside(train, T::beside, batch, padding, seed)?;
        let Settings { label_smoothing, adversarial, .. } = *settings;
        let batch = LabelledBatch::default();
        Ok(Self { task, batches, batch, valid, padding, label_smoothing, adversarial })
    }

    /// Records the forward pass over the batch, and `share` × its loss.
    fn learn_batch(&self, pass: &mut Pass<'_>, share: f32) -> Result<Part, TrainError> {
        let x = read(&self.task, pass.model, &mut pass.tape, &self.batch)?;
        let source = self.task.source(&self.batch).map_or(Vec::new(), |source| source.lengths);
        let read = self.batch.lengths.iter().map(|&length| length as u64);
        let tokens = read.chain(source.into_iter().map(u64::from)).sum();
        let mut part = Part { tokens, ..Part::default() };
        let mut learn = |targets: Targets<'_>, weight: f32| -> Result<(), ModelError> {
            let total = pass.weighted_loss(x, targets, share * weight, self.label_smoothing)?;
            part.add(Part { nats: total.nats * f64::from(weight), ..Part::of(total, 0) });
            Ok(())
        };
        self.task.with_weighted_targets(&self.batch, &mut learn)?;
        Ok(part)
    }
}

#[cfg(test)]
impl<T: Task> TaskObjective<T> {
    pub(crate) fn next_batch(&mut self) {
        self.batches.next(&mut self.batch);
    }

    pub(crate) fn batch(&self) -> &LabelledBatch<T::Target> {
        &self.batch
    }
}

impl<T: Task> Objective for TaskObjective<T> {
    fn learn(&mut self, pass: &mut Pass<'_>) -> Result<Part, TrainError> {
        self.batches.next(&mut self.batch);
        let Some(Adversarial { epsilon, weight }) = self.adversarial else {
            return self.learn_batch(pass, 1.0);
        };
        pass.watch_embedding();
        let part = self.learn_batch(pass, 1.0)?;
        pass.perturb(epsilon)?;
        // What is told is the loss of the texts as they are.
        self.learn_batch(pass, weight)?;
        Ok(part)
    }

    fn validate(
        &mut self,
        model: &Model,
        tape: &mut Tape,
        watch: &mut Watch<'_>,
    ) -> Result<Option<Score>, TrainError> {
        if self.valid.is_empty() {
            return Ok(None);
        }
        let tapes = std::slice::from_mut(tape);
        let result =
            score(&self.task, (model, tapes, None), None, &self.valid, self.padding, watch)?;
        Ok(Some(result.score()))
    }

    fn criterion(&self) -> &'static [&'static str] {
        T::CRITERION
    }

    fn held_out(&self) -> u64 {
        self.valid.tokens()
    }

    fn sample_held_out(&mut self, tokens: u64, seed: u64) -> u64 {
        if tokens < self.held_out() {
            let examples = &mut self.valid.examples;
            examples.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            let mut read = 0;
            let kept = examples.iter().take_while(|known| {
                let size = |item: &LabelledIds<T::Target>| item.ids.len() + T::beside(&item.label);
                read += known.items.iter().map(|item| size(item) as u64).sum::<u64>();
                read <= tokens
            });
            // One batch is the least that is worth its time.
            let kept = kept.count().max(ROWS);
            examples.truncate(kept);
        }
        self.held_out()
    }

    fn gates(&mut self, model: &Model, tape: &mut Tape) -> Result<Vec<Gates>, TrainError> {
        if self.batch.batch == 0 {
            return Ok(Vec::new());
        }
        read(&self.task, model, &mut tape.pass(Mode::Record), &self.batch)?;
        Ok(tape.gates(&model.weights))
    }

    fn batches_per_epoch(&self) -> u64 {
        self.batches.batches_per_epoch()
    }

    fn position(&self) -> serde_json::Value {
        let LabelledPosition { epoch, batch } = self.batches.position();
        serde_json::json!({ "epoch": epoch, "batch": batch })
    }

    fn seek(&mut self, position: &serde_json::Value) -> Result<(), TrainError> {
        let position = serde_json::from_value(position.clone())
            .map_err(|error| TrainError::Objective(error.into()))?;
        Ok(self.batches.seek(position)?)
    }
}
