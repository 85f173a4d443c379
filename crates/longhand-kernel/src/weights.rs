//! Weights that are only read: held in fewer bits, and laid out for products with few rows.
//!
//! 1. [`Rows`] is a matrix as a file holds it, row after row, in one of four [`Format`]s; a table
//!    of embeddings is read from it in place.
//! 2. [`Panels`] is the same matrix rearranged once, when a model is loaded: sixteen rows of the
//!    matrix side by side, so that a product needs no sum across a vector and reads its weights
//!    from the first byte to the last.
//! 3. An `Operand` holds the activations as the format wants them: rounded to bf16, or quantised
//!    row by row with a scale taken from the row's largest magnitude.
//! 4. [`linear()`] multiplies the two over the threads; the recurrences use the same tiles with
//!    their cell behind them.
//!
//! 5. [`Memo`] keeps what the first layer makes of each token.
//!
//! A row of the result is the same, bit for bit, whatever other rows are in the batch and however
//! many threads there are. int8 and int4 multiply in integers: their sums are exact, and every
//! instruction set gives the same ones.

use std::fmt;
use std::str::FromStr;

mod dot;
mod forms;
mod linear;
mod loss;
mod memo;
mod operand;
mod panels;
mod product;
mod rows;
#[cfg(test)]
mod tests;
mod tile;
#[cfg(target_arch = "x86_64")]
mod tiles;

pub use linear::linear;
pub(crate) use linear::pays;
pub use loss::cross_entropy;
pub use memo::{Gathered, Memo, gather};
pub(crate) use operand::Operand;
pub use panels::{NOTHING, Panels};
pub(crate) use product::{Addend, NOTHING_ADDED, add_product};
pub use rows::{Rows, RowsError};

/// The format of a weight in memory and in files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// Four bytes per weight. This is the default.
    #[default]
    F32,
    /// Two bytes: the upper half of an `f32`.
    Bf16,
    /// One byte, −127 to 127, times a scale for each row.
    Int8,
    /// Half a byte, −8 to 7, times a scale for each [`GROUP`] columns of a row.
    Int4,
}

/// Rows of a matrix in one vector of a panel.
const LANES: usize = 16;
/// Rows of a matrix in a panel.
pub(crate) const PANEL: usize = 64;
/// Columns that share a scale in [`Format::Int4`].
pub const GROUP: usize = 32;
/// The most columns of a matrix in [`Format::Int8`]: sums of 2¹⁶ products fit into 32 bits.
pub const MOST_INT8_COLUMNS: usize = 1 << 16;

impl Format {
    /// Every format, the most exact first.
    pub const ALL: [Format; 4] = [Format::F32, Format::Bf16, Format::Int8, Format::Int4];

    /// The name in configurations and flags, such as `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::Bf16 => "bf16",
            Format::Int8 => "int8",
            Format::Int4 => "int4",
        }
    }

    /// Columns in the four bytes that one row gives to one step of a product.
    fn columns_per_step(self) -> usize {
        match self {
            Format::F32 => 1,
            Format::Bf16 => 2,
            Format::Int8 => 4,
            Format::Int4 => 8,
        }
    }

    /// Steps of a product over `columns`; whole groups where there are groups.
    fn steps(self, columns: usize) -> usize {
        match self {
            Format::Int4 => columns.div_ceil(GROUP) * (GROUP / 8),
            _ => columns.div_ceil(self.columns_per_step()),
        }
    }

    /// Scales of a row.
    fn groups(self, columns: usize) -> usize {
        match self {
            Format::F32 | Format::Bf16 => 0,
            Format::Int8 => 1,
            Format::Int4 => columns.div_ceil(GROUP),
        }
    }
}

/// The name of a weight format that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFormat {
    /// The name that was given.
    pub name: String,
}

impl fmt::Display for UnknownFormat {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "unknown weight format `{}`: use f32, bf16, int8 or int4", self.name)
    }
}

impl std::error::Error for UnknownFormat {}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let found = Self::ALL.into_iter().find(|format| format.name() == name);
        found.ok_or_else(|| UnknownFormat { name: name.into() })
    }
}
