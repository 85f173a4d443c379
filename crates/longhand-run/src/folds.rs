//! Cross-validation: each fold of the training examples is the test of a run of its own.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use longhand_tasks::intervals::{Interval, interval_of_mean};

use crate::error::RunError;
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
    /// If the record of an earlier run cannot be read.
    pub fn fold<'a>(&self, number: NonZeroUsize) -> Result<FoldState<'a>, RunError> {
        let (mut recipe, folder) = (self.recipe.clone(), self.folder(number));
        recipe.data.fold = Some(number);
        // What is expected is the mean.
        recipe.expected.clear();
        if self.existing == Existing::Resume && output::holds_run(&folder) {
            let earlier = Training::load(&folder)?;
            if is_complete(&earlier, &recipe) {
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

/// Whether an earlier run came to its end under the same recipe. The threads may differ, and the
/// model and the tokeniser have been filled in since.
fn is_complete(earlier: &Training, recipe: &Recipe) -> bool {
    let mut training = recipe.training.clone().resolved();
    training.threads = earlier.recipe.training.threads;
    let same = earlier.recipe.data == recipe.data
        && earlier.recipe.task == recipe.task
        && earlier.recipe.members == recipe.members
        && earlier.recipe.tuning == recipe.tuning
        && earlier.recipe.training == training;
    same && earlier.results.as_ref().is_some_and(|results| results.test.is_some())
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
    use super::*;

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
