//! Pairs of texts from files: a source, and the right texts to write from it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use longhand_text::corpus::Column;
use longhand_text::corpus::parallel::{Parallel, read_lines};
use longhand_text::corpus::questions::Questions;
use longhand_text::corpus::stories::{begins_story, read_stories};
use longhand_text::corpus::table::{Example as Row, TableOptions, read_table};
use longhand_text::{TableFormat, TextError};
use serde::de::IgnoredAny;

use super::kind::{Fields, Kind};
use super::settings::Settings;
use super::{groups, symbols};
use crate::error::TaskError;
use crate::task::Reading;

/// A source with the right texts to write from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// The texts to read: one, or a context and the question about it.
    pub source: Vec<Arc<str>>,
    /// The right texts, of which the first is learnt; empty where they are not known.
    pub targets: Vec<String>,
    /// The group that it is measured in beside all examples together: of a story, its file; none
    /// elsewhere.
    pub group: Option<Arc<str>>,
    /// What an unknown answer must begin with, if the example says it.
    pub beginning: Option<String>,
}

impl Example {
    /// Whether no right text is known.
    pub fn is_unanswered(&self) -> bool {
        self.targets.is_empty()
    }

    /// An example to predict. Where questions have a context, a tab parts the two.
    pub(super) fn of_line<K: Kind>(line: &str) -> Self {
        let parts = match (K::FIELDS.context, line.rsplit_once('\t')) {
            (Some(_), Some((context, question))) => vec![context, question],
            _ => vec![line],
        };
        let source = parts.into_iter().map(|part| part.trim().into()).collect();
        Self { source, ..Self::default() }
    }

    /// The texts in lower case, and the sources with a space between any two characters, where these
    /// are asked for.
    pub(super) fn prepared(mut self, lowercase: bool, spelled: bool) -> Self {
        if lowercase {
            self.source.iter_mut().for_each(|text| *text = text.to_lowercase().into());
            let written = self.targets.iter_mut().chain(&mut self.beginning);
            written.for_each(|text| *text = text.to_lowercase());
        }
        if spelled {
            self.source.iter_mut().for_each(|text| *text = symbols::spelled(text).into());
        }
        self
    }

    /// The side that has no text.
    pub(super) fn empty_side(&self) -> Option<&'static str> {
        let has_text = |text: &str| !text.trim().is_empty();
        match () {
            // A story may be empty before its first question.
            _ if !self.source.last().is_some_and(|text| has_text(text)) => Some("source"),
            _ if !self.targets.first().is_some_and(|text| has_text(text)) => Some("target"),
            _ => None,
        }
    }
}

/// The examples of a file, as the file holds them.
pub(super) fn examples<K: Kind>(
    settings: &Settings,
    file: &Path,
    reading: &Reading,
) -> Result<Vec<Example>, TaskError> {
    let pair = |source: String, target: Option<String>| Example {
        source: vec![source.into()],
        targets: target.into_iter().collect(),
        ..Example::default()
    };
    if let Some(targets) = reading.targets.get(file) {
        let Parallel { pairs } = Parallel::read(file, targets, reading.lossy)?;
        return Ok(pairs.into_iter().map(|(source, target)| pair(source, Some(target))).collect());
    }
    match format(file, reading) {
        Some(_) if !is_table::<K>(settings, file, reading) => questions(file, reading),
        None if K::FIELDS.context.is_some() && holds_stories(file, reading)? => {
            stories(file, reading)
        }
        Some(format) => table::<K>(settings, file, reading, format),
        None if reading.unlabelled => {
            let lines = read_lines(file, reading.lossy)?;
            Ok(lines.iter().map(|line| Example::of_line::<K>(line)).collect())
        }
        None if !file.exists() => Err(TextError::Missing(file.into()).into()),
        None => match fs_err::metadata(file)? {
            facts if facts.is_file() && facts.len() == 0 => {
                Err(TaskError::EmptyFile(file.display().to_string()))
            }
            _ => Err(TaskError::NoTargets(file.display().to_string())),
        },
    }
}

pub(super) fn format(file: &Path, reading: &Reading) -> Option<TableFormat> {
    reading.format.or_else(|| TableFormat::of_path(file))
}

/// Whether the examples of a file are rows of a table. Questions in JSON are those of SQuAD, unless
/// a column is named or they have no context.
pub(super) fn is_table<K: Kind>(settings: &Settings, file: &Path, reading: &Reading) -> bool {
    let names_columns = settings.source_column.is_some() || reading.text_column.is_some();
    match format(file, reading) {
        None => false,
        Some(TableFormat::JsonLines) => {
            names_columns
                || K::FIELDS.context.is_none_or(|key| no_line_has::<K>(key, file, reading))
        }
        Some(_) => true,
    }
}

