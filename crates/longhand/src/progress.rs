//! What a person or a program sees of a run: a bar on a terminal, lines elsewhere, JSON on stdout.

use std::io::{IsTerminal, Stdout, stderr, stdout};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use longhand::recipe::{Recipe, SelfTraining};
use longhand_run::{DataSize, Introduction, Preparation, Watch};
use longhand_tasks::TaskSettings;
use longhand_text::EncodeProgress;
use longhand_train::log::{JsonLines, LogError};
use longhand_train::progress::{EvaluationReport, Smoother, StepReport};
use longhand_train::record::with_speed;
use longhand_train::{Event, Progress};
use serde_json::json;

use crate::interrupt;
use crate::talk::say;

/// Steps between two lines of JSON.
const EVERY: u64 = 10;
/// Seconds between two plain lines.
const SECONDS_BETWEEN_LINES: f64 = 10.0;
/// Time between two plain lines of a long evaluation.
const BETWEEN_VALIDATION_LINES: Duration = Duration::from_secs(10);
/// The bar's length: thousandths of the budget.
const BAR: u64 = 1000;

/// How a run is shown.
pub(crate) struct Display {
    form: Form,
    /// Whether losses are of tokens, so that their perplexity means something.
    predicts_text: bool,
    /// When the last step was made, or the last line of an evaluation written.
    silent_since: Instant,
    /// Whether Ctrl-C is listened for: a run of two phases begins twice.
    listens: bool,
    /// The work before the first step, while it goes on.
    spinner: Option<(&'static str, Spinner)>,
}

enum Form {
    /// One JSON object per line on stdout.
    Json(JsonLines<Stdout>, Smoother),
    /// A bar on stderr.
    Bar(ProgressBar, Smoother),
    /// Now and then a line on stderr, and when the last one was.
    Lines(Smoother, f64),
}

impl Display {
    /// JSON if asked for, a bar where a person looks, lines otherwise.
    pub(crate) fn new(json: bool, predicts_text: bool) -> Self {
        let silent_since = Instant::now();
        let listens = false;
        Self { form: Form::new(json), predicts_text, silent_since, listens, spinner: None }
    }

    /// Removes the bar from the terminal.
    pub(crate) fn finish(&mut self) {
        if let Form::Bar(bar, _) = &self.form {
            bar.finish_and_clear();
        }
    }

    /// Shows how far a part of the work before training is.
    fn spin(&mut self, what: &'static str, text: String) {
        if self.spinner.as_ref().is_none_or(|(shown, _)| *shown != what) {
            // The old one leaves the line before the new one takes it.
            self.spinner = None;
            let talk = !matches!(self.form, Form::Json(..));
            self.spinner = Some((what, Spinner::new(what, talk)));
        }
        if let Some((_, spinner)) = &self.spinner {
            spinner.say(text);
        }
    }

    fn step(&mut self, step: &StepReport) -> Result<(), LogError> {
        self.silent_since = Instant::now();
        let predicts_text = self.predicts_text;
        match &mut self.form {
            Form::Json(lines, smoother) => match smoother.push(step) {
                Some((report, speed)) => lines.write(&with_speed(&report, speed)),
                None => Ok(()),
            },
            Form::Bar(bar, smoother) => {
                if let Some((report, speed)) = smoother.push(step) {
                    bar.set_position((report.spent * BAR as f64) as u64);
                    bar.set_message(describe(&report, speed, predicts_text));
                }
                Ok(())
            }
            Form::Lines(smoother, last) => {
                if let Some((report, speed)) = smoother.push(step)
                    && report.seconds - *last >= SECONDS_BETWEEN_LINES
                {
                    *last = report.seconds;
                    say!("{}", describe(&report, speed, predicts_text));
                }
                Ok(())
            }
        }
    }

