//! Rows of tables in Parquet.

use ::parquet::data_type::AsBytes;
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::{Field, Row, reader::RowIter};
use ::parquet::schema::types::Type;
use serde_json::Value;

use super::fault::RowFault;
use super::format::Column;
use super::source::{SeekableBytes, Source};

use crate::error::TextError;
use crate::quote::{listed, shortened};

mod append;

pub(super) use append::append;

/// The asked-for cells of each row.
pub(super) struct ParquetRows {
    rows: RowIter<'static>,
    cells: Vec<Cell>,
    /// Whether a cell may be a list.
    lists: bool,
}

/// Where a cell is in a row.
struct Cell {
    column: String,
    /// Its place among the columns that are read.
    place: usize,
    /// The fields within it that lead to the cell, for a column that is a struct.
    within: Vec<String>,
}

impl ParquetRows {
    /// Opens a table; a column `a.b` is the field `b` of the struct `a`. With `lists`, a cell may be
    /// a list, which is given as a JSON array.
    pub(super) fn open(
        source: &Source,
        columns: &[Column],
        lists: bool,
    ) -> Result<Self, TextError> {
        let name = source.name();
        let fail = |error: ParquetError| fault(name, &error);
        let reader: Box<dyn FileReader> = match source.seekable()? {
            SeekableBytes::File(file) => Box::new(SerializedFileReader::new(file).map_err(fail)?),
            SeekableBytes::Memory(bytes) => {
                let bytes = bytes::Bytes::from_owner(bytes);
                Box::new(SerializedFileReader::new(bytes).map_err(fail)?)
            }
        };
        let (projection, cells) = select(name, &*reader, columns)?;
        let rows = RowIter::from_file_into(reader).project(Some(projection)).map_err(fail)?;
        Ok(Self { rows, cells, lists })
    }
}

/// What to read of a file for some columns, in the file's order, and where each cell is then.
fn select(
    name: &str,
    reader: &dyn FileReader,
    columns: &[Column],
) -> Result<(Type, Vec<Cell>), TextError> {
    let schema = reader.metadata().file_metadata().schema();
    let fields = schema.get_fields();
    let mut cells = Vec::new();
    for column in columns {
        let (place, within) = find(schema, column).ok_or_else(|| TextError::Column {
            name: name.to_owned(),
            column: column.to_string(),
            found: listed(leaves(schema, "").iter().map(String::as_str)),
        })?;
        cells.push(Cell { column: column.to_string(), place, within });
    }
    let mut read: Vec<usize> = cells.iter().map(|cell| cell.place).collect();
    read.sort_unstable();
    read.dedup();
    let projection = Type::group_type_builder(schema.name())
        .with_fields(read.iter().map(|&place| fields[place].clone()).collect())
        .build()
        .map_err(|error| fault(name, &error))?;
    for cell in &mut cells {
        cell.place = read.iter().position(|&place| place == cell.place).unwrap_or(0);
    }
    Ok((projection, cells))
}

fn fault(name: &str, error: &ParquetError) -> TextError {
    TextError::Table { name: name.to_owned(), reason: shortened(&error.to_string()) }
}

impl Cell {
    /// The text of the cell.
    fn text(&self, row: &Row, lists: bool) -> Result<String, RowFault> {
        let field = row.get_column_iter().nth(self.place).map(|(_, field)| field);
        let text = field.and_then(|field| text(field, &self.within, lists));
        text.ok_or_else(|| RowFault::NotText(self.column.clone()))
    }
}

impl Iterator for ParquetRows {
    type Item = Result<Vec<String>, RowFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match self.rows.next()? {
            Ok(row) => row,
            Err(error) => return Some(Err(RowFault::Parquet(error.to_string()))),
        };
        Some(self.cells.iter().map(|cell| cell.text(&row, self.lists)).collect())
    }
}

/// The place of a column, and the path within it.
fn find(schema: &Type, column: &Column) -> Option<(usize, Vec<String>)> {
    let fields = schema.get_fields();
    let named = |name: &str| fields.iter().position(|field| field.name() == name);
    match column {
        Column::Index(index) => (*index < fields.len()).then(|| (*index, Vec::new())),
        Column::Name(name) => match named(name) {
            Some(place) => Some((place, Vec::new())),
            None => {
                let (first, rest) = name.split_once('.')?;
                let place = named(first)?;
                let within: Vec<String> = rest.split('.').map(str::to_owned).collect();
                let mut field = &fields[place];
                for name in &within {
                    let inner = if field.is_group() { field.get_fields() } else { &[] };
                    field = inner.iter().find(|field| field.name() == name)?;
                }
                Some((place, within))
            }
        },
    }
}

/// The names of columns, those of structs with a dot.
fn leaves(group: &Type, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for field in group.get_fields() {
        let name = format!("{prefix}{}", field.name());
        // Lists and maps are groups with a meaning of their own, and hold no text.
        let is_struct = field.is_group()
            && field.get_basic_info().converted_type() == parquet::basic::ConvertedType::NONE
            && field.get_basic_info().logical_type_ref().is_none();
        if is_struct { names.extend(leaves(field, &format!("{name}."))) } else { names.push(name) }
    }
    names
}

fn text(field: &Field, within: &[String], lists: bool) -> Option<String> {
    if let Some((name, rest)) = within.split_first() {
        return match field {
            Field::Null => Some(String::new()),
            Field::Group(row) => {
                let inner = row.get_column_iter().find(|(found, _)| *found == name);
                inner.and_then(|(_, field)| text(field, rest, lists))
            }
            _ => None,
        };
    }
    match field {
        Field::Str(text) => Some(text.clone()),
        Field::Null => Some(String::new()),
        Field::Bytes(bytes) => std::str::from_utf8(bytes.as_bytes()).ok().map(str::to_owned),
        Field::ListInternal(list) if lists => {
            let items = list.elements().iter().map(|item| text(item, &[], false));
            Some(Value::from(items.collect::<Option<Vec<String>>>()?).to_string())
        }
        Field::Group(_) | Field::ListInternal(_) | Field::MapInternal(_) => None,
        other => Some(other.to_string()),
    }
}
