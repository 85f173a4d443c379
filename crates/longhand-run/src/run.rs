//! The entry: a recipe, a folder, and how to deal with what the folder holds.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use longhand_tasks::{BaselineError, TaskError};

use crate::baseline::BaselineRun;
use crate::error::RunError;
use crate::execute::Place;
use crate::finished::Finished;
use crate::ngram;
use crate::output::Existing;
use crate::pretrain;
use crate::recipe::{Recipe, SelfTraining};
use crate::tasks::TaskRun;
use crate::watch::Watch;

/// The name of the task that a recipe without one has.
const LANGUAGE: &str = "language modelling";

/// A run that has not started.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    recipe: Recipe,
    out: PathBuf,
    existing: Existing,
    stop: Option<&'a AtomicBool>,
}

impl<'a> Run<'a> {
    /// A run of a recipe into a folder, which must be empty or absent.
    pub fn new(recipe: Recipe, out: impl Into<PathBuf>) -> Self {
        Self { recipe, out: out.into(), existing: Existing::Refuse, stop: None }
    }

    /// Says how to deal with what the folder holds ([`Existing::Refuse`]).
    pub fn existing(mut self, existing: Existing) -> Self {
        self.existing = existing;
        self
    }

    /// Sets a flag that ends the run in order: its model is saved, and it can be resumed.
    pub fn stop(mut self, stop: &'a AtomicBool) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Trains the model and writes its folder. A recipe with folds or self-training is several runs,
    /// see [`crate::Folds`] and [`crate::Rounds`].
    ///
    /// # Errors
    /// A recipe, text or folder that cannot be used, and any failure of training. A run that cannot
    /// begin leaves the folder's earlier model in place.
    pub fn start(self, watch: &mut dyn Watch) -> Result<Finished, RunError> {
        let Self { mut recipe, out, existing, stop } = self;
        if let Some(path) = recipe.paths().find(|path| path.to_str().is_none()) {
            return Err(RunError::NotUnicode(path.into()));
        }
        if let (Some(folds), None) = (recipe.data.folds, recipe.data.fold) {
            return Err(RunError::SeveralFolds(folds.get()));
        }
        if let Some(SelfTraining { rounds, round: None, .. }) = &recipe.self_training {
            return Err(RunError::SeveralRounds(rounds.get()));
        }
        recipe.check_members().map_err(RunError::Members)?;
        recipe.training = recipe.training.resolved();
        let never = AtomicBool::new(false);
        let place = Place { out: &out, existing, stop: stop.unwrap_or(&never) };
        let cpu = recipe.training.cpu();
        let place = &place;
        if let Some(settings) = recipe.ngram.clone() {
            return ngram::run(recipe, &settings, place, &cpu, watch);
        }
        match (recipe.task.clone(), recipe.baseline.clone()) {
            (Some(task), Some(settings)) => {
                task.visit(BaselineRun { recipe, settings, place, cpu: &cpu, watch })
            }
            (Some(task), None) => task.visit(TaskRun { recipe, place, cpu: &cpu, watch }),
            (None, Some(_)) => Err(TaskError::from(BaselineError::Task(LANGUAGE)).into()),
            (None, None) => pretrain::run(recipe, place, &cpu, watch),
        }
    }
}
