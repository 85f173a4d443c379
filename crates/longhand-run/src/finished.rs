//! The result of a run.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use longhand_model::Cpu;
use longhand_tasks::Network;
use longhand_tasks::predictor::Trained;
use longhand_train::End;

use crate::error::RunError;
use crate::sample_text;
use crate::training::Training;

/// A run that has ended, and its model.
pub struct Finished {
    /// The recipe, the data and the results.
    pub training: Training,
    /// The model with the best weights and its tokeniser, or a baseline.
    pub trained: Trained,
    /// Why the run ended.
    pub end: End,
    /// Whether the model is the one that the recipe describes; false where a run stopped in the
    /// pretraining of its task's body.
    pub is_whole: bool,
    /// The beginning of a line of the held-out text; none where the model cannot continue texts.
    pub prompt: Option<String>,
    pub(crate) cpu: Arc<Cpu>,
}

impl Finished {
    /// The prompt and at most `count` tokens that the model writes after it, until `stop` is set;
    /// none where the model cannot continue texts.
    ///
    /// # Errors
    /// [`RunError::Engine`] if the model cannot write.
    pub fn sample(&self, count: usize, stop: &AtomicBool) -> Result<Option<String>, RunError> {
        match (&self.prompt, &self.trained) {
            (Some(prompt), Trained::Network(network)) => {
                let Network { model, tokenizer, .. } = &**network;
                sample_text::write(model, tokenizer, &self.cpu, prompt, count, stop).map(Some)
            }
            _ => Ok(None),
        }
    }
}
