//! Labelled examples for classification.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use super::example::Example;
use super::fault::RowFault;
use super::format::CellOptions;
pub use super::format::{Column, Header, TableFormat};
use super::rows::{FASTTEXT, Rows, first_line, is_marked, row_fault, texts_of_lines};
use super::source::Source;
use super::treebank::{self, TreeOptions};
use crate::error::TextError;

impl TableFormat {
    /// The format that a file has by its name, or where that says nothing by fastText's mark at the
    /// beginning of its first line.
    ///
    /// # Errors
    /// A file that cannot be opened or decompressed.
    pub fn of_file(path: &Path) -> Result<Option<Self>, TextError> {
        if let Some(format) = Self::of_path(path) {
            return Ok(Some(format));
        }
        Ok(is_marked(&Source::open(path)?)?.then_some(Self::Labelled))
    }
}

/// How a table of examples is read.
#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    /// The format; where none is given the name of the file tells it. Any name that
    /// [`TableFormat::of_path`] does not know means [`TableFormat::Labelled`], and without labels a text
    /// in each line, before which fastText's marked labels are left out.
    pub format: Option<TableFormat>,
    /// The column of the text; `text` where none is given.
    pub text: Option<Column>,
    /// The column of the label; `label` where none is given.
    pub label: Option<Column>,
    /// The column of a second text, which an example has beside the first (none).
    pub second: Option<Column>,
    /// Whether a text may have several labels, or none (false). The label of an example is then the
    /// whole cell, and a JSON array if the labels are a list.
    pub several: bool,
    /// Whether most labels come again, as in examples to learn from (false). Lines of a file whose name
    /// says no format are refused if they do not: they begin with no labels.
    pub labels_repeat: bool,
    /// How the trees of a treebank become examples (default: each sentence with its rating).
    pub trees: TreeOptions,
    /// Read the texts alone.
    pub unlabelled: bool,
    /// Whether the first row names the columns; found out by default.
    pub header: Header,
    /// Replace invalid UTF-8 by U+FFFD instead of stopping.
    pub lossy: bool,
}

/// The examples of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The examples, at least one.
    pub examples: Vec<Example>,
    /// Whether the first row named the columns. JSON lines and Parquet need no such row.
    pub header: bool,
    /// Labels that had white space around them, which was taken away.
    pub trimmed: usize,
}

/// Reads the examples of a file, or with `-` of the standard input, compressed or not.
///
/// # Errors
/// A file that is missing, empty, not text, or lacks a column; a row that cannot be read; a first
/// row that may name the columns or be an example; lines of a file whose name says no format that
/// begin with too many words for labels, or are a table with tabs.
pub fn read_table(path: &Path, options: &TableOptions) -> Result<Table, TextError> {
    let source = Source::open(path)?;
    match options.format.or_else(|| TableFormat::of_path(path)) {
        Some(format) => table(&source, format, options),
        None if options.unlabelled => plain_lines(&source, options),
        None => labelled_lines(&source, options),
    }
}

/// The examples of lines that are taken for `LABEL text` lines, as nothing says what they are.
fn labelled_lines(source: &Source, options: &TableOptions) -> Result<Table, TextError> {
    let first = first_line(source)?;
    let tabs = if first.starts_with(FASTTEXT) { 0 } else { first.matches('\t').count() };
    let tabbed = || TextError::Tabbed(source.name().to_owned());
    if tabs > 0 && options.header != Header::No && names_columns(&first, options.several) {
        return Err(tabbed());
    }
    let read = || {
        let table = table(source, TableFormat::Labelled, options)?;
        // A label that is marked may be as rare as it likes.
        if options.labels_repeat && !options.several && !first.starts_with(FASTTEXT) {
            check_labels(source.name(), labels_of(&table.examples))?;
        }
        Ok(table)
    };
    read().map_err(|error| match error {
        TextError::Column { .. } | TextError::NoLabelWords { .. } if tabs > 0 => tabbed(),
        // A label and a text may have a tab between them.
        TextError::Row { .. } if tabs > 1 => tabbed(),
        error => error,
    })
}

/// Whether a line with tabs names a column of texts and one of labels, and the label and the text of
/// a `LABEL text` line would not be these two.
fn names_columns(line: &str, several: bool) -> bool {
    let cells: Vec<&str> = line.split('\t').collect();
    let names_text = cells.iter().any(|cell| is_usual(cell, &TEXT_NAMES));
    let names_label = cells.iter().any(|cell| is_usual(cell, &LABEL_NAMES));
    let in_order = matches!(cells[..], [label, text]
        if is_usual(label, &LABEL_NAMES) && is_usual(text, &TEXT_NAMES));
    // Lines of several labels have a mark before each.
    names_text && names_label && (several || !in_order)
}