    fn evaluated(&mut self, report: &EvaluationReport) -> Result<(), LogError> {
        let (Form::Json(_, smoother) | Form::Bar(_, smoother) | Form::Lines(smoother, _)) =
            &mut self.form;
        smoother.pause();
        let EvaluationReport { step, seconds, score, best, .. } = report;
        if let Form::Json(lines, _) = &mut self.form {
            let mut line = json!({
                "step": step, "seconds": seconds, "valid_loss": score.loss, "best": best,
            });
            for (name, value) in &score.metrics {
                line[name] = json!(value);
            }
            return lines.write(&line);
        }
        let (loss, mark) = (score.loss, if *best { ", the best so far" } else { "" });
        let mut measures = String::new();
        if self.predicts_text {
            measures = format!(", perplexity {:.2}", loss.exp());
        }
        for (name, value) in &score.metrics {
            measures += &format!(", {} {value:.4}", name.replace('_', " "));
        }
        self.say(&format!("step {step}: validation loss {loss:.4}{measures}{mark}"));
        Ok(())
    }

    fn sampled(&mut self, sampled: u64, all: u64) -> Result<(), LogError> {
        if let Form::Json(lines, _) = &mut self.form {
            return lines.write(&json!({ "held_out_tokens": all, "validated_tokens": sampled }));
        }
        let share = 100.0 * sampled as f64 / all.max(1) as f64;
        self.say(&format!(
            "validating on a sample of {sampled} of the {all} held-out tokens ({share:.1} %): all \
             of them would take too much of the time budget"
        ));
        Ok(())
    }

    /// Tells a program of repairs to the examples: a person has them in the introduction.
    fn repaired(&mut self, data: &DataSize<'_>) {
        if let (Form::Json(lines, _), DataSize::Examples { notes, .. }) = (&mut self.form, data)
            && !notes.is_empty()
        {
            // An output that takes no line fails at the next one, which can say so.
            let _ = lines.write(&json!({ "notes": notes }));
        }
    }

    fn validating(&mut self, done: f64) {
        let text = format!("validating {:.0} %", 100.0 * done);
        match &self.form {
            Form::Json(..) => {}
            Form::Bar(bar, _) => bar.set_message(text),
            Form::Lines(..) if self.silent_since.elapsed() >= BETWEEN_VALIDATION_LINES => {
                self.silent_since = Instant::now();
                say!("{text}");
            }
            Form::Lines(..) => {}
        }
    }

    /// A line on stderr, above the bar if there is one; nothing with JSON.
    fn say(&self, line: &str) {
        match &self.form {
            Form::Json(..) => {}
            Form::Bar(bar, _) => bar.println(line),
            Form::Lines(..) => say!("{line}"),
        }
    }
}

impl Form {
    fn new(json: bool) -> Self {
        if json {
            return Self::Json(JsonLines::new(stdout()), Smoother::new(EVERY));
        }
        if !stderr().is_terminal() {
            return Self::Lines(Smoother::new(EVERY), 0.0);
        }
        let bar = ProgressBar::new(BAR);
        // The template is a constant, and the default bar serves as well.
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {percent:>3}%  {msg}") {
            bar.set_style(style);
        }
        Self::Bar(bar, Smoother::new(EVERY))
    }
}

impl Progress for Display {
    fn event(&mut self, event: &Event<'_>) -> Result<(), LogError> {
        match event {
            Event::Step(step) => self.step(step),
            Event::Evaluated { report, .. } => self.evaluated(report),
            Event::Resumed { step, folder, damaged } => {
                for folder in *damaged {
                    self.say(&format!("passed over {}: it is damaged", folder.display()));
                }
                self.say(&match folder {
                    Some(folder) => format!("going on from step {step}, {}", folder.display()),
                    None => "no checkpoint was written yet: beginning again".into(),
                });
                Ok(())
            }
            Event::HeldOutSampled { sampled, all } => self.sampled(*sampled, *all),
            Event::Validating { done } => {
                self.validating(*done);
                Ok(())
            }
            Event::Saved { .. } => Ok(()),
        }
    }
}

