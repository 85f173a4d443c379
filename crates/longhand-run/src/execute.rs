//! The part that every run shares: from an untrained model to a folder with a trained one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use longhand_model::adapter::Base;
use longhand_model::{Cpu, Model, file};
use longhand_text::{TOKENIZER_FILE, Tokenizer};
use longhand_train::log::LogError;
use longhand_train::record::WriteSample;
use longhand_train::saved::SavedWeights;
use longhand_train::{
    Checkpoints, End, Event, Objective, Outcome, Progress, Rehearsal, RunLog, Score, TrainError,
    Trainer,
};
use serde_json::{Map, Value};

use crate::card::{CARD_FILE, card};
use crate::error::RunError;
use crate::members;
use crate::output::{self, CHECKPOINTS_FOLDER, Existing, LOGS_FOLDER};
use crate::recipe::Recipe;
use crate::rehearsal::Old;
use crate::training::{Forgetting, Joint, LabelCounts, Results, Training};
use crate::tuning::Tuned;
use crate::watch::{DataSize, Introduction, Preparation, Watch};

/// The folder of a run, and the flag that ends it.
pub(crate) struct Place<'a> {
    /// The folder to write.
    pub(crate) out: &'a Path,
    /// How to deal with what the folder holds.
    pub(crate) existing: Existing,
    /// Ends the run in order once it is set.
    pub(crate) stop: &'a AtomicBool,
}

/// A run that is ready to begin, or to resume.
pub(crate) struct Prepared<'a> {
    /// The run's recipe and data.
    pub(crate) training: Training,
    /// The tokeniser that the model reads by.
    pub(crate) tokenizer: &'a Tokenizer,
    /// The settings that the trainer uses, and the base of an adapter.
    pub(crate) tuned: Tuned,
    /// What the base model must not forget (nothing).
    pub(crate) old: Option<Old<'a>>,
    /// Names and contents of further files of the model folder.
    pub(crate) files: Vec<(&'static str, Vec<u8>)>,
    /// Size of the data, for whoever watches.
    pub(crate) data: DataSize<'a>,
    /// Writes a sample text at each evaluation, for the logs.
    pub(crate) write_sample: Option<WriteSample>,
    /// The folder to write.
    pub(crate) place: &'a Place<'a>,
    /// Whether the folder holds a run to resume.
    pub(crate) begun: bool,
    /// When the work on the data began: it is part of a time budget.
    pub(crate) since: Instant,
}

/// The work behind training, which ends with the result on a recipe's test files.
#[derive(Default)]
pub(crate) struct Test {
    /// The result, if the recipe names test files.
    pub(crate) score: Option<Score>,
    /// Figures of whatever was set on the held-out examples, by name.
    pub(crate) calibration: BTreeMap<String, f64>,
    /// Files of the model folder that replace those of the same name.
    pub(crate) files: Vec<(&'static str, Vec<u8>)>,
    /// What is known of the networks that answer together, where several do.
    pub(crate) joint: Option<Joint>,
    /// How often each label was taken for each, where the task is classification.
    pub(crate) labels: Option<LabelCounts>,
    /// Whatever else the test tells, by key.
    pub(crate) report: Map<String, Value>,
    /// The loss on old text.
    pub(crate) forgetting: Option<Forgetting>,
}

/// A run that has ended.
pub(crate) struct Ended {
    /// The run, with its results.
    pub(crate) training: Training,
    /// The model with the best weights.
    pub(crate) model: Model,
    /// The reason why the run ended.
    pub(crate) end: End,
}

/// The run's own logs, and whoever watches.
struct Watchers<'a> {
    log: RunLog,
    watch: &'a mut dyn Watch,
}

impl Progress for Watchers<'_> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), LogError> {
        self.log.event(event)?;
        self.watch.event(event)
    }
}

