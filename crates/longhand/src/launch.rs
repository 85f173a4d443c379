//! Runs a recipe, and tells a person or a program how it ended.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use longhand::recipe::Recipe;
use longhand_run::training::{LabelCounts, MemberResults, Results};
use longhand_run::{Existing, Finished, Folds, Forgetting, Rounds, Run, Training};
use longhand_tasks::TaskSettings;
use longhand_train::log::JsonLines;
use longhand_train::{End, Score};
use serde_json::{Map, Value, json};

use crate::interrupt::STOP;
use crate::progress::Display;
use crate::screen::Screen;
use crate::talk::say;

/// Tokens that are written when a run has ended.
const SAMPLE_AT_THE_END: usize = 400;

/// Where a run is written, and how it is told.
pub(crate) struct Launch {
    pub(crate) out: PathBuf,
    pub(crate) existing: Existing,
    /// JSON lines on stdout, and nothing on stderr.
    pub(crate) json: bool,
}

impl Launch {
    /// Runs a recipe to its end.
    pub(crate) fn run(&self, recipe: Recipe) -> Result<()> {
        if let Some(rounds) = Rounds::new(&recipe, &self.out, self.existing)? {
            return self.run_rounds(&recipe, &rounds);
        }
        if let Some(folds) = Folds::new(&recipe, &self.out, self.existing)? {
            return self.run_folds(&recipe, &folds);
        }
        let mut display = Display::new(self.json, recipe.task.is_none());
        let run = Run::new(recipe, &self.out).existing(self.existing).stop(&STOP);
        let finished = run.start(&mut display);
        display.finish();
        let finished = finished?;
        if self.json {
            tell_program(&finished, &self.out)?;
            return check_expectations(&finished);
        }
        if finished.end != End::Stopped
            && let Some(text) = finished.sample(SAMPLE_AT_THE_END, &STOP)?
        {
            writeln!(Screen::stdout(), "{text}")?;
        }
        tell_person(&finished, &self.out);
        check_expectations(&finished)
    }
}

/// Fails where a run that came to its end is worse than its recipe expects. The model is saved.
fn check_expectations(finished: &Finished) -> Result<()> {
    match finished.end {
        End::Stopped => Ok(()),
        _ => check_met(finished.training.expectations()),
    }
}

/// Fails for the first expectation that is not met.
pub(crate) fn check_met(expectations: BTreeMap<String, (Option<f64>, bool)>) -> Result<()> {
    match expectations.into_iter().find(|(_, (_, met))| !met) {
        Some((name, (value, _))) => Err(Unmet { name, value }.into()),
        None => Ok(()),
    }
}

/// A metric that is not what the recipe expects.
#[derive(Debug, thiserror::Error)]
#[error("the result is not what the recipe expects: {name} {}", match value {
    Some(value) => format!("is {value:.4}"),
    None => "was not measured".into(),
})]
struct Unmet {
    name: String,
    value: Option<f64>,
}

fn tell_person(finished: &Finished, out: &Path) {
    let Finished { training, end, .. } = finished;
    let Some(results) = &training.results else { return };
    if let Some(LabelCounts { labels, counts }) = &results.labels {
        say!("{}", counts.table(labels));
    }
    for (part, score) in [("validation", &results.valid), ("test", &results.test)] {
        let Some(score) = score else { continue };
        let Score { loss, .. } = score;
        if let Some(task) = &training.recipe.task {
            let has_loss = training.recipe.has_loss();
            let mut told = Vec::from_iter(has_loss.then(|| format!("loss {loss:.4}")));
            for (name, words) in task.metrics() {
                let value = score.metrics.get(*name);
                told.extend(value.map(|value| format!("{words} {:.2} %", 100.0 * value)));
            }
            for (name, words) in task.numbers() {
                let value = score.metrics.get(*name);
                told.extend(value.map(|value| format!("{words} {value:.4}")));
            }
            say!("{part} {}", told.join(", "));
        } else {
            say!("{part} loss {loss:.4} nats per token, perplexity {:.3}", loss.exp());
        }
    }
    if let (Some(task), false) = (&training.recipe.task, results.members.is_empty()) {
        for (number, member) in (1..).zip(&results.members) {
            let mut line = format!("network {number} alone:");
            for (part, score) in [("validation", &member.valid), ("test", &member.test)] {
                for (name, words) in score.iter().flat_map(|_| task.metrics()) {
                    let value = score.as_ref().and_then(|score| score.metrics.get(*name));
                    if let Some(value) = value {
                        line += &format!(" {part} {words} {:.2} %,", 100.0 * value);
                    }
                }
            }
            say!("{}", line.trim_end_matches(','));
        }
        say!("the results before are those of {} networks together", results.members.len());
    }
    if let Some(Forgetting { before, after }) = results.forgetting {
        say!("loss on the old text {before:.4} before and {after:.4} after");
    }
    if !results.calibration.is_empty() {
        let figure =
            |(name, value): (&String, &f64)| format!("{} {value:.4}", name.replace('_', " "));
        let figures: Vec<String> = results.calibration.iter().map(figure).collect();
        say!("set on the held-out part: {}", figures.join(", "));
    }
    tell_end(training, *end);
    if !finished.is_whole {
        return;
    }
    let dir = out.display();
    say!("the model is in {dir}: try");
    if let Some(TaskSettings::Chat(_)) = &training.recipe.task {
        say!("  longhand chat {dir}");
    } else if let Some(task) = &training.recipe.task {
        say!("  longhand predict {dir} < {}", task.input());
    } else if let (None, true, Some(base)) = (
        &finished.prompt,
        training.recipe.tuning.method.makes_adapter(),
        &training.recipe.model.base,
    ) {
        say!("  longhand adapter merge {} {dir} --out merged", base.path.display());
    } else if finished.prompt.is_none() {
        say!("  longhand finetune {dir} --task classify --data train.tsv --out classifier");
    } else {
        say!("  longhand generate {dir} --prompt {}", quoted(finished.prompt.as_deref()));
        say!("  longhand eval {dir} --data other.txt");
    }
}

