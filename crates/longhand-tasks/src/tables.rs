//! Labelled examples from tables: which files, which columns, and what is held out.

use std::path::PathBuf;

use longhand_text::corpus::table::{
    Column, Example, Header, Labels, Table, TableFormat, TableOptions, read_table,
};

use crate::error::TaskError;
use crate::hold_out::hold_out;

/// The files of a task's examples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tables {
    /// Tables to learn from.
    pub train: Vec<PathBuf>,
    /// Tables to validate on; with none, a part of `train` is held out.
    pub valid: Vec<PathBuf>,
    /// Tables to test on.
    pub test: Vec<PathBuf>,
    /// Share of the training examples that is held out to validate on, from 0 to 1 (default: 0).
    pub valid_fraction: f64,
    /// The column of the text, by name or by number from 0.
    pub text_column: Option<String>,
    /// The format of files whose names do not tell it (default: `LABEL text` lines).
    pub format: Option<TableFormat>,
    /// Whether the first row of a table names the columns (default: found out from the row).
    pub header: Header,
    /// Whether invalid UTF-8 is replaced instead of refused (default: false).
    pub lossy: bool,
}

/// The texts of a task with their labels.
pub struct Examples {
    /// The labels of training.
    pub labels: Labels,
    /// Number of labels whose surrounding white space was removed.
    pub trimmed: usize,
    train: Vec<Example>,
    valid: Vec<Example>,
    test: Vec<Example>,
}

impl Examples {
    /// Reads whole tables, whose labels are in `label_column`. Without a table to validate on, it
    /// holds out a share of the training examples, the same share of each label, drawn by `seed`.
    ///
    /// # Errors
    /// A table that cannot be read, is empty or lacks a column; an example without text; a single
    /// label; a label that the training examples lack.
    pub fn read(tables: &Tables, label_column: Option<&str>, seed: u64) -> Result<Self, TaskError> {
        // Parsing a column cannot fail: a text that is no number is a name.
        let column = |name: Option<&str>| name.and_then(|name| name.parse::<Column>().ok());
        let options = TableOptions {
            text: column(tables.text_column.as_deref()),
            label: column(label_column),
            format: tables.format,
            header: tables.header,
            lossy: tables.lossy,
            ..TableOptions::default()
        };
        let Table { examples: train, trimmed, .. } = read_all(&tables.train, &options)?;
        let labels = Labels::of(&train);
        if let [label] = labels.names() {
            let label = label.clone();
            return Err(TaskError::OneLabel { name: names(&tables.train), label });
        }
        let known = |paths: &[PathBuf]| -> Result<Vec<Example>, TaskError> {
            let mut examples = Vec::new();
            for path in paths {
                examples.extend(read_known(path, &options, &labels)?);
            }
            Ok(examples)
        };
        let (valid, test) = (known(&tables.valid)?, known(&tables.test)?);
        let fraction = tables.valid_fraction;
        let (train, valid) = if valid.is_empty() && fraction > 0.0 {
            let examples = train.len();
            let (train, held_out) = hold_out(train, fraction, seed);
            if train.is_empty() || held_out.is_empty() {
                let name = names(&tables.train);
                return Err(TaskError::TooFew { name, examples, fraction });
            }
            (train, held_out)
        } else {
            (train, valid)
        };
        Ok(Self { labels, trimmed, train, valid, test })
    }

    /// The texts to learn from, on which a tokeniser is trained.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.train.iter().map(|example| example.text.as_str())
    }

    /// The number of training examples of each label, in the order of the labels' ids.
    pub fn label_counts(&self) -> Vec<usize> {
        self.labels.counts(&self.train)
    }

    /// The texts to validate on.
    pub fn held_out_texts(&self) -> impl Iterator<Item = &str> {
        self.valid.iter().map(|example| example.text.as_str())
    }

    /// Every example: those to learn from, to validate on and to test on.
    pub(crate) fn parts(&self) -> [&[Example]; 3] {
        [&self.train, &self.valid, &self.test]
    }
}

/// Whether a text has no character to read.
pub(crate) fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn read_all(paths: &[PathBuf], options: &TableOptions) -> Result<Table, TaskError> {
    let mut all = Table::default();
    for path in paths {
        let table = read_table(path, options)?;
        let name = path.display().to_string();
        for (place, example) in table.examples.iter().enumerate() {
            check_text(&example.text, &name, place + 1)?;
        }
        all.examples.extend(table.examples);
        all.trimmed += table.trimmed;
    }
    Ok(all)
}

/// Reads a table whose labels must be known.
fn read_known(
    path: &PathBuf,
    options: &TableOptions,
    labels: &Labels,
) -> Result<Vec<Example>, TaskError> {
    let examples = read_all(std::slice::from_ref(path), options)?.examples;
    for (place, example) in examples.iter().enumerate() {
        let label = example.label.as_deref().unwrap_or_default();
        if labels.id(label).is_err() {
            return Err(TaskError::UnknownLabel {
                name: path.display().to_string(),
                example: place + 1,
                label: label.into(),
                known: labels.names().join(", "),
            });
        }
    }
    Ok(examples)
}

fn check_text(text: &str, name: &str, example: usize) -> Result<(), TaskError> {
    if is_blank(text) {
        return Err(TaskError::NoText { name: name.into(), example });
    }
    Ok(())
}

fn names(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    names.join(", ")
}
