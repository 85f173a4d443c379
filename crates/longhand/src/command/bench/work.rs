//! The work that benchmarks time: learning from random ids, reading them, and stepping.

use std::sync::Arc;

use anyhow::Result;
use longhand_model::config::{Dropout, LongMemory, WorkingMemory};
use longhand_model::{
    Config, Cpu, Mode, Model, Preset, Sequence, State, Tape, Targets, most_probable,
};
use longhand_train::settings::OptimizerSettings;
use longhand_train::{GroupSettings, Learner, Part, Plan};

use super::ids;
use super::profile::Work;
use crate::error::{Usage, within};

/// Batches that a run goes round and round over.
const BATCHES: usize = 16;
/// Tokens of a pass while a stream is brought to its position.
const CHUNK: usize = 256;
/// The most blocks of a model; the list of them is made before it can be checked.
pub(crate) const MOST_LAYERS: usize = 1024;
/// Largest norm of the gradient by default.
const CLIP: f64 = 1.0;
/// Learning rate of every step.
const RATE: f64 = 1e-3;

/// Steps of training on random ids, taken by the trainer's own [`Learner`]. The state is carried
/// from step to step, or reset before each.
pub(crate) struct Learning {
    learner: Learner,
    /// What is trained.
    groups: Vec<GroupSettings>,
    state: State,
    batches: Vec<Vec<u32>>,
    /// T: tokens of each stream in one step.
    time: usize,
    /// B: streams in one batch.
    batch: usize,
    /// Steps taken so far.
    steps: usize,
    /// `[T·B]`, true where a stream's state is reset; empty for no reset.
    resets: Vec<bool>,
    /// Largest norm of the gradient; 0 for no bound (1.0).
    pub(crate) clip: f64,
    /// Mean loss of the last step in nats.
    pub(crate) loss: f64,
}

/// The peers' model: embedding, layers of LSTM as wide, linear with bias; nothing dropped.
pub(crate) fn lstm(vocab: usize, dim: usize, layers: usize) -> Result<Config, Usage> {
    let mut config = Preset::Lstm.config(vocab);
    let mut block = config.blocks[0].clone();
    if let Some(long) = &mut block.long {
        *long.hidden_mut() = dim;
    }
    config.width = dim;
    config.blocks = vec![block; within("--layers", layers, 1..=MOST_LAYERS)?];
    config.dropout = Dropout::default();
    Model::check(&config).map_err(|error| Usage(error.to_string()))?;
    Ok(config)
}

/// A model that reads `batch` streams on, some tokens at a time.
pub(crate) struct Follower {
    model: Model,
    tape: Tape,
    state: State,
    batch: usize,
    logits: Vec<f32>,
    next: Vec<u32>,
}

/// A text that is read on and on.
pub(crate) struct Reading {
    pub(crate) follower: Follower,
    /// `[T·B]` ids, read again in each pass.
    pub(crate) text: Vec<u32>,
}

impl Learning {
    /// A model with random weights, `batch` streams, and `time` tokens of each in one step.
    pub(crate) fn new(
        config: Config,
        rule: OptimizerSettings,
        cpu: Arc<Cpu>,
        batch: usize,
        time: usize,
    ) -> Result<Self> {
        Self::of(Model::new(config, 1)?, rule, cpu, batch, time)
    }

    /// As [`Learning::new`], with a model that is there.
    pub(crate) fn of(
        model: Model,
        rule: OptimizerSettings,
        cpu: Arc<Cpu>,
        batch: usize,
        time: usize,
    ) -> Result<Self> {
        let mut source = ids(model.config().vocab_size);
        // One token more than is read: the last ones are targets only.
        let batches = (0..BATCHES).map(|_| source.by_ref().take(batch * (time + 1)).collect());
        let batches = batches.collect();
        let learner = Learner::new(model, rule, cpu)?;
        let state = learner.model().state(batch);
        let (groups, resets) = (Vec::new(), Vec::new());
        Ok(Self {
            learner,
            groups,
            state,
            batches,
            time,
            batch,
            steps: 0,
            resets,
            clip: CLIP,
            loss: f64::NAN,
        })
    }

    /// Resets the state before every step.
    pub(crate) fn start_afresh(&mut self) {
        self.resets = (0..self.time * self.batch).map(|row| row < self.batch).collect();
    }

