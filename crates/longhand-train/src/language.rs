//! Learning to predict the next token of contiguous streams.

use std::sync::Arc;

use longhand_model::{Gates, Mode, Model, State, Tape};
use longhand_text::Tokens;
use longhand_text::batch::{Batch, Streams, StreamsPosition};

use crate::evaluate::{self, OnTape, Stretches, sequence};
use crate::objective::{Objective, Part, Pass, Score, TokenLoss, Watch, asked};
use crate::random::draw;
use crate::{Settings, TrainError};

/// Keeps the draws of resets apart from those of dropout masks, which come from the same seed.
const RESETS: u64 = 0x7265_7365_7473;

/// Truncated back-propagation through time: chunks of contiguous streams, the state carried from
/// chunk to chunk without gradient, and emptied where an epoch or a document begins, or by chance.
pub struct LanguageModelling {
    streams: Streams,
    chunk: Batch,
    memory: Option<State>,
    valid: Option<Arc<Tokens>>,
    /// Tokens that an evaluation reads, and the seed of their choice; all where none.
    sample: Option<(u64, u64)>,
    loss: TokenLoss,
    reset: f64,
}

impl LanguageModelling {
    /// Learning from `train`, validated on `valid` if that has anything to predict.
    ///
    /// # Errors
    /// [`TrainError::Text`] if the training text is shorter than one batch.
    pub fn new(
        settings: &Settings,
        train: Arc<Tokens>,
        valid: Option<Arc<Tokens>>,
    ) -> Result<Self, TrainError> {
        let loss = TokenLoss::new(settings, &train)?;
        let streams = Streams::new(train, settings.batch, settings.chunk, settings.seed)?;
        let valid = valid.filter(|tokens| tokens.len() >= 2);
        let (chunk, memory, sample) = (Batch::default(), None, None);
        Ok(Self { streams, chunk, memory, valid, sample, loss, reset: settings.reset })
    }
}

impl Objective for LanguageModelling {
    fn learn(&mut self, pass: &mut Pass<'_>) -> Result<Part, TrainError> {
        self.streams.next(&mut self.chunk)?;
        reset_some(&mut self.chunk, self.reset, pass.seed);
        let chunk = &self.chunk;
        let memory = self.memory.get_or_insert_with(|| pass.model.state(chunk.batch));
        let x = pass.forward(&chunk.inputs, &sequence(chunk), memory)?;
        let weight = pass.weight(asked(&chunk.targets));
        let total = pass.token_loss(x, &chunk.targets, weight, &self.loss)?;
        Ok(Part::of(total, chunk.inputs.len() as u64))
    }

    fn validate(
        &mut self,
        model: &Model,
        tape: &mut Tape,
        watch: &mut Watch<'_>,
    ) -> Result<Option<Score>, TrainError> {
        let Some(valid) = &self.valid else { return Ok(None) };
        let stretches = self.stretches(valid);
        Ok(Some(Score::of(
            evaluate::stretches(&mut OnTape { model, tape }, valid, &stretches, watch)?.mean(),
        )))
    }

    fn held_out(&self) -> u64 {
        self.valid.as_ref().map_or(0, |valid| self.stretches(valid).tokens())
    }

    fn sample_held_out(&mut self, tokens: u64, seed: u64) -> u64 {
        self.sample = Some((tokens, seed));
        self.held_out()
    }

    fn gates(&mut self, model: &Model, tape: &mut Tape) -> Result<Vec<Gates>, TrainError> {
        let chunk = &self.chunk;
        let mut state = model.state(chunk.batch);
        let mut pass = tape.pass(Mode::Record);
        model.forward(&mut pass, &chunk.inputs, &sequence(chunk), &mut state)?;
        Ok(pass.gates(&model.weights))
    }

    fn batches_per_epoch(&self) -> u64 {
        self.streams.chunks_per_epoch()
    }

    fn position(&self) -> serde_json::Value {
        let StreamsPosition { epoch, chunk } = self.streams.position();
        serde_json::json!({ "epoch": epoch, "chunk": chunk })
    }

    fn seek(&mut self, position: &serde_json::Value) -> Result<(), TrainError> {
        let position = serde_json::from_value(position.clone())
            .map_err(|error| TrainError::Objective(error.into()))?;
        Ok(self.streams.seek(position)?)
    }

    fn memories(&self) -> [Option<&State>; 2] {
        [self.memory.as_ref(), None]
    }

    fn restore_memories(&mut self, [memory, _]: [Option<State>; 2]) {
        self.memory = memory;
    }
}

impl LanguageModelling {
    /// The parts of the held-out text that an evaluation scores.
    fn stretches(&self, valid: &Tokens) -> Stretches {
        match self.sample {
            Some((tokens, seed)) => Stretches::sample(valid, tokens, seed),
            None => Stretches::whole(valid, evaluate::STREAMS),
        }
    }
}

/// Empties the state of a share of the streams, drawn from a seed, before the chunk.
fn reset_some(chunk: &mut Batch, share: f64, seed: u64) {
    for (stream, reset) in chunk.resets.iter_mut().take(chunk.batch).enumerate() {
        let number = draw([seed, RESETS, stream as u64]) as f64 / u64::MAX as f64;
        *reset |= number < share;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_streams_is_reset_at_the_first_position_alone() {
        let mut count = 0;
        for seed in 0..200 {
            let (batch, time) = (50, 3);
            let mut chunk =
                Batch { batch, time, resets: vec![false; batch * time], ..Batch::default() };
            reset_some(&mut chunk, 0.1, seed);
            assert!(!chunk.resets[batch..].contains(&true));
            count += chunk.resets.iter().filter(|&&reset| reset).count();
            let first = chunk.resets.clone();
            reset_some(&mut chunk, 0.1, seed);
            assert_eq!(first, chunk.resets, "the same of one seed");
            reset_some(&mut chunk, 0.0, seed + 1);
            assert_eq!(first, chunk.resets, "none of no share");
        }
        assert!((900..1100).contains(&count), "{count} of 10,000");
    }
}
