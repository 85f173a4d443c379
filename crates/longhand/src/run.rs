//! What every run does around what it learns: from a model that has not begun to a folder with a
//! trained one, and what programs are told of it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use longhand_model::{Cpu, Model, file};
use longhand_text::{TOKENIZER_FILE, Tokenizer};
use longhand_train::log::JsonLines;
use longhand_train::record::WriteSample;
use longhand_train::{Checkpoints, End, Objective, Outcome, RunLog, Score, Trainer};
use serde_json::json;

use crate::card::{CARD_FILE, card};
use crate::interrupt::stop_flag;
use crate::output::{self, CHECKPOINTS_FOLDER, LOGS_FOLDER};
use crate::progress::Display;
use crate::talk::say;
use crate::training::{LabelCounts, Results, Training};

/// A run that is ready to begin, or to go on.
pub(crate) struct Run<'a> {
    /// What is run.
    pub(crate) training: Training,
    /// The model's tokeniser.
    pub(crate) tokenizer: &'a Tokenizer,
    /// What a model folder holds beside the model and its tokeniser: names and contents.
    pub(crate) files: Vec<(&'static str, Vec<u8>)>,
    /// What a person is told before it begins.
    pub(crate) introduction: String,
    /// Writes a sample text at each evaluation, for the logs.
    pub(crate) write_sample: Option<WriteSample>,
    /// The folder to write.
    pub(crate) out: &'a Path,
    /// Whether a run lies there that is to be gone on with.
    pub(crate) begun: bool,
    /// JSON lines on stdout, and nothing on stderr.
    pub(crate) json: bool,
}

/// The result on a recipe's test files.
pub(crate) struct Test {
    pub(crate) score: Score,
    /// Which labels were taken for which, where that is what was tested.
    pub(crate) labels: Option<LabelCounts>,
}

/// A run that has ended.
pub(crate) struct Ended {
    /// What was run, with its results.
    pub(crate) training: Training,
    /// The model with the best weights.
    pub(crate) model: Model,
    /// Why it ended.
    pub(crate) end: End,
}

impl Run<'_> {
    /// Trains, writes the model folder, and tells programs. `test` scores the model on the
    /// recipe's test files.
    pub(crate) fn train<O: Objective>(
        mut self,
        model: Model,
        objective: O,
        cpu: &Arc<Cpu>,
        test: impl FnOnce(&Model) -> Result<Option<Test>>,
    ) -> Result<Ended> {
        let out = self.out;
        if self.begun {
            let earlier = Training::load(out)?;
            same_run(&earlier, &self.training)?;
            self.training.data = earlier.data;
        }
        let settings = self.training.recipe.training.clone();
        let mut checkpoints = Checkpoints::new(&out.join(CHECKPOINTS_FOLDER), settings.keep)
            .with_file(TOKENIZER_FILE, self.tokenizer.to_json()?.into_bytes());
        for (name, content) in &self.files {
            checkpoints = checkpoints.with_file(name, content.clone());
        }
        let mut trainer =
            Trainer::new(settings, model, objective, cpu.clone())?.with_checkpoints(checkpoints);
        // Not before: what is refused leaves the run as it was.
        if self.begun {
            trainer.resume()?;
        } else {
            output::clear(out)?;
        }
        self.tokenizer.save(&out.join(TOKENIZER_FILE))?;
        self.training.save(out)?;
        if !self.json {
            say!("{}", self.introduction);
        }
        let log = RunLog::open(&out.join(LOGS_FOLDER), self.write_sample.take())?;
        let predicts_text = self.training.recipe.task.is_none();
        let mut watchers = (log, Display::new(self.json, predicts_text));
        let outcome = trainer.run(&mut watchers, stop_flag(|| {})?);
        watchers.1.finish();
        let Outcome { model, best, steps, tokens, seconds, end } = outcome?;
        let test = if end == End::Stopped { None } else { test(&model)? };
        if test.as_ref().is_some_and(|test| !test.score.loss.is_finite()) {
            bail!("the loss on the test files is not finite: lower the learning rate");
        }
        let (test, labels) = test.map(|test| (test.score, test.labels)).unzip();
        model.save(out)?;
        self.training.results = Some(Results {
            parameters: model.weights.count(),
            steps,
            tokens,
            seconds,
            best_step: best.as_ref().map(|best| best.step),
            valid: best.map(|best| best.score),
            test,
            labels: labels.flatten(),
        });
        self.training.save(out)?;
        for (name, content) in &self.files {
            file::write(&out.join(name), content)?;
        }
        let name = out.file_name().unwrap_or_default().to_string_lossy();
        file::write(&out.join(CARD_FILE), card(&name, &self.training).as_bytes())?;
        if self.json {
            tell_program(&self.training, end, out)?;
        }
        Ok(Ended { training: self.training, model, end })
    }
}

/// What a person is told of every run: whether the recipe's expectations are met, and how it ended.
pub(crate) fn tell_end(training: &Training, end: End) {
    for (name, (value, met)) in training.expectations() {
        match value {
            Some(value) if met => say!("{name} is {value:.4}: as the recipe expects"),
            Some(value) => say!("{name} is {value:.4}: worse than the recipe expects"),
            None => say!("{name} is expected by the recipe, but was not measured"),
        }
    }
    match end {
        End::Budget => {}
        End::Patience => say!("ended early: the validation loss no longer fell"),
        End::Stopped => say!("stopped and saved: the same command with --resume goes on"),
    }
}

/// The last line of JSON.
fn tell_program(training: &Training, end: End, out: &Path) -> Result<()> {
    let Some(results) = &training.results else { return Ok(()) };
    let test = results.test.as_ref().map(|score| {
        let mut test = json!({ "loss": score.loss });
        for (name, value) in &score.metrics {
            test[name] = json!(value);
        }
        if let Some(LabelCounts { labels, counts }) = &results.labels {
            test["labels"] = json!(labels);
            test["confusion"] = json!(counts);
        }
        test
    });
    let expected = training.expectations();
    let expected: serde_json::Map<_, _> = expected
        .into_iter()
        .map(|(name, (value, met))| (name, json!({ "value": value, "met": met })))
        .collect();
    let line = json!({
        "done": end != End::Stopped,
        "end": match end {
            End::Budget => "budget",
            End::Patience => "patience",
            End::Stopped => "stopped",
        },
        "best_valid_loss": results.valid.as_ref().map(|score| score.loss),
        "best_step": results.best_step,
        "test": test,
        "expected": expected,
        "parameters": results.parameters,
        "step": results.steps,
        "tokens": results.tokens,
        "seconds": results.seconds,
        "out": out,
    });
    Ok(JsonLines::new(std::io::stdout()).write(&line)?)
}

/// Refuses to go on with other data or another model.
fn same_run(begun: &Training, now: &Training) -> Result<()> {
    for (what, same) in [
        ("training text", begun.data.train.blake3 == now.data.train.blake3),
        (
            "validation text",
            begun.data.valid.as_ref().map(|part| &part.blake3)
                == now.data.valid.as_ref().map(|part| &part.blake3),
        ),
        ("tokeniser", begun.recipe.tokenizer == now.recipe.tokenizer),
        ("model", begun.recipe.model == now.recipe.model),
        ("task", begun.recipe.task == now.recipe.task),
    ] {
        if !same {
            bail!(
                "the run was begun with another {what}: leave it as it was, or start anew in \
                 another folder"
            );
        }
    }
    Ok(())
}
