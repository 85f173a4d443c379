//! `longhand eval` with the folder of a task's model: its metrics on labelled examples.

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use longhand_engine::Rules;
use longhand_model::file;
use longhand_tasks::examples::{add_notes, check_known, read_known};
use longhand_tasks::intervals::{self, Difference, Interval, McNemar, SAMPLES};
use longhand_tasks::predictor::{self, Trained};
use longhand_tasks::search::Pace;
use longhand_tasks::task::{Read, Report, Scored};
use longhand_tasks::{Evaluation, Listed, Measured, Predictor, Task, VisitTask};
use serde_json::{Map, Value, json};

use super::writing::{SearchArguments, with_targets};
use crate::adapters::AdapterArguments;
use crate::error::Usage;
use crate::interrupt::STOP;
use crate::neighbours::{Beside, NeighbourArguments};
use crate::reading::{TextArguments, Threads, model_folder};
use crate::report::{self, Mistake, Page};
use crate::rules::RulesArguments;
use crate::task_data::{self, FileReading, TableArguments};

/// How a task's model is measured.
#[derive(Args)]
#[command(next_help_heading = "Classifiers and other tasks")]
pub(crate) struct TaskArguments {
    /// The column of the label, by name or by number from 0 [default: as in training]
    #[arg(long, value_name = "COLUMN")]
    label_column: Option<String>,
    #[command(flatten)]
    table: TableArguments,
    /// The file of targets of a --data file of sources; one for each, in the same order
    #[arg(long, value_name = "FILE", num_args = 1..)]
    targets: Vec<PathBuf>,
    /// The column of further right texts, of a task that writes [default: as in training]
    #[arg(long, value_name = "COLUMN")]
    references_column: Option<String>,
    #[command(flatten)]
    search: SearchArguments,
    #[command(flatten, next_help_heading = "Writing")]
    rules: RulesArguments,
    /// Another model folder of the same task: whether the two differ more than by chance
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// Samples of the examples that 95 % intervals are drawn from [default: 1000]
    #[arg(long, value_name = "N")]
    samples: Option<NonZeroUsize>,
    /// Write a report as one HTML page: metrics, confusion matrix, reliability, wrong answers
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Explain the wrong answers on that page: the share of each token, and of each kind of memory; of
    /// several networks that answer together the mean over them
    #[arg(long, requires = "html")]
    explain: bool,
    /// Seed of those samples, and of texts that are drawn [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// The evaluation of a folder that holds a task.
pub(crate) struct TaskEvaluation<'a> {
    /// The folder that holds the task: the model's, or that of an adapter.
    pub(crate) folder: &'a Path,
    pub(crate) model: &'a Path,
    pub(crate) adapters: &'a AdapterArguments,
    pub(crate) data: &'a [PathBuf],
    pub(crate) arguments: &'a TaskArguments,
    pub(crate) text: &'a TextArguments,
    pub(crate) threads: Threads,
    pub(crate) neighbours: &'a NeighbourArguments,
    pub(crate) json: bool,
}

/// The same, once the task is known.
struct Measure<'a> {
    what: &'a TaskEvaluation<'a>,
    rules: Option<Arc<Rules>>,
    trained: Trained,
    reading: FileReading,
}

/// Two models on the same examples.
struct Comparison {
    differences: BTreeMap<String, Difference>,
    mcnemar: Option<McNemar>,
}

/// Everything that is told.
struct Told<'a> {
    examples: usize,
    /// None where answers have no probability.
    loss: Option<f64>,
    metrics: &'a BTreeMap<String, f64>,
    /// The metrics that a person is told, with their words.
    words: &'static [(&'static str, &'static str)],
    /// The same for metrics that are no shares.
    numbers: &'static [(&'static str, &'static str)],
    intervals: BTreeMap<String, Interval>,
    report: Report,
    /// Repairs to the examples, each with the number of times it was made.
    notes: BTreeMap<String, usize>,
    pace: Option<Pace>,
    /// Texts that are longer than the model reads.
    cut: usize,
    /// Right texts that are longer than what the loss is measured on.
    cut_targets: usize,
    comparison: Option<Comparison>,
    /// What a datastore changed, if there is one.
    beside: Option<Beside>,
    seconds: f64,
}

