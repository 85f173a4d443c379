//! The task that a recipe names.

use serde::{Deserialize, Serialize};

use crate::classify::Settings;

/// A task: the table `task` of a recipe. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Task {
    /// One label for each text.
    Classify(Settings),
}
