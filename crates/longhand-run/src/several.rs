//! Folders that hold several models: those of folds, and of the rounds of self-training.

use std::path::{Path, PathBuf};

use crate::error::RunError;
use crate::output::holds_run;
use crate::recipe::Recipe;
use crate::training::{Results, Training};

/// Refuses a folder whose folders hold a model each, those of folds or of rounds.
///
/// # Errors
/// [`RunError::SeveralModels`] names the folder of one: of rounds the best.
pub fn check_single(folder: &Path) -> Result<(), RunError> {
    let kinds =
        [("folds of a cross-validation", "fold-01"), ("rounds of a self-training", "round-01")];
    let found = kinds.into_iter().find(|(_, first)| holds_run(&folder.join(first)));
    let Some((what, first)) = found else { return Ok(()) };
    let one = best_round(folder).unwrap_or_else(|| folder.join(first));
    Err(RunError::SeveralModels { folder: folder.into(), what, one })
}

/// The folder of the best of the rounds in a folder that have ended, if any has.
fn best_round(out: &Path) -> Option<PathBuf> {
    let folder = |number: usize| out.join(format!("round-{number:02}"));
    let ended = (1..).map_while(|number| {
        let training = Training::load(&folder(number)).ok()?;
        Some((training.recipe, training.results?))
    });
    let (recipes, results): (Vec<Recipe>, Vec<Results>) = ended.unzip();
    Some(folder(best(recipes.first()?, &results)))
}

/// The best of some rounds, counted from 1: its held-out part has the highest value of the task's
/// first metric, and of equal ones it is the earliest. The last round where nothing is held out.
pub(crate) fn best(recipe: &Recipe, results: &[Results]) -> usize {
    let metric = recipe.task.as_ref().and_then(|task| task.metrics().first());
    let value = |results: &Results| {
        let (name, _) = metric?;
        results.valid.as_ref()?.metrics.get(*name).copied()
    };
    let mut best = (results.len(), f64::NEG_INFINITY);
    for (number, value) in (1..).zip(results.iter().map(value)) {
        if let Some(value) = value.filter(|value| *value > best.1) {
            best = (number, value);
        }
    }
    best.0
}
