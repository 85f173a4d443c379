//! How a run trains: every setting, its default and its bounds.
//!
//! The raw form (flags, a recipe) becomes a checked [`Settings`] once, at the edge; nothing behind
//! it sees the raw form.

use std::str::FromStr;
use std::sync::Arc;

use longhand_model::{Cpu, InstructionSet, Level, Precision};
use serde::{Deserialize, Serialize};

use crate::bounds::{SettingsError, bound, not_negative, positive, share};
use crate::groups::GroupSettings;
use crate::ranks::RankBudget;
use crate::schedule::Schedule;

/// The most threads that can be asked for.
pub const MOST_THREADS: usize = 1024;

/// How a run trains. Unknown keys are refused; each key may be left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// B: streams side by side, or examples in a batch (16).
    pub batch: usize,
    /// T: tokens that gradients flow through before the state is detached (128).
    pub chunk: usize,
    /// Probability that a stream's state is reset before a chunk (0.05). Without resets the model
    /// trains on old states only and does badly right after one.
    pub reset: f64,
    /// When the run ends (10 minutes).
    pub budget: Budget,
    /// The optimiser (Muon at 1e-2).
    pub optimizer: OptimizerSettings,
    /// How the learning rate moves over the run (cosine to 3 %).
    pub schedule: Schedule,
    /// Groups of parameters that are frozen, or trained at another rate (none).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupSettings>,
    /// Steps over which the learning rate rises from zero (100); it has risen when a tenth of the
    /// budget is spent at the latest.
    pub warmup: u64,
    /// The gradient's largest norm; a longer one is shortened to it (1.0). 0 for no bound.
    pub clip: f64,
    /// Batches whose gradients make one step (1).
    pub accumulation: usize,
    /// Share of a target's probability that is spread over all tokens (0).
    pub label_smoothing: f32,
    /// Entries of the vocabulary, besides a batch's own targets, that the tokens of a batch are
    /// told apart from (0: all). With a large vocabulary a step takes a fraction of the time;
    /// the training loss is lower than over all entries, which evaluations measure. For
    /// objectives on text alone.
    pub sampled_softmax: usize,
    /// Adversarial training of a task (none).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adversarial: Option<Adversarial>,
    /// The ranks of changes of low rank with singular values (none); a way of tuning sets them.
    #[serde(skip)]
    pub ranks: Option<RankBudget>,
    /// Evaluations in the run, evenly over its budget (8). Not used with `evaluate_every`.
    pub evaluations: u32,
    /// Steps between two evaluations; replaces `evaluations` (none).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluate_every: Option<u64>,
    /// Evaluations without a better score after which the run ends early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u32>,
    /// Steps between checkpoints (none). Without it, a checkpoint follows each evaluation, and
    /// two minutes without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<u64>,
    /// Checkpoints that are kept beside the best (2).
    pub keep: usize,
    /// Decay of an exponential moving average of the weights (0.999; 0 for none). The average is
    /// evaluated and kept in place of the weights; NT-ASGD has an average of its own. After n steps
    /// its decay is at most (1 + n) / (10 + n), so that it forgets the first weights soon.
    pub average: f64,
    /// The operands of matrix products: `f32`, `bf16`, or `auto`, the faster one (auto).
    pub precision: PrecisionSetting,
    /// Seed of the weights, the order of the data and the dropout masks (1).
    pub seed: u64,
    /// Threads (0: one for each processor).
    pub threads: usize,
}

/// Adversarial training: each batch is read again with its embedded tokens moved so that the loss
/// rises most, and that loss counts too (Miyato et al., "Adversarial training methods for
/// semi-supervised text classification", 2017). A step takes twice as long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adversarial {
    /// ε: length of the perturbation of a sequence, in standard deviations of the embedded tokens'
    /// numbers. It must be given: the best one grows with the length of texts and the model's width.
    pub epsilon: f32,
    /// λ: weight of the loss under the perturbation (1).
    #[serde(default = "one")]
    pub weight: f32,
}

/// The operands of matrix products; sums are always `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionSetting {
    /// bf16 where the processor has bf16 dot products, `f32` elsewhere.
    #[default]
    Auto,
    /// Exact operands on every processor.
    F32,
    /// Rounded operands, which a processor without bf16 dot products multiplies slowly.
    Bf16,
}

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Budget {
    /// Minutes of wall time, evaluations and preparing the text included. The schedule is a
    /// function of the time spent.
    Minutes(f64),
    /// Steps of the optimiser: the same weights each time.
    Steps(u64),
    /// Passes over the training data.
    Epochs(f64),
}

