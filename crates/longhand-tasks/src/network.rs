//! A network that learnt a task.

use std::path::Path;

use longhand_model::Model;
use longhand_model::config::HeadKind;
use longhand_text::Tokenizer;

use crate::baseline::{BaselineError, Form};
use crate::ensemble::{ENSEMBLE_WEIGHTS_FILE, Ensemble};
use crate::error::TaskError;

/// A network whose first head answers.
#[derive(Clone)]
pub struct Network {
    /// The network.
    pub model: Model,
    /// The tokeniser that it was trained with.
    pub tokenizer: Tokenizer,
    /// What answers together with it, if anything does.
    pub ensemble: Option<Ensemble>,
}

impl Network {
    /// The network, and those that answer together with it.
    pub fn models(&self) -> Vec<&Model> {
        Ensemble::models(self.ensemble.as_ref(), &self.model)
    }

    /// Checks that the parts belong together.
    pub(crate) fn check(&self, folder: &Path) -> Result<(), TaskError> {
        let Self { model, tokenizer, ensemble } = self;
        model.check_vocabulary(tokenizer.vocab_size())?;
        let of_baseline = ensemble.as_ref().and_then(Ensemble::classes);
        let classes = of_baseline.unwrap_or(model.outputs());
        let tags = matches!(model.config().head(), Some(HeadKind::Tags { .. }));
        let form = ensemble.as_ref().and_then(Ensemble::form);
        let reason = match classes == model.outputs() {
            false => format!("it has {classes} classes, the model has {}", model.outputs()),
            true if form.is_none_or(|form| (form == Form::Tags) == tags) => return Ok(()),
            true if tags => "it gives each text a class, the model each word a tag".into(),
            true => "it gives each word a tag, the model each text a class".into(),
        };
        Err(BaselineError::Weights { path: folder.join(ENSEMBLE_WEIGHTS_FILE), reason }.into())
    }
}
