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
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use longhand_model::config::{FORMAT, HeadKind};
use longhand_model::{Config, ConfigError, Model, Preset, UnknownPreset};
use longhand_tasks::{BaselineSettings, TaskSettings};
use longhand_text::corpus::Header;
use longhand_text::{TableFormat, TokenizerKind};
use longhand_train::Settings;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::objective::{Pretraining, PretrainingObjective};
use crate::tuning::Tuning;

/// The variable that names the folder of a recipe's data.
pub const DATA_VARIABLE: &str = "LONGHAND_DATA";

/// The most of the built-in sample that a run learns from: it is told in memory.
pub const MOST_SAMPLE_BYTES: usize = 1 << 30;

/// The full description of one reproducible run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// What it is, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
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
    /// How a task's body is pretrained on the texts of its examples (not at all).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretraining: Option<Pretraining>,
    /// The task that is learnt, where one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskSettings>,
    /// The model of a task without a neural body, in place of `model` and `training`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<BaselineSettings>,
    /// What is expected of the result, by metric: `valid.loss`, `test.accuracy`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub expected: BTreeMap<String, Bound>,
}

/// The text of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// Files and folders to train on; none for the built-in sample.
    pub train: Vec<PathBuf>,
    /// Files to validate on, instead of a part of `train`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub valid: Vec<PathBuf>,
    /// Files to test on when the run has ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<PathBuf>,
    /// The last part of `train` that validates (0.1); 0 for none. Not used with `valid`.
    pub valid_fraction: f64,
    /// Share of the text that is read, in stretches drawn by the training's seed (1). Without it,
    /// a run with a time budget reads what it can prepare in a part of that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// The column of tables that holds the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_column: Option<String>,
    /// The tables that the files are, where their names do not tell: `jsonl`, `csv`, `tsv`,
    /// `parquet`, for a task `labelled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<TableFormat>,
    /// Whether the first row of a task's table names the columns: `auto`, `yes` or `no` (`auto`).
    #[serde(skip_serializing_if = "is_default")]
    pub header: Header,
    /// The number of folds of a task's cross-validation, at least 2: each part of `train` is the test
    /// of a run that learns from the others; no cross-validation where not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folds: Option<NonZeroUsize>,
    /// The fold that this run tests on, from 1; every fold in turns where not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fold: Option<NonZeroUsize>,
    /// Examples of each label that a task learns from, drawn by the training's seed; all where not
    /// given. What is held out to validate on stays whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shots: Option<NonZeroUsize>,
    /// Replace invalid UTF-8 instead of stopping (false).
    pub lossy: bool,
    /// Seed of the built-in sample (1).
    pub sample_seed: u64,
    /// Bytes of the built-in sample (4 MiB); at most [`MOST_SAMPLE_BYTES`].
    pub sample_bytes: usize,
    /// SHA-256 of files as stored.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sha256: BTreeMap<PathBuf, String>,
    /// Where the files can be had, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
}

/// How text becomes ids.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizerSettings {
    /// How text is split into tokens (`char`).
    pub kind: TokenizerKind,
    /// The most tokens; see the kinds for what they do without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<usize>,
    /// Whether a kind that suits the text better may replace `kind` (false); never stored, as a
    /// run's recipe has the kind that was chosen.
    #[serde(skip)]
    pub may_change: bool,
}

/// What is trained: a preset with keys of `config.json` that replace its own, or a whole
/// configuration without `vocab_size`, which is the tokeniser's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// The preset's name (`longhand-nano`).
    pub preset: String,
    /// Keys of `config.json`; tables are merged, everything else is replaced.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub overrides: Map<String, Value>,
    /// A whole configuration instead of a preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,
    /// A trained model that a task begins with; its configuration is taken where none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseModel>,
}

/// A trained model that a task begins with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseModel {
    /// The model folder, absolute in a run's record.
    pub path: PathBuf,
    /// Hash of its configuration and weights; empty accepts any model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
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