    /// Freezes the parameters that a pattern names.
    pub(crate) fn freeze(&mut self, pattern: &str) -> Result<()> {
        self.regroup(vec![GroupSettings::frozen(pattern)])
    }

    /// Adds groups to those that say what is trained.
    pub(crate) fn regroup(&mut self, further: Vec<GroupSettings>) -> Result<()> {
        let groups = [&self.groups[..], &further].concat();
        self.learner.regroup(&groups, 0.0)?;
        self.groups = groups;
        Ok(())
    }

    /// The model with its present weights.
    pub(crate) fn model(&self) -> &Model {
        self.learner.model()
    }
}

impl Work for Learning {
    fn tape(&mut self) -> &mut Tape {
        self.learner.tape()
    }

    fn step(&mut self) -> Result<u64> {
        let Self { learner, state, batches, time, batch, resets, .. } = self;
        let (rows, ids) = (*batch * *time, &batches[self.steps % BATCHES]);
        let resets = (!resets.is_empty()).then_some(&resets[..]);
        let sequence = Sequence { resets, ..Sequence::new(*time, *batch) };
        let plan = Plan { rate: RATE, clip: self.clip, batches: 1, seed: 0 };
        let step = learner.step(plan, |mut pass| {
            let predicts = pass.model.config().is_language_model();
            if !predicts {
                *state = pass.model.state(*batch);
            }
            if pass.model.config().is_bicausal() {
                let (model, mut part) = (pass.model, Part::default());
                for x in model.forward_both(&mut pass.tape, &ids[..rows], &sequence, state)? {
                    let total = pass.loss(x, Targets::Tokens(&ids[*batch..]), 0.0)?;
                    part.add(Part::of(total, 0));
                }
                return Ok(Part { tokens: rows as u64, ..part });
            }
            let x = pass.forward(&ids[..rows], &sequence, state)?;
            let total = if predicts || pass.model.config().fills_masks() {
                pass.loss(x, Targets::Tokens(&ids[*batch..]), 0.0)?
            } else {
                let classes = pass.model.outputs() as u32;
                let labels: Vec<u32> = ids[..*batch].iter().map(|id| id % classes).collect();
                pass.loss(x, Targets::Labels(&labels), 0.0)?
            };
            Ok(Part::of(total, rows as u64))
        })?;
        self.loss = step.part.mean();
        self.steps += 1;
        Ok(rows as u64)
    }
}

impl Follower {
    /// `batch` streams of random ids at the given position.
    pub(crate) fn new(
        config: Config,
        cpu: Arc<Cpu>,
        batch: usize,
        position: usize,
    ) -> Result<Self> {
        let mut source = ids(config.vocab_size);
        let mut model = Model::new(config, 1)?;
        // As an engine holds it.
        model.pack();
        let (state, tape) = (model.state(batch), Tape::new(cpu));
        let next = source.by_ref().take(batch).collect();
        let mut follower = Self { model, tape, state, batch, logits: Vec::new(), next };
        let mut left = position;
        while left > 0 {
            let count = left.min(CHUNK);
            let chunk: Vec<u32> = source.by_ref().take(count * batch).collect();
            follower.read(&chunk)?;
            left -= count;
        }
        Ok(follower)
    }

    /// The model that is trained.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// Reads `ids [T·B]`, and makes the last position's logits; the tokens it read.
    pub(crate) fn read(&mut self, ids: &[u32]) -> Result<u64> {
        let Self { model, tape, state, batch, logits, .. } = self;
        let sequence = Sequence::new(ids.len() / *batch, *batch);
        let mut pass = tape.pass(Mode::Read);
        let x = model.forward(&mut pass, ids, &sequence, state)?;
        let rows = model.heads()[0].rows(&pass, x);
        model.logits(&mut pass, x, rows - *batch..rows, logits);
        Ok(ids.len() as u64)
    }
}

impl Work for Reading {
    fn tape(&mut self) -> &mut Tape {
        &mut self.follower.tape
    }

    fn step(&mut self) -> Result<u64> {
        self.follower.read(&self.text)
    }
}

impl Work for Follower {
    fn tape(&mut self) -> &mut Tape {
        &mut self.tape
    }

    /// Reads what was most probable after the last step.
    fn step(&mut self) -> Result<u64> {
        let ids = std::mem::take(&mut self.next);
        let read = self.read(&ids)?;
        self.next = ids;
        most_probable(self.tape.cpu(), self.model.outputs(), &self.logits, &mut self.next);
        // A classifier's answers are read as tokens.
        let vocab_size = self.model.config().vocab_size as u32;
        self.next.iter_mut().for_each(|next| *next %= vocab_size);
        Ok(read)
    }
}