/// Whether the lines of a file of JSON are sources of which none has a context, by its key. Where some
/// lines have one, the others are told as faults: without it they would be learnt as something else.
fn no_line_has<K: Kind>(context: &str, file: &Path, reading: &Reading) -> bool {
    // A pipe can be read once.
    if !file.is_file() {
        return false;
    }
    // A file that cannot be read is told by whoever reads its examples.
    let lines = read_lines(file, reading.lossy).unwrap_or_default();
    let keys = |line: &String| serde_json::from_str::<BTreeMap<String, IgnoredAny>>(line).ok();
    let first = lines.iter().find(|line| !line.is_empty()).and_then(keys);
    first.is_some_and(|keys| keys.contains_key(K::FIELDS.source))
        && !lines.iter().filter_map(keys).any(|keys| keys.contains_key(context))
}

/// How the sources of a table are read.
pub(super) fn table_of_sources<K: Kind>(settings: &Settings, reading: &Reading) -> TableOptions {
    let named = settings.source_column.as_deref().or(reading.text_column.as_deref());
    TableOptions { text: column(named, Some(K::FIELDS.source)), ..reading.table() }
}

/// A column by its name or number, or by its usual name.
pub(super) fn column(named: Option<&str>, own: Option<&str>) -> Option<Column> {
    // Parsing a column cannot fail: a text that is no number is a name.
    named.or(own)?.parse().ok()
}

/// The rows of a table.
fn table<K: Kind>(
    settings: &Settings,
    file: &Path,
    reading: &Reading,
    format: TableFormat,
) -> Result<Vec<Example>, TaskError> {
    if matches!(format, TableFormat::Labelled | TableFormat::Trees) {
        return Err(TaskError::NoTargets(file.display().to_string()));
    }
    let Fields { target, .. } = K::FIELDS;
    let target = column(settings.target_column.as_deref(), Some(target));
    let context = column(settings.context_column.as_deref(), None);
    let labelled = !reading.unlabelled;
    // The target is a label where a context takes the place of the second text.
    let is_label = labelled && context.is_some();
    let options = TableOptions {
        second: if is_label || !labelled { context.clone() } else { target.clone() },
        label: target.filter(|_| is_label),
        unlabelled: !is_label,
        format: Some(format),
        ..table_of_sources::<K>(settings, reading)
    };
    let example = |row: Row| {
        let Row { text, second, label } = row;
        let (context, target) = match (context.is_some(), labelled) {
            (true, true) => (second, label),
            (true, false) => (second, None),
            (false, true) => (None, second),
            (false, false) => (None, None),
        };
        let parts = context.into_iter().chain([text]);
        Example {
            source: parts.map(|part| part.trim().into()).collect(),
            targets: target.iter().map(|target| target.trim().to_owned()).collect(),
            ..Example::default()
        }
    };
    Ok(read_table(file, &options)?.examples.into_iter().map(example).collect())
}

/// The questions of SQuAD's JSON, each with its context. A question without an answer is left out
/// unless it is to be predicted.
fn questions(file: &Path, reading: &Reading) -> Result<Vec<Example>, TaskError> {
    let read = Questions::read(file, reading.lossy)?;
    let examples = read.iter().map(|(context, question)| Example {
        source: vec![context.clone(), question.text.trim().into()],
        targets: match reading.unlabelled {
            true => Vec::new(),
            false => question.answers.iter().map(|answer| answer.text.trim().into()).collect(),
        },
        ..Example::default()
    });
    let examples: Vec<Example> =
        examples.filter(|example| reading.unlabelled || !example.is_unanswered()).collect();
    match examples.is_empty() {
        true => Err(TaskError::NoAnswers(file.display().to_string())),
        false => Ok(examples),
    }
}

/// Whether a file has the form of stories.
fn holds_stories(file: &Path, reading: &Reading) -> Result<bool, TaskError> {
    // A pipe can be read once.
    if !file.is_file() {
        return Ok(false);
    }
    let lines = read_lines(file, reading.lossy)?;
    Ok(lines.iter().find(|line| !line.is_empty()).is_some_and(|line| begins_story(line)))
}

/// The questions of stories.
fn stories(file: &Path, reading: &Reading) -> Result<Vec<Example>, TaskError> {
    let read = read_stories(file, reading.lossy)?;
    let group: Arc<str> = groups::of_file(file).into();
    let example = |question: longhand_text::corpus::stories::StoryQuestion| Example {
        source: vec![question.story, question.question.into()],
        targets: if reading.unlabelled { Vec::new() } else { vec![question.answer] },
        group: Some(group.clone()),
        beginning: None,
    };
    Ok(read.into_iter().map(example).collect())
}
