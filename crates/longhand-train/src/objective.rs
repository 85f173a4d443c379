//! The objective of a run: the border between the loop, which knows steps, and a task,
//! which knows its examples.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use longhand_model::{
    Gates, Gradients, IGNORE, LossOptions, Model, ModelError, Sampler, Sequence, State, Tape,
    Targets, Total, Var,
};
use longhand_text::{TextError, Tokens};
use serde::{Deserialize, Serialize};

use crate::{Settings, TrainError};

/// The objective of a run. The loop asks for one batch after another and for a score now and then.
pub trait Objective {
    /// Records the forward pass and the summed loss ([`Pass::loss`]) of the next batch. The
    /// backward pass, and the division by the number of targets, are the loop's.
    ///
    /// # Errors
    /// Errors of the data or the model.
    fn learn(&mut self, pass: &mut Pass<'_>) -> Result<Part, TrainError>;

    /// The score on the held-out data; none where nothing is held out. Must not depend on the
    /// place in the training data, nor change it. `watch` is asked after each chunk of work.
    ///
    /// # Errors
    /// Whatever the data or the model report; [`TrainError::Stopped`] of `watch`.
    fn validate(
        &mut self,
        model: &Model,
        tape: &mut Tape,
        watch: &mut Watch<'_>,
    ) -> Result<Option<Score>, TrainError>;

    /// Metrics, higher values first: the first that is measured chooses the best weights. The loss
    /// chooses them where none is.
    fn criterion(&self) -> &'static [&'static str] {
        &[]
    }

    /// Tokens that [`Objective::validate`] reads; 0 where nothing is held out.
    fn held_out(&self) -> u64 {
        0
    }

    /// Makes [`Objective::validate`] read a sample of about `tokens` tokens, drawn from `seed`;
    /// everything where that is less. Returns the number of tokens it will read.
    fn sample_held_out(&mut self, _tokens: u64, _seed: u64) -> u64 {
        self.held_out()
    }

    /// The gates of the long memories on some of the training data, for the logs (none). Must not
    /// change the place in the training data.
    ///
    /// # Errors
    /// Errors of the data or the model.
    fn gates(&mut self, _model: &Model, _tape: &mut Tape) -> Result<Vec<Gates>, TrainError> {
        Ok(Vec::new())
    }

    /// Batches of one pass over the training data.
    fn batches_per_epoch(&self) -> u64;

    /// The place of the next batch, to be saved.
    fn position(&self) -> serde_json::Value;

    /// Goes on from a saved position.
    ///
    /// # Errors
    /// [`TrainError::Objective`] or [`TrainError::Text`] if the position does not fit the data.
    fn seek(&mut self, position: &serde_json::Value) -> Result<(), TrainError>;

    /// The states carried from batch to batch, to be saved: that of the objective itself, and that of
    /// the objective that it rehearses. None where examples are independent.
    fn memories(&self) -> [Option<&State>; 2] {
        [None, None]
    }

    /// Goes on from saved states.
    fn restore_memories(&mut self, _memories: [Option<State>; 2]) {}
}

/// A forward pass that [`Objective::learn`] records.
pub struct Pass<'a> {
    /// The model in training.
    pub model: &'a Model,
    /// Seed of this pass's dropout masks, for draws of the objective's own.
    pub seed: u64,
    /// Where further sequences, of this model or of others, are read.
    pub tape: longhand_model::Pass<'a>,
    /// Gradients of the summed loss.
    pub(crate) gradients: &'a mut Gradients,
    /// The weight of the sum of a rehearsed objective's losses, where their mean is to count as much as
    /// this many targets of the new one; none where the objective is the new one.
    pub(crate) rehearsed: Option<f64>,
}

