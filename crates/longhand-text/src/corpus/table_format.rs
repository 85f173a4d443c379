//! Rows of JSON lines, CSV, TSV and Parquet.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::str::FromStr;

use parquet::data_type::AsBytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, reader::RowIter};
use serde::{Deserialize, Serialize};

use super::source::{SeekableBytes, Source, TextReader, unwrap_error};
use crate::TextError;

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
    /// Apache Parquet.
    Parquet,
    /// `LABEL text…`: the label, one space, the text.
    Labelled,
}

impl TableFormat {
    /// The format that a file's name tells, `.gz` and `.zst` aside.
    pub fn of_path(path: &Path) -> Option<Self> {
        let mut stem = path.to_path_buf();
        while let Some(extension) =
            stem.extension().map(|name| name.to_string_lossy().to_lowercase())
        {
            match extension.as_str() {
                "gz" | "zst" => stem.set_extension(""),
                "jsonl" | "ndjson" => return Some(Self::JsonLines),
                "csv" => return Some(Self::Csv),
                "tsv" => return Some(Self::Tsv),
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
            _ => Err(TextError::Setting {
                what: "the format",
                value: name.to_owned(),
                allowed: "jsonl, csv, tsv, parquet or labelled",
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
            Self::Name(name) => write!(formatter, "{name:?}"),
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

/// The asked-for cells of each row of a table, in the order in which they were asked for.
pub(crate) struct Rows {
    name: String,
    row: u64,
    columns: Vec<Column>,
    cells: Cells,
}

enum Cells {
    Json(std::io::Lines<BufReader<TextReader>>),
    Separated { records: Box<csv::StringRecordsIntoIter<TextReader>>, places: Vec<usize> },
    Labelled(std::io::Lines<BufReader<TextReader>>),
    Parquet { rows: RowIter<'static>, places: Vec<usize> },
}

impl Rows {
    /// Opens a table. Where `header` is set, the first row of separated values names the columns.
    pub(crate) fn open(
        source: &Source,
        format: TableFormat,
        header: bool,
        columns: &[Column],
        lossy: bool,
    ) -> Result<Self, TextError> {
        let name = source.name().to_owned();
        let cells = match format {
            TableFormat::JsonLines => Cells::Json(BufReader::new(source.text(lossy)?).lines()),
            TableFormat::Labelled => {
                if let Some(column) = columns.iter().find(|column| !is_labelled(column)) {
                    return Err(TextError::Column {
                        name,
                        column: column.to_string(),
                        found: "0, the label, and 1, the text".into(),
                    });
                }
                Cells::Labelled(BufReader::new(source.text(lossy)?).lines())
            }
            TableFormat::Csv | TableFormat::Tsv => {
                let tabs = format == TableFormat::Tsv;
                let mut reader = csv::ReaderBuilder::new()
                    .has_headers(header)
                    .flexible(true)
                    .delimiter(if tabs { b'\t' } else { b',' })
                    .quoting(!tabs)
                    .from_reader(source.text(lossy)?);
                let found: Vec<String> = if header {
                    let record = reader.headers().map_err(|error| csv_error(&name, error))?;
                    if record.is_empty() {
                        return Err(TextError::Empty(name));
                    }
                    record.iter().map(str::to_owned).collect()
                } else {
                    Vec::new()
                };
                let places = columns
                    .iter()
                    .map(|column| place(&name, column, &found, header))
                    .collect::<Result<_, _>>()?;
                Cells::Separated { records: Box::new(reader.into_records()), places }
            }
            TableFormat::Parquet => parquet_rows(source, columns)?,
        };
        let row = u64::from(header && matches!(format, TableFormat::Csv | TableFormat::Tsv));
        Ok(Self { name, row, columns: columns.to_vec(), cells })
    }

    /// The number of the row that was read last, from 1.
    pub(crate) fn row(&self) -> u64 {
        self.row
    }

    fn fail(&self, reason: impl Into<String>) -> TextError {
        TextError::Row { name: self.name.clone(), row: self.row, reason: reason.into() }
    }

    fn read(&mut self) -> Result<Option<Vec<String>>, TextError> {
        loop {
            self.row += 1;
            match &mut self.cells {
                Cells::Json(lines) => {
                    let Some(line) = lines.next().transpose().map_err(unwrap_error)? else {
                        return Ok(None);
                    };
                    if line.trim().is_empty() {
                        continue;
                    }
                    let value: serde_json::Value = serde_json::from_str(&line)
                        .map_err(|error| self.fail(error.to_string()))?;
                    return self.json_cells(&value).map(Some);
                }
                Cells::Labelled(lines) => {
                    let Some(line) = lines.next().transpose().map_err(unwrap_error)? else {
                        return Ok(None);
                    };
                    if line.trim().is_empty() {
                        continue;
                    }
                    let line = line.trim_end();
                    let (label, text) = line.split_once([' ', '\t']).unwrap_or((line, ""));
                    let cells = self.columns.iter().map(|column| match column {
                        Column::Index(0) => label.to_owned(),
                        _ => text.trim_start().to_owned(),
                    });
                    return Ok(Some(cells.collect()));
                }
                Cells::Separated { records, places } => {
                    let Some(record) = records.next() else { return Ok(None) };
                    let record = record.map_err(|error| csv_error(&self.name, error))?;
                    let cells: Option<Vec<String>> =
                        places.iter().map(|&place| record.get(place).map(str::to_owned)).collect();
                    let found = record.len();
                    return cells
                        .map(Some)
                        .ok_or_else(|| self.fail(format!("it has only {found} column(s)")));
                }
                Cells::Parquet { rows, places } => {
                    let Some(row) = rows.next() else { return Ok(None) };
                    let row = match row {
                        Ok(row) => row,
                        Err(error) => return Err(self.fail(error.to_string())),
                    };
                    let fields: Vec<&Field> =
                        row.get_column_iter().map(|(_, field)| field).collect();
                    let cells = places
                        .iter()
                        .map(|&place| fields.get(place).copied().and_then(field_text))
                        .collect::<Option<_>>();
                    return cells
                        .map(Some)
                        .ok_or_else(|| self.fail("a cell is neither text nor a number"));
                }
            }
        }
    }

    fn json_cells(&self, value: &serde_json::Value) -> Result<Vec<String>, TextError> {
        let Some(object) = value.as_object() else {
            return Err(self.fail("it is not a JSON object"));
        };
        let cell = |column: &Column| {
            let found = match column {
                Column::Name(name) => object
                    .get(name)
                    .or_else(|| name.split('.').try_fold(value, |value, key| value.get(key))),
                Column::Index(_) => None,
            };
            match found {
                Some(serde_json::Value::String(text)) => Ok(text.clone()),
                Some(serde_json::Value::Null) => Ok(String::new()),
                Some(other @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => {
                    Ok(other.to_string())
                }
                Some(_) => Err(self.fail(format!("{column} is neither text nor a number"))),
                None => Err(TextError::Column {
                    name: format!("{}, row {},", self.name, self.row),
                    column: column.to_string(),
                    found: list(object.keys().map(String::as_str)),
                }),
            }
        };
        self.columns.iter().map(cell).collect()
    }
}

impl Iterator for Rows {
    type Item = Result<Vec<String>, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Whether `LABEL text` lines have a column.
fn is_labelled(column: &Column) -> bool {
    matches!(column, Column::Index(0 | 1))
}

fn parquet_rows(source: &Source, columns: &[Column]) -> Result<Cells, TextError> {
    let name = source.name();
    let fail = |error: parquet::errors::ParquetError| TextError::Table {
        name: name.to_owned(),
        reason: error.to_string(),
    };
    let reader: Box<dyn FileReader> = match source.seekable()? {
        SeekableBytes::File(file) => Box::new(SerializedFileReader::new(file).map_err(fail)?),
        SeekableBytes::Memory(bytes) => {
            let bytes = bytes::Bytes::from_owner(bytes);
            Box::new(SerializedFileReader::new(bytes).map_err(fail)?)
        }
    };
    let schema = reader.metadata().file_metadata().schema().clone();
    let fields = schema.get_fields().to_vec();
    let found: Vec<String> = fields.iter().map(|field| field.name().to_owned()).collect();
    let places: Vec<usize> =
        columns.iter().map(|column| place(name, column, &found, true)).collect::<Result<_, _>>()?;
    // Only the asked-for columns are read, in the file's order.
    let mut read = places.clone();
    read.sort_unstable();
    read.dedup();
    let projection = parquet::schema::types::Type::group_type_builder(schema.name())
        .with_fields(read.iter().map(|&place| fields[place].clone()).collect())
        .build()
        .map_err(fail)?;
    let rows = RowIter::from_file_into(reader).project(Some(projection)).map_err(fail)?;
    let places = places
        .iter()
        .map(|place| read.iter().position(|other| other == place).unwrap_or(0))
        .collect();
    Ok(Cells::Parquet { rows, places })
}

fn field_text(field: &Field) -> Option<String> {
    match field {
        Field::Str(text) => Some(text.clone()),
        Field::Null => Some(String::new()),
        Field::Bytes(bytes) => std::str::from_utf8(bytes.as_bytes()).ok().map(str::to_owned),
        Field::Group(_) | Field::ListInternal(_) | Field::MapInternal(_) => None,
        other => Some(other.to_string()),
    }
}

fn place(name: &str, column: &Column, found: &[String], header: bool) -> Result<usize, TextError> {
    let missing = || TextError::Column {
        name: name.to_owned(),
        column: column.to_string(),
        found: if header {
            list(found.iter().map(String::as_str))
        } else {
            "numbered from 0, as it has no header".to_owned()
        },
    };
    match column {
        Column::Name(wanted) => found.iter().position(|name| name == wanted).ok_or_else(missing),
        Column::Index(index) if !header || *index < found.len() => Ok(*index),
        Column::Index(_) => Err(missing()),
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

fn csv_error(name: &str, error: csv::Error) -> TextError {
    let row = error.position().map_or(0, csv::Position::record) + 1;
    let reason = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(error) => unwrap_error(error),
        _ => TextError::Row { name: name.to_owned(), row, reason },
    }
}