/// Why rules are refused where nothing is written.
const NOT_WRITTEN: &str = "--rules is for tasks whose answers are written: leave it out";

/// Why two models have nothing to be compared by.
const NOT_COMPARED: &str = "--against has nothing to compare: the perplexities are not of the same tokens, \
    as the models have other tokenisers or templates, or read up to other lengths: compare models that \
    share them";

/// Has a predictor write by rules, if there are any.
///
/// # Errors
/// A task whose answers are not written, or are changed once they are; rules that no token of
/// the model can begin.
pub(super) fn follow<T: Task>(
    predictor: &mut Predictor<T>,
    rules: Option<&Arc<Rules>>,
) -> Result<()> {
    let Some(rules) = rules else { return Ok(()) };
    if !T::WRITES {
        return Err(Usage(NOT_WRITTEN.into()).into());
    }
    if predictor.task.search_mut().is_some_and(|search| search.replace_unknown) {
        let text = "--replace-unknown changes what was written, which then need not match --rules: \
                    leave one of them out";
        return Err(Usage(text.into()).into());
    }
    Ok(predictor.follow(rules)?)
}

impl TaskArguments {
    /// Refuses rules for a language model, which is not measured on what it writes.
    pub(crate) fn refuse_rules(&self) -> Result<(), Usage> {
        match self.rules.rules {
            None => Ok(()),
            Some(_) => Err(Usage(NOT_WRITTEN.into())),
        }
    }

    /// The seed of what is drawn.
    fn seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }

    /// The number of samples that intervals are drawn from.
    fn samples(&self) -> usize {
        self.samples.map_or(SAMPLES, NonZeroUsize::get)
    }

    /// Has a predictor write as flags say.
    fn prepare<T: Task>(
        &self,
        predictor: &mut Predictor<T>,
        rules: Option<&Arc<Rules>>,
    ) -> Result<()> {
        self.search.apply(&mut predictor.task, None, self.seed())?;
        follow(predictor, rules)
    }

    /// The first flag that is given and that only a task's model has.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let flags = [
            ("--label-column", self.label_column.is_some()),
            ("--references-column", self.references_column.is_some()),
            ("--header", self.table.header.is_some()),
            ("--pair-column", self.table.pair_column.is_some()),
            ("--against", self.against.is_some()),
            ("--samples", self.samples.is_some()),
            ("--html", self.html.is_some()),
            ("--seed", self.seed.is_some()),
            ("--targets", !self.targets.is_empty()),
        ];
        let own = flags.into_iter().find_map(|(flag, given)| given.then_some(flag));
        own.or(self.search.given())
    }
}

impl TaskEvaluation<'_> {
    pub(crate) fn run(&self) -> Result<()> {
        let rules = self.arguments.rules.load()?;
        let (file, trained) = predictor::open(self.folder, self.model, &self.adapters.chosen)?;
        self.adapters.tell();
        let (mut task, mut reading) =
            task_data::reading(self.folder, &file, self.text, &self.arguments.table)?;
        let columns = [
            ("label_column", &self.arguments.label_column),
            ("references_column", &self.arguments.references_column),
        ];
        for (key, column) in columns {
            if let Some(column) = column {
                let set = task.set(key, column.as_str().into());
                set.map_err(|error| Usage(error.to_string()))?;
            }
        }
        let (targets, data) = (("--targets", &self.arguments.targets[..]), ("--data", self.data));
        reading.all = with_targets(reading.all, targets, data)?;
        file.visit(&task, Measure { what: self, rules, trained, reading })
    }
}