impl Watch for Display {
    fn prepare(&mut self, preparation: &Preparation<'_>) {
        match preparation {
            Preparation::Tokenizer(progress) => {
                let (megabytes, units) = (progress.bytes as f64 / 1e6, progress.units);
                self.spin("training the tokeniser", format!("{megabytes:.0} MB, {units} units"));
            }
            Preparation::Chosen(choice) => self.say(&choice.to_string()),
            Preparation::Encoding(progress) => self.spin(READING, describe_reading(progress)),
            Preparation::Sampled { share, bytes } => {
                let (percent, megabytes) = (100.0 * share, *bytes as f64 / 1e6);
                self.say(&format!(
                    "reading {percent:.1} % of the text, in stretches drawn by the seed: preparing \
                     all {megabytes:.0} MB would take too much of the time budget"
                ));
            }
            Preparation::NothingToResume(folder) => {
                self.say(&format!(
                    "there is no run to resume in {}: a new one begins",
                    folder.display()
                ));
            }
            Preparation::Vectors { path, found, in_lower_case, vocabulary } => {
                let path = path.display();
                let lower = match in_lower_case {
                    0 => String::new(),
                    count => format!(", {count} of them in lower case"),
                };
                self.say(&format!(
                    "{found} of {vocabulary} tokens begin with their vector of {path}{lower}"
                ));
            }
            Preparation::Drawn(names) => {
                let (count, first) = (names.len(), names.first().map_or("", String::as_str));
                self.say(&format!(
                    "{count} weights are not the trained model's but drawn at random: {first} …"
                ));
            }
            Preparation::Begins(introduction) => {
                self.spinner = None;
                self.predicts_text = introduction.recipe.task.is_none();
                let data = &introduction.recipe.data;
                if let (Some(fold), Some(folds)) = (data.fold, data.folds) {
                    self.say(&format!("fold {fold} of {folds}"));
                }
                if let Some(SelfTraining { round: Some(round), rounds, .. }) =
                    &introduction.recipe.self_training
                {
                    self.say(&format!("round {round} of {rounds}"));
                }
                let Recipe { members, member, .. } = introduction.recipe;
                if let Some(members) = members.filter(|members| members.get() > 1) {
                    let number = member.map_or(1, NonZeroUsize::get);
                    self.say(&format!("network {number} of {members}"));
                }
                self.say(&introduce(introduction));
                self.repaired(&introduction.data);
                // Before, there is nothing to save, and Ctrl-C ends the process.
                if std::mem::replace(&mut self.listens, true) {
                    return;
                }
                if let Err(error) = interrupt::listen(|| {}) {
                    self.say(&format!("{error:#}: an interrupted run goes back to its checkpoint"));
                }
            }
            _ => {}
        }
    }
}

