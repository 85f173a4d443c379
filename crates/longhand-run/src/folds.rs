//! Cross-validation: each fold of the training examples is the test of a run of its own.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use longhand_tasks::intervals::{Interval, interval_of_mean};

use crate::error::RunError;
use crate::execute::changed;
use crate::output::{self, Existing};
use crate::recipe::{Bound, Recipe};
use crate::run::Run;
use crate::training::{Results, Training};

/// The runs of a recipe with folds, in the folders `fold-01`, `fold-02` … of one folder.
#[derive(Clone, Debug)]
pub struct Folds {
    recipe: Recipe,
    out: PathBuf,
    existing: Existing,
    count: NonZeroUsize,
}

/// A fold before its run.
pub enum FoldState<'a> {
    /// Its run is complete, and is not repeated.
    Complete(Box<Training>),
    /// Its run is to be started, or resumed.
    ToRun(Box<Run<'a>>),
}

/// The results of several folds.
#[derive(Clone, Debug)]
pub struct Folded {
    /// The results of each fold, in order.
    pub results: Vec<Results>,
    /// Each metric of the tests, and their loss as `loss`.
    pub metrics: BTreeMap<String, Spread>,
}

/// A metric over several runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The mean of the runs.
    pub mean: f64,
    /// The standard deviation of a run, from n − 1 degrees of freedom; 0 for a single run.
    pub deviation: f64,
    /// The 95 % interval of the mean, by Student's t.
    pub interval: Interval,
}

impl Folds {
    /// The folds of a recipe in a folder; none where the recipe has no folds, or names one.
    ///
    /// # Errors
    /// A recipe whose folds cannot be; a folder that holds anything else.
    pub fn new(
        recipe: &Recipe,
        out: impl Into<PathBuf>,
        existing: Existing,
    ) -> Result<Option<Self>, RunError> {
        recipe.check_folds().map_err(RunError::Folds)?;
        let (Some(count), None) = (recipe.data.folds, recipe.data.fold) else { return Ok(None) };
        let (recipe, out) = (recipe.clone(), out.into());
        output::prepare_several(&out, existing)?;
        Ok(Some(Self { recipe, out, existing, count }))
    }

    /// The number of folds.
    pub fn count(&self) -> NonZeroUsize {
        self.count
    }

    /// The folder of a fold, counted from 1.
    pub fn folder(&self, number: NonZeroUsize) -> PathBuf {
        self.out.join(format!("fold-{number:02}"))
    }

    /// The run of a fold, counted from 1.
    ///
    /// # Errors
    /// If the record of an earlier run cannot be read, or that run was begun with another model, task
    /// or way to learn it.
    pub fn fold<'a>(&self, number: NonZeroUsize) -> Result<FoldState<'a>, RunError> {
        let (mut recipe, folder) = (self.recipe.clone(), self.folder(number));
        recipe.data.fold = Some(number);
        // What is expected is the mean.
        recipe.expected.clear();
        if self.existing == Existing::Resume && output::holds_run(&folder) {
            let earlier = Training::load(&folder)?;
            if is_complete(&earlier, &recipe)? {
                return Ok(FoldState::Complete(Box::new(earlier)));
            }
        }
        Ok(FoldState::ToRun(Box::new(Run::new(recipe, folder).existing(self.existing))))
    }

    /// The recipe of the cross-validation in a folder, if there is one.
    ///
    /// # Errors
    /// If the record of its first fold cannot be read.
    pub fn begun(out: &Path) -> Result<Option<Recipe>, RunError> {
        let recipe = Training::begun(&out.join("fold-01"))?;
        Ok(recipe.map(|mut recipe| {
            recipe.data.fold = None;
            recipe
        }))
    }
}

/// Whether an earlier run came to its end under the same recipe, but for the threads. The results of a
/// network that was stopped lack the test; a baseline's are those of a whole run.
///
/// # Errors
/// [`RunError::Changed`] for a recipe that the run cannot go on with.
pub(crate) fn is_complete(earlier: &Training, recipe: &Recipe) -> Result<bool, RunError> {
    if let Some(what) = changed(&earlier.recipe, &filled(recipe, &earlier.recipe)) {
        return Err(RunError::Changed { what });
    }
    let mut training = recipe.training.clone().resolved();
    training.threads = earlier.recipe.training.threads;
    let same = earlier.recipe.data == recipe.data
        && earlier.recipe.members == recipe.members
        && earlier.recipe.training == training;
    let has_ended = |results: &Results| results.test.is_some() || recipe.baseline.is_some();
    Ok(same && earlier.results.as_ref().is_some_and(has_ended))
}

/// A recipe with what a run fills in where the recipe leaves it open, taken from an earlier one.
fn filled(recipe: &Recipe, earlier: &Recipe) -> Recipe {
    let mut recipe = recipe.clone();
    // A base model brings its tokeniser.
    if recipe.tokenizer.may_change || recipe.model.base.is_some() {
        recipe.tokenizer = earlier.tokenizer;
    }
    if let (Some(base), Some(earlier_base)) = (&mut recipe.model.base, &earlier.model.base) {
        if base.hash.is_empty() {
            base.hash.clone_from(&earlier_base.hash);
        }
        if recipe.model.config.is_none() {
            recipe.model.config.clone_from(&earlier.model.config);
        }
    }
    if let (Some(vectors), Some(earlier)) = (&mut recipe.model.vectors, &earlier.model.vectors)
        && vectors.sha256.is_empty()
    {
        vectors.sha256.clone_from(&earlier.sha256);
    }
    recipe
}