impl VisitTask for Measure<'_> {
    type Output = Result<()>;

    fn visit<T: Listed>(self, task: T, settings: &T::Settings) -> Result<()> {
        let Self { what, rules, trained, reading } = self;
        let (rules, arguments) = (rules.as_ref(), what.arguments);
        what.check_rules::<T>(rules, &trained)?;
        let cpu = what.threads.cpu();
        let began = Instant::now();
        let mut first = Predictor::checked(what.folder, task, trained, cpu.clone())?;
        what.neighbours.consult(&mut first)?;
        arguments.prepare(&mut first, rules)?;
        let second = match &arguments.against {
            None => None,
            Some(folder) => {
                let mut second = Predictor::<T>::load(model_folder(folder)?, cpu)?;
                arguments.prepare(&mut second, rules)?;
                Some(second)
            }
        };
        let Read { examples, notes } =
            what.read((&first.task, second.as_ref()), settings, &reading)?;
        let examples = first.measured(examples)?;
        let evaluation = answered(&first, &examples, what)?;
        let comparison = match &second {
            None => None,
            Some(second) => Some(what.compared((&first.task, &evaluation), second, &examples)?),
        };
        let score = evaluation.score();
        let told = Told {
            examples: examples.len(),
            loss: evaluation.has_loss.then_some(score.loss),
            metrics: &score.metrics,
            words: T::METRICS,
            numbers: T::NUMBERS,
            intervals: intervals::bootstrap(&evaluation, arguments.samples(), arguments.seed()),
            report: evaluation.report(),
            notes,
            pace: evaluation.pace,
            cut: examples.cut,
            cut_targets: examples.cut_targets(),
            comparison,
            beside: first
                .neighbours()
                .zip(evaluation.loss_alone)
                .map(|(it, loss)| Beside::new(it, loss)),
            seconds: began.elapsed().as_secs_f64(),
        };
        if let Some(path) = &arguments.html {
            write_page(path, &first, &evaluation, &told, what)?;
        }
        what.print(T::NAME, told)
    }
}

impl TaskEvaluation<'_> {
    /// Refuses rules for a baseline that writes.
    fn check_rules<T: Task>(
        &self,
        rules: Option<&Arc<Rules>>,
        trained: &Trained,
    ) -> Result<(), Usage> {
        if !T::WRITES || rules.is_none() || matches!(trained, Trained::Network(_)) {
            return Ok(());
        }
        let name = self.folder.display();
        let text = "--rules is for networks that write, and";
        Err(Usage(format!("{text} {name} holds a baseline: leave it out")))
    }

    /// The examples of all files, which both models know the answers of.
    fn read<T: Task>(
        &self,
        (first, second): (&T, Option<&Predictor<T>>),
        settings: &T::Settings,
        reading: &FileReading,
    ) -> Result<Read<T::Example>> {
        let (mut examples, mut notes) = (Vec::new(), BTreeMap::new());
        for path in self.data {
            let reading = reading.of(path);
            let read = read_known(first, settings, path, &reading)?;
            // A pipe can be read once, and the other model's labels may differ.
            if let Some(second) = second {
                check_known(&second.task, &read.examples, (path, &reading))?;
            }
            examples.extend(read.examples);
            add_notes(&mut notes, read.notes);
        }
        Ok(Read { examples, notes })
    }

    /// How a model compares with another one on the examples that it has answered.
    fn compared<T: Listed>(
        &self,
        (first, evaluation): (&T, &Evaluation<'_, T>),
        second: &Predictor<T>,
        examples: &Measured<T>,
    ) -> Result<Comparison> {
        let examples = examples.examples.iter().map(|known| known.example.clone());
        let examples = second.measured(examples.collect())?;
        let other = answered(second, &examples, self)?;
        let (samples, seed) = (self.arguments.samples(), self.arguments.seed());
        let differences = intervals::differences(evaluation, &other, samples, seed);
        let first = (first, &evaluation.scored()[..]);
        let second = (&second.task, &other.scored()[..]);
        let mcnemar = intervals::mcnemar(first, second);
        if differences.is_empty() && mcnemar.is_none() {
            bail!(NOT_COMPARED);
        }
        Ok(Comparison { differences, mcnemar })
    }

    /// Prints the results, of a task called `task`.
    fn print(&self, task: &str, told: Told<'_>) -> Result<()> {
        let mut out = std::io::stdout();
        if !self.json {
            return Ok(writeln!(out, "{}", told.text())?);
        }
        let mut json = told.json(task);
        if let Some(names) = self.adapters.names() {
            json["adapters"] = names.into();
        }
        Ok(writeln!(out, "{json}")?)
    }
}