/// Why a recipe is refused.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// There is no such file.
    #[error(
        "there is no recipe {}: name a file, as `recipes/sample-recall.toml` of the sources is one",
        .0.display()
    )]
    NoFile(PathBuf),
    /// The file is not a valid recipe.
    #[error("{name} is not a usable recipe: {reason}")]
    Form {
        /// Name of the refused file.
        name: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// A data file is not there.
    #[error(
        "the recipe's data file {} is not there: set {DATA_VARIABLE} to the folder that holds the \
         data{}", path.display(), from(source_of_data)
    )]
    Missing {
        /// Path of the missing file.
        path: PathBuf,
        /// Where it can be had; empty where the recipe does not tell.
        source_of_data: String,
    },
    /// A data file is another one.
    #[error(
        "{} is not the file that the recipe names: its SHA-256 is {got}, not {expected}",
        path.display()
    )]
    Hash {
        /// Path of the file that was found.
        path: PathBuf,
        /// SHA-256 that the recipe names.
        expected: String,
        /// SHA-256 of the file.
        got: String,
    },
    /// The recipe names an unknown preset.
    #[error(transparent)]
    Preset(#[from] UnknownPreset),
    /// A model without the head that its training needs.
    #[error(
        "the model ({0}) has no language-model head and cannot learn to predict text: choose \
         another preset or head, or say in `task` what it learns"
    )]
    NoLanguageModel(String),
    /// A model that cannot learn the objective.
    #[error(
        "the model ({model}) cannot learn the objective {objective}, which needs {}: choose \
         another preset, such as {}, or another objective", objective.needs(), objective.preset()
    )]
    Unfit {
        /// Name of the model.
        model: String,
        /// The objective that was asked for.
        objective: PretrainingObjective,
    },
    /// A refused model configuration.
    #[error("invalid model configuration: {0}")]
    Config(ConfigError),
}

impl RecipeError {
    /// A model that cannot learn an objective.
    pub(crate) fn unfit(model: &ModelSettings, objective: PretrainingObjective) -> Self {
        Self::Unfit { model: model.name(), objective }
    }
}

impl From<ConfigError> for RecipeError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// The part of a sentence that tells where data comes from.
fn from(source: &str) -> String {
    if source.is_empty() { String::new() } else { format!("; it comes from {source}") }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for Data {
    fn default() -> Self {
        Self {
            train: Vec::new(),
            valid: Vec::new(),
            test: Vec::new(),
            valid_fraction: 0.1,
            share: None,
            text_column: None,
            format: None,
            header: Header::Auto,
            folds: None,
            fold: None,
            shots: None,
            lossy: false,
            sample_seed: 1,
            sample_bytes: 4 << 20,
            sha256: BTreeMap::new(),
            source: String::new(),
        }
    }
}

impl Default for TokenizerSettings {
    fn default() -> Self {
        Self { kind: TokenizerKind::Char, vocabulary: None, may_change: false }
    }
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            preset: Preset::LonghandNano.to_string(),
            overrides: Map::new(),
            config: None,
            base: None,
        }
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
            refused(format!("line {line}: {}", error.message().replace('\n', ", ")))
        };
        let mut recipe: Self = toml::from_str(text).map_err(located)?;
        let given: Given = toml::from_str(text).map_err(located)?;
        if !given.names_model() {
            let pretraining = recipe.pretraining.as_ref().map(|pretraining| pretraining.objective);
            recipe.model.preset = pretraining.unwrap_or(recipe.objective).preset().to_string();
        }
        if recipe.task.is_some() {
            recipe.training =
                given.over(Settings::for_examples()).map_err(|e| refused(e.to_string()))?;
        }
        recipe.training.check().map_err(|error| refused(error.to_string()))?;
        recipe.tuning.check().map_err(|error| refused(error.to_string()))?;
        if let Some(pretraining) = &recipe.pretraining {
            pretraining.check().map_err(|error| refused(format!("pretraining: {error}")))?;
        }
        if recipe.pretraining.is_some() && recipe.task.is_none() {
            return Err(refused(
                "`pretraining` is for a `task`: without one, `objective` says what is learnt"
                    .into(),
            ));
        }
        if recipe.task.is_some() && recipe.objective != PretrainingObjective::default() {
            return Err(refused(
                "`objective` is for text: the table `pretraining` of a task has one".into(),
            ));
        }
        // Any vocabulary will do to find a wrong key.
        recipe.model.config(256).map_err(|error| refused(error.to_string()))?;
        if !(0.0..1.0).contains(&recipe.data.valid_fraction) {
            return Err(refused("`valid_fraction` must be at least 0 and less than 1".into()));
        }
        if recipe.data.share.is_some_and(|share| !(share > 0.0 && share <= 1.0)) {
            return Err(refused("`share` must be above 0 and at most 1".into()));
        }
        if recipe.data.share.is_some() && recipe.task.is_some() {
            return Err(refused("`share` is for text: a task reads its tables whole".into()));
        }
        recipe.check_folds().map_err(refused)?;
        if let Some(baseline) = &recipe.baseline {
            baseline.check().map_err(|error| refused(error.to_string()))?;
            if recipe.task.is_none() || recipe.model.base.is_some() {
                return Err(refused("`baseline` needs a `task`, and no `model.base`".into()));
            }
        }
        if recipe.model.base.is_some() && recipe.task.is_none() {
            return Err(refused("`model.base` needs a `task` to begin with it".into()));
        }
        let data = &recipe.data;
        let listed = || [&data.train, &data.valid, &data.test].into_iter().flatten();
        if let Some(path) =
            data.sha256.keys().find(|path| !listed().any(|file| path.starts_with(file)))
        {
            let path = path.display();
            return Err(refused(format!("`sha256` names {path}, which no list of files has")));
        }
        if recipe.data.sample_bytes > MOST_SAMPLE_BYTES {
            return Err(refused(format!("`sample_bytes` must be at most {MOST_SAMPLE_BYTES}")));
        }
        Ok(recipe)
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

    /// Every path that the recipe names: data files and the base model.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        let Data { train, valid, test, .. } = &self.data;
        let base = self.model.base.iter().map(|base| base.path.as_path());
        let further = self.pretraining.iter().flat_map(|pretraining| &pretraining.text);
        let files = [train, valid, test].into_iter().flatten().chain(further);
        files.map(PathBuf::as_path).chain(base)
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
        for path in recipe.pretraining.iter_mut().flat_map(|pretraining| &mut pretraining.text) {
            *path = root.join(&*path);
        }
        Ok(recipe)
    }
}