/// The text of each line of a file without labels.
fn plain_lines(source: &Source, options: &TableOptions) -> Result<Table, TextError> {
    if let Some(column) = &options.second {
        let (name, column) = (source.name().to_owned(), column.to_string());
        return Err(TextError::Column { name, column, found: "one, the text of a line".into() });
    }
    let texts = texts_of_lines(source, options.lossy)?;
    let example = |text| Example { label: None, text, second: None };
    match texts.is_empty() {
        true => Err(TextError::NoExamples(source.name().to_owned())),
        false => {
            Ok(Table { examples: texts.into_iter().map(example).collect(), ..Table::default() })
        }
    }
}

/// The fewest different first words of lines that can be too many for labels.
const FEWEST_WORDS: usize = 10;
/// The most of a hundred different labels that come once. Of the words that lines of prose begin with
/// 48 to 78 came once (1,000 to 30,000 lines of Multi30k, Tatoeba, WikiText-2 and film reviews), and of
/// the 50 labels of TREC 10 among 1,000 lines, 40 among 100.
const MOST_ONCE: usize = 40;

/// Refuses the first words of the lines of a file if they are no labels: labels come again, where many
/// words that lines begin with do not.
///
/// # Errors
/// [`TextError::NoLabelWords`] with `name` for the file.
pub fn check_labels<'a>(
    name: &str,
    labels: impl Iterator<Item = &'a str>,
) -> Result<(), TextError> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for label in labels {
        *counts.entry(label).or_default() += 1;
    }
    let once = counts.values().filter(|&&count| count == 1).count();
    if counts.len() < FEWEST_WORDS || 100 * once <= MOST_ONCE * counts.len() {
        return Ok(());
    }
    let (name, lines, words) = (name.to_owned(), counts.values().sum(), counts.len());
    Err(TextError::NoLabelWords { name, lines, words, once })
}

/// The labels of those examples that have one.
fn labels_of(examples: &[Example]) -> impl Iterator<Item = &str> {
    examples.iter().filter_map(|example| example.label.as_deref())
}

/// The examples of [`read_table`].
///
/// # Errors
/// The errors of [`read_table`] for this file.
pub fn read_examples(path: &Path, options: &TableOptions) -> Result<Vec<Example>, TextError> {
    Ok(read_table(path, options)?.examples)
}

/// Reads the examples of a table given as bytes; `name` is for messages.
///
/// # Errors
/// The errors of [`read_table`], with `name` for the path.
pub fn parse_examples(
    name: &str,
    bytes: Vec<u8>,
    format: TableFormat,
    options: &TableOptions,
) -> Result<Vec<Example>, TextError> {
    Ok(table(&Source::memory(name, bytes), format, options)?.examples)
}

/// The labels of a task, each with its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels {
    names: Vec<String>,
}

impl Labels {
    /// The distinct labels of examples, as [`Labels::of_names`] sorts them.
    pub fn of(examples: &[Example]) -> Self {
        Self::of_names(examples.iter().filter_map(|example| example.label.clone()))
    }

    /// The distinct names: whole numbers by value, others by their characters.
    pub fn of_names(names: impl IntoIterator<Item = String>) -> Self {
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        let numbers: Option<Vec<i64>> = names.iter().map(|name| name.parse().ok()).collect();
        if numbers.is_some() {
            names.sort_by_key(|name| name.parse::<i64>().unwrap_or(0));
        }
        Self { names }
    }