impl Pass<'_> {
    /// Reads `ids [T·B]` after `state`, see [`Model::forward`].
    ///
    /// # Errors
    /// The errors of [`Model::forward`] for these ids and state.
    pub fn forward(
        &mut self,
        ids: &[u32],
        sequence: &Sequence,
        state: &mut State,
    ) -> Result<Var, ModelError> {
        self.model.forward(&mut self.tape, ids, sequence, state)
    }

    /// The summed loss of the first head's answers to the body's output `x`, with its gradient.
    ///
    /// # Errors
    /// [`ModelError::Head`] if the targets do not fit the head.
    pub fn loss(
        &mut self,
        x: Var,
        targets: Targets<'_>,
        smoothing: f32,
    ) -> Result<Total, ModelError> {
        self.weighted_loss(x, targets, 1.0, smoothing)
    }

    /// As [`Pass::loss`], with the gradient of `weight` × the loss. Several parts of a batch, whose
    /// other rows are `IGNORE`, can be learnt in one pass.
    ///
    /// # Errors
    /// [`ModelError::Head`] if the targets do not fit the head.
    pub fn weighted_loss(
        &mut self,
        x: Var,
        targets: Targets<'_>,
        weight: f32,
        smoothing: f32,
    ) -> Result<Total, ModelError> {
        let gradients = Some((weight, &mut *self.gradients));
        let options = LossOptions { smoothing, gradients, ..LossOptions::default() };
        self.model.loss(&mut self.tape, x, targets, options)
    }

    /// The weight of the losses of an objective on text that has `targets` in this batch: 1, or less
    /// where it is rehearsed beside another one ([`crate::Rehearsal`]).
    pub fn weight(&self, targets: usize) -> f32 {
        self.rehearsed.map_or(1.0, |all| (all / targets.max(1) as f64) as f32)
    }

    /// As [`Pass::weighted_loss`], of the head that predicts tokens ([`Model::token_head`]).
    ///
    /// # Errors
    /// [`ModelError::Head`] if the ids do not fit the head.
    pub(crate) fn token_loss(
        &mut self,
        x: Var,
        ids: &[u32],
        weight: f32,
        loss: &TokenLoss,
    ) -> Result<Total, ModelError> {
        let gradients = Some((weight, &mut *self.gradients));
        let sampler = loss.sampler.as_ref().map(|sampler| (sampler, self.seed));
        let options = LossOptions { smoothing: loss.smoothing, sampler, gradients, losses: None };
        let (head, targets) = (self.model.token_head(), Targets::Tokens(ids));
        head.loss(&self.model.weights, &mut self.tape, x, targets, options)
    }

    /// Keeps the gradient of the embedded tokens of the next sequence, see [`Pass::perturb`].
    pub fn watch_embedding(&mut self) {
        self.tape.watch_embedding();
    }

    /// Runs the backward pass of all that was read, adds its gradients to those of the step, and
    /// begins the pass again: the sequence after [`Pass::watch_embedding`], read again, is moved by the
    /// perturbation of size `epsilon` that raises its loss most
    /// ([`longhand_model::Pass::begin_perturbed`]).
    ///
    /// # Errors
    /// The errors of [`Tape::backward`].
    pub fn perturb(&mut self, epsilon: f32) -> Result<(), ModelError> {
        self.tape.backward(&self.model.weights, self.gradients)?;
        self.tape.begin_perturbed(epsilon);
        Ok(())
    }

    /// As [`Pass::weighted_loss`], of the head called `head`. Several heads can be
    /// trained in one pass.
    ///
    /// # Errors
    /// [`ModelError::Head`] if there is no such head, or the targets do not fit it.
    pub fn head_loss(
        &mut self,
        head: &str,
        x: Var,
        targets: Targets<'_>,
        weight: f32,
    ) -> Result<Total, ModelError> {
        let gradients = Some((weight, &mut *self.gradients));
        let options = LossOptions { gradients, ..LossOptions::default() };
        self.model.head(head)?.loss(&self.model.weights, &mut self.tape, x, targets, options)
    }
}

/// How the loss of predicted tokens is measured in training.
pub(crate) struct TokenLoss {
    /// ε of label smoothing.
    smoothing: f32,
    /// Draws the tokens that those of a batch are told apart from (none: all).
    sampler: Option<Sampler>,
}

