//! Formats of tables, and their columns.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::TextError;
use crate::quote::quoted;

/// How a table is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableFormat {
    /// One JSON object a line.
    #[serde(rename = "jsonl")]
    JsonLines,
    /// Comma-separated values with quotes.
    Csv,
    /// Tab-separated values; quotes are text.
    Tsv,
    /// Columns in Apache Parquet.
    Parquet,
    /// A tree of rated phrases a line, as in the Stanford Sentiment Treebank.
    Trees,
    /// `LABEL text…` or fastText's `__label__LABEL text…`: the label, one space, the text.
    Labelled,
}

impl TableFormat {
    /// The format that the name of a file tells, `.gz` and `.zst` aside.
    pub fn of_path(path: &Path) -> Option<Self> {
        let mut stem = path.to_path_buf();
        while let Some(extension) =
            stem.extension().map(|name| name.to_string_lossy().to_lowercase())
        {
            match extension.as_str() {
                "gz" | "zst" => stem.set_extension(""),
                "jsonl" | "ndjson" | "json" => return Some(Self::JsonLines),
                "csv" => return Some(Self::Csv),
                "tsv" | "tab" => return Some(Self::Tsv),
                "parquet" => return Some(Self::Parquet),
                _ => return None,
            };
        }
        None
    }
}

impl FromStr for TableFormat {
    type Err = TextError;

    fn from_str(name: &str) -> Result<Self, TextError> {
        match name {
            "jsonl" => Ok(Self::JsonLines),
            "csv" => Ok(Self::Csv),
            "tsv" => Ok(Self::Tsv),
            "parquet" => Ok(Self::Parquet),
            "labelled" => Ok(Self::Labelled),
            "trees" => Ok(Self::Trees),
            _ => Err(TextError::Setting {
                what: "the format",
                value: name.to_owned(),
                allowed: "jsonl, csv, tsv, parquet, labelled or trees",
            }),
        }
    }
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// By its name in the header, or the key of a JSON object (`a.b` for a key within).
    Name(String),
    /// By its place, from 0.
    Index(usize),
}

impl fmt::Display for Column {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(&quoted(name)),
            Self::Index(index) => write!(formatter, "{index}"),
        }
    }
}

impl FromStr for Column {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Index))
    }
}

/// How cells are read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CellOptions {
    /// Replace invalid UTF-8 and lone surrogates by U+FFFD (default: false).
    pub(crate) lossy: bool,
    /// Whether a cell may be a list, which is given as a JSON array of texts; without it a list
    /// is refused (default: false).
    pub(crate) lists: bool,
}

/// Whether the first row of a CSV, TSV or `LABEL text` table names the columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Header {
    /// It does where a column is asked for by name, or where the first row has usual names of
    /// columns, such as `label`; a first row that may be either is refused.
    #[default]
    Auto,
    /// It names the columns.
    Yes,
    /// It is a row like the others.
    No,
}

impl FromStr for Header {
    type Err = TextError;

    fn from_str(name: &str) -> Result<Self, TextError> {
        match name {
            "auto" => Ok(Self::Auto),
            "yes" => Ok(Self::Yes),
            "no" => Ok(Self::No),
            _ => Err(TextError::Setting {
                what: "the header",
                value: name.to_owned(),
                allowed: "auto, yes or no",
            }),
        }
    }
}
