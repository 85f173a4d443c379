//! What a body learns from plain text.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use longhand_model::config::{HeadConfig, HeadKind, Pooling, Stacks};
use longhand_model::{Config, Preset};
use longhand_tasks::start;
use longhand_text::{SpecialTokens, TextError, Tokenizer};
use longhand_train::{Budget, NEXT_SENTENCE, Settings, SettingsError};
use serde::{Deserialize, Serialize};

/// What a body learns from plain text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PretrainingObjective {
    /// The next token of contiguous streams.
    #[default]
    Causal,
    /// The next and the previous token, each by a stack of its own, in separate passages.
    Bicausal,
    /// Tokens that are masked, in separate passages that are read in both directions.
    Masked,
    /// The same, and whether the second part of a passage follows the first one.
    #[serde(rename = "masked+nsp")]
    MaskedNext,
}

/// No objective has this name.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "there is no objective `{0}`; there are {names}",
    names = PretrainingObjective::ALL.map(PretrainingObjective::name).join(", ")
)]
pub struct UnknownObjective(pub String);

/// The pretraining of a task's body, before the task is learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pretraining {
    /// What the body learns (`bicausal`).
    pub objective: PretrainingObjective,
    /// When the pretraining ends (10 epochs).
    pub budget: Budget,
    /// The highest learning rate of Muon (1e-2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Passages or streams in a batch (16).
    pub batch: usize,
    /// Most tokens of a passage (128).
    pub chunk: usize,
    /// Tokens besides a batch's own that these are told apart from, drawn by frequency (2048); 0
    /// for the whole vocabulary.
    pub sampled_softmax: usize,
    /// Files and folders of text to read beside the texts of the training examples (none). They
    /// are held in memory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub text: Vec<PathBuf>,
}

impl PretrainingObjective {
    /// All objectives, the default one first.
    pub const ALL: [Self; 4] = [Self::Causal, Self::Bicausal, Self::Masked, Self::MaskedNext];

