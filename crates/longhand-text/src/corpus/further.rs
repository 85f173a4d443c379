//! Columns that are appended to a table.

use serde_json::Value;

use crate::error::TextError;

/// A column to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FurtherColumn {
    /// Its name, which no column of the table may have.
    pub name: String,
    /// What it holds.
    pub kind: NumberKind,
}

/// The numbers of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberKind {
    /// 64-bit integers.
    Whole,
    /// 64-bit floating-point numbers.
    Real,
}

/// The further cells of one row, a number or nothing for each column. A column of whole numbers
/// takes the whole part.
pub type FurtherCells = Vec<Option<f64>>;

/// Gives the further cells of some rows from their texts.
pub type FurtherValues<'a, E> = dyn FnMut(&[String]) -> Result<Vec<FurtherCells>, E> + 'a;

/// Rows that are given to `values` together.
pub(super) const ROWS: usize = 4096;
/// Bytes of text that are given to `values` together; one text may have more.
pub(super) const BYTES: usize = 4 << 20;

impl FurtherColumn {
    /// A cell as JSON has it.
    pub(super) fn number(&self, value: Option<f64>) -> Value {
        match (value, self.kind) {
            (None, _) => Value::Null,
            (Some(value), NumberKind::Whole) => Value::from(value as i64),
            (Some(value), NumberKind::Real) => Value::from(value),
        }
    }
}

/// Refuses further columns whose name the table has.
pub(super) fn check_free(
    table: &str,
    columns: &[FurtherColumn],
    is_taken: impl Fn(&str) -> bool,
) -> Result<(), TextError> {
    match columns.iter().find(|column| is_taken(&column.name)) {
        Some(column) => {
            Err(TextError::ColumnTaken { name: table.to_owned(), column: column.name.clone() })
        }
        None => Ok(()),
    }
}