impl Data {
    /// Makes every path one under `root`.
    fn resolve(&mut self, root: &Path) {
        let lists = [&mut self.train, &mut self.valid, &mut self.test];
        for path in lists.into_iter().flatten() {
            *path = root.join(&*path);
        }
        let hashes = std::mem::take(&mut self.sha256).into_iter();
        self.sha256 = hashes.map(|(path, hash)| (root.join(path), hash)).collect();
    }

    /// Learns from other files: what is held out of those before goes with them.
    pub fn learn_from(&mut self, train: Vec<PathBuf>) {
        self.train = train;
        self.valid.clear();
        self.test.clear();
        self.source.clear();
    }

    /// Checks that every file is there and is the one that the recipe means. Hashes of files that
    /// others have replaced are dropped.
    ///
    /// # Errors
    /// [`RecipeError::Missing`] or [`RecipeError::Hash`] for the first file that is
    /// missing or another one.
    pub fn verify(&mut self) -> Result<(), RecipeError> {
        let used = [&self.train, &self.valid, &self.test].into_iter().flatten();
        let used: Vec<PathBuf> = used.cloned().collect();
        self.sha256.retain(|path, _| used.iter().any(|used| path.starts_with(used)));
        for path in self.train.iter().chain(&self.valid).chain(&self.test) {
            if !path.exists() {
                let (path, source_of_data) = (path.clone(), self.source.clone());
                return Err(RecipeError::Missing { path, source_of_data });
            }
        }
        for (path, expected) in &self.sha256 {
            let got = sha256(path)?;
            if got != expected.to_ascii_lowercase() {
                let (path, expected) = (path.clone(), expected.clone());
                return Err(RecipeError::Hash { path, expected, got });
            }
        }
        Ok(())
    }
}

impl ModelSettings {
    /// The configuration for a vocabulary of the given size.
    ///
    /// # Errors
    /// [`RecipeError::Preset`] for an unknown preset, [`RecipeError::Config`] for an unknown key
    /// or a refused configuration.
    pub fn config(&self, vocab_size: usize) -> Result<Config, RecipeError> {
        let mut config = match &self.config {
            Some(config) => Value::Object(config.clone()),
            None => {
                let preset: Preset = self.preset.parse()?;
                let json = preset.config(vocab_size).to_json();
                serde_json::from_str(&json).map_err(|error| ConfigError::Form(error.to_string()))?
            }
        };
        if config["format"] == FORMAT {
            let overrides = Config::upgrade_overrides(&config, self.overrides.clone());
            merge(&mut config, &overrides);
        } else {
            merge(&mut config, &self.overrides);
        }
        config["vocab_size"] = vocab_size.into();
        let config = Config::from_json(config.to_string().as_bytes())?;
        Model::check(&config)?;
        Ok(config)
    }