fn answered<'a, T: Listed>(
    predictor: &'a Predictor<T>,
    examples: &'a Measured<T>,
    what: &TaskEvaluation<'_>,
) -> Result<Evaluation<'a, T>> {
    let mut unheard = |_| Ok(());
    let mut watch = longhand_train::Watch::new(&STOP, &mut unheard);
    let result = predictor.evaluate(examples, &what.threads.cpu(), &mut watch)?;
    if !result.loss.is_finite() {
        bail!("the loss is not finite: the model's weights are damaged or have diverged");
    }
    Ok(result)
}

/// Writes the report as a page, with the mistakes explained where that was asked for.
fn write_page<T: Listed>(
    path: &Path,
    predictor: &Predictor<T>,
    evaluation: &Evaluation<'_, T>,
    told: &Told<'_>,
    what: &TaskEvaluation<'_>,
) -> Result<()> {
    let mut page = page(&predictor.task, evaluation, told, what.folder);
    if what.arguments.explain
        && let Some(mut explainer) = predictor.explainer()?
    {
        for mistake in page.shown() {
            let Scored { example, answers, .. } = evaluation.scored()[mistake.example - 1];
            mistake.explanations = explainer.explain(&predictor.task, example, answers)?;
        }
    }
    Ok(file::write(path, page.html().as_bytes())?)
}

/// The report as a page.
fn page<'a, T: Listed>(
    task: &T,
    evaluation: &Evaluation<'_, T>,
    told: &'a Told<'_>,
    folder: &Path,
) -> Page<'a> {
    let (mut sure, mut mistakes) = (Vec::new(), Vec::new());
    for (place, scored) in evaluation.scored().iter().enumerate() {
        let Some(is_right) = task.is_right(scored) else { continue };
        let fields = task.fields(scored.example, scored.answers);
        let probability = fields.get("probability").and_then(Value::as_f64);
        sure.extend(probability.map(|probability| (probability, is_right)));
        if !is_right {
            mistakes.push(Mistake {
                example: place + 1,
                texts: T::texts(scored.example).into_iter().map(str::to_owned).collect(),
                truth: T::truth(scored.example).into(),
                answer: task.plain(scored.example, scored.answers),
                probability,
                explanations: Vec::new(),
            });
        }
    }
    Page {
        model: folder.display().to_string(),
        task: T::NAME,
        examples: told.examples,
        loss: told.loss,
        metrics: told.metrics,
        intervals: &told.intervals,
        confusion: told.report.confusion.as_ref(),
        classes: &told.report.classes,
        sure,
        curve: report::curve(folder),
        mistakes,
    }
}