/// The rule that changes the weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum OptimizerSettings {
    /// AdamW (Loshchilov and Hutter, 2019).
    #[serde(rename = "adamw")]
    AdamW(AdamWSettings),
    /// Muon (Jordan et al., 2024) for the matrices between hidden layers, AdamW for the rest.
    Muon(MuonSettings),
    /// Stochastic gradient descent with momentum.
    Sgd(SgdSettings),
    /// Gradient descent that goes over to the mean of its weights when the validation loss no
    /// longer falls (Merity et al., "Regularizing and optimizing LSTM language models", 2017).
    NtAsgd(NtAsgdSettings),
}

/// AdamW. Weight decay acts on matrices, the embedding included, and on no bias and no norm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWSettings {
    /// The highest learning rate (3e-3).
    pub learning_rate: f64,
    /// Decay of the gradient's mean (0.9).
    pub beta1: f64,
    /// Decay of the mean of its squares (0.99).
    pub beta2: f64,
    /// Added to the root of the second mean (1e-8).
    pub epsilon: f64,
    /// Weights shrink by learning rate × this in each step (0.1).
    pub weight_decay: f64,
}

/// Muon beside AdamW; both at the same learning rate and weight decay (Liu et al., "Muon is
/// scalable for LLM training", 2025). At lower rates of the embedding and the head
/// it learnt more slowly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MuonSettings {
    /// The highest learning rate (1e-2).
    pub learning_rate: f64,
    /// Decay of the sum of gradients of hidden matrices (0.95).
    pub momentum: f64,
    /// AdamW's decay of the gradient's mean (0.9).
    pub beta1: f64,
    /// AdamW's decay of the mean of its squares (0.99).
    pub beta2: f64,
    /// AdamW adds it to the root of the second mean (1e-8).
    pub epsilon: f64,
    /// Weights shrink by learning rate × this in each step (0.1).
    pub weight_decay: f64,
}

/// Settings of stochastic gradient descent with momentum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SgdSettings {
    /// The highest learning rate (0.1).
    pub learning_rate: f64,
    /// Decay of the sum of gradients (0.9).
    pub momentum: f64,
    /// Whether momentum takes Nesterov's form (false).
    pub nesterov: bool,
    /// Matrices' gradients gain weight × this (0).
    pub weight_decay: f64,
}

/// Settings of non-monotonically triggered averaged SGD.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NtAsgdSettings {
    /// The learning rate (30).
    pub learning_rate: f64,
    /// Averaging begins when the last evaluation is worse than the best of those before the
    /// last `interval` ones (5).
    pub interval: usize,
    /// Matrices' gradients gain weight × this (1.2e-6).
    pub weight_decay: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch: 16,
            chunk: 128,
            reset: 0.05,
            budget: Budget::Minutes(10.0),
            optimizer: OptimizerSettings::Muon(MuonSettings::default()),
            schedule: Schedule::default(),
            groups: Vec::new(),
            warmup: 100,
            clip: 1.0,
            accumulation: 1,
            label_smoothing: 0.0,
            sampled_softmax: 0,
            adversarial: None,
            ranks: None,
            evaluations: 8,
            evaluate_every: None,
            patience: None,
            checkpoint_every: None,
            keep: 2,
            average: 0.999,
            precision: PrecisionSetting::Auto,
            seed: 1,
            threads: 0,
        }
    }
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { learning_rate: 3e-3, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.1 }
    }
}

impl Default for MuonSettings {
    fn default() -> Self {
        let AdamWSettings { beta1, beta2, epsilon, weight_decay, .. } = AdamWSettings::default();
        Self { learning_rate: 1e-2, momentum: 0.95, beta1, beta2, epsilon, weight_decay }
    }
}

impl MuonSettings {
    /// The rule for what is no hidden matrix.
    pub(crate) fn adamw(self) -> AdamWSettings {
        let Self { learning_rate, beta1, beta2, epsilon, weight_decay, .. } = self;
        AdamWSettings { learning_rate, beta1, beta2, epsilon, weight_decay }
    }
}

impl Default for SgdSettings {
    fn default() -> Self {
        Self { learning_rate: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.0 }
    }
}

impl Default for NtAsgdSettings {
    fn default() -> Self {
        Self { learning_rate: 30.0, interval: 5, weight_decay: 1.2e-6 }
    }
}

impl Settings {
    /// The defaults for separate examples: 32 in a batch, AdamW at 3e-3, and neither resets nor an
    /// average of the weights. Everything else as [`Settings::default`].
    pub fn for_examples() -> Self {
        Self {
            batch: 32,
            reset: 0.0,
            optimizer: OptimizerSettings::AdamW(AdamWSettings::default()),
            average: 0.0,
            ..Self::default()
        }
    }