impl TokenLoss {
    /// As the settings say, with tokens drawn by how often `train` has them.
    pub(crate) fn new(settings: &Settings, train: &Tokens) -> Result<Self, TextError> {
        let Settings { sampled_softmax: samples, label_smoothing: smoothing, .. } = *settings;
        let sampler = match samples {
            0 => None,
            _ if samples >= train.vocabulary() => None,
            _ => Some(Sampler::new(&train.counts()?, samples)),
        };
        Ok(Self { smoothing, sampler })
    }
}

/// The number of targets that are not left out.
pub(crate) fn asked(targets: &[u32]) -> usize {
    targets.iter().filter(|&&target| target != IGNORE).count()
}

/// Hears how far an evaluation has come, and can stop it.
pub struct Watch<'a> {
    stop: &'a AtomicBool,
    tell: &'a mut dyn FnMut(f64) -> Result<(), TrainError>,
}

impl<'a> Watch<'a> {
    /// A watch that stops an evaluation when `stop` is true, and calls `tell` with the share that
    /// is done, 0 to 1.
    pub fn new(
        stop: &'a AtomicBool,
        tell: &'a mut dyn FnMut(f64) -> Result<(), TrainError>,
    ) -> Self {
        Self { stop, tell }
    }

    /// Tells that a share of the evaluation is done, 0 to 1.
    ///
    /// # Errors
    /// [`TrainError::Stopped`] if the evaluation is to stop; whatever the listener reports.
    pub fn done(&mut self, share: f64) -> Result<(), TrainError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(TrainError::Stopped);
        }
        (self.tell)(share)
    }
}

/// Sums over a batch, or over several.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Part {
    /// The sum of the losses, in nats.
    pub nats: f64,
    /// How many losses: tokens predicted, or examples.
    pub targets: u64,
    /// Tokens that the evaluation read.
    pub tokens: u64,
}

/// A result of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The mean loss in nats: lower is better.
    pub loss: f64,
    /// Whatever else was measured, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
}

impl Part {
    /// A summed loss, and the tokens that were read for it.
    pub fn of(total: Total, tokens: u64) -> Self {
        Self { nats: total.nats, targets: total.count as u64, tokens }
    }

    /// The mean loss; zero where nothing was predicted.
    pub fn mean(&self) -> f64 {
        self.nats / self.targets.max(1) as f64
    }

    /// Adds another batch's part.
    pub fn add(&mut self, other: Part) {
        self.nats += other.nats;
        self.targets += other.targets;
        self.tokens += other.tokens;
    }
}

impl Score {
    /// A loss and nothing else.
    pub fn of(loss: f64) -> Self {
        Self { loss, metrics: BTreeMap::new() }
    }

    /// Whether weights with this score are kept rather than those with `other`: the first of
    /// `metrics` that both have is higher, or the loss lower where they are equal in it.
    pub fn beats(&self, other: &Self, metrics: &[&str]) -> bool {
        let both = |name: &&str| Some((self.metrics.get(*name)?, other.metrics.get(*name)?));
        match metrics.iter().find_map(both) {
            Some((own, other)) if own != other => own > other,
            _ => self.loss < other.loss,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_criterion_comes_before_the_loss() {
        let score = |loss, f1: Option<f64>| {
            let metrics = f1.map(|f1| ("f1".to_owned(), f1)).into_iter().collect();
            Score { loss, metrics }
        };
        let (low, high) = (score(1.0, Some(0.5)), score(2.0, Some(0.6)));
        assert!(high.beats(&low, &["f1"]) && !low.beats(&high, &["f1"]));
        assert!(low.beats(&high, &[]) && !high.beats(&low, &[]));
        // The first metric that both have counts.
        assert!(high.beats(&low, &["accuracy", "f1"]));
        assert!(low.beats(&high, &["accuracy"]));
        assert!(score(1.0, Some(0.6)).beats(&high, &["f1"]));
        assert!(score(1.0, None).beats(&high, &["f1"]));
        assert!(!low.beats(&low, &["f1"]));
    }
}
