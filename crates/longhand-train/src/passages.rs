//! Objectives on passages: documents are cut into parts that are read by themselves, in shuffled
//! batches of similar length, each from an empty state.

use std::collections::BTreeMap;
use std::sync::Arc;

use longhand_model::{
    Gates, LossOptions, Mode, Model, ModelError, Pass as ModelPass, Tape, Targets, Total, Var,
    most_probable,
};
use longhand_text::Tokens;
use longhand_text::batch::{PassageBatch, Passages};

use crate::objective::{self, Objective, Part, Pass, Score, TokenLoss, Watch};
use crate::{Settings, TrainError};

mod held_out;

use held_out::HeldOut;

/// What is learnt from a batch of passages.
pub trait PassageReader {
    /// Reads the passages in a pass, with random choices drawn from `seed`. Returns what heads are
    /// to answer, the first head's questions first.
    ///
    /// # Errors
    /// The errors of [`Model::forward`].
    fn read(
        &self,
        model: &Model,
        pass: &mut ModelPass<'_>,
        batch: &PassageBatch,
        seed: u64,
    ) -> Result<Vec<Asked>, ModelError>;
}

/// The right answers to what a head reads.
pub struct Asked {
    /// The output of the body, or of one of its stacks.
    pub x: Var,
    /// The right answers.
    pub right: Right,
}

/// The right answers of a head.
pub enum Right {
    /// `[T·B]` tokens, of the first head.
    Tokens(Vec<u32>),
    /// `[B]` classes of the head with this name.
    Classes(&'static str, Vec<u32>),
}

/// The objective of a reader. Documents are cut into passages of at most [`Settings::chunk`] tokens.
/// The loss is the mean over the tokens that the first head predicts, and the mean of each further
/// head is added to it.
pub struct PassageObjective<R> {
    reader: R,
    passages: Passages,
    batch: PassageBatch,
    valid: Option<HeldOut>,
    loss: TokenLoss,
}

impl<R: PassageReader> PassageObjective<R> {
    /// Learning from `train`, validated on `valid` if that has anything to predict.
    ///
    /// # Errors
    /// [`TrainError::Text`] if no document has two tokens.
    pub fn new(
        reader: R,
        settings: &Settings,
        train: Arc<Tokens>,
        valid: Option<Arc<Tokens>>,
    ) -> Result<Self, TrainError> {
        let Settings { batch, chunk, seed, .. } = *settings;
        let loss = TokenLoss::new(settings, &train)?;
        let passages = Passages::shuffled(train, batch, chunk, seed)?;
        let valid = valid.and_then(|tokens| HeldOut::new(tokens, chunk));
        Ok(Self { reader, passages, batch: PassageBatch::default(), valid, loss })
    }
}

/// The score on the passages of a text, of at most `longest` tokens, as the objective validates: the
/// mean loss of the first head, and of each further head its mean loss and accuracy by their names.
/// The random choices are always the same.
///
/// # Errors
/// [`TrainError::Text`] for an unreadable text, [`TrainError::Model`] for a model that cannot learn
/// the objective, [`TrainError::Stopped`] of `watch`.
pub fn evaluate(
    reader: &impl PassageReader,
    (model, tape): (&Model, &mut Tape),
    tokens: Arc<Tokens>,
    longest: usize,
    watch: &mut Watch<'_>,
) -> Result<Score, TrainError> {
    match HeldOut::new(tokens, longest) {
        Some(held_out) => measure(reader, (model, tape), &held_out, watch),
        None => Ok(Score::of(0.0)),
    }
}

fn measure(
    reader: &impl PassageReader,
    (model, tape): (&Model, &mut Tape),
    held_out: &HeldOut,
    watch: &mut Watch<'_>,
) -> Result<Score, TrainError> {
    let mut number = 0;
    // Of each further head the losses, and the number of right answers.
    let mut further: BTreeMap<&str, (Part, u64)> = BTreeMap::new();
    let total = held_out.measure(watch, |batch| {
        let mut pass = tape.pass(Mode::Read);
        let asked = reader.read(model, &mut pass, batch, number)?;
        number += 1;
        let mut part = Part { tokens: batch.tokens(), ..Part::default() };
        for Asked { x, right } in asked {
            match right {
                Right::Tokens(ids) => {
                    let (targets, options) = (Targets::Tokens(&ids), LossOptions::default());
                    let head = model.token_head();
                    let total = head.loss(&model.weights, &mut pass, x, targets, options)?;
                    part.add(Part::of(total, 0));
                }
                Right::Classes(name, classes) => {
                    let (total, right) = classified(model, &mut pass, (name, x), &classes)?;
                    let own = further.entry(name).or_default();
                    own.0.add(Part::of(total, 0));
                    own.1 += right;
                }
            }
        }
        Ok(part)
    })?;
    let mut score = Score::of(total.mean());
    for (name, (part, right)) in further {
        score.metrics.insert(format!("{name}_loss"), part.mean());
        let accuracy = right as f64 / part.targets.max(1) as f64;
        score.metrics.insert(format!("{name}_accuracy"), accuracy);
    }
    Ok(score)
}

/// The summed loss of a head of classes, and the number of its right answers.
fn classified(
    model: &Model,
    pass: &mut ModelPass<'_>,
    (name, x): (&str, Var),
    classes: &[u32],
) -> Result<(Total, u64), ModelError> {
    let head = model.head(name)?;
    let (targets, options) = (Targets::Labels(classes), LossOptions::default());
    let total = head.loss(&model.weights, pass, x, targets, options)?;
    let mut logits = Vec::new();
    head.logits(&model.weights, pass, x, 0..classes.len(), &mut logits);
    let mut found = vec![0; classes.len()];
    most_probable(pass.cpu(), head.outputs(), &logits, &mut found);
    let right = found.iter().zip(classes).filter(|(found, class)| found == class).count();
    Ok((total, right as u64))
}

impl<R: PassageReader> Objective for PassageObjective<R> {
    fn learn(&mut self, pass: &mut Pass<'_>) -> Result<Part, TrainError> {
        self.passages.next(&mut self.batch)?;
        let (model, seed) = (pass.model, pass.seed);
        let asked = self.reader.read(model, &mut pass.tape, &self.batch, seed)?;
        let tokens = asked.iter().map(|asked| match &asked.right {
            Right::Tokens(ids) => objective::asked(ids),
            Right::Classes(..) => 0,
        });
        let weight = pass.weight(tokens.sum());
        let mut part = Part { tokens: self.batch.tokens(), ..Part::default() };
        for Asked { x, right } in asked {
            match right {
                Right::Tokens(ids) => {
                    let total = pass.token_loss(x, &ids, weight, &self.loss)?;
                    part.add(Part::of(total, 0));
                }
                // The loop divides by the number of tokens alone.
                Right::Classes(name, classes) => {
                    let weight = weight * part.targets as f32 / classes.len().max(1) as f32;
                    pass.head_loss(name, x, Targets::Labels(&classes), weight)?;
                }
            }
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
        measure(&self.reader, (model, tape), valid, watch).map(Some)
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
        self.reader.read(model, &mut pass, &self.batch, 0)?;
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

#[cfg(test)]
mod tests;
