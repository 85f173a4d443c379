//! The report on a task's model as one HTML page, which needs no other file and no network.
//!
//! Plots are SVG inside the page. Each number that a colour shows is also written.

use std::collections::BTreeMap;
use std::path::Path;

use longhand_run::output::LOGS_FOLDER;
use longhand_tasks::confusion::ClassScore;
use longhand_tasks::intervals::Interval;
use longhand_tasks::{Confusion, Explanation};
use longhand_train::record::JSON_LINES_FILE;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use crate::explained::markup;

mod charts;
#[cfg(test)]
mod tests;

/// The most wrong answers that a page shows.
const MOST_MISTAKES: usize = 100;
/// Bins of the reliability diagram.
const BINS: usize = 10;

/// What a page tells.
pub(crate) struct Page<'a> {
    /// The folder of the model.
    pub(crate) model: String,
    /// The name of the task.
    pub(crate) task: &'static str,
    /// The number of examples.
    pub(crate) examples: usize,
    /// The mean loss, in nats; none where answers have no probability.
    pub(crate) loss: Option<f64>,
    /// Every metric by its key.
    pub(crate) metrics: &'a BTreeMap<String, f64>,
    /// The 95 % interval of those that have one.
    pub(crate) intervals: &'a BTreeMap<String, Interval>,
    /// Counts of answers by true answer, with the names of both.
    pub(crate) confusion: Option<&'a (Vec<String>, Confusion)>,
    /// The scores of each label or type.
    pub(crate) classes: &'a [(String, ClassScore)],
    /// The probability of each answer, and whether it is right.
    pub(crate) sure: Vec<(f64, bool)>,
    /// The course of the model's training.
    pub(crate) curve: Vec<Evaluated>,
    /// The wrong answers, in the order of the examples.
    pub(crate) mistakes: Vec<Mistake>,
}

/// An evaluation in training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Evaluated {
    /// Steps made before it.
    pub(crate) step: u64,
    /// The loss on the held-out part, in nats.
    pub(crate) loss: f64,
}

/// An example whose answer is wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mistake {
    /// The number of the example, counted from 1.
    pub(crate) example: usize,
    /// The texts of the example, in their order.
    pub(crate) texts: Vec<String>,
    /// The right answer, as the file writes it.
    pub(crate) truth: String,
    /// The model's answer, as `predict` writes it.
    pub(crate) answer: String,
    /// The probability of the answer, where it has one.
    pub(crate) probability: Option<f64>,
    /// Why it was given, or each of its parts was, where that is asked for.
    pub(crate) explanations: Vec<Explanation>,
}

/// The evaluations that the log of a model folder tells; none where it has no log.
pub(crate) fn curve(folder: &Path) -> Vec<Evaluated> {
    let log =
        fs_err::read_to_string(folder.join(LOGS_FOLDER).join(JSON_LINES_FILE)).unwrap_or_default();
    let evaluated = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        Some(Evaluated { step: line["step"].as_u64()?, loss: line["valid_loss"].as_f64()? })
    };
    log.lines().filter_map(evaluated).collect()
}

