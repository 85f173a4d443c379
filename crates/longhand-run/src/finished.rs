//! The result of a run.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use longhand_engine::Engine;
use longhand_model::{Cpu, Model};
use longhand_ngram::Ngram;
use longhand_tasks::Network;
use longhand_tasks::predictor::Trained;
use longhand_text::Tokenizer;
use longhand_train::End;

use crate::error::RunError;
use crate::sample_text;
use crate::training::Training;

/// The model of a run.
pub enum Learnt {
    /// A network with its tokeniser, or a baseline of a task.
    Trained(Trained),
    /// An n-gram model and its tokeniser.
    Ngram(Box<Ngram>, Box<Tokenizer>),
}

/// A run that has ended, and its model.
pub struct Finished {
    /// The recipe, the data and the results.
    pub training: Training,
    /// The model, a network with the best weights.
    pub trained: Learnt,
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
            (Some(prompt), Learnt::Trained(Trained::Network(network))) => {
                let Network { model, tokenizer, .. } = &**network;
                let engine = Engine::new(Model::clone(model), Tokenizer::clone(tokenizer))?;
                sample_text::write(&engine, &self.cpu, prompt, count, stop).map(Some)
            }
            (Some(prompt), Learnt::Ngram(model, tokenizer)) => {
                let engine = Engine::new(Ngram::clone(model), Tokenizer::clone(tokenizer))?;
                sample_text::write(&engine, &self.cpu, prompt, count, stop).map(Some)
            }
            _ => Ok(None),
        }
    }
}

impl From<Trained> for Learnt {
    fn from(trained: Trained) -> Self {
        Self::Trained(trained)
    }
}
