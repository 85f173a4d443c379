//! Tables that are written again with further columns, some rows at a time.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;

use serde_json::Value;

use super::fault::RowFault;
use super::format::{CellOptions, Column, TableFormat};
use super::further::{BYTES, FurtherCells, FurtherColumn, FurtherValues, ROWS, check_free};
use super::json::{self, JsonFault};
use super::parquet;
use super::rows::{next_line, place, row_fault};
use super::separated::{Record, Records};
use super::source::{Source, TextReader, unwrap_error};
use super::whole_table::write_cells;
use crate::error::TextError;

/// How a table is read that is written again.
#[derive(Clone, Debug)]
pub struct AppendOptions {
    /// JSON lines, CSV, TSV or Parquet; where none is given the name of the file tells it.
    pub format: Option<TableFormat>,
    /// The column of the text. By name, the first row of CSV and TSV names the columns; by place, it
    /// is a row like the others.
    pub text: Column,
    /// Replace invalid UTF-8 by U+FFFD instead of stopping (not in Parquet).
    pub lossy: bool,
}

/// Reads a table and writes it to `out` in its own format with further columns. `values` gives the
/// further cells of some rows from their texts. JSON lines keep their bytes, CSV and TSV their cells,
/// and Parquet its encoded columns and its metadata, but for Arrow's own schema, which would lack the
/// new columns. What was compressed as a whole comes out plain.
///
/// # Errors
/// A file that is missing or no table, a row that cannot be read, a missing text column, a further
/// column whose name is taken, and whatever `values` reports.
pub fn append_columns<E: From<TextError>>(
    path: &Path,
    options: &AppendOptions,
    columns: &[FurtherColumn],
    out: &mut (dyn Write + Send),
    values: &mut FurtherValues<'_, E>,
) -> Result<(), E> {
    let format = options.format.or_else(|| TableFormat::of_path(path));
    let source = Source::open(path)?;
    let mut rows = match format {
        Some(TableFormat::Parquet) => {
            return parquet::append(&source, &options.text, columns, out, values);
        }
        Some(TableFormat::JsonLines) => TextRows::json(&source, options)?,
        Some(TableFormat::Csv) => TextRows::separated(&source, options, b',', columns, out)?,
        Some(TableFormat::Tsv) => TextRows::separated(&source, options, b'\t', columns, out)?,
        None | Some(TableFormat::Labelled | TableFormat::Trees) => {
            return Err(TextError::Setting {
                what: "the format of the table",
                value: format.map_or_else(|| "unknown".to_owned(), |format| format!("{format:?}")),
                allowed: "jsonl, csv, tsv or parquet",
            }
            .into());
        }
    };
    loop {
        let (mut some, mut texts, mut bytes, mut ended) = (Vec::new(), Vec::new(), 0, false);
        while some.len() < ROWS && bytes < BYTES {
            let Some((row, text)) = rows.next(columns)? else {
                ended = true;
                break;
            };
            bytes += text.len();
            some.push(row);
            texts.push(text);
        }
        if !texts.is_empty() {
            let further = values(&texts)?;
            for (row, further) in some.iter().zip(&further) {
                rows.write(out, row, columns, further).map_err(TextError::from)?;
            }
        }
        if ended {
            out.flush().map_err(TextError::from)?;
            return Ok(());
        }
    }
}

/// The rows of a table of text.
struct TextRows {
    name: String,
    row: u64,
    text: Column,
    cells: CellOptions,
    form: Form,
}

enum Form {
    Json(Lines<BufReader<TextReader>>),
    Separated {
        records: Records<BufReader<TextReader>>,
        separator: &'static str,
        /// The place of the text.
        place: usize,
        /// Cells of the first row; none before it is read.
        width: Option<usize>,
    },
}

/// A row as it was read.
enum Row {
    Json(String),
    Cells(Vec<String>),
}

impl TextRows {
    fn json(source: &Source, options: &AppendOptions) -> Result<Self, TextError> {
        let lines = BufReader::new(source.text(options.lossy)?).lines();
        Ok(Self::new(source, options, Form::Json(lines)))
    }

    fn new(source: &Source, options: &AppendOptions, form: Form) -> Self {
        let (name, text) = (source.name().to_owned(), options.text.clone());
        let cells = CellOptions { lossy: options.lossy, lists: false };
        Self { name, row: 0, text, cells, form }
    }

