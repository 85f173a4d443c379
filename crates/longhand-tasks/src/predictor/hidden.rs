//! The hidden states that a network has before each token of right texts, for a datastore.

use longhand_engine::Neighbours;
use longhand_engine::datastore::{DatastoreError, DatastoreWriter, Tuner};
use longhand_model::{IGNORE, Model, Tape, Targets, Var};
use longhand_text::batch::LabelledIds;
use longhand_train::{TrainError, Watch};

use super::{Predictor, Trained};
use crate::batches::{Taken, in_batches, padding, tapes};
use crate::ids::Measured;
use crate::network::Network;
use crate::score::own_losses;
use crate::task::Task;

#[cfg(test)]
mod tests;

impl<T: Task> Predictor<T> {
    /// D: numbers in a hidden state; none of a baseline.
    pub fn hidden_width(&self) -> Option<usize> {
        match &self.trained {
            Trained::Network(network) => Some(network.model.token_head().width()),
            Trained::Baseline(_) => None,
        }
    }

    /// Writes the hidden state before each token of the right texts, and the token, into a datastore
    /// (Khandelwal et al., "Nearest neighbor machine translation", 2021). Nothing is written of answers
    /// that are no texts.
    ///
    /// # Errors
    /// If an id or a target is none of the model's, or nothing can be
    /// written; [`TrainError::Stopped`] of `watch`.
    pub fn remember(
        &self,
        examples: &Measured<T>,
        writer: &mut DatastoreWriter,
        watch: &mut Watch<'_>,
    ) -> Result<(), TrainError> {
        self.each_batch(examples, watch, |_, tape, x, ids| {
            let (width, rows) = (tape.width(x), tape.data(x));
            for (row, &id) in rows.chunks_exact(width).zip(ids) {
                if id != IGNORE {
                    writer.push(row, &[id]).map_err(beside)?;
                }
            }
            Ok(())
        })
    }

    /// Tries mixtures with a datastore of this network on the tokens of right texts.
    ///
    /// # Errors
    /// As [`Predictor::remember`], for the examples and the datastore.
    pub fn try_mixtures(
        &self,
        examples: &Measured<T>,
        neighbours: &mut Neighbours,
        tuner: &mut Tuner,
        watch: &mut Watch<'_>,
    ) -> Result<(), TrainError> {
        self.each_batch(examples, watch, |model, tape, x, ids| {
            let (losses, _) = own_losses(model, (&mut *tape, x), ids)?;
            tuner.add(tape.cpu(), neighbours, tape.data(x), ids, &losses).map_err(beside)
        })
    }

    /// Reads examples side by side, and hands on the body's output for each batch with the tokens
    /// that follow its positions.
    fn each_batch(
        &self,
        examples: &Measured<T>,
        watch: &mut Watch<'_>,
        mut take: impl FnMut(&Model, &mut Tape, Var, &[u32]) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        let Trained::Network(network) = &self.trained else { return Ok(()) };
        let Network { model, tokenizer, .. } = &**network;
        let items: Vec<&LabelledIds<T::Target>> = examples.items().collect();
        let mut tapes = tapes(1, &self.cpu);
        let mut done = 0;
        in_batches(&self.task, (&[model], &mut tapes), &items, padding(tokenizer), |taken| {
            let Taken { pass, x, batch, .. } = taken;
            self.task.with_targets(batch, |targets: Targets<'_>| match targets {
                Targets::Tokens(ids) => take(model, pass, x, ids),
                _ => Ok(()),
            })?;
            done += batch.batch;
            watch.done(done as f64 / items.len() as f64)
        })
    }
}

fn beside(error: DatastoreError) -> TrainError {
    TrainError::Beside(Box::new(error))
}