/// Operations (a multiplication and an addition are two) of a forward pass for each token: the
/// matrix products, attention over what `time` positions see of themselves and of those `before`,
/// and the matrix memories.
pub(crate) fn forward_operations(model: &Model, before: usize, time: usize) -> f64 {
    let config = model.config();
    let tied = config.is_tied();
    let is_product = |name: &str| match name {
        "embedding.weight" => tied,
        name => name != "positions.weight",
    };
    let products: usize = (model.weights.iter())
        .filter(|p| p.shape.len() >= 2 && is_product(&p.name))
        .map(|p| p.shape.iter().product::<usize>())
        .sum();
    let memories = config.blocks.iter().map(|block| {
        let working = match block.working {
            Some(WorkingMemory::Attention { heads, head_width, window, bidirectional, .. }) => {
                let seen =
                    if bidirectional { time as f64 } else { mean_seen(before, time, window) };
                2.0 * seen * (heads * head_width) as f64
            }
            _ => 0.0,
        };
        let long = match block.long {
            // A rank-one update of each head's matrix, and a product with it.
            Some(LongMemory::Mlstm { hidden, heads, .. }) => 2.0 * (hidden * hidden / heads) as f64,
            _ => 0.0,
        };
        working + long
    });
    2.0 * (products as f64 + memories.sum::<f64>())
}

/// Positions that a causal window sees on average from `time` positions with some `before` them.
fn mean_seen(before: usize, time: usize, window: usize) -> f64 {
    let seen = |t: usize| (before + t + 1).min(window) as f64;
    (0..time).map(seen).sum::<f64>() / time.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    use longhand_model::Preset;
    use longhand_train::settings::AdamWSettings;

    #[test]
    fn every_preset_learns_reads_and_steps() {
        let cpu = Arc::new(Cpu::new(2));
        for preset in [
            Preset::LonghandNano,
            Preset::StackedLstmClassifier,
            Preset::AttentionLstm,
            Preset::TanhLstm,
            Preset::TextCnn,
            Preset::Xlstm,
        ] {
            let config = preset.config(33);
            let rule = OptimizerSettings::AdamW(AdamWSettings::default());
            let mut learner = Learning::new(config.clone(), rule, cpu.clone(), 2, 5).unwrap();
            assert_eq!(learner.step().unwrap(), 10);
            assert_eq!(learner.step().unwrap(), 10);
            assert!(learner.loss.is_finite());
            let before = learner.model().weights.iter().next().unwrap().data.clone();
            learner.freeze("embedding.*").unwrap();
            learner.step().unwrap();
            assert_eq!(learner.model().weights.iter().next().unwrap().data[..], before[..]);
            assert!(learner.freeze("*").is_err() && learner.freeze("no.*").is_err());
            let mut follower = Follower::new(config, cpu.clone(), 3, 300).unwrap();
            assert_eq!(follower.step().unwrap(), 3);
            assert_eq!(follower.step().unwrap(), 3);
            assert!(forward_operations(follower.model(), 64, 1) > 0.0);
        }
    }

    #[test]
    fn a_window_sees_no_more_than_its_width() {
        assert_eq!(mean_seen(64, 64, 64), 64.0);
        assert_eq!(mean_seen(1, 1, 64), 2.0);
        assert_eq!(mean_seen(4, 4, 6), (5.0 + 6.0 + 6.0 + 6.0) / 4.0);
        assert_eq!(mean_seen(0, 4, 3), (1.0 + 2.0 + 3.0 + 3.0) / 4.0);
    }

    #[test]
    fn steps_carry_their_memories_or_begin_afresh() {
        for (fresh, remembered) in [(false, 15), (true, 5)] {
            let rule = OptimizerSettings::AdamW(AdamWSettings::default());
            let config = Preset::LonghandNano.config(33);
            let mut learner = Learning::new(config, rule, Arc::new(Cpu::new(1)), 2, 5).unwrap();
            if fresh {
                learner.start_afresh();
            }
            (0..3).for_each(|_| assert_eq!(learner.step().unwrap(), 10));
            assert_eq!(learner.state.since_reset(), [remembered; 2]);
        }
    }
}
