//! The settings of the baselines: a recipe's `baseline` table.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::error::BaselineError;
use super::learning::Form;
use crate::wording;

/// A model without a neural body, and how it is trained. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum BaselineSettings {
    /// Every text has the commonest label, or the labels that half of them have; a word its commonest tag.
    Majority {},
    /// Logistic regression on n-grams weighted by Naive Bayes (Wang and Manning 2012).
    NbLr(NbLrSettings),
    /// The mean of n-gram vectors and a linear layer (Joulin et al. 2016).
    NgramLinear(NgramLinearSettings),
    /// A linear-chain conditional random field over features of a window (Lafferty et al. 2001).
    Crf(CrfSettings),
    /// The beginning of a text is its summary.
    Lead(LeadSettings),
}

/// The settings of [`BaselineSettings::Lead`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeadSettings {
    /// What the length is counted in (default: words).
    pub unit: LeadUnit,
    /// The length (default: one sentence, or as many words as the right texts have on average).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<NonZeroUsize>,
}

/// What the length of a beginning is counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeadUnit {
    /// Words, or characters where the right texts have no spaces between words.
    #[default]
    Words,
    /// Sentences.
    Sentences,
}

/// The settings of [`BaselineSettings::NbLr`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NbLrSettings {
    /// The longest n-gram, in words (default: 3).
    pub ngrams: NonZeroUsize,
    /// Whether upper and lower case differ (default: false).
    pub case: bool,
    /// Whether n-grams may begin with the beginning of a text and end with its end (default: false).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bounds: bool,
    /// C: the weight of the examples' loss against the regulariser ½‖w‖². By default the best of a
    /// few on the held-out examples, or 1 where none are held out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// α: added to the count of each n-gram (default: 1).
    pub smoothing: f64,
    /// β: share of the trained weights; the rest is their mean magnitude, which leaves
    /// Naive Bayes (default: 1).
    pub interpolation: f64,
}

/// The settings of [`BaselineSettings::NgramLinear`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NgramLinearSettings {
    /// The longest n-gram, in words (default: 2).
    pub ngrams: NonZeroUsize,
    /// Shortest and longest n-grams of the characters of a word (default: none).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub characters: Option<(NonZeroUsize, NonZeroUsize)>,
    /// Whether upper and lower case differ (default: false).
    pub case: bool,
    /// Whether n-grams may begin with the beginning of a text and end with its end (default: false).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bounds: bool,
    /// Numbers that the hashes of n-grams are reduced to (default: 2,000,000).
    pub buckets: NonZeroUsize,
    /// Numbers in a vector, rounded up to a multiple of 8 (default: 16).
    pub width: NonZeroUsize,
    /// Passes over the examples. By default 5, and more where the examples are few.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<NonZeroUsize>,
    /// The learning rate at the start, which falls to 0. By default the best of a few on the
    /// held-out examples, or 0.5 where none are held out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
}

/// The settings of [`BaselineSettings::Crf`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CrfSettings {
    /// The neighbours on each side whose words and cells are features of a word (default: 2).
    pub window: usize,
    /// Passes over the examples at most (default: 20). The held-out examples, if there are any, choose the
    /// best of them, and end training three passes behind it.
    pub epochs: NonZeroUsize,
    /// η of AdaGrad (default: 0.2).
    pub learning_rate: f64,
    /// λ: the regulariser ½·λ‖w‖² is added to the summed loss of all sentences (default: 1).
    pub l2: f64,
    /// How often training must have a feature for it to have weights (default: 1).
    pub cutoff: NonZeroUsize,
}

impl Default for NbLrSettings {
    fn default() -> Self {
        let ngrams = const { NonZeroUsize::new(3).unwrap() };
        Self { ngrams, case: false, bounds: false, cost: None, smoothing: 1.0, interpolation: 1.0 }
    }
}

impl Default for NgramLinearSettings {
    fn default() -> Self {
        Self {
            ngrams: const { NonZeroUsize::new(2).unwrap() },
            characters: None,
            case: false,
            bounds: false,
            buckets: const { NonZeroUsize::new(2_000_000).unwrap() },
            width: const { NonZeroUsize::new(16).unwrap() },
            epochs: None,
            learning_rate: None,
        }
    }
}

impl Default for CrfSettings {
    fn default() -> Self {
        Self {
            window: 2,
            epochs: const { NonZeroUsize::new(20).unwrap() },
            learning_rate: 0.2,
            l2: 1.0,
            cutoff: NonZeroUsize::MIN,
        }
    }
}

/// The longest n-gram that is counted.
const LONGEST: usize = 16;
/// The widest vector of a feature.
const WIDEST: usize = 4096;
/// The most neighbours on each side of a word.
const FARTHEST: usize = 16;
/// The largest learning rate of AdaGrad: no number is moved by more than that in one step.
const FASTEST: f64 = 10.0;

