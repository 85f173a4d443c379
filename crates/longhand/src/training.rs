//! `training.json`: how the model of a folder was trained, and what came of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use longhand::recipe::{Bound, Recipe};
use longhand_model::file;
use longhand_tasks::Confusion;
use longhand_train::Score;
use serde::{Deserialize, Serialize};

/// The file in a model folder.
pub(crate) const TRAINING_FILE: &str = "training.json";
/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// A run and its results.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Training {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// What was run, with every path made absolute and every flag taken in.
    pub(crate) recipe: Recipe,
    /// The text that it was run on.
    pub(crate) data: DataFacts,
    /// The result; none while it runs.
    #[serde(default)]
    pub(crate) results: Option<Results>,
}

/// What is known of a run's text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataFacts {
    /// The part trained on.
    pub(crate) train: PartFacts,
    /// The part held out.
    pub(crate) valid: Option<PartFacts>,
    /// SHA-256 of the files as stored.
    pub(crate) sha256: BTreeMap<PathBuf, String>,
}

/// What is known of a part of the text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartFacts {
    /// Tokens.
    pub(crate) tokens: u64,
    /// Bytes of text, decompressed.
    pub(crate) bytes: u64,
    /// BLAKE3 of the token ids, each as four bytes.
    pub(crate) blake3: String,
}

/// What came of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Results {
    /// Numbers in the model.
    pub(crate) parameters: usize,
    /// Steps made.
    pub(crate) steps: u64,
    /// Tokens read.
    pub(crate) tokens: u64,
    /// Seconds spent.
    pub(crate) seconds: f64,
    /// The step of the best weights.
    pub(crate) best_step: Option<u64>,
    /// Their score on the part held out.
    pub(crate) valid: Option<Score>,
    /// Their score on the recipe's test files.
    pub(crate) test: Option<Score>,
    /// What a classifier took for what there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) labels: Option<LabelCounts>,
}

/// How often each label was taken for each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LabelCounts {
    /// The labels.
    pub(crate) labels: Vec<String>,
    /// How often.
    pub(crate) counts: Confusion,
}

impl Training {
    pub(crate) fn new(recipe: Recipe, data: DataFacts) -> Self {
        Self { version: VERSION, recipe, data, results: None }
    }

    /// Reads it from a model folder.
    pub(crate) fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(TRAINING_FILE);
        let bytes = fs_err::read(&path)?;
        let training: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        if training.version != VERSION {
            let version = training.version;
            bail!("{} has version {version}; this program reads {VERSION}", path.display());
        }
        Ok(training)
    }

    /// The recipe of the run in a folder, if there is one: a run goes on as it was begun, but for
    /// what flags say.
    pub(crate) fn begun(folder: &Path) -> Result<Option<Recipe>> {
        if !folder.join(TRAINING_FILE).is_file() {
            return Ok(None);
        }
        Ok(Some(Self::load(folder)?.recipe))
    }

    /// Writes it into a model folder.
    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self)?;
        Ok(file::write(&folder.join(TRAINING_FILE), &json)?)
    }

    /// Each metric that the recipe expects something of, if it was measured, and whether it is what
    /// the recipe expects.
    pub(crate) fn expectations(&self) -> BTreeMap<String, (Option<f64>, bool)> {
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
