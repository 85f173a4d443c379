//! `training.json`: how the model of a folder was trained, and what came of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use longhand_model::file;
use longhand_tasks::Confusion;
use longhand_train::Score;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::RunError;
use crate::recipe::{Bound, Recipe};

/// The file in a model folder.
pub const TRAINING_FILE: &str = "training.json";
/// The same of a copied model: the record of the run that its original comes from.
pub const ORIGIN_FILE: &str = "origin.json";
/// The version that is written, and the only one that is read.
const VERSION: u32 = 2;

/// A run and its results.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Version of the format of this file, 2.
    pub version: u32,
    /// What was run, with every path made absolute and every flag taken in.
    pub recipe: Recipe,
    /// The text that it was run on.
    pub data: DataFacts,
    /// The result; none while it runs.
    #[serde(default)]
    pub results: Option<Results>,
}

/// What is known of a run's text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFacts {
    /// The part trained on.
    pub train: PartFacts,
    /// The part held out.
    pub valid: Option<PartFacts>,
    /// The old text that is rehearsed and measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<PartFacts>,
    /// SHA-256 of the files as stored.
    pub sha256: BTreeMap<PathBuf, String>,
}

/// What is known of a part of the text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartFacts {
    /// Number of tokens in this part.
    pub tokens: u64,
    /// Bytes of text, decompressed.
    pub bytes: u64,
    /// BLAKE3 of the token ids, each as four bytes.
    pub blake3: String,
}

/// What came of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// Numbers in the model.
    pub parameters: usize,
    /// Numbers that were trained; none in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trainable_parameters: Option<usize>,
    /// Steps made since the run began.
    pub steps: u64,
    /// Tokens read since the run began.
    pub tokens: u64,
    /// Seconds spent, evaluations included.
    pub seconds: f64,
    /// The step of the best weights.
    pub best_step: Option<u64>,
    /// Their score on the part held out.
    pub valid: Option<Score>,
    /// Their score on the recipe's test files.
    pub test: Option<Score>,
    /// The loss on old text, where the recipe names any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgetting: Option<Forgetting>,
    /// What a classifier took for what there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelCounts>,
    /// Whatever else the test tells, by key: the scores of each type of entity, or of each group of
    /// questions.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub report: Map<String, Value>,
    /// Figures of whatever was set on the held-out examples after training, by name: a threshold.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub calibration: BTreeMap<String, f64>,
    /// The results of each network alone, where several answer together. The other results are then
    /// those of the joint answers; parameters and seconds are summed over the networks, and steps,
    /// tokens and the best step are those of the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberResults>,
}

/// What came of one of several networks that answer together.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberResults {
    /// The step of its best weights.
    pub best_step: Option<u64>,
    /// Their score on the part held out.
    pub valid: Option<Score>,
    /// Their score on the recipe's test files.
    pub test: Option<Score>,
}

/// What is known of networks that answer together, besides the results of the joint answers
/// on the test files.
pub(crate) struct Joint {
    /// The results of each further network alone.
    pub(crate) further: Vec<Results>,
    /// The first network's own result on the test files.
    pub(crate) own: Option<Score>,
    /// The joint answers' result on the held-out part.
    pub(crate) valid: Option<Score>,
}

impl Results {
    /// The results of networks that answer together, of which these are the first one's, but for those
    /// on the test files.
    pub(crate) fn joined(self, joint: Joint) -> Self {
        let Joint { further, own, valid } = joint;
        let all = || [&self].into_iter().chain(&further);
        let mut members: Vec<MemberResults> = all().map(MemberResults::of).collect();
        members[0].test = own;
        Self {
            parameters: all().map(|results| results.parameters).sum(),
            trainable_parameters: all().map(|results| results.trainable_parameters).sum(),
            seconds: all().map(|results| results.seconds).sum(),
            valid,
            members,
            ..self.clone()
        }
    }
}

impl MemberResults {
    fn of(results: &Results) -> Self {
        let Results { best_step, valid, test, .. } = results.clone();
        Self { best_step, valid, test }
    }
}

/// The loss on old text before and after a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forgetting {
    /// Nats per target of the base model.
    pub before: f64,
    /// Nats per target of the tuned model.
    pub after: f64,
}

/// How often each label was taken for each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelCounts {
    /// Names of the labels, in the order of their ids.
    pub labels: Vec<String>,
    /// Number of examples by true and predicted label.
    pub counts: Confusion,
}

/// Version 1 left out an average of the weights where there was none.
fn update_from_1(json: &mut serde_json::Value) {
    json["version"] = VERSION.into();
    if let Some(settings) = json["recipe"]["training"].as_object_mut() {
        settings.entry("average").or_insert_with(|| 0.into());
    }
}