impl BaselineSettings {
    /// The names of the baselines.
    pub const NAMES: [&str; 5] = ["majority", "nb-lr", "ngram-linear", "crf", "lead"];

    /// The default settings of the baseline called `name`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "majority" => Some(Self::Majority {}),
            "nb-lr" => Some(Self::NbLr(NbLrSettings::default())),
            "ngram-linear" => Some(Self::NgramLinear(NgramLinearSettings::default())),
            "crf" => Some(Self::Crf(CrfSettings::default())),
            "lead" => Some(Self::Lead(LeadSettings::default())),
            _ => None,
        }
    }

    /// The name, as recipes write it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Majority {} => Self::NAMES[0],
            Self::NbLr(_) => Self::NAMES[1],
            Self::NgramLinear(_) => Self::NAMES[2],
            Self::Crf(_) => Self::NAMES[3],
            Self::Lead(_) => Self::NAMES[4],
        }
    }

    /// Whether it writes a text, in place of telling classes apart.
    pub fn writes(&self) -> bool {
        matches!(self, Self::Lead(_))
    }

    /// Whether it gives a word the tag that suits its neighbours' tags, and so reads chains of words.
    pub fn reads_chains(&self) -> bool {
        matches!(self, Self::Crf(_))
    }

    /// Whether it gives answers of a form.
    pub fn gives(&self, form: Form) -> bool {
        match self {
            Self::Majority {} => form != Form::Text,
            Self::NbLr(_) | Self::NgramLinear(_) => form == Form::Class,
            Self::Crf(_) => form == Form::Tags,
            Self::Lead(_) => form == Form::Text,
        }
    }

    /// Changes the setting called `key`, as a recipe writes it.
    ///
    /// # Errors
    /// If the baseline has no such setting, or the setting has no such value.
    pub fn set(&mut self, key: &str, value: serde_json::Value) -> Result<(), BaselineError> {
        let wrong = |reason: serde_json::Error| {
            let (baseline, key, reason) = (self.name(), key.to_owned(), reason.to_string());
            match wording::known_keys(&reason, &key) {
                Some(known) if known.is_empty() => {
                    BaselineError::NoSetting { baseline, key, known: "or any other".into() }
                }
                Some(known) => {
                    let known = format!("only {}", known.join(", "));
                    BaselineError::NoSetting { baseline, key, known }
                }
                None => {
                    let reason = format!("{value} is refused: {}", wording::plain(&reason));
                    BaselineError::Setting { baseline, key, reason }
                }
            }
        };
        let mut settings = serde_json::to_value(&*self).map_err(wrong)?;
        settings[key] = value.clone();
        let settings: Self = serde_json::from_value(settings).map_err(wrong)?;
        settings.check()?;
        *self = settings;
        Ok(())
    }

    /// Checks the bounds of every setting.
    ///
    /// # Errors
    /// The first setting that is out of its bounds.
    pub fn check(&self) -> Result<(), BaselineError> {
        let baseline = self.name();
        let all = |bounds: &[(&str, bool, &str)]| match bounds.iter().find(|bound| !bound.1) {
            Some(&(key, _, allowed)) => {
                let reason = format!("it must be {allowed}");
                Err(BaselineError::Setting { baseline, key: key.into(), reason })
            }
            None => Ok(()),
        };
        let positive = |value: Option<f64>| value.is_none_or(|x| x > 0.0 && x.is_finite());
        match self {
            Self::Majority {} | Self::Lead(_) => Ok(()),
            Self::NbLr(settings) => all(&[
                ("ngrams", settings.ngrams.get() <= LONGEST, "at most 16"),
                ("cost", positive(settings.cost), "above 0"),
                ("smoothing", positive(Some(settings.smoothing)), "above 0"),
                ("interpolation", (0.0..=1.0).contains(&settings.interpolation), "from 0 to 1"),
            ]),
            Self::NgramLinear(settings) => all(&[
                ("ngrams", settings.ngrams.get() <= LONGEST, "at most 16"),
                (
                    "characters",
                    settings.characters.is_none_or(|(a, b)| a <= b && b.get() <= LONGEST),
                    "the shortest before the longest, which is at most 16",
                ),
                ("width", settings.width.get() <= WIDEST, "at most 4096"),
                ("learning_rate", positive(settings.learning_rate), "above 0"),
            ]),
            Self::Crf(settings) => {
                let rate = settings.learning_rate;
                all(&[
                    ("window", settings.window <= FARTHEST, "at most 16"),
                    ("learning_rate", rate > 0.0 && rate <= FASTEST, "above 0 and at most 10"),
                    ("l2", settings.l2 >= 0.0 && settings.l2.is_finite(), "0 or more"),
                ])
            }
        }
    }
}
