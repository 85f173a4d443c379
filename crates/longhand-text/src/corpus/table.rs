//! Labelled examples for classification.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::source::Source;
use super::table_format::Rows;
pub use super::table_format::{Column, TableFormat};
use crate::TextError;

/// How a table of examples is read.
#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    /// The format; where none is given the file's name tells it, and any other name than
    /// `.jsonl`, `.csv`, `.tsv` and `.parquet` means [`TableFormat::Labelled`].
    pub format: Option<TableFormat>,
    /// The column of the text; `text` where none is given.
    pub text: Option<Column>,
    /// The column of the label; `label` where none is given.
    pub label: Option<Column>,
    /// Read the texts alone.
    pub unlabelled: bool,
    /// Whether the first row of CSV or TSV names the columns; where not said, it does unless all
    /// columns are given by number.
    pub header: Option<bool>,
    /// Replace invalid UTF-8 by U+FFFD instead of stopping.
    pub lossy: bool,
}

/// A text with its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The label as it is written, or none where labels were not asked for.
    pub label: Option<String>,
    /// The text.
    pub text: String,
}

/// Reads the examples of a file, or with `-` of the standard input, compressed or not.
///
/// # Errors
/// A file that is missing, empty, not text, or lacks a column; a row that cannot be read.
pub fn read_examples(path: &Path, options: &TableOptions) -> Result<Vec<Example>, TextError> {
    let format =
        options.format.or_else(|| TableFormat::of_path(path)).unwrap_or(TableFormat::Labelled);
    examples(&Source::open(path)?, format, options)
}

/// Reads the examples of a table given as bytes; `name` is for messages.
///
/// # Errors
/// As [`read_examples`].
pub fn parse_examples(
    name: &str,
    bytes: Vec<u8>,
    format: TableFormat,
    options: &TableOptions,
) -> Result<Vec<Example>, TextError> {
    examples(&Source::memory(name, bytes), format, options)
}

/// The labels of a task, each with its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels {
    names: Vec<String>,
}

impl Labels {
    /// The distinct labels of examples: whole numbers by value, others by their characters.
    pub fn of(examples: &[Example]) -> Self {
        let mut names: Vec<String> =
            examples.iter().filter_map(|example| example.label.clone()).collect();
        names.sort_unstable();
        names.dedup();
        let numbers: Option<Vec<i64>> = names.iter().map(|name| name.parse().ok()).collect();
        if numbers.is_some() {
            names.sort_by_key(|name| name.parse::<i64>().unwrap_or(0));
        }
        Self { names }
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
}

fn examples(
    source: &Source,
    format: TableFormat,
    options: &TableOptions,
) -> Result<Vec<Example>, TextError> {
    let (default_text, default_label) = match format {
        TableFormat::Labelled => (Column::Index(1), Column::Index(0)),
        _ => (Column::Name("text".into()), Column::Name("label".into())),
    };
    let mut columns = vec![options.text.clone().unwrap_or(default_text)];
    if !options.unlabelled {
        columns.push(options.label.clone().unwrap_or(default_label));
    }
    let by_number = columns.iter().all(|column| matches!(column, Column::Index(_)));
    let header = options.header.unwrap_or(!by_number);
    let mut rows = Rows::open(source, format, header, &columns, options.lossy)?;
    let mut examples = Vec::new();
    while let Some(cells) = rows.next().transpose()? {
        let mut cells = cells.into_iter();
        let text = cells.next().unwrap_or_default();
        let label = cells.next();
        if label.as_deref() == Some("") {
            return Err(TextError::Row {
                name: source.name().to_owned(),
                row: rows.row(),
                reason: "its label is empty".into(),
            });
        }
        examples.push(Example { label, text });
    }
    if examples.is_empty() {
        return Err(TextError::Empty(source.name().to_owned()));
    }
    Ok(examples)
}