    /// What a person calls it.
    pub fn name(&self) -> String {
        match (&self.base, &self.config) {
            (Some(base), _) => {
                let name = base.path.file_name().unwrap_or(base.path.as_os_str());
                format!("begun with the model {}", name.to_string_lossy())
            }
            (None, Some(_)) => "a configuration of its own".into(),
            (None, None) => self.preset.clone(),
        }
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

/// SHA-256 of a file as stored, in hexadecimal.
///
/// # Errors
/// If the file cannot be read.
pub fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = fs_err::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Puts `overrides` into an object, table by table.
fn merge(config: &mut Value, overrides: &Map<String, Value>) {
    for (key, value) in overrides {
        match (value, config.get_mut(key)) {
            // A tagged table is one choice with its settings: another choice replaces it whole.
            (Value::Object(inner), Some(slot @ Value::Object(_)))
                if !inner.contains_key("type") =>
            {
                merge(slot, inner);
            }
            _ => config[key] = value.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use longhand_model::config::{Cell, LongMemory};
    use longhand_train::Budget;
    use longhand_train::settings::OptimizerSettings;

    use super::*;

    #[test]
    fn a_task_has_the_defaults_of_examples_for_keys_that_the_recipe_leaves_out() {
        let task = "[task]\ntype = 'classify'\n";
        let parse = |text: &str| Recipe::parse(text, "r.toml").unwrap().training;
        assert_eq!(parse(task), Settings::for_examples());
        assert!(matches!(parse("").optimizer, OptimizerSettings::Muon(_)));
        let given = parse(&format!("{task}[training]\nbudget = {{ epochs = 3 }}\naverage = 0.9"));
        let expected =
            Settings { budget: Budget::Epochs(3.0), average: 0.9, ..Settings::for_examples() };
        assert_eq!(given, expected);
        let error =
            Recipe::parse(&format!("{task}[training]\naverages = 1"), "r.toml").unwrap_err();
        assert!(error.to_string().contains("line 4"), "{error}");
    }

    #[test]
    fn everything_may_be_left_out_and_nothing_unknown_is_taken() {
        assert_eq!(Recipe::parse("", "r").unwrap(), Recipe::default());
        for text in [
            "datas = 1",
            "[data]\nfile = 'x'",
            "[tokenizer]\nsize = 3",
            "[tokenizer]\nkind = 'letters'",
            "[model]\npreset = 'nano'",
            "[model.overrides]\nwidths = 3",
            "[model.overrides]\nwidth = 0",
            "[training]\nbatch_size = 3",
            "[training]\nbatch = 0",
            "[training]\nbudget = { hours = 3 }",
            "[data]\nvalid_fraction = 1.5",
            "[data]\nshare = 0.0",
            "[data]\nshare = 1.5",
            "[data]\nfolds = 0\n[task]\ntype = 'classify'",
            "[data]\nfolds = 1\n[task]\ntype = 'classify'",
            "[data]\nfolds = 3\nfold = 4\n[task]\ntype = 'classify'",
            "[data]\nfolds = 3\ntest = ['a']\n[task]\ntype = 'classify'",
            "[data]\nfold = 1\n[task]\ntype = 'classify'",
            "[data]\nfolds = 3",
            "[data]\nsample_bytes = 1000000000000000",
            "[data]\nformat = 'xml'",
            "[expected]\nloss = { below = 3 }",
            "[task]\ntype = 'compose'",
            "[task]\ntype = 'classify'\nlabels = 3",
            "[task]\ntype = 'classify'\nlongest = 0",
            "[model.base]\npath = 'm'",
            "[tuning]\nmethod = 'half'",
            "[tuning]\nranks = 3",
            "[tuning]\nrank = 0",
            "[tuning]\ndropout = 1.0",
            "[data]\ntrain = ['a']\n[data.sha256]\nb = '00'",
            "[training]\nthreads = 1000000",
            "not toml",
        ] {
            let error = Recipe::parse(text, "r.toml").unwrap_err().to_string();
            assert_eq!(error.lines().count(), 1, "{text:?}: {error}");
            assert!(error.starts_with("r.toml is not a usable recipe: "), "{text:?}: {error}");
        }
        let error = Recipe::parse("\n\n[training]\nbach = 3", "r.toml").unwrap_err().to_string();
        assert!(error.contains("r.toml") && error.contains("line 4"), "{error}");
        assert!(error.contains("bach"), "{error}");
    }

    #[test]
    fn a_preset_takes_overrides_and_a_configuration_stands_alone() {
        let text = "[model]\npreset = 'lstm'\n[model.overrides]\nwidth = 32\n\
                    dropout = { input = 0.5 }\nhead = { type = 'language-model', tied = true }\n\
                    blocks = [{ long = { cell = 'lstm', hidden = 32 }, fusion = 'none', \
                    residual = false }]";
        let recipe = Recipe::parse(text, "r").unwrap();
        let config = recipe.model.config(50).unwrap();
        assert_eq!((config.vocab_size, config.width, config.blocks.len()), (50, 32, 1));
        let preset = Preset::Lstm.config(50);
        assert_eq!(config.dropout.input, 0.5);
        assert_eq!(config.dropout.block, preset.dropout.block);
        let whole = serde_json::from_str::<Map<String, Value>>(&config.to_json()).unwrap();
        let alone = ModelSettings { config: Some(whole), ..ModelSettings::default() };
        assert_eq!(alone.config(50).unwrap(), config);
    }

    #[test]
    fn overrides_may_have_the_keys_of_format_1() {
        let text = "[model]\npreset = 'lstm'\n[model.overrides]\nhead = { tied = true }\n\
                    blocks = [{ long = { cell = 'lstm', hidden = 256, heads = 1 } }]";
        let config = Recipe::parse(text, "r").unwrap().model.config(50).unwrap();
        assert_eq!(config.head(), Some(&HeadKind::LanguageModel { tied: true, bias: true }));
        assert_eq!(config.blocks[0].long, Some(LongMemory::new(Cell::Lstm, 256)));
    }

    /// Fault R4: training a classifier's head on text panicked.
    #[test]
    fn a_head_must_fit_what_is_learnt() {
        let head = "[model]\npreset = 'stacked-lstm-classifier'\n";
        let error = Recipe::parse(head, "r").unwrap().check_head().unwrap_err();
        assert!(matches!(&error, RecipeError::NoLanguageModel(name) if name.contains("stacked")));
        let with_task = format!("{head}[task]\ntype = 'classify'\n");
        Recipe::parse(&with_task, "r").unwrap().check_head().unwrap();
        Recipe::default().check_head().unwrap();
        let other = "[model.overrides]\nheads = [{ type = 'tags', tags = 3 }]";
        assert!(Recipe::parse(other, "r").unwrap().check_head().is_err());
    }

    #[test]
    fn data_is_found_under_its_folder_and_verified() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            fs_err::write(folder.path().join(name), text).unwrap();
        };
        write("abc.txt", "abc");
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let recipe = |name: &str, hash: &str| {
            let text = format!("[data]\ntrain = ['{name}']\n[data.sha256]\n'{name}' = '{hash}'\n");
            write("r.toml", &text);
            let mut recipe = Recipe::load(&folder.path().join("r.toml"), folder.path())?;
            recipe.data.verify().map(|()| recipe)
        };
        let found = recipe("abc.txt", hash).unwrap();
        assert_eq!(found.data.train, [folder.path().join("abc.txt")]);
        assert!(matches!(recipe("abc.txt", &"0".repeat(64)), Err(RecipeError::Hash { .. })));
        assert!(matches!(recipe("no.txt", hash), Err(RecipeError::Missing { .. })));
    }

    #[test]
    fn other_files_need_none_of_the_recipes() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own.txt");
        fs_err::write(&own, "abc").unwrap();
        let text = format!(
            "[data]\ntrain = ['a.txt']\nvalid = ['b.txt']\n[data.sha256]\n'a.txt' = '{}'",
            "0".repeat(64)
        );
        let mut data = Recipe::parse(&text, "r").unwrap().data;
        assert!(matches!(data.verify(), Err(RecipeError::Missing { .. })));
        data.learn_from(vec![own]);
        data.verify().unwrap();
        assert!(data.valid.is_empty() && data.sha256.is_empty());
    }

    /// The recipes that are shipped, read as they are.
    #[test]
    fn shipped_recipes_are_recipes() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
        let mut count = 0;
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = fs_err::read_to_string(&path).unwrap();
            let recipe = Recipe::parse(&text, &path.display().to_string()).unwrap();
            assert!(!recipe.description.is_empty());
            let data = &recipe.data;
            let mut files = [&data.train, &data.valid, &data.test].into_iter().flatten();
            assert!(files.all(|file| data.sha256.contains_key(file)), "{}", path.display());
            count += 1;
        }
        assert!(count >= 3);
    }
}