    /// Reads the names of the columns, where there are some, and writes them with the further ones.
    fn separated(
        source: &Source,
        options: &AppendOptions,
        separator: u8,
        columns: &[FurtherColumn],
        out: &mut (dyn Write + Send),
    ) -> Result<Self, TextError> {
        let text = BufReader::new(source.text(options.lossy)?);
        let mut records = Records::new(text, separator, separator == b',');
        let separator = if separator == b',' { "," } else { "\t" };
        let header = matches!(options.text, Column::Name(_));
        let (mut found, mut width) = (Vec::new(), None);
        if header {
            found = match records.next().map_err(unwrap_error)? {
                None => return Err(TextError::NoExamples(source.name().to_owned())),
                Some(Record::OpenQuote) => {
                    return Err(row_fault(source.name(), 1, RowFault::OpenQuote));
                }
                Some(Record::Cells(cells)) => cells,
            };
            check_free(source.name(), columns, |name| found.iter().any(|other| other == name))?;
            width = Some(found.len());
        }
        let place = place(source.name(), &options.text, &found, header)?;
        if header {
            let names = found.iter().chain(columns.iter().map(|column| &column.name));
            write_cells(out, separator, names)?;
        }
        let form = Form::Separated { records, separator, place, width };
        Ok(Self { row: u64::from(header), ..Self::new(source, options, form) })
    }

    /// The next row and its text.
    fn next(&mut self, columns: &[FurtherColumn]) -> Result<Option<(Row, String)>, TextError> {
        match &mut self.form {
            Form::Json(lines) => {
                let Some(line) = next_line(lines, &mut self.row)? else { return Ok(None) };
                let (name, row) = (&self.name, self.row);
                let fail = |fault| match fault {
                    JsonFault::Row(fault) => row_fault(name, row, fault),
                    JsonFault::Column { column, found } => {
                        TextError::Column { name: format!("{name}, row {row},"), column, found }
                    }
                };
                let cells = json::cells(&line, std::slice::from_ref(&self.text), self.cells);
                let text = cells.map_err(fail)?.pop().unwrap_or_default();
                let keys =
                    json::keys(&line, self.cells.lossy).map_err(|it| row_fault(name, row, it))?;
                let place = format!("{name}, row {row},");
                check_free(&place, columns, |name| keys.contains(name))?;
                Ok(Some((Row::Json(line.trim().to_owned()), text)))
            }
            Form::Separated { records, separator, place, width } => {
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
                    let separator = if *separator == "," { "comma" } else { "tab" };
                    return Err(fail(RowFault::TooMany { found, expected, separator }));
                }
                let text = cells.get(*place).cloned();
                let text = text.ok_or_else(|| fail(RowFault::TooFew(found)))?;
                Ok(Some((Row::Cells(cells), text)))
            }
        }
    }

    fn write(
        &self,
        out: &mut (dyn Write + Send),
        row: &Row,
        columns: &[FurtherColumn],
        further: &FurtherCells,
    ) -> std::io::Result<()> {
        let numbers = columns.iter().zip(further).map(|(column, value)| column.number(*value));
        match (row, &self.form) {
            (Row::Cells(cells), Form::Separated { separator, width, .. }) => {
                // A row may lack cells at its end; the further ones have places of their own.
                let missing = width.unwrap_or(0).saturating_sub(cells.len());
                let missing = vec![String::new(); missing];
                let plain = |value: Value| match value {
                    Value::Null => String::new(),
                    value => value.to_string(),
                };
                let numbers: Vec<String> = numbers.map(plain).collect();
                write_cells(out, separator, cells.iter().chain(&missing).chain(&numbers))
            }
            (Row::Json(line), _) => {
                let inner = line.strip_suffix('}').unwrap_or(line).trim_end();
                write!(out, "{inner}")?;
                let mut comma = if inner.ends_with('{') { "" } else { "," };
                for (column, number) in columns.iter().zip(numbers) {
                    write!(out, "{comma}{}:{number}", Value::from(column.name.as_str()))?;
                    comma = ",";
                }
                writeln!(out, "}}")
            }
            (Row::Cells(_), Form::Json(_)) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