impl Told<'_> {
    fn json(self, task: &str) -> Value {
        let mut json = Map::new();
        let mut add = |key: &str, value: Value| json.insert(key.to_owned(), value);
        add("task", task.into());
        add("examples", self.examples.into());
        if let Some(loss) = self.loss {
            add("loss", loss.into());
        }
        for (name, value) in self.metrics {
            add(name, (*value).into());
        }
        let pair = |range: &Interval| json!([range.low, range.high]);
        let intervals = self.intervals.iter().map(|(name, range)| (name.clone(), pair(range)));
        add("intervals", intervals.collect::<Map<_, _>>().into());
        if let Some((labels, counts)) = &self.report.confusion {
            add("labels", json!(labels));
            add("confusion", json!(counts));
        }
        if let Some(Comparison { differences, mcnemar }) = &self.comparison {
            let of = |difference: &Difference| {
                let Difference { value, interval, p } = difference;
                json!({ "value": value, "interval": pair(interval), "p": p })
            };
            let differences = differences.iter().map(|(name, other)| (name.clone(), of(other)));
            let mcnemar = mcnemar.map(|McNemar { only_first, only_second, p }| {
                json!({ "only_first": only_first, "only_second": only_second, "p": p })
            });
            let differences: Map<_, _> = differences.collect();
            add("against", json!({ "differences": differences, "mcnemar": mcnemar }));
        }
        if !self.notes.is_empty() {
            add("notes", json!(self.notes));
        }
        if self.cut > 0 {
            add("cut", self.cut.into());
        }
        if self.cut_targets > 0 {
            add("cut_targets", self.cut_targets.into());
        }
        if let Some(beside) = &self.beside {
            add("knn", json!(beside));
        }
        add("seconds", self.seconds.into());
        if let Some(pace) = &self.pace {
            add("tokens_per_second", pace.tokens_per_second().into());
        }
        json.extend(self.report.json);
        json.into()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if let Some((labels, counts)) = &self.report.confusion {
            text += &counts.table(labels);
            text.push('\n');
        }
        if !self.report.text.is_empty() {
            text += &self.report.text;
            text.push('\n');
        }
        let percent = |value: f64| 100.0 * value;
        for (name, words) in self.words {
            let Some(value) = self.metrics.get(*name) else { continue };
            text += &format!("{words} {:.2} %", percent(*value));
            if let Some(Interval { low, high }) = self.intervals.get(*name) {
                let (low, high) = (percent(*low), percent(*high));
                text += &format!(" (95 % interval {low:.2} to {high:.2})");
            }
            text += ", ";
        }
        for (name, words) in self.numbers {
            let Some(value) = self.metrics.get(*name) else { continue };
            text += &format!("{words} {value:.4}");
            if let Some(Interval { low, high }) = self.intervals.get(*name) {
                text += &format!(" (95 % interval {low:.4} to {high:.4})");
            }
            text += ", ";
        }
        match self.loss {
            Some(loss) => text += &format!("loss {loss:.4}"),
            None => text.truncate(text.trim_end_matches(", ").len()),
        }
        text += &format!(" over {} examples in {:.1} s", self.examples, self.seconds);
        if let Some(pace) = &self.pace {
            text += &format!(", {:.0} tokens written a second", pace.tokens_per_second());
        }
        for (note, count) in &self.notes {
            text += &format!("\n{count} {note}");
        }
        if self.cut > 0 {
            text += &format!("\nof {} text(s) the first tokens alone were read", self.cut);
        }
        if self.cut_targets > 0 {
            let count = self.cut_targets;
            text += &format!("\nthe loss is of the first tokens alone of {count} target(s)");
        }
        if let Some(beside) = &self.beside {
            text += &format!("\n{beside}");
        }
        let Some(Comparison { differences, mcnemar }) = &self.comparison else { return text };
        for (name, words) in self.words {
            let Some(Difference { value, interval, p }) = differences.get(*name) else { continue };
            let [value, low, high] = [*value, interval.low, interval.high].map(percent);
            text += &format!(
                "\n{words}: {value:+.2} points against the other model (95 % interval {low:+.2} \
                 to {high:+.2}), p = {p:.4} by paired bootstrap"
            );
        }
        for (name, words) in self.numbers {
            let Some(Difference { value, interval, p }) = differences.get(*name) else { continue };
            let Interval { low, high } = interval;
            text += &format!(
                "\n{words}: {value:+.4} against the other model (95 % interval {low:+.4} to \
                 {high:+.4}), p = {p:.4} by paired bootstrap"
            );
        }
        if let Some(McNemar { only_first, only_second, p }) = mcnemar {
            text += &format!(
                "\nright alone: this model {only_first}, the other {only_second}; p = {p:.4} by \
                 McNemar's exact test"
            );
        }
        text
    }
}
