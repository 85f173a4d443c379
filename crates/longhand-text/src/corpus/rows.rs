//! The cells of the rows of a table, whatever its format.

use std::io::{BufRead, BufReader, Lines};

use super::fault::RowFault;
use super::format::{CellOptions, Column, TableFormat};
use super::json::{self, JsonFault};
use super::parquet::ParquetRows;
use super::separated::{Record, Records};
use super::source::{Source, TextReader, unwrap_error};
use super::treebank::Tree;
use crate::error::TextError;
use crate::quote::listed;

/// The asked-for cells of each row of a table, in the order in which they were asked for.
pub(crate) struct Rows {
    name: String,
    row: u64,
    columns: Vec<Column>,
    options: CellOptions,
    cells: Cells,
}

enum Cells {
    Json(Lines<BufReader<TextReader>>),
    Separated {
        records: Records<BufReader<TextReader>>,
        places: Vec<usize>,
        /// Columns of the first row; none before it is read.
        width: Option<usize>,
        separator: &'static str,
    },
    Labelled {
        lines: Lines<BufReader<TextReader>>,
        /// Whether the lines are fastText's, by the first one; none before it is read.
        are_marked: Option<bool>,
    },
    Trees(Lines<BufReader<TextReader>>),
    Parquet(ParquetRows),
}

impl Rows {
    /// Opens a table. Where `header` is set, the first row of separated values or `LABEL text`
    /// lines names the columns.
    pub(crate) fn open(
        source: &Source,
        format: TableFormat,
        header: bool,
        columns: &[Column],
        options: CellOptions,
    ) -> Result<Self, TextError> {
        let name = source.name().to_owned();
        let text = || Ok::<_, TextError>(BufReader::new(source.text(options.lossy)?));
        let mut row = 0;
        let cells = match format {
            TableFormat::JsonLines => Cells::Json(text()?.lines()),
            TableFormat::Labelled | TableFormat::Trees => {
                if let Some(column) = columns.iter().find(|column| !is_labelled(column)) {
                    return Err(TextError::Column {
                        name,
                        column: column.to_string(),
                        found: "0, the label, and 1, the text".into(),
                    });
                }
                let lines = text()?.lines();
                match format {
                    TableFormat::Trees => Cells::Trees(lines),
                    _ => Cells::Labelled { lines, are_marked: None },
                }
            }
            TableFormat::Csv => separated(&name, text()?, b',', header, columns, &mut row)?,
            TableFormat::Tsv => separated(&name, text()?, b'\t', header, columns, &mut row)?,
            TableFormat::Parquet => {
                Cells::Parquet(ParquetRows::open(source, columns, options.lists)?)
            }
        };
        let mut rows = Self { name, row, columns: columns.to_vec(), options, cells };
        if header && format == TableFormat::Labelled {
            rows.read()?;
        }
        Ok(rows)
    }

    /// The number of the row that was read last, from 1.
    pub(crate) fn row(&self) -> u64 {
        self.row
    }

