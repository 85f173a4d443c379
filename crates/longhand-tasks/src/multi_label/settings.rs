//! The settings of multi-label classification.

use std::num::NonZeroUsize;

use longhand_model::config::Pooling;
use serde::{Deserialize, Serialize};

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
    /// The text between the labels of a cell (default: a comma). White space around a label is left
    /// out. A cell that is a JSON array needs none.
    pub label_separator: String,
    /// The probability from which on a label is given, 0 to 1 (default: the one with the highest
    /// micro-F1 on the held-out examples, and 0.5 if none is held out).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
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
            label_separator: ",".into(),
            threshold: None,
            pooling: None,
            longest: LONGEST,
        }
    }
}

impl Settings {
    /// The labels of a cell, each once and sorted.
    pub(super) fn labels(&self, cell: &str) -> Vec<String> {
        let list = cell.starts_with('[').then(|| serde_json::from_str::<Vec<String>>(cell).ok());
        let parts = list.flatten().unwrap_or_else(|| match self.label_separator.as_str() {
            "" => vec![cell.to_owned()],
            separator => cell.split(separator).map(str::to_owned).collect(),
        });
        let names = parts.iter().map(|name| name.trim().to_owned());
        let mut names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
