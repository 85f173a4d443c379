//! Learning to predict the next token and the previous one, each by a stack of its own.

use std::sync::Arc;

use longhand_model::{
    Gates, LossOptions, Mode, Model, ModelError, Pass as ModelPass, Sequence, Tape, Targets, Var,
};
use longhand_text::Tokens;
use longhand_text::batch::{PassageBatch, Passages};

use crate::objective::{Objective, Part, Pass, Score, Watch};
use crate::passages::HeldOut;
use crate::{Settings, TrainError};

/// A forward and a backward language model trained together (Peters et al., "Deep contextualized
/// word representations", 2018, section 3.1). Documents are cut into passages of at most
/// [`Settings::chunk`] tokens. Each passage is read in both directions from an empty state, and
/// the losses of both directions are summed.
pub struct Bicausal {
    passages: Passages,
    batch: PassageBatch,
    valid: Option<HeldOut>,
    label_smoothing: f32,
}

impl Bicausal {
    /// Learning from `train`, validated on `valid` if that has anything to predict.
    ///
    /// # Errors
    /// [`TrainError::Text`] if no document has two tokens.
    pub fn new(
        settings: &Settings,
        train: Arc<Tokens>,
        valid: Option<Arc<Tokens>>,
    ) -> Result<Self, TrainError> {
        let Settings { batch, chunk, seed, label_smoothing, .. } = *settings;
        let passages = Passages::shuffled(train, batch, chunk, seed)?;
        let valid = valid.and_then(|tokens| HeldOut::new(tokens, chunk));
        Ok(Self { passages, batch: PassageBatch::default(), valid, label_smoothing })
    }
}

/// The mean loss of both directions over the passages of a text, as the objective validates.
///
/// # Errors
/// [`TrainError::Text`] for an unreadable text, [`TrainError::Model`] for a model that does not
/// read both directions, [`TrainError::Stopped`] of `watch`.
pub fn evaluate(
    model: &Model,
    tape: &mut Tape,
    tokens: Arc<Tokens>,
    longest: usize,
    watch: &mut Watch<'_>,
) -> Result<Part, TrainError> {
    match HeldOut::new(tokens, longest) {
        Some(held_out) => loss(model, tape, &held_out, watch),
        None => Ok(Part::default()),
    }
}

fn loss(
    model: &Model,
    tape: &mut Tape,
    held_out: &HeldOut,
    watch: &mut Watch<'_>,
) -> Result<Part, TrainError> {
    held_out.measure(watch, |batch| {
        let mut pass = tape.pass(Mode::Read);
        let read = read(model, &mut pass, batch)?;
        let mut part = Part { tokens: batch.tokens(), ..Part::default() };
        for (x, targets) in read {
            let targets = Targets::Tokens(&targets);
            let total = model.loss(&mut pass, x, targets, LossOptions::default())?;
            part.add(Part::of(total, 0));
        }
        Ok(part)
    })
}

/// The output of each stack, with its targets.
fn read(
    model: &Model,
    pass: &mut ModelPass<'_>,
    batch: &PassageBatch,
) -> Result<[(Var, Vec<u32>); 2], ModelError> {
    let lengths = Some(&batch.lengths[..]);
    let sequence = Sequence { lengths, ..Sequence::new(batch.time, batch.batch) };
    let mut state = model.state(batch.batch);
    let [forward, backward] = model.forward_both(pass, &batch.ids, &sequence, &mut state)?;
    Ok([(forward, batch.shifted(1)), (backward, batch.shifted(-1))])
}

impl Objective for Bicausal {
    fn learn(&mut self, mut pass: Pass<'_>) -> Result<Part, TrainError> {
        self.passages.next(&mut self.batch)?;
        let model = pass.model;
        let mut part = Part { tokens: self.batch.tokens(), ..Part::default() };
        for (x, targets) in read(model, &mut pass.tape, &self.batch)? {
            let total = pass.loss(x, Targets::Tokens(&targets), self.label_smoothing)?;
            part.add(Part::of(total, 0));
        }
        Ok(part)
    }

    fn validate(
        &mut self,
        model: &Model,
        tape: &mut Tape,
        watch: &mut Watch<'_>,
    ) -> Result<Option<Score>, TrainError> {
        let Some(valid) = &self.valid else { return Ok(None) };
        Ok(Some(Score::of(loss(model, tape, valid, watch)?.mean())))
    }

    fn held_out(&self) -> u64 {
        self.valid.as_ref().map_or(0, HeldOut::tokens)
    }

    fn sample_held_out(&mut self, tokens: u64, seed: u64) -> u64 {
        if let Some(valid) = &mut self.valid {
            valid.sample(tokens, seed);
        }
        self.held_out()
    }

    fn gates(&mut self, model: &Model, tape: &mut Tape) -> Result<Vec<Gates>, TrainError> {
        if self.batch.batch == 0 {
            return Ok(Vec::new());
        }
        let mut pass = tape.pass(Mode::Record);
        read(model, &mut pass, &self.batch)?;
        Ok(pass.gates(&model.weights))
    }

    fn batches_per_epoch(&self) -> u64 {
        self.passages.batches_per_epoch()
    }

    fn position(&self) -> serde_json::Value {
        let place = self.passages.position();
        serde_json::json!({ "epoch": place.epoch, "batch": place.batch })
    }

    fn seek(&mut self, position: &serde_json::Value) -> Result<(), TrainError> {
        let position = serde_json::from_value(position.clone())
            .map_err(|error| TrainError::Objective(error.into()))?;
        Ok(self.passages.seek(position)?)
    }
}