impl Prepared<'_> {
    /// Trains, and writes the model folder. `test` scores the model on the recipe's test files.
    pub(crate) fn train<O: Objective>(
        mut self,
        model: Model,
        objective: O,
        cpu: &Arc<Cpu>,
        watch: &mut dyn Watch,
        test: impl FnOnce(&Model) -> Result<Option<Test>, RunError>,
    ) -> Result<Ended, RunError> {
        let Some(old) = self.old.take() else {
            return self.run(model, objective, cpu, watch, test);
        };
        let stop = self.place.stop;
        self.training.data.old = Some(old.facts().clone());
        let test = |model: &Model| {
            let test = test(model)?.unwrap_or_default();
            Ok(Some(Test { forgetting: Some(old.measure(model, cpu, stop)?), ..test }))
        };
        match old.objective()? {
            Some(rehearsed) => {
                let objective = Rehearsal::new(objective, rehearsed, old.weight);
                self.run(model, objective, cpu, watch, test)
            }
            None => self.run(model, objective, cpu, watch, test),
        }
    }

    fn run<O: Objective>(
        mut self,
        model: Model,
        objective: O,
        cpu: &Arc<Cpu>,
        watch: &mut dyn Watch,
        test: impl FnOnce(&Model) -> Result<Option<Test>, RunError>,
    ) -> Result<Ended, RunError> {
        let Place { out, stop, .. } = *self.place;
        if self.begun {
            let earlier = Training::load(out)?;
            same_run(&earlier, &self.training)?;
            self.training.data = earlier.data;
        }
        let parameters = model.weights.count();
        let mut trainer = self.trainer(model, objective, cpu)?;
        // Not before: what is refused leaves the run as it was.
        if self.begun {
            trainer.resume()?;
        } else {
            output::clear(out)?;
            let recipe = &self.training.recipe;
            if recipe.pretraining.is_none() && members::further(recipe).is_empty() {
                output::clear_inner(out)?;
            }
        }
        self.tokenizer.save(&out.join(TOKENIZER_FILE))?;
        self.training.save(out)?;
        watch.prepare(&Preparation::Begins(Introduction {
            recipe: &self.training.recipe,
            parameters,
            threads: cpu.threads(),
            precision: cpu.precision(),
            data: self.data,
        }));
        let log = RunLog::open(&out.join(LOGS_FOLDER), self.write_sample.take())?;
        let trainer = trainer.with_preparation(self.since.elapsed().as_secs_f64());
        let mut outcome = trainer.run(&mut Watchers { log, watch }, stop)?;
        let test = match outcome.end {
            End::Stopped => None,
            _ => match test(&outcome.model) {
                Err(RunError::Train(TrainError::Stopped)) => {
                    outcome.end = End::Stopped;
                    None
                }
                test => test?,
            },
        };
        finish(self.training, self.files, self.tuned.base.as_ref(), outcome, test, out)
    }

    /// The trainer of a model, with checkpoints in the run's folder.
    fn trainer<O: Objective>(
        &self,
        model: Model,
        objective: O,
        cpu: &Arc<Cpu>,
    ) -> Result<Trainer<O>, RunError> {
        let settings = self.tuned.settings.clone();
        let folder = self.place.out.join(CHECKPOINTS_FOLDER);
        let mut checkpoints = Checkpoints::new(&folder, settings.keep)
            .with_file(TOKENIZER_FILE, self.tokenizer.to_json()?.into_bytes());
        for (name, content) in &self.files {
            checkpoints = checkpoints.with_file(name, content.clone());
        }
        if let Some(base) = &self.tuned.base {
            checkpoints = checkpoints.with_base(base.clone());
        }
        let trainer = Trainer::new(settings, model, objective, cpu.clone())?;
        Ok(trainer.with_checkpoints(checkpoints))
    }
}

/// Writes the model, or its adapter, and the record of how it was trained.
fn finish(
    mut training: Training,
    files: Vec<(&'static str, Vec<u8>)>,
    base: Option<&Base>,
    outcome: Outcome,
    test: Option<Test>,
    out: &Path,
) -> Result<Ended, RunError> {
    let Outcome { model, trained, best, steps, tokens, seconds, end } = outcome;
    let Test { score: test, calibration, files: replaced, joint, labels, report, forgetting } =
        test.unwrap_or_default();
    if test.as_ref().is_some_and(|score| !score.loss.is_finite()) {
        return Err(RunError::TestNotFinite);
    }
    SavedWeights::write(&model, base, out)?;
    let results = Results {
        parameters: model.weights.count(),
        trainable_parameters: Some(trained),
        steps,
        tokens,
        seconds,
        best_step: best.as_ref().map(|best| best.step),
        valid: best.map(|best| best.score),
        test,
        forgetting,
        labels,
        report,
        calibration,
        members: Vec::new(),
    };
    training.results = Some(match joint {
        Some(joint) => results.joined(joint),
        None => results,
    });
    training.save(out)?;
    // Of two files of one name the later one stays.
    for (name, content) in files.iter().chain(&replaced) {
        file::write(&out.join(name), content)?;
    }
    file::write(&out.join(CARD_FILE), card(&folder_name(out), &training).as_bytes())?;
    Ok(Ended { training, model, end })
}

/// The folder's own name, also where the path ends in `.` or `..`.
pub(crate) fn folder_name(out: &Path) -> String {
    let absolute = fs_err::canonicalize(out).unwrap_or_else(|_| out.into());
    absolute.file_name().unwrap_or(out.as_os_str()).to_string_lossy().into_owned()
}

/// Refuses to go on with other data or another model.
fn same_run(begun: &Training, now: &Training) -> Result<(), RunError> {
    for (what, same) in [
        ("training text", begun.data.train.blake3 == now.data.train.blake3),
        (
            "validation text",
            begun.data.valid.as_ref().map(|part| &part.blake3)
                == now.data.valid.as_ref().map(|part| &part.blake3),
        ),
        ("old text", begun.data.old == now.data.old),
    ] {
        if !same {
            return Err(RunError::Changed { what });
        }
    }
    match changed(&begun.recipe, &now.recipe) {
        Some(what) => Err(RunError::Changed { what }),
        None => Ok(()),
    }
}

/// What of a recipe is another one than a run was begun with, though no run may change it.
pub(crate) fn changed(begun: &Recipe, now: &Recipe) -> Option<&'static str> {
    let parts = [
        ("rehearsal", begun.rehearsal == now.rehearsal),
        ("tokeniser", begun.tokenizer == now.tokenizer),
        ("model", begun.model == now.model),
        ("objective", begun.objective == now.objective),
        ("pretraining", begun.pretraining == now.pretraining),
        ("self-training", begun.self_training == now.self_training),
        ("way of tuning", begun.tuning == now.tuning),
        ("task", begun.task == now.task),
        ("baseline", begun.baseline == now.baseline),
        ("ensemble", begun.ensemble == now.ensemble),
        ("network", begun.member == now.member),
    ];
    parts.into_iter().find_map(|(what, same)| (!same).then_some(what))
}