    /// Checks every setting against its bounds.
    ///
    /// # Errors
    /// [`SettingsError`] names the first setting that is out of its bounds.
    pub fn check(&self) -> Result<(), SettingsError> {
        positive("batch", self.batch as f64)?;
        positive("chunk", self.chunk as f64)?;
        positive("accumulation", self.accumulation as f64)?;
        positive("evaluations", f64::from(self.evaluations))?;
        positive("keep", self.keep as f64)?;
        match self.budget {
            Budget::Minutes(minutes) => positive("budget.minutes", minutes)?,
            Budget::Steps(steps) => positive("budget.steps", steps as f64)?,
            Budget::Epochs(epochs) => positive("budget.epochs", epochs)?,
        }
        for (name, every) in [
            ("evaluate_every", self.evaluate_every),
            ("checkpoint_every", self.checkpoint_every),
            ("patience", self.patience.map(u64::from)),
        ] {
            every.map_or(Ok(()), |every| positive(name, every as f64))?;
        }
        let threads = self.threads as f64;
        bound("threads", threads, self.threads <= MOST_THREADS, "at most 1024, or 0 for all")?;
        not_negative("clip", self.clip)?;
        share("label_smoothing", f64::from(self.label_smoothing))?;
        if let Some(Adversarial { epsilon, weight }) = self.adversarial {
            positive("adversarial.epsilon", epsilon.into())?;
            positive("adversarial.weight", weight.into())?;
        }
        if let Some(ranks) = &self.ranks {
            ranks.check()?;
        }
        share("average", self.average)?;
        share("reset", self.reset)?;
        self.groups.iter().try_for_each(GroupSettings::check)?;
        self.optimizer.check()?;
        self.schedule.check()
    }

    /// The processor to run on.
    pub fn cpu(&self) -> Arc<Cpu> {
        Arc::new(Cpu::with_precision(self.thread_count(), self.precision.resolve()))
    }

    /// The same settings with `auto` replaced by this processor's precision, so that a run resumes
    /// with the precision it began with, on any processor.
    #[must_use]
    pub fn resolved(self) -> Self {
        Self { precision: self.precision.resolve().into(), ..self }
    }

    /// Decay of the exponential moving average, if there is one. NT-ASGD averages by itself.
    pub(crate) fn exponential_average(&self) -> Option<f64> {
        let averages_itself = matches!(self.optimizer, OptimizerSettings::NtAsgd(_));
        (self.average > 0.0 && !averages_itself).then_some(self.average)
    }

    /// The number of threads to use.
    pub fn thread_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}

impl PrecisionSetting {
    /// The precision on this processor.
    pub fn resolve(self) -> Precision {
        match self {
            Self::Auto => match Level::of(InstructionSet::Avx512Bf16) {
                Some(_) => Precision::Bf16,
                None => Precision::F32,
            },
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
        }
    }

    /// The name, as settings and flags spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 | Self::Bf16 => self.resolve().name(),
        }
    }
}

impl From<Precision> for PrecisionSetting {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

impl FromStr for PrecisionSetting {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let known = [Self::Auto, Self::F32, Self::Bf16];
        known.into_iter().find(|setting| setting.name() == text).ok_or_else(|| SettingsError {
            name: "precision",
            value: text.to_owned(),
            allowed: "auto, f32 or bf16",
        })
    }
}

impl OptimizerSettings {
    /// The highest learning rate.
    pub fn learning_rate(&self) -> f64 {
        match self {
            Self::AdamW(rule) => rule.learning_rate,
            Self::Muon(rule) => rule.learning_rate,
            Self::Sgd(rule) => rule.learning_rate,
            Self::NtAsgd(rule) => rule.learning_rate,
        }
    }

    /// Sets the highest learning rate.
    pub fn set_learning_rate(&mut self, rate: f64) {
        match self {
            Self::AdamW(rule) => rule.learning_rate = rate,
            Self::Muon(rule) => rule.learning_rate = rate,
            Self::Sgd(rule) => rule.learning_rate = rate,
            Self::NtAsgd(rule) => rule.learning_rate = rate,
        }
    }

    fn check(&self) -> Result<(), SettingsError> {
        positive("optimizer.learning_rate", self.learning_rate())?;
        match *self {
            Self::AdamW(AdamWSettings { beta1, beta2, epsilon, weight_decay, .. }) => {
                share("optimizer.beta1", beta1)?;
                share("optimizer.beta2", beta2)?;
                // The step is computed in single precision, and must not divide 0 by 0 there.
                bound("optimizer.epsilon", epsilon, epsilon as f32 > 0.0, "above 1e-45")?;
                not_negative("optimizer.weight_decay", weight_decay)
            }
            Self::Muon(rule) => {
                share("optimizer.momentum", rule.momentum)?;
                Self::AdamW(rule.adamw()).check()
            }
            Self::Sgd(SgdSettings { momentum, weight_decay, .. }) => {
                share("optimizer.momentum", momentum)?;
                not_negative("optimizer.weight_decay", weight_decay)
            }
            Self::NtAsgd(NtAsgdSettings { interval, weight_decay, .. }) => {
                positive("optimizer.interval", interval as f64)?;
                not_negative("optimizer.weight_decay", weight_decay)
            }
        }
    }
}

