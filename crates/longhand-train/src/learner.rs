//! One training step: forward and backward passes over its batches, clipping, the optimiser.

use std::sync::Arc;

use longhand_model::{Cpu, Gradients, Group, Mode, Model, Parameter, Tape};

use crate::TrainError;
use crate::average::Average;
use crate::groups::{GroupSettings, group_of};
use crate::objective::{Part, Pass};
use crate::optimizer::{Optimizer, gradient_norm};
use crate::random::draw;
use crate::ranks::allocator::RankAllocator;
use crate::settings::OptimizerSettings;

/// A model in training, with everything that a step reads and writes.
pub struct Learner {
    pub(crate) model: Model,
    pub(crate) tape: Tape,
    gradients: Gradients,
    pub(crate) optimizer: Optimizer,
    pub(crate) average: Option<Average>,
    /// Chooses the ranks of changes with singular values, where they are to be chosen.
    pub(crate) ranks: Option<RankAllocator>,
}

/// How one step is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Learning rate of this step.
    pub rate: f64,
    /// Largest norm of the gradient of the mean loss; 0 for no bound.
    pub clip: f64,
    /// Batches whose losses are added up before the weights change, at least 1.
    pub batches: usize,
    /// Seed of the dropout masks, together with the step and the batch.
    pub seed: u64,
}

/// The result of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Sums over all batches of the step.
    pub part: Part,
    /// Norm of the gradient of the mean loss, before clipping.
    pub norm: f64,
}

impl Learner {
    /// A model that has taken no step, with the optimiser's empty state.
    ///
    /// # Errors
    /// [`TrainError::Model`] if the model's weights are packed for reading.
    pub fn new(model: Model, rule: OptimizerSettings, cpu: Arc<Cpu>) -> Result<Self, TrainError> {
        model.check_trainable()?;
        let gradients = Gradients::new(cpu.clone(), &model.weights);
        let optimizer = Optimizer::new(rule, &model.weights);
        let tape = Tape::new(cpu);
        Ok(Self { model, tape, gradients, optimizer, average: None, ranks: None })
    }

    /// Assigns every parameter to its group when this share of the budget
    /// is spent, see [`Learner::regroup_with`].
    ///
    /// # Errors
    /// [`TrainError::NoParameter`] for a pattern that names no parameter,
    /// [`TrainError::NothingToTrain`] if every parameter is frozen.
    pub fn regroup(&mut self, groups: &[GroupSettings], spent: f64) -> Result<(), TrainError> {
        groups.iter().try_for_each(|group| group.check_names(&self.model.weights))?;
        self.regroup_with(|parameter| group_of(groups, parameter, spent))
    }

    /// Puts every parameter into the group that is given for it. Gradients, the optimiser's state
    /// and the average follow: a frozen parameter has no gradient and no state of the optimiser,
    /// and one that is trained from now on begins with an empty state.
    ///
    /// # Errors
    /// [`TrainError::NothingToTrain`] if every parameter is frozen. Nothing is changed then.
    pub fn regroup_with(
        &mut self,
        mut group: impl FnMut(&Parameter) -> Group,
    ) -> Result<(), TrainError> {
        let weights = &mut self.model.weights;
        let groups: Vec<Group> = weights.iter().map(&mut group).collect();
        if !groups.iter().any(|group| group.trainable) {
            return Err(TrainError::NothingToTrain);
        }
        if weights.iter().zip(&groups).all(|(parameter, group)| parameter.group == *group) {
            return Ok(());
        }
        let mut groups = groups.into_iter();
        weights.regroup(|_| groups.next().unwrap_or_default());
        self.gradients.refit(weights);
        self.optimizer.refit(weights);
        if let Some(average) = &mut self.average {
            average.refit(weights);
        }
        Ok(())
    }

    /// The model with its present weights.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The tape that its passes run on.
    pub fn tape(&mut self) -> &mut Tape {
        &mut self.tape
    }