    /// Its name in recipes and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Causal => "causal",
            Self::Bicausal => "bicausal",
            Self::Masked => "masked",
            Self::MaskedNext => "masked+nsp",
        }
    }

    /// One line for people.
    pub fn about(self) -> &'static str {
        match self {
            Self::Causal => "the next token; the model can continue texts",
            Self::Bicausal => {
                "the next and the previous token, by two stacks; for tasks that read whole texts"
            }
            Self::Masked => "15 % of the tokens, whole words, from all others; for such tasks",
            Self::MaskedNext => {
                "the same, and whether one part of a text follows the other; for tasks on pairs"
            }
        }
    }

    /// The model of a run that names none.
    pub fn preset(self) -> Preset {
        match self {
            Self::Causal => Preset::LonghandNano,
            Self::Bicausal => Preset::BicausalNano,
            Self::Masked | Self::MaskedNext => Preset::EncoderNano,
        }
    }

    /// A configuration whose body learns it for a task: with the heads that it needs alone.
    pub(crate) fn of_task(self, config: Config) -> Config {
        let head = match self {
            Self::Causal | Self::Bicausal => HeadKind::LanguageModel { tied: true, bias: true },
            Self::Masked | Self::MaskedNext => HeadKind::MaskedTokens { tied: true, bias: true },
        };
        self.complete(start::with_head(config, head))
    }

    /// A configuration with the head that the objective needs beside the first one,
    /// if it lacks that.
    pub(crate) fn complete(self, mut config: Config) -> Config {
        let lacks = config.heads.iter().all(|head| head.name != NEXT_SENTENCE);
        if self == Self::MaskedNext && lacks {
            let kind = HeadKind::SentencePair { classes: 2, pooling: Pooling::Max };
            config.heads.push(HeadConfig { name: NEXT_SENTENCE.into(), kind });
        }
        config
    }

    /// What a model with this configuration learnt from plain text; none where its first
    /// head answers a task.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let has_pairs = config.heads.iter().any(|head| head.name == NEXT_SENTENCE);
        match has_pairs && Self::MaskedNext.fits(config) {
            true => Some(Self::MaskedNext),
            false => Self::ALL.into_iter().find(|objective| objective.fits(config)),
        }
    }

    /// Whether a model with this configuration can learn it.
    pub(crate) fn fits(self, config: &Config) -> bool {
        match self {
            Self::Causal => config.is_language_model(),
            Self::Bicausal => config.is_bicausal(),
            Self::Masked | Self::MaskedNext => self.fits_body(config) && config.fills_masks(),
        }
    }

    /// Whether a body with this configuration can learn it once it has the head.
    pub(crate) fn fits_body(self, config: &Config) -> bool {
        match self {
            Self::Causal => config.is_causal() && config.encoder.is_none(),
            Self::Bicausal => config.stacks == Stacks::Bicausal,
            Self::Masked | Self::MaskedNext => {
                config.stacks == Stacks::Forward && !config.is_causal()
            }
        }
    }

    /// The tokeniser with the special tokens that the objective needs.
    ///
    /// # Errors
    /// If its vocabulary has such a token for text.
    pub(crate) fn prepare(self, tokenizer: Tokenizer) -> Result<Tokenizer, TextError> {
        let lacks = |name: &&str| tokenizer.special_tokens().id(name).is_none();
        let lacking: Vec<&str> = self.special_tokens().iter().copied().filter(lacks).collect();
        if lacking.is_empty() { Ok(tokenizer) } else { tokenizer.with_special_tokens(&lacking) }
    }

    /// The special tokens that it needs.
    pub(crate) fn special_tokens(self) -> &'static [&'static str] {
        match self {
            Self::Causal | Self::Bicausal => &[],
            Self::Masked => &[SpecialTokens::MASK],
            Self::MaskedNext => &[SpecialTokens::MASK, SpecialTokens::SEPARATOR],
        }
    }

    /// What a model needs to learn it.
    pub(crate) fn needs(self) -> &'static str {
        match self {
            Self::Causal => {
                "one stack of memories that look backward without an `encoder`, and a \
                 language-model head"
            }
            Self::Bicausal => "`stacks = \"bicausal\"` and a language-model head",
            Self::Masked | Self::MaskedNext => {
                "one stack with a `bidirectional` memory, and a masked-tokens head"
            }
        }
    }
}

impl Pretraining {
    /// The settings of the pretraining, in a run whose task is learnt with `task`.
    pub(crate) fn settings(&self, task: &Settings) -> Settings {
        let Self { budget, batch, chunk, sampled_softmax, .. } = *self;
        let Settings { seed, threads, precision, .. } = *task;
        let own = Settings { budget, batch, chunk, sampled_softmax, ..Settings::default() };
        let mut settings = Settings { seed, threads, precision, ..own };
        if let Some(rate) = self.learning_rate {
            settings.optimizer.set_learning_rate(rate);
        }
        settings
    }

    /// Checks every setting against its bounds.
    ///
    /// # Errors
    /// [`SettingsError`] names the first setting that is out of its bounds.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.settings(&Settings::default()).check()
    }
}

impl Default for Pretraining {
    fn default() -> Self {
        let Settings { batch, chunk, .. } = Settings::default();
        Self {
            objective: PretrainingObjective::Bicausal,
            budget: Budget::Epochs(10.0),
            learning_rate: None,
            batch,
            chunk,
            sampled_softmax: 2048,
            text: Vec::new(),
        }
    }
}

impl fmt::Display for PretrainingObjective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PretrainingObjective {
    type Err = UnknownObjective;

    fn from_str(name: &str) -> Result<Self, UnknownObjective> {
        let found = Self::ALL.into_iter().find(|objective| objective.name() == name);
        found.ok_or_else(|| UnknownObjective(name.into()))
    }
}