    /// The same labels, with ids by rising `key`.
    pub fn sorted_by_key(mut self, key: impl Fn(&str) -> f64) -> Self {
        self.names.sort_by(|a, b| key(a).total_cmp(&key(b)));
        self
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The labels by id.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The id of a label.
    ///
    /// # Errors
    /// [`TextError::Label`] where there is no such label.
    pub fn id(&self, label: &str) -> Result<u32, TextError> {
        let place = self.names.iter().position(|name| name == label);
        place.map(|id| id as u32).ok_or_else(|| TextError::Label {
            label: label.to_owned(),
            known: self.names.join(", "),
        })
    }

    /// How many examples have each label, by id; unknown labels are not counted.
    pub fn counts(&self, examples: &[Example]) -> Vec<usize> {
        let ids: HashMap<&str, usize> = self.names.iter().map(String::as_str).zip(0..).collect();
        let mut counts = vec![0; self.names.len()];
        let labels = examples.iter().filter_map(|example| example.label.as_deref());
        for &id in labels.filter_map(|label| ids.get(label)) {
            counts[id] += 1;
        }
        counts
    }
}

fn table(source: &Source, format: TableFormat, options: &TableOptions) -> Result<Table, TextError> {
    if format == TableFormat::Trees {
        let examples = treebank(source, options)?;
        return Ok(Table { examples, ..Table::default() });
    }
    let columns = columns(source, format, options)?;
    let named = columns.iter().any(|column| matches!(column, Column::Name(_)));
    let may_have = matches!(format, TableFormat::Csv | TableFormat::Tsv | TableFormat::Labelled);
    let header = match options.header {
        Header::Auto => named && may_have,
        Header::Yes => may_have,
        Header::No => false,
    };
    let cells = CellOptions { lossy: options.lossy, lists: options.several };
    let rows = Rows::open(source, format, header, &columns, cells);
    let mut rows = rows.map_err(|error| match error {
        TextError::Empty(name) => TextError::NoExamples(name),
        error => error,
    })?;
    let mut table = Table { header, ..Table::default() };
    let mut first_row = 0;
    while let Some(cells) = rows.next().transpose()? {
        if table.examples.is_empty() {
            first_row = rows.row();
        }
        let mut cells = cells.into_iter();
        let text = cells.next().unwrap_or_default();
        let second = options.second.as_ref().and_then(|_| cells.next());
        let label = cells.next().map(|label| {
            let trimmed = label.trim();
            table.trimmed += usize::from(trimmed.len() < label.len());
            trimmed.to_owned()
        });
        if label.as_deref() == Some("") && !options.several {
            return Err(row_fault(source.name(), rows.row(), RowFault::NoLabel));
        }
        table.examples.push(Example { label, text, second });
    }
    if may_have && !header && options.header == Header::Auto {
        match first_row_kind(&table.examples) {
            FirstRow::Example => {}
            FirstRow::Header => {
                table.examples.remove(0);
                table.header = true;
            }
            FirstRow::Either(label) => {
                return Err(row_fault(source.name(), first_row, RowFault::MaybeHeader(label)));
            }
        }
    }
    if table.examples.is_empty() {
        return Err(TextError::NoExamples(source.name().to_owned()));
    }
    Ok(table)
}

/// The examples of a treebank, at least one.
fn treebank(source: &Source, options: &TableOptions) -> Result<Vec<Example>, TextError> {
    if let Some(column) =
        [&options.text, &options.label, &options.second].into_iter().flatten().next()
    {
        let (name, column) = (source.name().to_owned(), column.to_string());
        let found = "none, as its lines are trees".into();
        return Err(TextError::Column { name, column, found });
    }
    let (unlabelled, lossy) = (options.unlabelled, options.lossy);
    let examples = treebank::examples(source, options.trees, (unlabelled, lossy))?;
    match examples.is_empty() {
        true => Err(TextError::NoExamples(source.name().to_owned())),
        false => Ok(examples),
    }
}

/// The columns of the text, of the second text if there is one, and, unless labels are left
/// out, of the label.
fn columns(
    source: &Source,
    format: TableFormat,
    options: &TableOptions,
) -> Result<Vec<Column>, TextError> {
    let (default_text, default_label) = match format {
        TableFormat::Labelled => (Column::Index(1), Column::Index(0)),
        _ => (Column::Name("text".into()), Column::Name("label".into())),
    };
    let text = options.text.clone().unwrap_or(default_text);
    let mut columns = vec![text];
    columns.extend(options.second.clone());
    if !options.unlabelled {
        columns.push(options.label.clone().unwrap_or(default_label));
    }
    let twice = (1..columns.len()).find(|&place| columns[..place].contains(&columns[place]));
    if let Some(place) = twice {
        let (name, column) = (source.name().to_owned(), columns[place].to_string());
        return Err(match &options.second {
            Some(_) => TextError::SameColumns { name, column },
            None => TextError::SameColumn { name, column },
        });
    }
    Ok(columns)
}

/// The role of the first row of a table.
enum FirstRow {
    Example,
    Header,
    /// An example whose label no other one has, where labels otherwise come often.
    Either(String),
}

/// Usual names of the column of the text.
const TEXT_NAMES: [&str; 14] = [
    "text",
    "sentence",
    "review",
    "content",
    "comment",
    "body",
    "title",
    "question",
    "message",
    "document",
    "tweet",
    "headline",
    "utterance",
    "text_a",
];
/// Usual names of the column of the label.
const LABEL_NAMES: [&str; 13] = [
    "label",
    "labels",
    "class",
    "category",
    "target",
    "sentiment",
    "intent",
    "topic",
    "rating",
    "score",
    "stars",
    "tag",
    "y",
];

/// Whether a cell is one of the usual names of a column.
fn is_usual(cell: &str, names: &[&str]) -> bool {
    names.contains(&cell.trim().to_lowercase().as_str())
}

fn first_row_kind(examples: &[Example]) -> FirstRow {
    let Some((first, others)) = examples.split_first() else { return FirstRow::Example };
    let names_text = is_usual(&first.text, &TEXT_NAMES);
    let Some(label) = &first.label else {
        return if names_text { FirstRow::Header } else { FirstRow::Example };
    };
    if others.iter().any(|example| example.label.as_ref() == Some(label)) {
        return FirstRow::Example;
    }
    if names_text || is_usual(label, &LABEL_NAMES) {
        return FirstRow::Header;
    }
    // One label of its own among many rows of few labels is a name, or a very rare class.
    let labels = Labels::of(others);
    let few = others.len() >= 4 * labels.len().max(2);
    let numbers = labels.names().iter().all(|name| name.parse::<f64>().is_ok());
    let differs = numbers && label.parse::<f64>().is_err();
    let often = labels.counts(others).into_iter().all(|count| count > 1);
    if few && (often || differs) { FirstRow::Either(label.clone()) } else { FirstRow::Example }
}
