//! Parquet files with further columns. What is there is copied as it is encoded.

use std::io::Write;
use std::sync::Arc;

use ::parquet::basic::{Compression, Repetition, Type as Physical};
use ::parquet::column::writer::ColumnCloseResult;
use ::parquet::data_type::{DoubleType, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::types::{Type, TypePtr};

use super::super::format::Column;
use super::super::further::{
    BYTES, FurtherCells, FurtherColumn, FurtherValues, NumberKind, ROWS, check_free,
};
use super::super::source::{SeekableBytes, Source};
use super::{RowFault, fault, select};
use crate::error::TextError;

/// The metadata in which Arrow keeps a schema of its own.
const ARROW_SCHEMA: &str = "ARROW:schema";

/// Copies a file and appends columns. A row group is written when all of its texts have their values.
pub(in super::super) fn append<E: From<TextError>>(
    source: &Source,
    text: &Column,
    columns: &[FurtherColumn],
    out: &mut (dyn Write + Send),
    values: &mut FurtherValues<'_, E>,
) -> Result<(), E> {
    match source.seekable()? {
        SeekableBytes::File(file) => copy(source.name(), file, text, columns, out, values),
        SeekableBytes::Memory(bytes) => {
            let bytes = bytes::Bytes::from_owner(bytes);
            copy(source.name(), bytes, text, columns, out, values)
        }
    }
}

fn copy<E: From<TextError>>(
    name: &str,
    bytes: impl ChunkReader + Clonable + 'static,
    text: &Column,
    columns: &[FurtherColumn],
    out: &mut (dyn Write + Send),
    values: &mut FurtherValues<'_, E>,
) -> Result<(), E> {
    let fail = |error: ParquetError| fault(name, &error);
    let chunks = bytes.again()?;
    let reader = SerializedFileReader::new(bytes).map_err(fail)?;
    let (projection, mut cells) = select(name, &reader, std::slice::from_ref(text))?;
    let Some(cell) = cells.pop() else { return Ok(()) };
    let metadata = reader.metadata().clone();
    let file = metadata.file_metadata();
    let schema = further_schema(name, file.schema(), columns)?;
    let kept = file.key_value_metadata().map(|pairs| {
        pairs.iter().filter(|pair| pair.key != ARROW_SCHEMA).cloned().collect::<Vec<_>>()
    });
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(kept)
        .build();
    let mut writer = SerializedFileWriter::new(out, schema, Arc::new(properties)).map_err(fail)?;
    let mut row_number = 0;
    for (index, group) in metadata.row_groups().iter().enumerate() {
        let group_reader = reader.get_row_group(index).map_err(fail)?;
        let rows = group_reader.get_row_iter(Some(projection.clone())).map_err(fail)?;
        let mut further: Vec<FurtherCells> = Vec::new();
        let (mut texts, mut size) = (Vec::new(), 0);
        for row in rows {
            row_number += 1;
            let at = |fault| TextError::Row { name: name.to_owned(), row: row_number, fault };
            let row = row.map_err(|error| at(RowFault::Parquet(error.to_string())))?;
            let text = cell.text(&row, false).map_err(at)?;
            size += text.len();
            texts.push(text);
            if texts.len() == ROWS || size >= BYTES {
                further.extend(values(&texts)?);
                texts.clear();
                size = 0;
            }
        }
        if !texts.is_empty() {
            further.extend(values(&texts)?);
        }
        let mut group_writer = writer.next_row_group().map_err(fail)?;
        for column in group.columns() {
            let close = ColumnCloseResult {
                bytes_written: column.compressed_size() as u64,
                rows_written: group.num_rows() as u64,
                metadata: column.clone(),
                // Both only speed up a search.
                bloom_filter: None,
                column_index: None,
                offset_index: None,
            };
            group_writer.append_column(&chunks, close).map_err(fail)?;
        }
        for (place, column) in columns.iter().enumerate() {
            let numbers = further.iter().map(|cells| cells.get(place).copied().flatten());
            write_column(&mut group_writer, column.kind, numbers).map_err(fail)?;
        }
        group_writer.close().map_err(fail)?;
    }
    writer.close().map_err(fail)?;
    Ok(())
}

/// The table's columns and further ones, whose cells may be null.
fn further_schema(
    name: &str,
    schema: &Type,
    columns: &[FurtherColumn],
) -> Result<TypePtr, TextError> {
    let taken = |name: &str| schema.get_fields().iter().any(|field| field.name() == name);
    check_free(name, columns, taken)?;
    let mut fields = schema.get_fields().to_vec();
    for column in columns {
        let kind = match column.kind {
            NumberKind::Whole => Physical::INT64,
            NumberKind::Real => Physical::DOUBLE,
        };
        let field = Type::primitive_type_builder(&column.name, kind)
            .with_repetition(Repetition::OPTIONAL)
            .build();
        fields.push(Arc::new(field.map_err(|error| fault(name, &error))?));
    }
    let whole = Type::group_type_builder(schema.name()).with_fields(fields).build();
    Ok(Arc::new(whole.map_err(|error| fault(name, &error))?))
}

fn write_column<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    kind: NumberKind,
    numbers: impl Iterator<Item = Option<f64>> + Clone,
) -> Result<(), ParquetError> {
    let levels: Vec<i16> = numbers.clone().map(|number| i16::from(number.is_some())).collect();
    let missing = || ParquetError::General("the schema lacks a further column".into());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    match kind {
        NumberKind::Whole => {
            let values: Vec<i64> = numbers.flatten().map(|number| number as i64).collect();
            column.typed::<Int64Type>().write_batch(&values, Some(&levels), None)?;
        }
        NumberKind::Real => {
            let values: Vec<f64> = numbers.flatten().collect();
            column.typed::<DoubleType>().write_batch(&values, Some(&levels), None)?;
        }
    }
    column.close()
}

/// Bytes that are read by two readers.
trait Clonable: Sized {
    fn again(&self) -> Result<Self, TextError>;
}

impl Clonable for std::fs::File {
    fn again(&self) -> Result<Self, TextError> {
        Ok(self.try_clone()?)
    }
}

impl Clonable for bytes::Bytes {
    fn again(&self) -> Result<Self, TextError> {
        Ok(self.clone())
    }
}
