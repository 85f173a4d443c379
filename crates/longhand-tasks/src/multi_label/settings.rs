//! The settings of multi-label classification.

use std::num::NonZeroUsize;

use longhand_model::config::Pooling;
use serde::{Deserialize, Serialize};

use crate::characters::CharacterSettings;
use crate::classify::ClassWeights;

/// How texts get any number of labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The column of the labels, by name or by number from 0 (default: `label`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// The column of a second text, which is read behind the first (none: one text an example).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pair_column: Option<String>,
    /// Whether the model reads how the words of a pair of texts match (default:
    /// true with a `pair_column`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<bool>,
    /// The text between the labels of a cell (default: a comma). White space around a label is left
    /// out. A label that contains it is in quotes, with quotes within it doubled. A cell that is a
    /// JSON array needs none.
    pub label_separator: String,
    /// The probability from which on a label is given, 0 to 1 (default: the one with the highest
    /// micro-F1 on the held-out examples, and 0.5 if none is held out).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
    /// How often an example counts in the loss of a label that it has: `balanced`, or weights by label,
    /// with 1 for the others (default: 1 for all).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// Whether a temperature is fitted on the held-out examples after training, so that
    /// probabilities are as often right as they say (default: false).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub calibrate: bool,
    /// What reads the characters of each token, beside its own vector (default: nothing).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub characters: Option<CharacterSettings>,
    /// How the positions become one vector (default: as the model's own head does, or the maximum).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// The number of first tokens of a text that are read (default: 1024).
    pub longest: NonZeroUsize,
}

/// The default of [`Settings::longest`].
const LONGEST: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

impl Default for Settings {
    fn default() -> Self {
        Self {
            label_column: None,
            pair_column: None,
            matches: None,
            label_separator: ",".into(),
            threshold: None,
            class_weights: None,
            calibrate: false,
            characters: None,
            pooling: None,
            longest: LONGEST,
        }
    }
}