impl Folded {
    /// The metrics over the folds that have come to their end.
    pub fn of(results: Vec<Results>) -> Self {
        let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for test in results.iter().filter_map(|results| results.test.as_ref()) {
            values.entry("loss".into()).or_default().push(test.loss);
            for (name, value) in &test.metrics {
                values.entry(name.clone()).or_default().push(*value);
            }
        }
        let metrics = values.into_iter().map(|(name, values)| (name, Spread::of(&values)));
        Self { metrics: metrics.collect(), results }
    }

    /// Each metric for which the recipe expects a value: the mean, if there is one, and whether it
    /// meets the expectation. Only metrics of the test have a mean.
    pub fn expectations(&self, recipe: &Recipe) -> BTreeMap<String, (Option<f64>, bool)> {
        let verdict = |(name, bound): (&String, &Bound)| {
            let metric = name.strip_prefix("test.").and_then(|name| self.metrics.get(name));
            let value = metric.map(|spread| spread.mean);
            (name.clone(), (value, value.is_some_and(|value| bound.holds(value))))
        };
        recipe.expected.iter().map(verdict).collect()
    }
}

impl Spread {
    /// The spread of values.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (squares / (count - 1.0).max(1.0)).sqrt();
        Self { mean, deviation, interval: interval_of_mean(mean, deviation, values.len()) }
    }
}

#[cfg(test)]
mod tests {
    use longhand_tasks::{BaselineSettings, TaskSettings};
    use longhand_text::TokenizerKind;
    use longhand_train::Score;

    use super::*;
    use crate::objective::Pretraining;
    use crate::recipe::BaseModel;
    use crate::training::DataFacts;

    /// The record of a run, with results of a test if it came to its end.
    fn record(recipe: &Recipe, test: Option<Score>) -> Training {
        let mut recipe = recipe.clone();
        recipe.training = recipe.training.resolved();
        let results = Results {
            parameters: 1,
            trainable_parameters: None,
            steps: 1,
            tokens: 1,
            seconds: 1.0,
            best_step: None,
            valid: None,
            test,
            forgetting: None,
            labels: None,
            report: serde_json::Map::new(),
            calibration: BTreeMap::new(),
            members: Vec::new(),
        };
        Training { results: Some(results), ..Training::new(recipe, DataFacts::default()) }
    }

    #[test]
    fn a_run_is_complete_under_its_own_recipe_alone() {
        let recipe = Recipe { task: TaskSettings::named("classify"), ..Recipe::default() };
        let whole = record(&recipe, Some(Score::of(1.0)));
        assert!(is_complete(&whole, &recipe).unwrap());
        assert!(!is_complete(&record(&recipe, None), &recipe).unwrap(), "it was stopped");
        let mut threads = recipe.clone();
        threads.training.threads = 7;
        assert!(is_complete(&whole, &threads).unwrap());
        // Whether it can go on with other data, the run itself finds out.
        let mut data = recipe.clone();
        data.data.valid_fraction = 0.5;
        assert!(!is_complete(&whole, &data).unwrap());

        let refused = |now: Recipe| is_complete(&whole, &now).unwrap_err().to_string();
        let baseline = BaselineSettings::named("nb-lr");
        let beside = Recipe { ensemble: baseline.clone(), ..recipe.clone() };
        assert!(refused(beside).contains("another ensemble"));
        let alone = Recipe { baseline, ..recipe.clone() };
        assert!(is_complete(&record(&alone, None), &alone).unwrap(), "nothing was tested");
        assert!(refused(alone).contains("another baseline"));
        let mut other = recipe.clone();
        other.model.preset = "lstm".into();
        assert!(refused(other).contains("another model"));
        let pretrained = Recipe { pretraining: Some(Pretraining::default()), ..recipe.clone() };
        assert!(refused(pretrained).contains("another pretraining"));
    }

    #[test]
    fn what_a_run_fills_in_is_no_change() {
        let base = |hash: &str| Some(BaseModel { path: "base".into(), hash: hash.into() });
        let mut recipe = Recipe { task: TaskSettings::named("classify"), ..Recipe::default() };
        recipe.model.base = base("");
        let mut run = recipe.clone();
        run.model.base = base("abc");
        run.model.config = Some(serde_json::Map::new());
        run.tokenizer.vocabulary = Some(300);
        let run = record(&run, Some(Score::of(1.0)));
        assert!(is_complete(&run, &recipe).unwrap());
        recipe.model.base = base("abd");
        assert!(is_complete(&run, &recipe).is_err());

        let mut open = Recipe { task: TaskSettings::named("classify"), ..Recipe::default() };
        open.tokenizer.may_change = true;
        let mut run = open.clone();
        (run.tokenizer.kind, run.tokenizer.may_change) = (TokenizerKind::Word, false);
        assert!(is_complete(&record(&run, Some(Score::of(1.0))), &open).unwrap());
    }

    #[test]
    fn the_spread_is_that_of_the_definitions() {
        // scipy.stats.t.interval(0.95, 3, loc=mean, scale=sem).
        let spread = Spread::of(&[0.78, 0.80, 0.79, 0.83]);
        assert!((spread.mean - 0.8).abs() < 1e-12);
        assert!((spread.deviation - 0.021602468994692865).abs() < 1e-12);
        let half = 3.182446305284263 * 0.021602468994692865 / 2.0;
        assert!((spread.interval.low - (0.8 - half)).abs() < 1e-6, "{spread:?}");
        assert!((spread.interval.high - (0.8 + half)).abs() < 1e-6, "{spread:?}");
        let one = Spread::of(&[0.5]);
        assert_eq!((one.mean, one.deviation), (0.5, 0.0));
        assert_eq!(one.interval, Interval { low: 0.5, high: 0.5 });
    }
}
