//! What a run must not forget of the model that it begins with.

use std::path::PathBuf;

use longhand_train::{Settings, SettingsError};
use serde::{Deserialize, Serialize};

/// The old text of a base model, which is rehearsed while something new is learnt, and on which the
/// loss is measured before and after: `[rehearsal]` in a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rehearsal {
    /// Files and folders to rehearse the base model's own objective on (none).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub text: Vec<PathBuf>,
    /// λ: the loss is that of what is learnt and λ times that on the old text (0.5, as in Radford et
    /// al., "Improving language understanding by generative pre-training", 2018, section 4.1).
    pub weight: f64,
    /// Files and folders to measure the loss on; the last tenth of `text`, which is then not
    /// rehearsed, where not given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forgetting: Vec<PathBuf>,
    /// Streams or passages of the old text in a batch (8).
    pub batch: usize,
    /// Tokens that gradients flow through in the old text, or most tokens of a passage (128).
    pub chunk: usize,
}

impl Default for Rehearsal {
    fn default() -> Self {
        let (text, forgetting) = (Vec::new(), Vec::new());
        Self { text, weight: 0.5, forgetting, batch: 8, chunk: 128 }
    }
}

impl Rehearsal {
    /// How the old objective is learnt, in a run with the settings `new`.
    pub(crate) fn settings(&self, new: &Settings) -> Settings {
        let Self { batch, chunk, .. } = *self;
        Settings { batch, chunk, seed: new.seed, ..Settings::default() }
    }

    /// Checks every setting against its bounds.
    ///
    /// # Errors
    /// [`SettingsError`] names the first setting that is out of its bounds.
    pub fn check(&self) -> Result<(), SettingsError> {
        if !(self.weight > 0.0 && self.weight.is_finite()) {
            let (name, value) = ("rehearsal.weight", self.weight.to_string());
            return Err(SettingsError { name, value, allowed: "above 0" });
        }
        self.settings(&Settings::default()).check()
    }
}