    /// Changes the weights once. `learn` records the forward pass and the summed loss of the next
    /// batch. Sums of all batches are divided once, by the number of their targets: batches of
    /// unequal size give the step of one large batch.
    ///
    /// # Errors
    /// The errors of `learn`; [`TrainError::NotFinite`] for a loss or a gradient that is not
    /// finite. The weights are unchanged then.
    pub fn step(
        &mut self,
        plan: Plan,
        mut learn: impl FnMut(Pass<'_>) -> Result<Part, TrainError>,
    ) -> Result<Step, TrainError> {
        let Self { model, tape, gradients, optimizer, average, ranks } = self;
        if let Some(profile) = tape.profile() {
            profile.mark();
        }
        gradients.clear();
        lap(tape, "gradients to zero");
        let mut part = Part::default();
        for batch in 0..plan.batches {
            let seed = draw([plan.seed, optimizer.steps(), batch as u64]);
            let pass = tape.pass(Mode::Train { seed });
            part.add(learn(Pass { model, seed, tape: pass, gradients, rehearsed: None })?);
            tape.backward(&model.weights, gradients)?;
        }
        let targets = part.targets.max(1) as f64;
        if let Some(ranks) = ranks {
            ranks.regularize(tape.cpu(), &model.weights, gradients, targets);
        }
        let norm = gradient_norm(tape.cpu(), gradients) / targets;
        for (what, value) in [("loss", part.nats), ("gradient", norm)] {
            if !value.is_finite() {
                let step = optimizer.steps() + 1;
                return Err(TrainError::NotFinite {
                    what,
                    step,
                    rate: plan.rate,
                    checkpoint: None,
                });
            }
        }
        let clipped = if plan.clip > 0.0 && norm > plan.clip { plan.clip / norm } else { 1.0 };
        let scale = (clipped / targets) as f32;
        if let Some(ranks) = ranks {
            ranks.observe(tape.cpu(), &model.weights, gradients, scale);
        }
        optimizer.step(tape.cpu(), &mut model.weights, gradients, plan.rate, scale);
        if let Some(average) = average {
            average.update(tape.cpu(), &model.weights);
        }
        lap(tape, "clipping and the optimiser");
        Ok(Step { part, norm })
    }

    /// Chooses the ranks anew behind a step, when that share of the budget is spent. True if the ranks
    /// have become final by it.
    pub(crate) fn allocate(&mut self, spent: f64) -> bool {
        let Self { model, average, ranks: Some(ranks), optimizer, .. } = self else { return false };
        ranks.allocate(&mut model.weights, average.as_mut(), optimizer.steps(), spent)
    }

    /// Whether the ranks are final, if they are chosen at all.
    pub(crate) fn has_final_ranks(&self) -> bool {
        self.ranks.as_ref().is_none_or(RankAllocator::is_settled)
    }

    /// Exchanges the weights and their average, if there is one; a second call undoes it.
    pub(crate) fn swap_average(&mut self) {
        if let Some(average) = &mut self.average {
            average.swap(&mut self.model.weights);
        }
    }
}

/// Adds the time since the last operation to the profile, if one is being taken.
fn lap(tape: &mut Tape, what: &str) {
    if let Some(profile) = tape.profile() {
        profile.lap(what);
    }
}

#[cfg(test)]
mod tests {
    use longhand_model::{Config, IGNORE, Precision, Sequence, Targets};

    use super::*;
    use crate::settings::SgdSettings;

    const CONFIG: &str = r#"{
        "model_type": "longhand", "format": 2, "vocab_size": 11, "width": 16,
        "blocks": [{
            "working": {"type": "attention", "heads": 2, "kv_heads": 1, "head_width": 8, "window": 4},
            "long": {"type": "lstm", "hidden": 16}, "feed_forward": 24
        }],
        "heads": [{"type": "language-model"}]
    }"#;
    const TIME: usize = 9;
    /// Tokens of each stream; the other positions are padding.
    const LENGTHS: [u32; 11] = [9, 3, 9, 1, 7, 9, 2, 5, 9, 8, 4];

