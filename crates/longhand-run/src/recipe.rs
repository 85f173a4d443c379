//! Recipes: one TOML file is one reproducible run.
//!
//! ```toml
//! description = "a character model of Shakespeare"
//!
//! [data]
//! train = ["tinyshakespeare/input.txt.gz"]     # under LONGHAND_DATA
//! valid_fraction = 0.1
//! [data.sha256]
//! "tinyshakespeare/input.txt.gz" = "…"
//!
//! [tokenizer]
//! kind = "char"
//!
//! [model]
//! preset = "longhand-nano"
//!
//! [training]
//! budget = { minutes = 10 }
//!
//! [expected]
//! "valid.loss" = { at_most = 1.47 }
//! ```
//!
//! Unknown keys are refused. The same form, with every path made absolute and every flag taken
//! in, is what a model folder keeps as its `training.json`.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use longhand_model::config::HeadKind;
use longhand_ngram::NgramSettings;
use longhand_tasks::ensemble::MOST_MEMBERS;
use longhand_tasks::wording::plain;
use longhand_tasks::{BaselineSettings, TaskSettings};
use longhand_train::Settings;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

mod data;
mod error;
mod model;
mod rehearsal;
mod self_training;

use data::is_default;
pub use data::{Data, MOST_SAMPLE_BYTES, sha256};
pub use error::{DATA_VARIABLE, RecipeError};
pub use model::{BaseModel, ModelSettings, TokenizerSettings, Vectors};
pub use rehearsal::Rehearsal;
pub use self_training::SelfTraining;

use crate::objective::{Pretraining, PretrainingObjective};
use crate::tuning::Tuning;

/// The full description of one reproducible run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// What it is, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Networks that learn a task, each with a seed of its own, and answer together (1). They have the
    /// same held-out part; the first one has the seed of `training`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<NonZeroUsize>,
    /// The one of these that the run is, from 1; all of them in turns where not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<NonZeroUsize>,
    /// What is learnt from text where no task is (`causal`).
    #[serde(skip_serializing_if = "is_default")]
    pub objective: PretrainingObjective,
    /// The text or the tables that the run reads.
    pub data: Data,
    /// How text becomes ids.
    pub tokenizer: TokenizerSettings,
    /// The model that the run trains.
    pub model: ModelSettings,
    /// How it is trained.
    pub training: Settings,
    /// How a base model is tuned.
    #[serde(skip_serializing_if = "is_default")]
    pub tuning: Tuning,
    /// The old text that a base model must not forget (none).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Rehearsal>,
    /// How a task's body is pretrained on the texts of its examples (not at all).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretraining: Option<Pretraining>,
    /// The task that is learnt, where one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskSettings>,
    /// How a classifier learns from texts without labels too (not at all).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_training: Option<SelfTraining>,
    /// The model of a task without a neural body, in place of `model` and `training`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<BaselineSettings>,
    /// What answers beside the networks of a task, trained on the same examples (nothing).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ensemble: Option<BaselineSettings>,
    /// An n-gram model that is counted in the text, in place of `model` and `training`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ngram: Option<NgramSettings>,
    /// What is expected of the result, by metric: `valid.loss`, `test.accuracy`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub expected: BTreeMap<String, Bound>,
}

/// What a metric is expected to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The metric is at most this value.
    AtMost(f64),
    /// The metric is at least this value.
    AtLeast(f64),
}

impl RecipeError {
    /// A model that cannot learn an objective.
    pub(crate) fn unfit(model: &ModelSettings, objective: PretrainingObjective) -> Self {
        Self::Unfit { model: model.name(), objective }
    }
}

/// The keys that a recipe gives, apart from their defaults.
#[derive(Deserialize)]
struct Given {
    #[serde(default)]
    training: Map<String, Value>,
    #[serde(default)]
    model: Map<String, Value>,
}

impl Given {
    /// Whether the recipe says which model is trained.
    fn names_model(&self) -> bool {
        ["preset", "config", "base"].iter().any(|key| self.model.contains_key(*key))
    }

    /// The given keys, and the defaults of a task for all others.
    fn over(self, defaults: Settings) -> Result<Settings, serde_json::Error> {
        let mut settings = serde_json::to_value(defaults)?;
        if let Some(settings) = settings.as_object_mut() {
            settings.extend(self.training);
        }
        serde_json::from_value(settings)
    }
}

