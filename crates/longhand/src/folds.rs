//! Runs the folds of a recipe, and tells a person or a program how they ended together.

use std::num::NonZeroUsize;

use anyhow::Result;
use longhand::recipe::Recipe;
use longhand_run::training::Results;
use longhand_run::{FoldState, Folded, Folds, Spread};
use longhand_train::End;
use longhand_train::log::JsonLines;
use serde_json::{Map, Value, json};

use crate::interrupt::STOP;
use crate::launch::{Launch, check_met, expected_json, test_json};
use crate::progress::Display;
use crate::talk::say;

impl Launch {
    /// Runs every fold that is not complete.
    pub(crate) fn run_folds(&self, recipe: &Recipe, folds: &Folds) -> Result<()> {
        let mut results = Vec::new();
        let mut end = End::Budget;
        for number in 1..=folds.count().get() {
            let Some(place) = NonZeroUsize::new(number) else { continue };
            let training = match folds.fold(place)? {
                FoldState::Complete(training) => *training,
                FoldState::ToRun(run) => {
                    let mut display = Display::new(self.json, false);
                    let finished = run.stop(&STOP).start(&mut display);
                    display.finish();
                    let finished = finished?;
                    if finished.end == End::Stopped {
                        end = End::Stopped;
                        break;
                    }
                    finished.training
                }
            };
            let Some(result) = training.results else { continue };
            if self.json {
                let folder = folds.folder(place);
                let (test, out) = (test_json(recipe, &result), folder.to_string_lossy());
                let line = json!({ "fold": number, "test": test, "out": out });
                JsonLines::new(std::io::stdout()).write(&line)?;
            }
            results.push(result);
        }
        let folded = Folded::of(results);
        match self.json {
            true => self.tell_program(recipe, &folded, end)?,
            false => tell_person(recipe, &folded, end),
        }
        match end {
            End::Stopped => Ok(()),
            _ => check_met(folded.expectations(recipe)),
        }
    }

    /// The last line of JSON: the means are the test.
    fn tell_program(&self, recipe: &Recipe, folded: &Folded, end: End) -> Result<()> {
        let of = |value: fn(&Spread) -> Value| -> Map<String, Value> {
            let told =
                folded.metrics.iter().filter(|(name, _)| recipe.has_loss() || *name != "loss");
            told.map(|(name, spread)| (name.clone(), value(spread))).collect()
        };
        let first = folded.results.first();
        let sum = |value: fn(&Results) -> f64| folded.results.iter().map(value).sum::<f64>();
        let line = json!({
            "done": end != End::Stopped,
            "end": if end == End::Stopped { "stopped" } else { "folds" },
            "test": of(|spread| spread.mean.into()),
            "spread": of(|spread| spread.deviation.into()),
            "intervals": of(|spread| json!([spread.interval.low, spread.interval.high])),
            "folds": folded.results.iter().map(|it| test_json(recipe, it)).collect::<Vec<_>>(),
            "expected": expected_json(folded.expectations(recipe)),
            "parameters": first.map(|results| results.parameters),
            "trainable_parameters": first.and_then(|results| results.trainable_parameters),
            "seconds": sum(|results| results.seconds),
            "out": self.out.to_string_lossy(),
        });
        Ok(JsonLines::new(std::io::stdout()).write(&line)?)
    }
}

fn tell_person(recipe: &Recipe, folded: &Folded, end: End) {
    let percent = |value: f64| 100.0 * value;
    let words = recipe.task.as_ref().map(|task| task.metrics()).unwrap_or_default();
    say!("over {} folds:", folded.results.len());
    for (name, words) in words {
        let Some(Spread { mean, deviation, interval }) = folded.metrics.get(*name) else {
            continue;
        };
        let [mean, deviation, low, high] =
            [*mean, *deviation, interval.low, interval.high].map(percent);
        say!(
            "{words} {mean:.2} % (standard deviation {deviation:.2}, 95 % interval of the mean \
             {low:.2} to {high:.2})"
        );
    }
    let numbers = recipe.task.as_ref().map(|task| task.numbers()).unwrap_or_default();
    let loss = recipe.has_loss().then_some(&("loss", "loss"));
    for (name, words) in numbers.iter().chain(loss) {
        if let Some(Spread { mean, deviation, .. }) = folded.metrics.get(*name) {
            say!("{words} {mean:.4} (standard deviation {deviation:.4})");
        }
    }
    if end == End::Stopped {
        say!("stopped and saved: the same command with --resume goes on");
    }
}