    fn read(&mut self) -> Result<Option<Vec<String>>, TextError> {
        match &mut self.cells {
            Cells::Json(lines) => {
                let Some(line) = next_line(lines, &mut self.row)? else { return Ok(None) };
                json::cells(&line, &self.columns, self.options).map(Some).map_err(|fault| {
                    let (name, row) = (&self.name, self.row);
                    match fault {
                        JsonFault::Row(fault) => row_fault(name, row, fault),
                        JsonFault::Column { column, found } => {
                            TextError::Column { name: format!("{name}, row {row},"), column, found }
                        }
                    }
                })
            }
            Cells::Labelled { lines, are_marked } => {
                let Some(line) = next_line(lines, &mut self.row)? else { return Ok(None) };
                let lists = self.options.lists;
                let are_marked = *are_marked.get_or_insert_with(|| line.starts_with(FASTTEXT));
                let (labels, text) = labelled(&line, are_marked || lists);
                let fault = match labels.len() {
                    0 if !lists && self.columns.contains(&Column::Index(0)) => {
                        Some(RowFault::NoMark)
                    }
                    0 | 1 => None,
                    _ => (!lists).then_some(RowFault::SeveralLabels),
                };
                if let Some(fault) = fault {
                    return Err(row_fault(&self.name, self.row, fault));
                }
                let label = match lists {
                    true => serde_json::Value::from(labels).to_string(),
                    false => labels.concat(),
                };
                let cells = self.columns.iter().map(|column| match column {
                    Column::Index(0) => label.clone(),
                    _ => text.to_owned(),
                });
                Ok(Some(cells.collect()))
            }
            Cells::Trees(lines) => {
                let Some(line) = next_line(lines, &mut self.row)? else { return Ok(None) };
                let tree = Tree::parse(&line);
                let tree = tree.map_err(|fault| row_fault(&self.name, self.row, fault))?;
                let cells = self.columns.iter().map(|column| match column {
                    Column::Index(0) => tree.rating(),
                    _ => tree.sentence(),
                });
                Ok(Some(cells.collect()))
            }
            Cells::Separated { records, places, width, separator } => {
                self.row += 1;
                let fail = |fault| row_fault(&self.name, self.row, fault);
                let cells = match records.next().map_err(unwrap_error)? {
                    None => return Ok(None),
                    Some(Record::OpenQuote) => return Err(fail(RowFault::OpenQuote)),
                    Some(Record::Cells(cells)) => cells,
                };
                let found = cells.len();
                let expected = *width.get_or_insert(found);
                if found > expected {
                    return Err(fail(RowFault::TooMany { found, expected, separator }));
                }
                let asked = places.iter().map(|&place| cells.get(place).cloned());
                let asked: Option<Vec<String>> = asked.collect();
                asked.map(Some).ok_or_else(|| fail(RowFault::TooFew(found)))
            }
            Cells::Parquet(rows) => {
                self.row += 1;
                let cells = rows.next().transpose();
                cells.map_err(|fault| row_fault(&self.name, self.row, fault))
            }
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Vec<String>, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// A fault of a row of a table.
pub(super) fn row_fault(name: &str, row: u64, fault: RowFault) -> TextError {
    TextError::Row { name: name.to_owned(), row, fault }
}

/// The place of a column among those that a table has.
pub(super) fn place(
    name: &str,
    column: &Column,
    found: &[String],
    header: bool,
) -> Result<usize, TextError> {
    let missing = || TextError::Column {
        name: name.to_owned(),
        column: column.to_string(),
        found: if header {
            listed(found.iter().map(String::as_str))
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

fn separated(
    name: &str,
    text: BufReader<TextReader>,
    separator: u8,
    header: bool,
    columns: &[Column],
    row: &mut u64,
) -> Result<Cells, TextError> {
    let tabs = separator == b'\t';
    let mut records = Records::new(text, separator, !tabs);
    let mut found = Vec::new();
    if header {
        *row = 1;
        found = match records.next().map_err(unwrap_error)? {
            None => return Err(TextError::Empty(name.to_owned())),
            Some(Record::OpenQuote) => return Err(row_fault(name, 1, RowFault::OpenQuote)),
            Some(Record::Cells(cells)) => cells,
        };
    }
    let places = columns.iter().map(|column| place(name, column, &found, header));
    let places = places.collect::<Result<_, _>>()?;
    let width = header.then_some(found.len());
    let separator = if tabs { "tab" } else { "comma" };
    Ok(Cells::Separated { records, places, width, separator })
}

/// What fastText writes before each label.
pub(super) const FASTTEXT: &str = "__label__";

/// The labels and the text of a `LABEL text` line, which has one label, or of fastText's line, which
/// has any number of them; fastText's mark before a label is left out. In a file of lines that
/// `are_marked` a line without a mark has no label.
pub(super) fn labelled(line: &str, are_marked: bool) -> (Vec<&str>, &str) {
    let (labels, text) = marked(line);
    if are_marked || !labels.is_empty() {
        return (labels, text);
    }
    let (label, text) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    (vec![label], text.trim_start())
}

/// The labels that fastText's mark marks at the beginning of a line, and the text behind them.
fn marked(line: &str) -> (Vec<&str>, &str) {
    let (mut labels, mut text) = (Vec::new(), line.trim_end());
    while let Some(rest) = text.strip_prefix(FASTTEXT) {
        let (label, rest) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
        labels.push(label);
        text = rest.trim_start();
    }
    (labels, text)
}

/// The text of each line that is not blank, behind fastText's marked labels.
pub(super) fn texts_of_lines(source: &Source, lossy: bool) -> Result<Vec<String>, TextError> {
    let (mut lines, mut row) = (BufReader::new(source.text(lossy)?).lines(), 0);
    let mut texts = Vec::new();
    while let Some(line) = next_line(&mut lines, &mut row)? {
        texts.push(marked(&line).1.to_owned());
    }
    Ok(texts)
}

/// The first line that is not blank; an empty one where there is none.
pub(super) fn first_line(source: &Source) -> Result<String, TextError> {
    // Bytes that are no text are told by whoever reads the lines.
    let (mut lines, mut row) = (BufReader::new(source.text(true)?).lines(), 0);
    Ok(next_line(&mut lines, &mut row)?.unwrap_or_default())
}

/// Whether the first line that is not blank begins with a label that fastText's mark marks.
pub(super) fn is_marked(source: &Source) -> Result<bool, TextError> {
    Ok(first_line(source)?.starts_with(FASTTEXT))
}

/// The next line that is not blank, and its number.
pub(super) fn next_line(
    lines: &mut Lines<BufReader<TextReader>>,
    row: &mut u64,
) -> Result<Option<String>, TextError> {
    loop {
        *row += 1;
        match lines.next().transpose().map_err(unwrap_error)? {
            Some(line) if line.trim().is_empty() => {}
            line => return Ok(line),
        }
    }
}

/// Whether `LABEL text` lines, and trees, have a column.
fn is_labelled(column: &Column) -> bool {
    matches!(column, Column::Index(0 | 1))
}
