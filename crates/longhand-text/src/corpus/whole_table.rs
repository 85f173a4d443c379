//! Tables with every cell, to be written again with further columns.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde_json::Value;

use super::example::Example;
use super::fault::RowFault;
use super::format::{Column, TableFormat};
use super::rows::{FASTTEXT, labelled as split_labels, row_fault};
use super::separated::{Record, Records};
use super::source::{Source, unwrap_error};
use super::table::{TableOptions, read_table};
use crate::error::TextError;

/// A table with every cell.
#[derive(Clone, Debug, PartialEq)]
pub struct WholeTable {
    form: Form,
    rows: Vec<Row>,
}

/// How the rows are written.
#[derive(Clone, Debug, PartialEq)]
enum Form {
    /// One object a line.
    Json,
    /// Cells between separators, the names of the columns first where they have names.
    Separated { separator: &'static str, names: Option<Vec<String>> },
}

#[derive(Clone, Debug, PartialEq)]
enum Row {
    /// An object as it was written.
    Json(String),
    Cells(Vec<String>),
}

impl WholeTable {
    /// Reads the rows of a file that [`read_table`] reads with the same options and without labels.
    /// A Parquet file keeps its text alone, which is written as JSON lines; `LABEL text` lines and
    /// the sentences of trees are written as tab-separated values.
    ///
    /// # Errors
    /// As [`read_table`].
    pub fn read(path: &Path, options: &TableOptions) -> Result<Self, TextError> {
        let format = options.format.or_else(|| TableFormat::of_path(path));
        let format = format.or(Some(TableFormat::Labelled));
        // Whatever labels there are, the texts alone are read.
        let options = TableOptions { unlabelled: true, several: true, format, ..options.clone() };
        let table = read_table(path, &options)?;
        let source = Source::open(path)?;
        let text = || Ok::<_, TextError>(BufReader::new(source.text(options.lossy)?));
        let (form, rows) = match format {
            Some(TableFormat::JsonLines) => {
                let lines = text()?.lines().filter(|line| !is_blank(line));
                let rows = lines.map(|line| Ok(Row::Json(line?.trim().to_owned())));
                (Form::Json, rows.collect::<io::Result<_>>().map_err(unwrap_error)?)
            }
            Some(TableFormat::Parquet) => {
                let name = match &options.text {
                    Some(Column::Name(name)) => name.as_str(),
                    _ => "text",
                };
                let row = |text: &str| Row::Json(format!("{{{}:{}}}", json(name), json(text)));
                (Form::Json, table.examples.iter().map(|example| row(&example.text)).collect())
            }
            Some(TableFormat::Trees) => {
                let row = |example: Example| Row::Cells(vec![example.text]);
                let rows = table.examples.into_iter().map(row).collect();
                (Form::Separated { separator: "\t", names: None }, rows)
            }
            format => {
                let separator = if format == Some(TableFormat::Csv) { "," } else { "\t" };
                let mut rows = match format {
                    Some(TableFormat::Csv) => cells(&source, text()?, b',')?,
                    Some(TableFormat::Tsv) => cells(&source, text()?, b'\t')?,
                    _ => labelled(text()?)?,
                };
                let names = table.header.then(|| rows.remove(0));
                let rows = rows.into_iter().map(Row::Cells).collect();
                (Form::Separated { separator, names }, rows)
            }
        };
        Ok(Self { form, rows })
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row; always false, as an empty table is refused.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The name for a further column: `wanted`, or `predicted_` and it where the table
    /// has such a column.
    pub fn free_name(&self, wanted: &str) -> String {
        let taken = match &self.form {
            Form::Separated { names, .. } => {
                names.as_ref().is_some_and(|names| names.iter().any(|name| name == wanted))
            }
            Form::Json => self.rows.iter().any(|row| match row {
                Row::Json(line) => {
                    let object: Result<Value, _> = serde_json::from_str(line);
                    object.is_ok_and(|object| object.get(wanted).is_some())
                }
                Row::Cells(_) => false,
            }),
        };
        if taken { format!("predicted_{wanted}") } else { wanted.to_owned() }
    }

    /// Writes the names of the columns with those of further ones, where the columns have names.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn write_names(&self, out: &mut impl Write, further: &[String]) -> io::Result<()> {
        match &self.form {
            Form::Separated { separator, names: Some(names) } => {
                write_cells(out, separator, names.iter().chain(further))
            }
            _ => Ok(()),
        }
    }

    /// Writes row number `row`, from 0, with the values of further columns; nothing where there
    /// is no such row.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn write_row(
        &self,
        out: &mut impl Write,
        row: usize,
        further: &[(String, Value)],
    ) -> io::Result<()> {
        match (&self.form, self.rows.get(row)) {
            (_, None) => Ok(()),
            (_, Some(Row::Json(line))) => {
                let inner = line.trim_end().strip_suffix('}').unwrap_or(line).trim_end();
                write!(out, "{inner}")?;
                let mut comma = if inner.ends_with('{') { "" } else { "," };
                for (name, value) in further {
                    write!(out, "{comma}{}:{value}", json(name))?;
                    comma = ",";
                }
                writeln!(out, "}}")
            }
            (form, Some(Row::Cells(cells))) => {
                let separator = match form {
                    Form::Separated { separator, .. } => separator,
                    Form::Json => "\t",
                };
                let further: Vec<String> = further.iter().map(|(_, value)| plain(value)).collect();
                // A row may lack cells at its end; those of further columns have their own place.
                let width = self.width();
                let missing = std::iter::repeat_n(String::new(), width.saturating_sub(cells.len()));
                let missing: Vec<String> = missing.collect();
                write_cells(out, separator, cells.iter().chain(&missing).chain(&further))
            }
        }
    }

