//! Runs the rounds of self-training, and tells a person or a program what they came to beside
//! supervised learning alone.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;
use longhand::recipe::Recipe;
use longhand_run::training::Results;
use longhand_run::{RoundState, Rounds, Training};
use longhand_train::log::JsonLines;
use longhand_train::{End, Score};
use serde_json::{Value, json};

use crate::interrupt::STOP;
use crate::launch::{Launch, check_met, expected_json, test_json};
use crate::progress::Display;
use crate::talk::say;

/// A round that has come to its end.
struct Done {
    /// Texts that it learnt from with labels of the round before.
    labelled: usize,
    training: Training,
    results: Results,
}

impl Launch {
    /// Runs every round, or those that are left.
    pub(crate) fn run_rounds(&self, recipe: &Recipe, rounds: &Rounds) -> Result<()> {
        let (all, end) = self.run_each(rounds)?;
        let results: Vec<Results> = all.iter().map(|done| done.results.clone()).collect();
        let number = NonZeroUsize::new(rounds.best(&results));
        let Some((number, done)) = number.and_then(|it| Some((it, all.get(it.get() - 1)?))) else {
            return self.tell_stopped();
        };
        let best = Best { number: number.get(), done, folder: rounds.folder(number) };
        let mut training = done.training.clone();
        training.recipe.expected.clone_from(&recipe.expected);
        match self.json {
            true => tell_program(&all, &best, &training, end)?,
            false => tell_person(recipe, &all, &best, end),
        }
        match end {
            End::Stopped => Ok(()),
            _ => check_met(training.expectations()),
        }
    }

    /// The rounds that came to their end, and whether the run was stopped.
    fn run_each(&self, rounds: &Rounds) -> Result<(Vec<Done>, End)> {
        let mut all: Vec<Done> = Vec::new();
        for number in (1..=rounds.count().get()).filter_map(NonZeroUsize::new) {
            let (training, labelled) = match rounds.round(number, &STOP)? {
                RoundState::Complete { training, labelled } => (*training, labelled),
                RoundState::ToRun { run, labelled } => {
                    let mut display = Display::new(self.json, false);
                    let finished = run.stop(&STOP).start(&mut display);
                    display.finish();
                    let finished = finished?;
                    if finished.end == End::Stopped {
                        return Ok((all, End::Stopped));
                    }
                    (finished.training, labelled)
                }
                RoundState::Stopped => return Ok((all, End::Stopped)),
                RoundState::NothingSure => {
                    if !self.json {
                        say!("round {} is sure of no text: the rounds end", all.len());
                    }
                    break;
                }
            };
            let Some(results) = training.results.clone() else { continue };
            let done = Done { labelled, training, results };
            if self.json {
                let mut line = done.json();
                line["round"] = number.get().into();
                line["out"] = rounds.folder(number).to_string_lossy().into();
                JsonLines::new(std::io::stdout()).write(&line)?;
            }
            all.push(done);
        }
        Ok((all, End::Budget))
    }

    /// Tells that not even the first round came to its end.
    fn tell_stopped(&self) -> Result<()> {
        if self.json {
            let line = json!({ "done": false, "end": "stopped" });
            return Ok(JsonLines::new(std::io::stdout()).write(&line)?);
        }
        say!("{STOPPED}");
        Ok(())
    }
}

/// What a person is told of rounds that were stopped.
const STOPPED: &str = "stopped and saved: the same command with --resume goes on";

/// The round whose model is the result.
struct Best<'a> {
    /// Its number, from 1.
    number: usize,
    done: &'a Done,
    folder: PathBuf,
}

impl Done {
    fn json(&self) -> Value {
        json!({
            "labelled": self.labelled,
            "valid": self.results.valid.as_ref().map(|score| &score.metrics),
            "test": test_json(&self.training.recipe, &self.results),
        })
    }
}

/// The last line of JSON: the best round is the test, and the first one supervised learning alone.
fn tell_program(all: &[Done], best: &Best<'_>, training: &Training, end: End) -> Result<()> {
    let line = json!({
        "done": end != End::Stopped,
        "end": if end == End::Stopped { "stopped" } else { "rounds" },
        "best_round": best.number,
        "best_valid_loss": best.done.results.valid.as_ref().map(|score| score.loss),
        "test": test_json(&training.recipe, &best.done.results),
        "supervised": all.first().map(Done::json),
        "rounds": all.iter().map(Done::json).collect::<Vec<_>>(),
        "expected": expected_json(training.expectations()),
        "parameters": best.done.results.parameters,
        "trainable_parameters": best.done.results.trainable_parameters,
        "seconds": all.iter().map(|done| done.results.seconds).sum::<f64>(),
        "out": best.folder.to_string_lossy(),
    });
    Ok(JsonLines::new(std::io::stdout()).write(&line)?)
}

fn tell_person(recipe: &Recipe, all: &[Done], best: &Best<'_>, end: End) {
    for (number, done) in (1..).zip(all) {
        let Done { labelled, results, .. } = done;
        let mut line = match number {
            1 => "round 1, supervised alone:".to_owned(),
            _ => format!("round {number}, {labelled} texts labelled by the one before:"),
        };
        for (part, score) in [("validation", &results.valid), ("test", &results.test)] {
            line += &score.as_ref().map_or(String::new(), |score| metrics(recipe, part, score));
        }
        say!("{}", line.trim_end_matches(','));
    }
    if end == End::Stopped {
        say!("{STOPPED}");
        return;
    }
    let dir = best.folder.display();
    say!("the best on the held-out part is round {}: try", best.number);
    say!("  longhand predict {dir} < lines.txt");
}

/// The shares that a score has, in words.
fn metrics(recipe: &Recipe, part: &str, score: &Score) -> String {
    let words = recipe.task.as_ref().map(|task| task.metrics()).unwrap_or_default();
    let share = |(name, words): &(&str, &str)| {
        let value = score.metrics.get(*name)?;
        Some(format!(" {part} {words} {:.2} %,", 100.0 * value))
    };
    words.iter().filter_map(share).collect()
}
