//! A base model's own objective on its old text: rehearsed in training, and measured before and after.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use longhand_model::config::HeadConfig;
use longhand_model::{Config, Cpu, Model};
use longhand_text::Tokenizer;
use longhand_text::batch::Streams;
use longhand_train::{
    Bicausal, LanguageModelling, MaskedTokens, NEXT_SENTENCE, Objective, PassageObjective, Settings,
};

use crate::error::RunError;
use crate::objective::PretrainingObjective;
use crate::recipe::Recipe;
use crate::score::{masked, score};
use crate::text_data::{self, OldText};
use crate::training::{Forgetting, PartFacts};
use crate::tuning::Method;
use crate::watch::Watch;

/// The old objective of a base model, and its text.
pub(crate) struct Old<'a> {
    base: &'a Model,
    objective: PretrainingObjective,
    masked: Option<MaskedTokens>,
    /// How the old text is read.
    settings: Settings,
    /// λ: the factor of the old objective's loss.
    pub(crate) weight: f64,
    text: &'a OldText,
}

/// The heads of a configuration with which a model learnt from plain text, and what it learnt; none
/// where no head predicts tokens.
fn old_heads(config: &Config) -> Option<(PretrainingObjective, Vec<HeadConfig>)> {
    let heads = config.heads.iter();
    let token = heads.clone().find(|head| head.kind.predicts_tokens());
    let next = heads.clone().find(|head| head.name == NEXT_SENTENCE);
    let heads: Vec<HeadConfig> = token.into_iter().chain(next).cloned().collect();
    let alone = Config { heads, ..config.clone() };
    Some((PretrainingObjective::of(&alone)?, alone.heads))
}

/// The heads of a base model that go on beside a task's head: those that the run rehearses.
pub(crate) fn kept(recipe: &Recipe, base: &Model) -> Vec<HeadConfig> {
    let rehearses = recipe.rehearsal.as_ref().is_some_and(|it| !it.text.is_empty());
    let heads = old_heads(base.config()).filter(|_| rehearses);
    heads.map(|(_, heads)| heads).unwrap_or_default()
}

/// Reads the old text of a recipe, if it names any.
///
/// # Errors
/// A text that cannot be read, or that no model of the run can have learnt or forgets.
pub(crate) fn read(
    recipe: &Recipe,
    tokenizer: &Tokenizer,
    out: &Path,
    watch: &mut dyn Watch,
) -> Result<Option<OldText>, RunError> {
    let Some(rehearsal) = &recipe.rehearsal else { return Ok(None) };
    if recipe.model.base.is_none() && recipe.pretraining.is_none() {
        return Err(RunError::NothingToRehearse);
    }
    let of_head = recipe.task.is_some() && recipe.tuning.method == Method::Frozen;
    if of_head && !rehearsal.text.is_empty() {
        return Err(RunError::FrozenRehearsal);
    }
    text_data::old(rehearsal, recipe.data.lossy, tokenizer, out, watch).map(Some)
}

impl<'a> Old<'a> {
    /// The old text with the model that learnt it; none where there is none of either.
    ///
    /// # Errors
    /// A base model without a head that predicts tokens.
    pub(crate) fn new(
        text: Option<&'a OldText>,
        recipe: &Recipe,
        base: Option<&'a Model>,
        tokenizer: &Tokenizer,
    ) -> Result<Option<Self>, RunError> {
        let (Some(text), Some(rehearsal), Some(base)) = (text, &recipe.rehearsal, base) else {
            return Ok(None);
        };
        let (objective, _) = old_heads(base.config()).ok_or(RunError::NoOldHead)?;
        let masked = masked(objective, tokenizer)?;
        let settings = rehearsal.settings(&recipe.training);
        let weight = rehearsal.weight;
        Ok(Some(Self { base, objective, masked, settings, weight, text }))
    }

    /// What is known of the text.
    pub(crate) fn facts(&self) -> &PartFacts {
        &self.text.facts
    }

    /// The objective to rehearse, if any is.
    ///
    /// # Errors
    /// A text that is shorter than a batch.
    pub(crate) fn objective(&self) -> Result<Option<Box<dyn Objective>>, RunError> {
        let Some(train) = self.text.train.clone() else { return Ok(None) };
        let settings = &self.settings;
        let objective: Box<dyn Objective> = match (self.objective, self.masked.clone()) {
            (_, Some(masked)) => Box::new(PassageObjective::new(masked, settings, train, None)?),
            (PretrainingObjective::Bicausal, None) => {
                Box::new(PassageObjective::new(Bicausal, settings, train, None)?)
            }
            (_, None) => {
                let Settings { batch, chunk, .. } = *settings;
                // A short text takes fewer streams.
                let fits = Streams::fit(train.len(), batch, chunk);
                let (batch, chunk) = fits.unwrap_or((batch, chunk));
                let settings = Settings { batch, chunk, ..settings.clone() };
                Box::new(LanguageModelling::new(&settings, train, None)?)
            }
        };
        Ok(Some(objective))
    }

    /// The loss on the old text of the base model, and of the model that was made of it.
    ///
    /// # Errors
    /// [`longhand_train::TrainError::Stopped`] once `stop` is set.
    pub(crate) fn measure(
        &self,
        tuned: &Model,
        cpu: &Arc<Cpu>,
        stop: &AtomicBool,
    ) -> Result<Forgetting, RunError> {
        let loss = |model: &Model| -> Result<f64, RunError> {
            let (objective, longest) = (self.objective, self.settings.chunk);
            let text = (&self.text.measured, objective, longest);
            Ok(score(text, self.masked.as_ref(), model, (cpu, stop))?.loss)
        };
        let before = loss(self.base)?;
        let after = match tuned.token_head().kind().predicts_tokens() {
            true => loss(tuned)?,
            false => loss(&self.with_old_heads(tuned)?)?,
        };
        Ok(Forgetting { before, after })
    }

    /// The body of a tuned model with the base model's heads.
    fn with_old_heads(&self, tuned: &Model) -> Result<Model, RunError> {
        let mut body = tuned.clone();
        body.merge_low_rank();
        let own = self.base.config().clone();
        let heads = old_heads(&own).map(|(_, heads)| heads).unwrap_or_default();
        let names: Vec<&str> = heads.iter().map(|head| head.name.as_str()).collect();
        let adapters = tuned.config().adapters;
        // Plain text has none of a task's features.
        let (features, characters) = (Vec::new(), None);
        let config = Config { heads: heads.clone(), adapters, features, characters, ..own };
        let mut model = Model::new(config, 0)?;
        model.take_over(self.base, &names);
        model.take_over(&body, &[]);
        Ok(model)
    }
}