impl Recipe {
    /// Reads a recipe and checks everything that can be checked without its data.
    ///
    /// # Errors
    /// [`RecipeError::Form`] for a text that is no recipe, or a setting that is refused.
    pub fn parse(text: &str, name: &str) -> Result<Self, RecipeError> {
        let refused = |reason: String| RecipeError::Form { name: name.into(), reason };
        let located = |error: toml::de::Error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count()) + 1;
            let reason = plain(&error.message().replace('\n', ", "));
            refused(format!("line {line}: {reason}"))
        };
        let mut recipe: Self = toml::from_str(text).map_err(located)?;
        let given: Given = toml::from_str(text).map_err(located)?;
        if !given.names_model() {
            let pretraining = recipe.pretraining.as_ref().map(|pretraining| pretraining.objective);
            recipe.model.preset = pretraining.unwrap_or(recipe.objective).preset().to_string();
        }
        if recipe.task.is_some() {
            recipe.training =
                given.over(Settings::for_examples()).map_err(|e| refused(plain(&e.to_string())))?;
        }
        recipe.check().map_err(refused)?;
        Ok(recipe)
    }

    /// Checks what can be checked without the data; a sentence on what is refused.
    fn check(&self) -> Result<(), String> {
        self.training.check().map_err(|error| error.to_string())?;
        self.tuning.check().map_err(|error| error.to_string())?;
        if let Some(pretraining) = &self.pretraining {
            pretraining.check().map_err(|error| format!("pretraining: {error}"))?;
        }
        if let Some(rehearsal) = &self.rehearsal {
            rehearsal.check().map_err(|error| format!("rehearsal: {error}"))?;
            if self.baseline.is_some() || self.ngram.is_some() {
                return Err("`rehearsal` is for networks: leave it out".into());
            }
        }
        if self.pretraining.is_some() && self.task.is_none() {
            return Err(
                "`pretraining` is for a `task`: without one, `objective` says what is learnt"
                    .into(),
            );
        }
        if self.task.is_some() && self.objective != PretrainingObjective::default() {
            return Err("`objective` is for text: the table `pretraining` of a task has one".into());
        }
        // Any vocabulary will do to find a wrong key.
        self.model.config(256).map_err(|error| plain(&error.to_string()))?;
        self.check_data()?;
        self.check_folds()?;
        self.check_rounds()?;
        self.check_members()?;
        self.check_models()
    }

    /// Checks the models that a recipe names beside each other.
    fn check_models(&self) -> Result<(), String> {
        if let Some(baseline) = &self.baseline {
            baseline.check().map_err(|error| error.to_string())?;
            if self.task.is_none() || self.model.base.is_some() {
                return Err("`baseline` needs a `task`, and no `model.base`".into());
            }
        }
        if let Some(ensemble) = &self.ensemble {
            ensemble.check().map_err(|error| error.to_string())?;
            if self.task.is_none() || self.baseline.is_some() {
                return Err("`ensemble` needs a `task`, and no `baseline`".into());
            }
        }
        if self.ngram.is_some()
            && (self.task.is_some()
                || self.model.base.is_some()
                || self.objective != PretrainingObjective::default())
        {
            return Err(
                "`ngram` predicts text: it has no `task`, no `objective` and no `model.base`"
                    .into(),
            );
        }
        if self.training.adversarial.is_some() && self.task.is_none() {
            return Err("`training.adversarial` needs a `task`".into());
        }
        if self.model.vectors.is_some() && self.task.is_none() {
            return Err("`model.vectors` needs a `task`".into());
        }
        Ok(())
    }

    /// Checks the files and shares of the data.
    fn check_data(&self) -> Result<(), String> {
        if !(0.0..1.0).contains(&self.data.valid_fraction) {
            return Err("`valid_fraction` must be at least 0 and less than 1".into());
        }
        if self.data.share.is_some_and(|share| !(share > 0.0 && share <= 1.0)) {
            return Err("`share` must be above 0 and at most 1".into());
        }
        if self.data.share.is_some() && self.task.is_some() {
            return Err("`share` is for text: a task reads its tables whole".into());
        }
        if self.data.distinct && self.task.is_none() {
            return Err("`distinct` is for the examples of a `task`".into());
        }
        if !(0.0..1.0).contains(&self.data.test_fraction) {
            return Err("`test_fraction` must be at least 0 and less than 1".into());
        }
        let data = &self.data;
        let writes = self.task.as_ref().is_some_and(TaskSettings::writes);
        if (data.test_fraction > 0.0 || !data.targets.is_empty()) && !writes {
            return Err("`test_fraction` and `targets` are for a `task` that writes".into());
        }
        if data.test_fraction > 0.0 && !data.test.is_empty() {
            return Err("with `test`, nothing else is tested on: leave out `test_fraction`".into());
        }
        let sources = || [&data.train, &data.valid, &data.test].into_iter().flatten();
        if let Some(path) = data.targets.keys().find(|path| !sources().any(|file| file == *path)) {
            let path = path.display();
            return Err(format!("`targets` names {path}, which no list of files has"));
        }
        if let Some(path) =
            data.sha256.keys().find(|path| !data.files().any(|file| path.starts_with(file)))
        {
            let path = path.display();
            return Err(format!("`sha256` names {path}, which no list of files has"));
        }
        if self.data.sample_bytes > MOST_SAMPLE_BYTES {
            return Err(format!("`sample_bytes` must be at most {MOST_SAMPLE_BYTES}"));
        }
        Ok(())
    }

    /// What a person calls the model of a text.
    pub fn model_name(&self) -> String {
        match &self.ngram {
            Some(NgramSettings { order: Some(order) }) => format!("n-grams of order {order}"),
            Some(NgramSettings { order: None }) => "n-grams".into(),
            None => self.model.name(),
        }
    }

    /// Whether a result has a loss: a baseline that writes gives its texts no probability.
    pub fn has_loss(&self) -> bool {
        !self.baseline.as_ref().is_some_and(BaselineSettings::writes)
    }

    /// Checks the folds of cross-validation.
    ///
    /// # Errors
    /// A sentence on a number of folds, or a test beside them, that cannot be.
    pub(crate) fn check_folds(&self) -> Result<(), String> {
        let Data { folds, fold, test, .. } = &self.data;
        match folds.map(NonZeroUsize::get) {
            None if fold.is_some() => Err("`fold` needs `folds`, the number of all of them".into()),
            None => Ok(()),
            Some(1) => Err("`folds` must be at least 2".into()),
            Some(_) if self.task.is_none() => Err("`folds` need a `task`".into()),
            Some(_) if !test.is_empty() => {
                Err("with `folds` each fold is a test: leave out `test`".into())
            }
            Some(folds) if fold.is_some_and(|fold| fold.get() > folds) => {
                Err(format!("`fold` must be at most {folds}"))
            }
            Some(_) => Ok(()),
        }
    }

    /// Checks the networks that answer together.
    ///
    /// # Errors
    /// A sentence on a number of them, or on what several cannot do.
    pub(crate) fn check_members(&self) -> Result<(), String> {
        let reason = match (self.members.map(NonZeroUsize::get), self.member) {
            (None, Some(_)) => Some("`member` needs `members`, the number of all of them"),
            (None | Some(1), _) => None,
            (Some(count), _) if count > MOST_MEMBERS => {
                return Err(format!("`members` must be at most {MOST_MEMBERS}"));
            }
            (count, member) if member.map(NonZeroUsize::get) > count => {
                Some("`member` must be one of the `members`")
            }
            _ if self.task.is_none() => Some("`members` answer a `task`: name one"),
            _ if self.baseline.is_some() => Some("`members` are networks, not a baseline"),
            _ if self.tuning.method.makes_adapter() => {
                Some("an adapter is of one network: leave out `members`, or tune with `full`")
            }
            _ if self.rehearsal.is_some() => {
                Some("old text is rehearsed and measured by one network: leave out `members`")
            }
            _ => None,
        };
        reason.map_or(Ok(()), |reason| Err(reason.into()))
    }

    /// Checks the rounds of self-training.
    ///
    /// # Errors
    /// A sentence on a setting that cannot be, or a task that has no self-training.
    pub(crate) fn check_rounds(&self) -> Result<(), String> {
        let Some(settings) = &self.self_training else { return Ok(()) };
        let reason = match &self.task {
            None => Some("self-training needs a task"),
            Some(TaskSettings::Classify(task)) if task.pair_column.is_none() => settings.fault(),
            Some(_) => Some("self-training is for the task classify, of single texts"),
        };
        let reason = reason
            .or(self.data.folds.map(|_| "self-training has no `folds`: leave one of them out"))
            .or(match &self.baseline {
                Some(BaselineSettings::Majority {} | BaselineSettings::Lead(_)) => {
                    Some("this baseline reads no words, and so learns nothing from more texts")
                }
                // A task of tags, which alone has this baseline, has no self-training.
                Some(BaselineSettings::Crf(_)) => None,
                Some(BaselineSettings::NbLr(_) | BaselineSettings::NgramLinear(_)) | None => None,
            });
        reason.map_or(Ok(()), |reason| Err(reason.into()))
    }

    /// Checks that the model can learn what the recipe asks for. A task brings a head of its own;
    /// without a task the model must fit the objective.
    ///
    /// # Errors
    /// [`RecipeError::NoLanguageModel`] or [`RecipeError::Unfit`] where it cannot,
    /// or a refused configuration.
    pub fn check_head(&self) -> Result<(), RecipeError> {
        if self.task.is_some() {
            return Ok(());
        }
        // Any vocabulary will do to find the kind of a head.
        let config = self.model.config(256)?;
        let predicts_next = matches!(config.head(), Some(HeadKind::LanguageModel { .. }));
        match self.objective {
            objective if objective.fits(&config) => Ok(()),
            PretrainingObjective::Causal if !predicts_next => {
                Err(RecipeError::NoLanguageModel(self.model.name()))
            }
            objective => Err(RecipeError::unfit(&self.model, objective)),
        }
    }

    /// Every path that the recipe names: data files, the base model and word vectors.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        let Data { train, valid, test, .. } = &self.data;
        let base = self.model.base.iter().map(|base| base.path.as_path());
        let vectors = self.model.vectors.iter().map(|vectors| vectors.path.as_path());
        let further = self.pretraining.iter().flat_map(|pretraining| &pretraining.text);
        let unlabelled = self.self_training.iter().flat_map(|settings| &settings.unlabelled);
        let old = self.rehearsal.iter().flat_map(|it| it.text.iter().chain(&it.forgetting));
        let files = [train, valid, test].into_iter().flatten().chain(further).chain(unlabelled);
        let files = files.chain(old);
        let files = files.chain(self.data.targets.values());
        files.map(PathBuf::as_path).chain(base).chain(vectors)
    }

    /// Reads a recipe file, with its data looked for under `root`; [`Data::verify`] comes when what
    /// goes before the recipe is known.
    ///
    /// # Errors
    /// [`RecipeError::NoFile`] or [`RecipeError::Io`] if the file cannot be read, and
    /// the errors of [`Recipe::parse`].
    pub fn load(path: &Path, root: &Path) -> Result<Self, RecipeError> {
        let text = fs_err::read_to_string(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => RecipeError::NoFile(path.into()),
            _ => error.into(),
        })?;
        let mut recipe = Self::parse(&text, &path.display().to_string())?;
        recipe.data.resolve(root);
        if let Some(base) = &mut recipe.model.base {
            base.path = root.join(&base.path);
        }
        if let Some(vectors) = &mut recipe.model.vectors {
            vectors.path = root.join(&vectors.path);
        }
        for path in recipe.self_training.iter_mut().flat_map(|settings| &mut settings.unlabelled) {
            *path = root.join(&*path);
        }
        for path in recipe.pretraining.iter_mut().flat_map(|pretraining| &mut pretraining.text) {
            *path = root.join(&*path);
        }
        let old = recipe.rehearsal.iter_mut();
        for path in old.flat_map(|it| it.text.iter_mut().chain(&mut it.forgetting)) {
            *path = root.join(&*path);
        }
        Ok(recipe)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(formatter, "at most {most}"),
            Self::AtLeast(least) => write!(formatter, "at least {least}"),
        }
    }
}

impl Bound {
    /// Whether a value is as expected.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtMost(most) => value <= most,
            Bound::AtLeast(least) => value >= least,
        }
    }
}

#[cfg(test)]
mod tests;
