//! The flags of tasks whose answers are written: what is learnt, and how answers are searched for.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use longhand::recipe::Data;
use longhand_tasks::Task;
use longhand_tasks::task::Reading;
use serde_json::{Value, json};

use super::drawing::DrawingArguments;
use super::flags::first;
use crate::error::Usage;
use crate::reading::absolute;

/// What is learnt to be written.
#[derive(Args)]
#[command(next_help_heading = "Writing")]
pub(super) struct WritingFlags {
    /// The file of targets of a --data file of sources: line n belongs to line n; one for each
    /// --data, in the same order
    #[arg(long, value_name = "FILE")]
    targets: Vec<PathBuf>,
    /// The files of targets of the --valid files
    #[arg(long, value_name = "FILE", requires = "valid")]
    valid_targets: Vec<PathBuf>,
    /// The files of targets of the --test files
    #[arg(long, value_name = "FILE", requires = "test")]
    test_targets: Vec<PathBuf>,
    /// The share of the data to test on, by the hash of its sources, where there is no --test
    #[arg(long, value_name = "X", conflicts_with = "test")]
    test_fraction: Option<f64>,
    /// How the source is read: stream, in one stream with the target,
    /// or encoder-decoder [default: as MODEL or the preset reads it, else stream]
    #[arg(long, value_name = "FORM")]
    form: Option<String>,
    /// The column of the source, by name or by number from 0 [default: source, document or question,
    /// as the task calls it]
    #[arg(long, value_name = "COLUMN")]
    source_column: Option<String>,
    /// The column of the target [default: target, summary or answer]
    #[arg(long, value_name = "COLUMN")]
    target_column: Option<String>,
    /// The column of a text that a question is about [default: none]
    #[arg(long, value_name = "COLUMN")]
    context_column: Option<String>,
    /// Learn to translate from the target to the source too: one or both [default: one]
    #[arg(long, value_name = "WHICH")]
    directions: Option<String>,
    /// The languages of the source and of the target, which name the directions: de,en
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    languages: Vec<String>,
    /// The column of further right texts, which count where the model is measured: a list in JSON, or a
    /// cell with `|||` between them [default: none]
    #[arg(long, value_name = "COLUMN")]
    references_column: Option<String>,
    /// Where a question about a text is read: behind it, or both before it and
    /// behind it [default: behind]
    #[arg(long, value_name = "PLACE")]
    question: Option<String>,
    /// Read each character of a source as a word of its own [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    spelled: Option<bool>,
    /// Answers are symbols between white space, such as phonemes: measure their
    /// error rates [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    symbols: Option<bool>,
    /// Give sources a tokeniser and an embedding of their own, of a model with an encoder [default:
    /// false; of MODEL as it has them]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    separate_vocabularies: Option<bool>,
    /// Put texts into lower case [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    lowercase: Option<bool>,
}

/// How answers are written.
#[derive(Args)]
#[command(next_help_heading = "Writing")]
pub(crate) struct SearchArguments {
    /// Partial answers that are kept at each step; 1 takes the most probable token always [default:
    /// the model's, of a new one 5]
    #[arg(long, value_name = "N")]
    beam: Option<NonZeroUsize>,
    /// Prefer longer answers by this exponent of their length; 0 for none [default: the model's, of
    /// a new one 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    length_penalty: Option<f32>,
    /// Prefer answers that attend to all of the source; 0 for none [default: the model's, of
    /// a new one 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    coverage_penalty: Option<f32>,
    /// The most tokens of an answer [default: the longest target that was learnt]
    #[arg(long, value_name = "N")]
    max_length: Option<NonZeroUsize>,
    /// The fewest tokens of an answer [default: 0]
    #[arg(long, value_name = "N")]
    min_length: Option<usize>,
    /// Write no run of N tokens twice; 0 for any [default: the model's, of a new one 0]
    #[arg(long, value_name = "N")]
    no_repeat_ngram: Option<usize>,
    /// Keep N groups of partial answers that differ from each other; N divides the beam [default: the
    /// model's, of a new one 1]
    #[arg(long, value_name = "N")]
    diverse: Option<NonZeroUsize>,
    /// What a token costs for each group that chose it before in the same step [default: 0.5 with
    /// --diverse]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    diversity: Option<f32>,
    /// End a search when X times as many answers as beams have ended [default: the model's, of
    /// a new one 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    patience: Option<f32>,
    /// Write a word that the vocabulary lacks as the word of the source that it attends to most, of an
    /// encoder and a decoder of whole words
    #[arg(long)]
    replace_unknown: bool,
    /// The direction to translate in, such as de-en, of a model that knows both
    #[arg(long, value_name = "A-B")]
    direction: Option<String>,
    #[command(flatten)]
    drawing: DrawingArguments,
}