impl Page<'_> {
    /// The wrong answers that are shown, the surest first.
    pub(crate) fn shown(&mut self) -> &mut [Mistake] {
        let sure = |mistake: &Mistake| mistake.probability.unwrap_or(0.0);
        self.mistakes.sort_by(|one, other| sure(other).total_cmp(&sure(one)));
        let shown = self.mistakes.len().min(MOST_MISTAKES);
        &mut self.mistakes[..shown]
    }

    /// The whole page as HTML.
    pub(crate) fn html(mut self) -> String {
        self.shown();
        let title = format!("{}: {}", self.task, self.model);
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    h1 { (title) }
                    p {
                        (self.examples) " examples"
                        @if let Some(loss) = self.loss { ", mean loss " (format!("{loss:.4}")) " nats" }
                    }
                    (self.metrics())
                    (self.confusion())
                    (self.classes())
                    (self.reliability())
                    (self.learning())
                    (self.mistakes())
                }
            }
        };
        page.into_string()
    }

    fn metrics(&self) -> Markup {
        html! {
            h2 { "Metrics" }
            table {
                tr { th { "metric" } th { "value" } th { "95 % interval" } }
                @for (name, value) in self.metrics {
                    tr {
                        th scope="row" { (name.replace('_', " ")) }
                        td { (format!("{value:.4}")) }
                        td {
                            @if let Some(Interval { low, high }) = self.intervals.get(name) {
                                (format!("{low:.4} to {high:.4}"))
                            }
                        }
                    }
                }
            }
        }
    }

    /// The share of a true label's examples shades each cell.
    fn confusion(&self) -> Markup {
        let Some((names, confusion)) = self.confusion else { return html! {} };
        html! {
            h2 { "Confusion matrix" }
            p { "Rows are the true labels, columns the answers." }
            div.wide {
                table.matrix {
                    tr { th {} @for name in names { th scope="col" { (name) } } }
                    @for (name, row) in names.iter().zip(confusion.counts()) {
                        tr {
                            th scope="row" { (name) }
                            @for &count in row {
                                @let share = count as f64 / row.iter().sum::<u64>().max(1) as f64;
                                td style=(charts::shade(share)) { (count) }
                            }
                        }
                    }
                }
            }
        }
    }

    fn classes(&self) -> Markup {
        if self.classes.is_empty() {
            return html! {};
        }
        html! {
            h2 { "By label" }
            (charts::bars(self.classes))
        }
    }

    fn reliability(&self) -> Markup {
        if self.sure.is_empty() {
            return html! {};
        }
        html! {
            h2 { "Reliability" }
            p {
                "How many of the answers of about one probability are right: on the diagonal the "
                "probabilities are as often right as they say."
            }
            (charts::reliability(&bins(&self.sure)))
        }
    }

    fn learning(&self) -> Markup {
        if self.curve.len() < 2 {
            return html! {};
        }
        html! {
            h2 { "Learning curve" }
            p { "Loss on the held-out part, in nats, by step." }
            (charts::curve(&self.curve))
        }
    }

    fn mistakes(&self) -> Markup {
        if self.mistakes.is_empty() {
            return html! {};
        }
        let shown = self.mistakes.len().min(MOST_MISTAKES);
        html! {
            h2 { "Wrong answers" }
            p { (shown) " of " (self.mistakes.len()) ", the surest first." }
            table.mistakes {
                tr { th { "example" } th { "truth" } th { "answer" } th { "probability" } th { "text" } }
                @for mistake in self.mistakes.iter().take(MOST_MISTAKES) {
                    tr {
                        td { (mistake.example) }
                        td { (mistake.truth) }
                        td { (mistake.answer) }
                        td { @if let Some(value) = mistake.probability { (format!("{value:.3}")) } }
                        td {
                            @for explanation in &mistake.explanations { (markup(explanation)) }
                            @if mistake.explanations.is_empty() {
                                @for text in &mistake.texts { p { (text) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The answers whose probabilities are in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Bin {
    answers: usize,
    /// The mean of their probabilities.
    probability: f64,
    /// The share of them that is right.
    right: f64,
}

/// Bins of equal width from 0 to 1; each holds its upper bound.
fn bins(sure: &[(f64, bool)]) -> [Bin; BINS] {
    let mut bins = [Bin::default(); BINS];
    for &(probability, is_right) in sure {
        let place = ((probability * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        bins[place].answers += 1;
        bins[place].probability += probability;
        bins[place].right += f64::from(u8::from(is_right));
    }
    for bin in &mut bins {
        let count = bin.answers.max(1) as f64;
        (bin.probability, bin.right) = (bin.probability / count, bin.right / count);
    }
    bins
}

const STYLE: &str = "
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff }
table { border-collapse: collapse }
th, td { padding: .2rem .7rem; text-align: right; vertical-align: top; border: 1px solid #ddd }
th { font-weight: 600 }
.mistakes td { text-align: left }
.mistakes p { margin: 0 0 .3rem }
.wide { overflow-x: auto }
svg { max-width: 100%; height: auto }
svg text { font: 13px system-ui, sans-serif; fill: #1a1a1a }
";
