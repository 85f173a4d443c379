//! The settings of classification.

use std::num::NonZeroUsize;

use longhand_model::config::Pooling;
use longhand_text::corpus::treebank::{Nodes, Ratings};
use serde::{Deserialize, Serialize};

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
    /// The nodes of a treebank that are examples to learn from: `sentences` or `phrases` (default:
    /// sentences). A model is always measured on sentences, but for a part that is held out.
    #[serde(skip_serializing_if = "is_default")]
    pub nodes: Nodes,
    /// How the ratings of a treebank become labels: `fine` for 0 to 4, `binary` for negative and
    /// positive without the neutral ones (default: fine).
    #[serde(skip_serializing_if = "is_default")]
    pub ratings: Ratings,
    /// How the positions become one vector (default: as the model's own head does, or the maximum).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// The number of first tokens of a text that are read (default: 1024).
    pub longest: NonZeroUsize,
}

/// The default of [`Settings::longest`].
pub(super) const LONGEST: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

impl Default for Settings {
    fn default() -> Self {
        Self { label_column: None, pair_column: None,
            nodes: Nodes::Sentences,
            ratings: Ratings::Fine,
            pooling: None, longest: LONGEST }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