fn one() -> f32 {
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_bounds_and_every_key_may_be_left_out() {
        Settings::default().check().unwrap();
        Settings::for_examples().check().unwrap();
        let read: Settings = serde_json::from_str("{}").unwrap();
        assert_eq!(read, Settings::default());
        let text = r#"{"budget": {"steps": 10}, "optimizer": {"type": "sgd", "momentum": 0.5},
                       "schedule": {"type": "one-cycle"}, "precision": "bf16"}"#;
        let read: Settings = serde_json::from_str(text).unwrap();
        assert_eq!(read.precision, PrecisionSetting::Bf16);
        assert_eq!(read.budget, Budget::Steps(10));
        let sgd = SgdSettings { momentum: 0.5, ..SgdSettings::default() };
        assert_eq!(read.optimizer, OptimizerSettings::Sgd(sgd));
        let back: Settings = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(back, read);
    }

    #[test]
    fn auto_precision_becomes_this_processors_and_others_stay() {
        for (name, precision) in [("f32", Precision::F32), ("bf16", Precision::Bf16)] {
            let setting: PrecisionSetting = name.parse().unwrap();
            assert_eq!((setting.resolve(), setting.name()), (precision, name));
        }
        let auto = Settings::default();
        assert_eq!(auto.precision, "auto".parse().unwrap());
        let resolved = auto.resolved().precision;
        assert_ne!(resolved, PrecisionSetting::Auto);
        assert_eq!(PrecisionSetting::from(resolved.resolve()), resolved);
        let error = "int8".parse::<PrecisionSetting>().unwrap_err().to_string();
        assert_eq!(error, "`precision` is int8; it must be auto, f32 or bf16");
    }

    #[test]
    fn unknown_keys_are_refused_at_every_depth() {
        for text in [
            r#"{"batchsize": 3}"#,
            r#"{"optimizer": {"type": "adamw", "lr": 1}}"#,
            r#"{"optimizer": {"type": "adam"}}"#,
            r#"{"schedule": {"type": "cosine", "rise": 1}}"#,
            r#"{"budget": {"hours": 1}}"#,
            r#"{"precision": "fp16"}"#,
            r#"{"groups": [{"parameters": ["head.*"], "freeze": true}]}"#,
        ] {
            assert!(serde_json::from_str::<Settings>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_out_of_bounds_are_named() {
        let check = |change: fn(&mut Settings), name| {
            let mut settings = Settings::default();
            change(&mut settings);
            assert_eq!(settings.check().unwrap_err().name, name);
        };
        check(|s| s.batch = 0, "batch");
        check(|s| s.chunk = 0, "chunk");
        check(|s| s.budget = Budget::Minutes(-1.0), "budget.minutes");
        check(|s| s.budget = Budget::Minutes(f64::INFINITY), "budget.minutes");
        check(|s| s.clip = f64::NAN, "clip");
        check(|s| s.label_smoothing = 1.0, "label_smoothing");
        let tiny = |s: &mut Settings| {
            let rule = AdamWSettings { epsilon: 1e-50, ..AdamWSettings::default() };
            s.optimizer = OptimizerSettings::AdamW(rule);
        };
        check(tiny, "optimizer.epsilon");
        let fast = |s: &mut Settings| {
            let rule = MuonSettings { momentum: 1.0, ..MuonSettings::default() };
            s.optimizer = OptimizerSettings::Muon(rule);
        };
        check(fast, "optimizer.momentum");
        let still = |s: &mut Settings| {
            s.adversarial = Some(Adversarial { epsilon: 0.0, weight: 1.0 });
        };
        check(still, "adversarial.epsilon");
        let endless = |s: &mut Settings| {
            s.adversarial = Some(Adversarial { epsilon: 1.0, weight: f32::INFINITY });
        };
        check(endless, "adversarial.weight");
        check(|s| s.average = 1.0, "average");
        check(|s| s.reset = 1.0, "reset");
        check(|s| s.optimizer.set_learning_rate(0.0), "optimizer.learning_rate");
        check(|s| s.evaluate_every = Some(0), "evaluate_every");
        check(|s| s.threads = 1_000_000, "threads");
    }
}
