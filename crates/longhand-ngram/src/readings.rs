//! Streams of tokens side by side, whose state is their last N−1 tokens.

use std::ops::Range;
use std::sync::Arc;

use longhand_model::{IGNORE, ModelError, Sequence, State, StateLayout};

use crate::model::Ngram;

/// The name of the state's tensor.
const RECENT: &str = "recent";

/// The rows of the last pass, which are asked for logits or losses. Holds scratch memory only.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    /// For each row, t·B + b, the last words after it, each one more than the word; 0 for none.
    recent: Vec<u32>,
    width: usize,
}

impl Ngram {
    /// The tensor of each state: `recent`, `[N−1]`, each token's id and 1, oldest first, or 0 where
    /// the document has none.
    pub fn state_layout(&self) -> Arc<StateLayout> {
        StateLayout::single(RECENT, &[self.width()])
    }

    /// Words of a state; one where the model has no contexts, which is not looked at.
    fn width(&self) -> usize {
        (self.order() - 1).max(1)
    }
}

impl Readings {
    /// Reads `ids` `[T·B]` after `state`, and advances it. A document begins with
    /// [`Ngram::start`] in its context.
    ///
    /// # Errors
    /// [`ModelError`] for ids or a state that do not fit the model or the sequence.
    pub fn read(
        &mut self,
        model: &Ngram,
        ids: &[u32],
        sequence: &Sequence,
        state: &mut State,
    ) -> Result<(), ModelError> {
        let (batch, rows) = (sequence.batch, sequence.rows());
        if ids.len() != rows {
            return Err(ModelError::Length { got: ids.len(), time: sequence.time, batch });
        }
        if state.batch() != batch {
            return Err(ModelError::State { expected: batch, got: state.batch() });
        }
        let vocab_size = model.vocabulary();
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(ModelError::Token { id, vocab_size });
        }
        self.width = model.width();
        let carried = state.single_mut().filter(|carried| carried.len() == batch * self.width);
        let carried = carried.ok_or(ModelError::Layout)?;
        self.recent.clear();
        for (row, &id) in ids.iter().enumerate().take(rows) {
            let (t, b) = (row / batch, row % batch);
            let recent = &mut carried[b * self.width..][..self.width];
            if sequence.starts_empty(t, b) {
                recent.fill(0.0);
            }
            if sequence.is_real(t, b) {
                recent.rotate_left(1);
                // Below 2^24, so that it is exact.
                recent[self.width - 1] = (id + 1) as f32;
            }
            self.recent.extend(recent.iter().map(|&word| word as u32));
        }
        state.advance(sequence);
        Ok(())
    }

    /// `[rows, V]`: logits of the next token after some rows of the last pass. They are ln p.
    ///
    /// # Panics
    /// If there are fewer rows.
    pub fn logits(&self, model: &Ngram, rows: Range<usize>, out: &mut Vec<f32>) {
        let vocabulary = model.vocabulary();
        out.clear();
        out.resize(rows.len() * vocabulary, 0.0);
        let mut context = Vec::with_capacity(model.order());
        for (row, out) in rows.zip(out.chunks_exact_mut(vocabulary)) {
            self.context(model, row, &mut context);
            model.log_probabilities(&context, out);
        }
    }

    /// −ln p of each row's target after the last pass, in nats; 0 where it is `IGNORE`.
    ///
    /// # Errors
    /// [`ModelError::Token`] for a target that is no id.
    ///
    /// # Panics
    /// If there are more targets than rows.
    pub fn losses(
        &self,
        model: &Ngram,
        targets: &[u32],
        out: &mut [f32],
    ) -> Result<(), ModelError> {
        let vocab_size = model.vocabulary();
        let mut context = Vec::with_capacity(model.order());
        for (row, (&target, out)) in targets.iter().zip(out).enumerate() {
            *out = match target {
                IGNORE => 0.0,
                id if id as usize >= vocab_size => {
                    return Err(ModelError::Token { id, vocab_size });
                }
                id => {
                    self.context(model, row, &mut context);
                    -model.log_probability(&context, id)
                }
            };
        }
        Ok(())
    }

    /// The words that the token after a row is predicted from.
    fn context(&self, model: &Ngram, row: usize, context: &mut Vec<u32>) {
        let recent = &self.recent[row * self.width..][..self.width];
        context.clear();
        if recent[0] == 0 {
            context.push(model.start());
        }
        context.extend(recent.iter().filter(|&&word| word > 0).map(|word| word - 1));
    }
}