/// The first lines of a run.
fn introduce(introduction: &Introduction<'_>) -> String {
    let Introduction { recipe, parameters, threads, precision, data } = introduction;
    let millions = *parameters as f64 / 1e6;
    match data {
        DataSize::Tokens { train, valid } => {
            let text = match recipe.data.train.as_slice() {
                [] => "the built-in sample (stories in English and Chinese)".to_owned(),
                [only] => only.display().to_string(),
                [first, rest @ ..] => format!("{} and {} more", first.display(), rest.len()),
            };
            let name = recipe.model_name();
            if recipe.ngram.is_some() {
                return format!("counting {name} on {text}: {train} tokens, {valid} held out");
            }
            let threads =
                if *threads == 1 { "1 thread".into() } else { format!("{threads} threads") };
            format!(
                "training {name} ({millions:.2} million parameters) on {text}: {train} tokens, \
                 {valid} held out, {threads}, {precision}"
            )
        }
        DataSize::Examples {
            train,
            valid,
            test,
            counts,
            notes,
            unknown,
            vocabulary,
            cut,
            longest,
            cut_targets,
            longest_target,
        } => {
            let task = recipe.task.as_ref().map_or("", TaskSettings::name);
            let model = match &recipe.baseline {
                Some(baseline) => format!("the baseline {}", baseline.name()),
                None => {
                    format!("{vocabulary} tokens, {millions:.2} million parameters, {precision}")
                }
            };
            let mut text =
                format!("{task}: {train} examples, {valid} held out, {test} to test, {model}");
            if !counts.is_empty() {
                let (labels, listed) = (counts.len(), list_labels(counts));
                text += &format!("\n{labels} labels; examples of each label: {listed}");
            }
            for (note, count) in *notes {
                text += &format!("\n{count} {note}");
            }
            if *unknown > 0.0 {
                let share = 100.0 * unknown;
                text += &format!("\n{share:.1} % of the tokens are unknown, <unk>");
            }
            if *cut > 0 {
                text += &format!(
                    "\nof {cut} texts longer than {longest} tokens the first {longest} are read"
                );
            }
            if *cut_targets > 0 {
                text += &format!(
                    "\nof {cut_targets} targets longer than {longest_target} tokens the first \
                     {longest_target} are learnt, and the loss is of these alone"
                );
            }
            text
        }
    }
}

/// Labels with their counts: the first ones, where there are many.
fn list_labels(labels: &[(String, usize)]) -> String {
    const LISTED: usize = 20;
    let listed = labels.iter().take(LISTED).map(|(label, count)| {
        let shown: String = label.chars().take(40).collect();
        format!("{shown} {count}")
    });
    let mut text = listed.collect::<Vec<_>>().join(", ");
    if labels.len() > LISTED {
        text += &format!(" and {} more", labels.len() - LISTED);
    }
    text
}

/// The spinner's words while a text is encoded.
pub(crate) const READING: &str = "reading the text";

/// How much of a text is encoded.
pub(crate) fn describe_reading(progress: &EncodeProgress) -> String {
    let (megabytes, millions) = (progress.bytes as f64 / 1e6, progress.tokens as f64 / 1e6);
    format!("{megabytes:.0} MB, {millions:.1} million tokens")
}

fn describe(report: &StepReport, speed: f64, predicts_text: bool) -> String {
    let StepReport { step, loss, spent, seconds, .. } = report;
    let mut text = format!("step {step}  loss {loss:.3}");
    if predicts_text {
        text += &format!("  perplexity {:.2}", loss.exp());
    }
    text += &format!("  {speed:.0} tokens/s");
    // A run of a budget that never ends has no time left that could be told.
    if let Ok(left) = Duration::try_from_secs_f64(seconds * (1.0 - spent) / spent) {
        let (minutes, seconds) = (left.as_secs() / 60, left.as_secs() % 60);
        text += &format!("  {minutes}:{seconds:02} left");
    }
    text
}

/// What is being done before training begins; seen on a terminal only, and not if it is short.
pub(crate) struct Spinner(Option<ProgressBar>);

impl Spinner {
    pub(crate) fn new(what: &'static str, talk: bool) -> Self {
        if !talk || !stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner().with_prefix(what);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(Some(bar))
    }

    pub(crate) fn say(&self, text: String) {
        if let Some(bar) = &self.0 {
            bar.set_message(text);
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_told_where_there_is_one() {
        let report = |spent| StepReport {
            step: 7,
            tokens: 100,
            seconds: 30.0,
            loss: 2.0,
            lr: 1e-3,
            grad_norm: 1.0,
            spent,
        };
        let text = |spent| describe(&report(spent), 1234.0, true);
        assert_eq!(text(0.25), "step 7  loss 2.000  perplexity 7.39  1234 tokens/s  1:30 left");
        for spent in [0.0, 1e-300, f64::MIN_POSITIVE] {
            assert!(text(spent).ends_with("1234 tokens/s"), "{}", text(spent));
        }
    }
}