impl WritingFlags {
    /// Puts the files of targets beside those of sources. Flags win over the recipe.
    pub(super) fn apply(&self, data: &mut Data, train: &[PathBuf]) -> Result<()> {
        let parts = [
            ("--targets", &self.targets, "--data", train),
            ("--valid-targets", &self.valid_targets, "--valid", &data.valid[..]),
            ("--test-targets", &self.test_targets, "--test", &data.test[..]),
        ];
        let mut pairs = Vec::new();
        for (flag, targets, of, sources) in parts {
            pairs.extend(paired((flag, targets), (of, sources))?);
        }
        for (source, target) in pairs {
            data.targets.insert(absolute(&source)?, absolute(&target)?);
        }
        if let Some(fraction) = self.test_fraction {
            if !(0.0..1.0).contains(&fraction) {
                let text = "must be at least 0 and less than 1";
                return Err(Usage(format!("--test-fraction is {fraction}, but {text}")).into());
            }
            data.test_fraction = fraction;
        }
        Ok(())
    }

    /// Refuses a share to test on for a task that writes nothing, which holds none out.
    pub(super) fn refuse_share(&self, task: &str) -> Result<(), Usage> {
        let text = "is for tasks that write: name the file of examples to test on with --test";
        match self.test_fraction {
            None => Ok(()),
            Some(_) => Err(Usage(format!("--test-fraction {text}, as the task is {task}"))),
        }
    }

    /// The settings of the task that flags name.
    pub(super) fn settings(&self) -> Vec<(&'static str, Value)> {
        let text = |value: &Option<String>| value.clone().map(Value::from);
        let languages = Some(&self.languages).filter(|names| !names.is_empty());
        let settings = [
            ("form", text(&self.form)),
            ("source_column", text(&self.source_column)),
            ("target_column", text(&self.target_column)),
            ("context_column", text(&self.context_column)),
            ("references_column", text(&self.references_column)),
            ("question", text(&self.question)),
            ("spelled", self.spelled.map(Value::from)),
            ("symbols", self.symbols.map(Value::from)),
            ("separate_vocabularies", self.separate_vocabularies.map(Value::from)),
            ("directions", text(&self.directions)),
            ("languages", languages.map(|names| json!(names))),
            ("lowercase", self.lowercase.map(Value::from)),
        ];
        settings.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }

    /// The first flag that is given and that says how a network writes.
    pub(super) fn given(&self) -> Option<&'static str> {
        let named = |flags: &[(&'static str, bool)]| first(flags);
        named(&[("--form", self.form.is_some()), ("--directions", self.directions.is_some())])
    }
}

impl SearchArguments {
    /// The first flag that is given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let of_both = first(&[
            ("--max-length", self.max_length.is_some()),
            ("--min-length", self.min_length.is_some()),
            ("--no-repeat-ngram", self.no_repeat_ngram.is_some()),
            ("--replace-unknown", self.replace_unknown),
            ("--direction", self.direction.is_some()),
        ]);
        self.given_of_search().or(of_both).or(self.drawing.given())
    }

    /// The first flag that is given and says something of searches alone.
    fn given_of_search(&self) -> Option<&'static str> {
        first(&[
            ("--beam", self.beam.is_some()),
            ("--length-penalty", self.length_penalty.is_some()),
            ("--coverage-penalty", self.coverage_penalty.is_some()),
            ("--diverse", self.diverse.is_some()),
            ("--diversity", self.diversity.is_some()),
            ("--patience", self.patience.is_some()),
        ])
    }

    /// Refuses a seed where no text is drawn.
    pub(crate) fn check_seed(&self, seed: Option<u64>) -> Result<(), Usage> {
        self.drawing.check_seed(seed)
    }

    /// Lays the flags over what a task's file says. `hypotheses` answers are given for each example;
    /// those that are drawn are drawn with `seed`.
    pub(crate) fn apply<T: Task>(
        &self,
        task: &mut T,
        hypotheses: Option<NonZeroUsize>,
        seed: u64,
    ) -> Result<(), Usage> {
        if let Some(name) = &self.direction {
            let known = task.directions();
            let place = known.iter().position(|direction| direction == name).ok_or_else(|| {
                let known = match known.is_empty() {
                    true => "it has none with a name".to_owned(),
                    false => format!("it has {}", known.join(" and ")),
                };
                Usage(format!("the model does not know the direction {name}: {known}"))
            })?;
            task.choose_direction(place);
        }
        let most = task.most_written();
        let Some(search) = task.search_mut() else {
            return match self.given().or(hypotheses.map(|_| "--nbest")) {
                None => Ok(()),
                Some(flag) => Err(Usage(format!(
                    "{flag} is for tasks whose answers are written, and {} is none: leave it out",
                    T::NAME
                ))),
            };
        };
        search.sampler = self.drawing.settings(seed, self.given_of_search())?;
        search.beam = self.beam.unwrap_or(search.beam);
        search.length_penalty = self.length_penalty.unwrap_or(search.length_penalty);
        search.coverage_penalty = self.coverage_penalty.unwrap_or(search.coverage_penalty);
        search.maximum = self.max_length.or(search.maximum);
        search.minimum = self.min_length.unwrap_or(search.minimum);
        search.no_repeat = self.no_repeat_ngram.unwrap_or(search.no_repeat);
        search.patience = self.patience.unwrap_or(search.patience);
        search.replace_unknown |= self.replace_unknown;
        let spread = self.diverse.filter(|groups| groups.get() > 1).map(|_| DIVERSITY);
        search.diversity = self.diversity.or(spread).unwrap_or(search.diversity);
        if let Some(groups) = self.diverse {
            search.groups = groups;
            if groups.get() == 1 && self.diversity.is_none() {
                search.diversity = 0.0;
            }
        }
        if let Some(hypotheses) = hypotheses {
            search.hypotheses = hypotheses;
            // As many answers that are searched for need as many beams.
            if self.beam.is_none() && search.sampler.is_none() {
                search.beam = search.beam.max(hypotheses);
            }
        }
        // Nobody asked for a beam that the groups do not divide.
        if self.beam.is_none() {
            let whole = search.beam.get().next_multiple_of(search.groups.get());
            search.beam = NonZeroUsize::new(whole).unwrap_or(search.beam);
        }
        search.check().map_err(|(key, value, reason)| {
            let flag = match key {
                "minimum" => "min-length".to_owned(),
                "groups" => "diverse".to_owned(),
                key => key.replace('_', "-"),
            };
            Usage(format!("--{flag} is {value}, but {reason}"))
        })?;
        match search.maximum {
            None if search.minimum > most.get() => Err(Usage(format!(
                "--min-length is {}, but the model writes at most {most} tokens, the longest target \
                 that it learnt: lower it, or pass a --max-length above it",
                search.minimum
            ))),
            _ => Ok(()),
        }
    }

    /// Refuses examples whose direction nobody names.
    pub(crate) fn check_direction<T: Task>(&self, task: &T) -> Result<(), Usage> {
        let known = task.directions();
        if self.direction.is_some() || known.len() < 2 {
            return Ok(());
        }
        let known = known.join(" or --direction ");
        Err(Usage(format!("the model writes in two directions: pass --direction {known}")))
    }
}

/// What a token costs for each earlier group that chose it, where nobody says how much: within the range
/// that Vijayakumar et al. (2016) found to work.
pub(super) const DIVERSITY: f32 = 0.5;

/// Each file of sources with its file of targets; nothing where no targets are named.
fn paired(
    (flag, targets): (&str, &[PathBuf]),
    (of, sources): (&str, &[PathBuf]),
) -> Result<Vec<(PathBuf, PathBuf)>, Usage> {
    if !targets.is_empty() && targets.len() != sources.len() {
        return Err(Usage(format!(
            "{flag} is given {} time(s), but {of} {}: give a file of targets for each",
            targets.len(),
            sources.len()
        )));
    }
    Ok(sources.iter().cloned().zip(targets.iter().cloned()).collect())
}

/// The same for files that a model reads, as a task reads them. Each is named by its flag.
///
/// # Errors
/// As many targets as sources are not given, or two of them for one source.
pub(crate) fn with_targets(
    mut reading: Reading,
    targets: (&str, &[PathBuf]),
    sources: (&str, &[PathBuf]),
) -> Result<Reading, Usage> {
    for (source, target) in paired(targets, sources)? {
        let name = source.display().to_string();
        match reading.targets.insert(source, target.clone()) {
            Some(other) if other != target => {
                return Err(Usage(format!(
                    "{name} is given two files of targets, {} and {}: leave out one, or copy the \
                     sources into another file",
                    other.display(),
                    target.display()
                )));
            }
            _ => {}
        }
    }
    Ok(reading)
}
