//! Learning something new without forgetting what was learnt before.

use longhand_model::{Gates, Model, State, Tape};
use serde_json::{Value, json};

use crate::TrainError;
use crate::objective::{Objective, Part, Pass, Score, Watch};
use crate::random::draw;

/// Keeps the draws of the old objective apart from those of the new one, whose seed is the same.
const OLD: u64 = 0x006f_6c64;

/// A new objective with an old one beside it. The loss of a batch is
///
/// > L = L_new + λ · L_old
///
/// where both are means over their targets (Radford et al., "Improving language understanding by
/// generative pre-training", 2018, equation 5). Each batch of the new objective has one of the old
/// one, in the same pass. What is told, validated and counted in epochs is the new objective.
pub struct Rehearsal<N> {
    new: N,
    old: Box<dyn Objective>,
    weight: f64,
}

impl<N: Objective> Rehearsal<N> {
    /// Learns `new`, and rehearses `old` with the weight λ. The model must have the heads of both.
    pub fn new(new: N, old: Box<dyn Objective>, weight: f64) -> Self {
        Self { new, old, weight }
    }
}

impl<N: Objective> Objective for Rehearsal<N> {
    fn learn(&mut self, pass: &mut Pass<'_>) -> Result<Part, TrainError> {
        let part = self.new.learn(pass)?;
        let seed = pass.seed;
        pass.seed = draw([seed, OLD, 0]);
        // The loop divides by the number of new targets.
        pass.rehearsed = Some(self.weight * part.targets as f64);
        let old = self.old.learn(pass);
        (pass.seed, pass.rehearsed) = (seed, None);
        Ok(Part { tokens: part.tokens + old?.tokens, ..part })
    }

    fn validate(
        &mut self,
        model: &Model,
        tape: &mut Tape,
        watch: &mut Watch<'_>,
    ) -> Result<Option<Score>, TrainError> {
        self.new.validate(model, tape, watch)
    }

    fn criterion(&self) -> &'static [&'static str] {
        self.new.criterion()
    }

    fn held_out(&self) -> u64 {
        self.new.held_out()
    }

    fn sample_held_out(&mut self, tokens: u64, seed: u64) -> u64 {
        self.new.sample_held_out(tokens, seed)
    }

    fn gates(&mut self, model: &Model, tape: &mut Tape) -> Result<Vec<Gates>, TrainError> {
        self.new.gates(model, tape)
    }

    fn batches_per_epoch(&self) -> u64 {
        self.new.batches_per_epoch()
    }

    fn position(&self) -> Value {
        json!({ "new": self.new.position(), "old": self.old.position() })
    }

    fn seek(&mut self, position: &Value) -> Result<(), TrainError> {
        self.new.seek(&position["new"])?;
        self.old.seek(&position["old"])
    }

    fn memories(&self) -> [Option<&State>; 2] {
        let [new, _] = self.new.memories();
        let [old, _] = self.old.memories();
        [new, old]
    }

    fn restore_memories(&mut self, [new, old]: [Option<State>; 2]) {
        self.new.restore_memories([new, None]);
        self.old.restore_memories([old, None]);
    }
}

#[cfg(test)]
mod tests;