/// The beginning of the held-out text as an argument of a shell.
fn quoted(prompt: Option<&str>) -> String {
    let prompt = prompt.unwrap_or_default().trim();
    // A word that is cut in its middle is left out, if there is another one before it.
    let words = prompt.rsplit_once(' ').map_or(prompt, |(words, _)| words.trim_end());
    let plain = !words.is_empty()
        && !words.contains(|c: char| c.is_control() || "\"'\\$`!\u{fffd}".contains(c));
    format!("\"{}\"", if plain { words } else { "…" })
}

/// The expectations that are met, and why the run ended.
fn tell_end(training: &Training, end: End) {
    for (name, (value, met)) in training.expectations() {
        if let Some(value) = value
            && met
        {
            say!("{name} is {value:.4}: as the recipe expects");
        }
    }
    match end {
        End::Budget => {}
        End::Patience => {
            say!("ended early: what is measured on the held-out part no longer improved")
        }
        End::Stopped => say!("stopped and saved: the same command with --resume goes on"),
    }
}

/// The metrics of a test of a recipe's model; none where nothing was tested.
pub(crate) fn test_json(recipe: &Recipe, results: &Results) -> Option<Value> {
    results.test.as_ref().map(|score| {
        let mut test = score_json(recipe, score);
        if let Some(LabelCounts { labels, counts }) = &results.labels {
            test["labels"] = json!(labels);
            test["confusion"] = json!(counts);
        }
        for (key, value) in &results.report {
            test[key] = value.clone();
        }
        test
    })
}

/// The loss, where there is one, and the metrics of a score.
fn score_json(recipe: &Recipe, score: &Score) -> Value {
    let mut json = if recipe.has_loss() { json!({ "loss": score.loss }) } else { json!({}) };
    for (name, value) in &score.metrics {
        json[name] = json!(value);
    }
    json
}

/// Each expectation by name, with its value and whether it is met.
pub(crate) fn expected_json(
    expectations: BTreeMap<String, (Option<f64>, bool)>,
) -> Map<String, Value> {
    let verdict = |(name, (value, met))| (name, json!({ "value": value, "met": met }));
    expectations.into_iter().map(verdict).collect()
}

/// The last line of JSON.
fn tell_program(finished: &Finished, out: &Path) -> Result<()> {
    let Finished { training, end, .. } = finished;
    let Some(results) = &training.results else { return Ok(()) };
    let recipe = &training.recipe;
    let (test, expected) = (test_json(recipe, results), expected_json(training.expectations()));
    let valid = results.valid.as_ref().filter(|_| recipe.has_loss());
    let mut line = json!({
        "done": *end != End::Stopped,
        "end": match end {
            End::Budget => "budget",
            End::Patience => "patience",
            End::Stopped => "stopped",
        },
        "best_valid_loss": valid.map(|score| score.loss),
        "best_step": results.best_step,
        "test": test,
        "calibration": results.calibration,
        "expected": expected,
        "forgetting": results.forgetting,
        "parameters": results.parameters,
        "trainable_parameters": results.trainable_parameters,
        "step": results.steps,
        "tokens": results.tokens,
        "seconds": results.seconds,
        "out": out.to_string_lossy(),
    });
    if !results.members.is_empty() {
        let scores = |member: &MemberResults| {
            let [valid, test] = [&member.valid, &member.test]
                .map(|score| Some(score_json(recipe, score.as_ref()?)));
            json!({ "valid": valid, "test": test })
        };
        line["members"] = results.members.iter().map(scores).collect();
    }
    if recipe.task.is_none() {
        let loss = valid.map(|score| score.loss);
        line["objective"] = recipe.objective.name().into();
        line["best_valid_perplexity"] = loss.map(f64::exp).into();
    }
    Ok(JsonLines::new(std::io::stdout()).write(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_of_the_hint_is_the_texts_own() {
        for (prompt, words) in [
            (Some("One day Mira wen"), "\"One day Mira\""),
            (Some("小梅有一只灯笼。"), "\"小梅有一只灯笼。\""),
            (Some("it costs $5 and"), "\"…\""),
            (Some(" \n"), "\"…\""),
            (None, "\"…\""),
        ] {
            assert_eq!(quoted(prompt), words, "{prompt:?}");
        }
    }
}
