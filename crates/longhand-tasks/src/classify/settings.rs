//! The settings of classification.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use longhand_model::config::Pooling;
use longhand_text::corpus::table::Labels;
use longhand_text::corpus::treebank::{Nodes, Ratings};
use serde::{Deserialize, Serialize};

use crate::characters::CharacterSettings;
use crate::error::TaskError;

/// How texts are classified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The column of the label, by name or by number from 0 (default: `label`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// The column of a second text, which is read behind the first (none: one text an example).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pair_column: Option<String>,
    /// Whether the model reads how the words of a pair of texts match (default:
    /// true with a `pair_column`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<bool>,
    /// Weights of the labels in the loss: `balanced`, or weights by label, with 1 for the others
    /// (default: 1 for all).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// Whether labels are numbers whose distance counts, such as ratings (default: false).
    #[serde(skip_serializing_if = "is_default")]
    pub ordered: bool,
    /// Whether the loss is that of the thresholds between labels that are numbers, so that a
    /// probability that is wrong by more costs more; they are then `ordered` (default: false).
    #[serde(skip_serializing_if = "is_default")]
    pub ordinal: bool,
    /// Whether a temperature is fitted on the held-out examples after training, so that
    /// probabilities are as often right as they say (default: false).
    #[serde(skip_serializing_if = "is_default")]
    pub calibrate: bool,
    /// The nodes of a treebank that are examples to learn from: `sentences` or `phrases` (default:
    /// sentences). A model is always measured on sentences, but for a part that is held out.
    #[serde(skip_serializing_if = "is_default")]
    pub nodes: Nodes,
    /// How the ratings of a treebank become labels: `fine` for 0 to 4, `binary` for negative and
    /// positive without the neutral ones (default: fine).
    #[serde(skip_serializing_if = "is_default")]
    pub ratings: Ratings,
    /// What reads the characters of each token, beside its own vector (default: nothing).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub characters: Option<CharacterSettings>,
    /// How the positions become one vector (default: as the model's own head does, or the maximum).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// The number of first tokens of a text that are read (default: 1024).
    pub longest: NonZeroUsize,
}

/// Weights of the labels in the loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "it must be \"balanced\", or a weight for each label named")]
pub enum ClassWeights {
    /// A rule.
    Rule(WeightRule),
    /// The weight of each label that is named, above 0; other labels have weight 1.
    Named(BTreeMap<String, f32>),
}

/// A rule for the weights of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightRule {
    /// With n examples of which n_c have label c of C labels: n / (C·n_c) where each example has one, so
    /// that each label counts the same, and the mean weight of an example is 1. Where an example has
    /// several, (n − n_c) / n_c, so that those that have a label count as much as those that do not.
    Balanced,
}

impl ClassWeights {
    /// The weight of each label, by its id; `balanced` gives those of the rule.
    pub(crate) fn of(&self, labels: &Labels, balanced: impl FnOnce() -> Vec<f32>) -> Vec<f32> {
        match self {
            Self::Rule(WeightRule::Balanced) => balanced(),
            Self::Named(weights) => {
                let weight = |name| weights.get(name).copied().unwrap_or(1.0);
                labels.names().iter().map(weight).collect()
            }
        }
    }

    /// Refuses a weight that is not above 0, or whose label is none of `labels`.
    pub(crate) fn check(&self, task: &'static str, labels: &Labels) -> Result<(), TaskError> {
        let Self::Named(weights) = self else { return Ok(()) };
        weights.iter().try_for_each(|(name, &weight)| {
            let reason = match labels.id(name) {
                Err(_) => "no training example has that label",
                Ok(_) if !(weight > 0.0 && weight.is_finite()) => "a weight must be above 0",
                Ok(_) => return Ok(()),
            };
            let (key, value) = ("class_weights".into(), format!("{name}={weight}"));
            Err(TaskError::Setting { task, key, value, reason: reason.into() })
        })
    }
}

/// The default of [`Settings::longest`].
pub(super) const LONGEST: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

impl Default for Settings {
    fn default() -> Self {
        Self {
            label_column: None,
            pair_column: None,
            matches: None,
            class_weights: None,
            ordered: false,
            ordinal: false,
            calibrate: false,
            nodes: Nodes::Sentences,
            ratings: Ratings::Fine,
            characters: None,
            pooling: None,
            longest: LONGEST,
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