/// The file that holds the record of the run that a folder's model comes from.
fn origin_file(folder: &Path) -> Option<PathBuf> {
    let files = [TRAINING_FILE, ORIGIN_FILE].map(|name| folder.join(name));
    files.into_iter().find(|path| path.is_file())
}

impl Training {
    /// A run that has no results yet.
    pub fn new(recipe: Recipe, data: DataFacts) -> Self {
        Self { version: VERSION, recipe, data, results: None }
    }

    /// Reads it from a model folder.
    ///
    /// # Errors
    /// [`RunError::Io`] or [`RunError::TrainingFile`] for a file that is missing or damaged,
    /// [`RunError::TrainingVersion`] for one of another version.
    pub fn load(folder: &Path) -> Result<Self, RunError> {
        Self::read(folder.join(TRAINING_FILE))
    }

    /// Reads the record of the run that made a folder's model, or the model that this one is a copy
    /// of; none where there is no record.
    ///
    /// # Errors
    /// As [`Training::load`].
    pub fn origin(folder: &Path) -> Result<Option<Self>, RunError> {
        origin_file(folder).map(Self::read).transpose()
    }

    /// Keeps the record of [`Training::origin`] beside a copy of the model, if there is one.
    ///
    /// # Errors
    /// [`RunError::Io`] if it cannot be copied.
    pub fn copy_origin(from: &Path, to: &Path) -> Result<(), RunError> {
        if let Some(path) = origin_file(from) {
            fs_err::copy(path, to.join(ORIGIN_FILE))?;
        }
        Ok(())
    }

    fn read(path: PathBuf) -> Result<Self, RunError> {
        let bytes = fs_err::read(&path)?;
        let damaged = |source| RunError::TrainingFile { path: path.clone(), source };
        let mut json: serde_json::Value = serde_json::from_slice(&bytes).map_err(damaged)?;
        let version = json["version"].as_u64().unwrap_or_default();
        if version == 1 {
            update_from_1(&mut json);
        } else if version != u64::from(VERSION) {
            return Err(RunError::TrainingVersion { path, version, known: VERSION });
        }
        serde_json::from_value(json).map_err(damaged)
    }

    /// The recipe of the run in a folder, if there is a run. A resumed run keeps the recipe that it
    /// began with, except for what the caller changes.
    ///
    /// # Errors
    /// The errors of [`Training::load`] for the folder's record.
    pub fn begun(folder: &Path) -> Result<Option<Recipe>, RunError> {
        if !folder.join(TRAINING_FILE).is_file() {
            return Ok(None);
        }
        Ok(Some(Self::load(folder)?.recipe))
    }

    /// Writes it into a model folder.
    ///
    /// # Errors
    /// [`RunError::File`] if the file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), RunError> {
        let json = serde_json::to_vec_pretty(self).map_err(RunError::Record)?;
        Ok(file::write(&folder.join(TRAINING_FILE), &json)?)
    }

    /// Each metric for which the recipe expects a value: the measured value, if there is one, and
    /// whether it meets the expectation.
    pub fn expectations(&self) -> BTreeMap<String, (Option<f64>, bool)> {
        let mut metrics = BTreeMap::new();
        let Some(results) = &self.results else { return BTreeMap::new() };
        for (part, score) in [("valid", &results.valid), ("test", &results.test)] {
            let Some(score) = score else { continue };
            metrics.insert(format!("{part}.loss"), score.loss);
            let further = score.metrics.iter();
            metrics.extend(further.map(|(name, value)| (format!("{part}.{name}"), *value)));
        }
        let verdict = |(name, bound): (&String, &Bound)| {
            let value = metrics.get(name).copied();
            (name.clone(), (value, value.is_some_and(|value| bound.holds(value))))
        };
        self.recipe.expected.iter().map(verdict).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_had_no_average_where_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut training = Training::new(Recipe::default(), DataFacts::default());
        training.recipe.training.average = 0.5;
        training.save(folder.path()).unwrap();
        assert_eq!(Training::load(folder.path()).unwrap().recipe, training.recipe);

        let path = folder.path().join(TRAINING_FILE);
        let mut json: serde_json::Value =
            serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
        json["version"] = 1.into();
        fs_err::write(&path, json.to_string()).unwrap();
        assert_eq!(Training::load(folder.path()).unwrap().recipe.training.average, 0.5);
        json["recipe"]["training"].as_object_mut().unwrap().remove("average");
        fs_err::write(&path, json.to_string()).unwrap();
        assert_eq!(Training::load(folder.path()).unwrap().recipe.training.average, 0.0);
        json["version"] = 3.into();
        fs_err::write(&path, json.to_string()).unwrap();
        assert!(Training::load(folder.path()).unwrap_err().to_string().contains("version 3"));
    }
}