    /// Cells of a whole row.
    fn width(&self) -> usize {
        match (&self.form, self.rows.first()) {
            (Form::Separated { names: Some(names), .. }, _) => names.len(),
            (_, Some(Row::Cells(cells))) => cells.len(),
            _ => 0,
        }
    }
}

/// A value as a cell: a text without quotes, and nothing for null.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

fn json(text: &str) -> String {
    Value::from(text).to_string()
}

fn is_blank(line: &io::Result<String>) -> bool {
    line.as_ref().is_ok_and(|line| line.trim().is_empty())
}

fn cells(
    source: &Source,
    text: impl BufRead,
    separator: u8,
) -> Result<Vec<Vec<String>>, TextError> {
    let mut records = Records::new(text, separator, separator == b',');
    let mut rows = Vec::new();
    while let Some(record) = records.next().map_err(unwrap_error)? {
        match record {
            Record::Cells(cells) => rows.push(cells),
            Record::OpenQuote => {
                let row = rows.len() as u64 + 1;
                return Err(row_fault(source.name(), row, RowFault::OpenQuote));
            }
        }
    }
    Ok(rows)
}

fn labelled(text: impl BufRead) -> Result<Vec<Vec<String>>, TextError> {
    let lines = text.lines().filter(|line| !is_blank(line));
    let lines: Vec<String> = lines.collect::<io::Result<_>>().map_err(unwrap_error)?;
    // The first one may be without a label where a text may have none.
    let are_marked = lines.iter().any(|line| line.starts_with(FASTTEXT));
    let cells = |line: &String| {
        let (labels, text) = split_labels(line, are_marked);
        vec![labels.join(","), text.to_owned()]
    };
    Ok(lines.iter().map(cells).collect())
}

/// Writes cells and a line break. A cell that its separator, a quote or a line break would break is
/// quoted between commas; between tabs, which know no quotes, spaces replace tabs and line breaks.
pub(super) fn write_cells<'a>(
    out: &mut (impl Write + ?Sized),
    separator: &str,
    cells: impl Iterator<Item = &'a String>,
) -> io::Result<()> {
    for (place, cell) in cells.enumerate() {
        if place > 0 {
            out.write_all(separator.as_bytes())?;
        }
        if !cell.contains(['"', '\n', '\r']) && !cell.contains(separator) {
            out.write_all(cell.as_bytes())?;
        } else if separator == "," {
            write!(out, "\"{}\"", cell.replace('"', "\"\""))?;
        } else {
            out.write_all(cell.replace(['\t', '\n', '\r'], " ").as_bytes())?;
        }
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A file's text with two further columns.
    fn again(name: &str, text: &str, options: &TableOptions) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs_err::write(&path, text).unwrap();
        let table = WholeTable::read(&path, options).unwrap();
        assert_eq!(
            table.len(),
            read_table(&path, &TableOptions { unlabelled: true, ..options.clone() })
                .unwrap()
                .examples
                .len()
        );
        let names = ["label", "probability"].map(|name| table.free_name(name));
        let mut out = Vec::new();
        table.write_names(&mut out, &names).unwrap();
        for row in 0..table.len() {
            let values = [json!(format!("l\"{row}\"")), json!(0.5)];
            let further: Vec<_> = names.iter().cloned().zip(values).collect();
            table.write_row(&mut out, row, &further).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_cell_is_written_again_with_further_ones() {
        let options = TableOptions::default();
        assert_eq!(
            again("a.csv", "id,text\r\n1,\"two\nlines, \"\"so\"\"\"\n\n2,b\n", &options),
            "id,text,label,probability\n1,\"two\nlines, \"\"so\"\"\",\"l\"\"0\"\"\",0.5\n\
             2,b,\"l\"\"1\"\"\",0.5\n"
        );
        assert_eq!(
            again("a.tsv", "label\ttext\nx\t\"a\ny\tb\n", &options),
            "label\ttext\tpredicted_label\tprobability\nx\t\"a\tl\"0\"\t0.5\ny\tb\tl\"1\"\t0.5\n"
        );
        assert_eq!(
            again("a.jsonl", "{\"text\": \"a\", \"z\": 1.50 }\n\n{\"text\":\"b\"}\n", &options),
            "{\"text\": \"a\", \"z\": 1.50,\"label\":\"l\\\"0\\\"\",\"probability\":0.5}\n\
             {\"text\":\"b\",\"label\":\"l\\\"1\\\"\",\"probability\":0.5}\n"
        );
        let labelled = TableOptions { format: Some(TableFormat::Labelled), ..Default::default() };
        assert_eq!(
            again("a.txt", "__label__x a b\nno mark\n", &labelled),
            "x\ta b\tl\"0\"\t0.5\n\tno mark\tl\"1\"\t0.5\n"
        );
        let first = TableOptions { text: Some(Column::Index(0)), ..TableOptions::default() };
        assert_eq!(
            again("a.csv", "a,\nb\n", &first),
            "a,,\"l\"\"0\"\"\",0.5\nb,,\"l\"\"1\"\"\",0.5\n"
        );
    }
}