    /// The ids, targets and lengths of some streams, in time-major order.
    fn streams(range: std::ops::Range<usize>) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
        let id = |t: usize, stream: usize| (draw([t as u64, stream as u64, 0]) % 11) as u32;
        let target = |t: usize, stream: usize| {
            let real = t < LENGTHS[stream] as usize && !(t + stream).is_multiple_of(4);
            if real { id(t + 1, stream) } else { IGNORE }
        };
        let rows = || (0..TIME).flat_map(|t| range.clone().map(move |stream| (t, stream)));
        let ids = rows().map(|(t, stream)| id(t, stream)).collect();
        let targets = rows().map(|(t, stream)| target(t, stream)).collect();
        (ids, targets, LENGTHS[range.clone()].to_vec())
    }

    /// The weights after one step over the streams, in batches that end at the given places.
    fn weights_after_one_step(ends: &[usize], precision: Precision) -> (Step, Vec<f32>) {
        let config = Config::from_json(CONFIG.as_bytes()).unwrap();
        let rule = OptimizerSettings::Sgd(SgdSettings { momentum: 0.0, ..SgdSettings::default() });
        let cpu = Arc::new(Cpu::with_precision(2, precision));
        let mut learner = Learner::new(Model::new(config, 3).unwrap(), rule, cpu).unwrap();
        let plan = Plan { rate: 1.0, clip: 0.5, batches: ends.len(), seed: 1 };
        let mut begin = 0;
        let mut ends = ends.iter();
        let step = learner.step(plan, |mut pass| {
            let end = *ends.next().unwrap();
            let (ids, targets, lengths) = streams(begin..end);
            let batch = end - std::mem::replace(&mut begin, end);
            let sequence = Sequence { lengths: Some(&lengths), ..Sequence::new(TIME, batch) };
            let mut state = pass.model.state(batch);
            let x = pass.forward(&ids, &sequence, &mut state)?;
            let total = pass.loss(x, Targets::Tokens(&targets), 0.1)?;
            Ok(Part::of(total, lengths.iter().map(|&n| u64::from(n)).sum()))
        });
        let data = learner.model.weights.iter().flat_map(|p| p.data.to_vec()).collect();
        (step.unwrap(), data)
    }

    #[test]
    fn accumulated_batches_of_unequal_size_are_one_large_batch() {
        for (precision, tolerance) in [(Precision::F32, 1e-6), (Precision::Bf16, 2e-3)] {
            let (whole, expected) = weights_after_one_step(&[11], precision);
            assert_eq!(whole.part.tokens, LENGTHS.iter().map(|&n| u64::from(n)).sum::<u64>());
            assert!(whole.norm > 0.5, "the gradient is clipped: {}", whole.norm);
            for ends in [&[1, 4, 9, 11][..], &[3, 11], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]] {
                let (step, data) = weights_after_one_step(ends, precision);
                assert_eq!(
                    (step.part.targets, step.part.tokens),
                    (whole.part.targets, whole.part.tokens)
                );
                assert!((step.part.nats / whole.part.nats - 1.0).abs() < f64::from(tolerance));
                assert!((step.norm / whole.norm - 1.0).abs() < 10.0 * f64::from(tolerance));
                let off =
                    data.iter().zip(&expected).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
                assert!(off < tolerance, "{precision} in {ends:?}: off by {off}");
            }
        }
    }

    #[test]
    fn a_loss_that_is_not_finite_leaves_the_weights_as_they_were() {
        let config = Config::from_json(CONFIG.as_bytes()).unwrap();
        let rule = OptimizerSettings::Sgd(SgdSettings::default());
        let mut learner =
            Learner::new(Model::new(config, 3).unwrap(), rule, Arc::new(Cpu::new(1))).unwrap();
        let before = learner.model.weights.hash();
        let plan = Plan { rate: 1.0, clip: 1.0, batches: 2, seed: 1 };
        let error = learner.step(plan, |_| Ok(Part { nats: f64::NAN, targets: 1, tokens: 1 }));
        assert!(matches!(error, Err(TrainError::NotFinite { what: "loss", step: 1, .. })));
        assert_eq!(learner.model.weights.hash(), before);
    }
}
