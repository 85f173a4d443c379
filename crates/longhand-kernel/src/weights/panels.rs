//! A matrix rearranged for products: sixteen rows side by side, four times sixteen to a panel.
//!
//! One *step* of a product takes four bytes of every row: one f32, two bf16, four int8 or eight
//! int4. A panel is 64 rows (the last one fewer, in whole sixteens) step after step, so that a
//! product reads it from its first byte to its last. int8 codes have 128 added, and int4 codes 8,
//! as the multiplication of unsigned by signed bytes wants them. The first four of eight int4 codes
//! are in the low halves of the bytes.

use super::{Format, LANES, MOST_INT8_COLUMNS, PANEL, Rows};
use crate::amx::SIDE;
use crate::buffer::Buffer;
use crate::precision::from_bf16;

/// A matrix W `[rows, columns]` for products x·Wᵀ.
#[derive(Clone)]
pub struct Panels {
    format: Format,
    rows: usize,
    columns: usize,
    /// For each place, the row of the matrix there, or [`NOTHING`]; in order where absent.
    order: Option<Box<[u32]>>,
    /// Places: rows with their padding, a multiple of sixteen.
    places: usize,
    words: Buffer,
    /// For each panel, group and place.
    scales: Buffer,
}

/// A place that holds no row.
pub const NOTHING: u32 = u32::MAX;

impl Panels {
    /// Rearranges a matrix with its rows in order.
    pub fn new(rows: &Rows) -> Self {
        Self::arrange(rows, None, rows.shape()[0].next_multiple_of(LANES))
    }

    /// Rearranges a matrix with its rows in another order: `order` has for each place its row, or
    /// [`NOTHING`], and a length that is a multiple of sixteen.
    ///
    /// # Panics
    /// If it names a row that is not there.
    pub fn in_order(rows: &Rows, order: Vec<u32>) -> Self {
        assert!(order.len().is_multiple_of(LANES), "places come in sixteens");
        assert!(order.iter().all(|&row| row == NOTHING || (row as usize) < rows.shape()[0]));
        let places = order.len();
        Self::arrange(rows, Some(order.into()), places)
    }

    fn arrange(from: &Rows, order: Option<Box<[u32]>>, places: usize) -> Self {
        let (format, [rows, columns]) = (from.format(), from.shape());
        assert!(
            format != Format::Int8 || columns <= MOST_INT8_COLUMNS,
            "sums of {columns} products of int8 do not fit into 32 bits"
        );
        let (steps, groups) = (format.steps(columns), format.groups(columns));
        let mut panels = Self {
            format,
            rows,
            columns,
            order,
            places,
            words: Buffer::zeros(places * steps + padding_words(format, steps, places)),
            scales: Buffer::zeros(places * groups),
        };
        let row_bytes = format.row_bytes(columns);
        for place in (0..places).step_by(LANES) {
            let (start, stride) = panels.locate(place, steps);
            let lanes: [&[u8]; LANES] =
                std::array::from_fn(|lane| match panels.row(place + lane) {
                    Some(row) => &from.codes()[row * row_bytes..][..row_bytes],
                    None => &[],
                });
            // Whole words first; then what is left of each row, and places that hold none.
            let words = lanes.map(|lane| lane.as_chunks::<4>().0);
            let whole = words.iter().map(|words| words.len()).min().unwrap_or(0).min(steps);
            for step in 0..whole {
                let to = &mut panels.words[start + step * stride..][..LANES];
                for (to, words) in to.iter_mut().zip(&words) {
                    *to = f32::from_bits(to_panel(format, u32::from_le_bytes(words[step])));
                }
            }
            for step in whole..steps {
                let to = &mut panels.words[start + step * stride..][..LANES];
                for (to, lane) in to.iter_mut().zip(&lanes) {
                    let byte = |i: usize| *lane.get(4 * step + i).unwrap_or(&padding(format));
                    let word = u32::from_le_bytes([0, 1, 2, 3].map(byte));
                    *to = f32::from_bits(to_panel(format, word));
                }
            }
            let (start, stride) = panels.locate(place, groups);
            for group in 0..groups {
                for lane in 0..LANES {
                    if let Some(row) = panels.row(place + lane) {
                        panels.scales[start + group * stride + lane] = from.scale(row, group);
                    }
                }
            }
        }
        panels
    }

    /// The matrix, row after row: the same bytes it was made from.
    pub fn to_rows(&self) -> Rows<'static> {
        let (format, columns) = (self.format, self.columns);
        let (steps, groups) = (format.steps(columns), format.groups(columns));
        let (row_bytes, scale_bytes) = (format.row_bytes(columns), format.scale_bytes(columns));
        let mut codes = vec![0; self.rows * row_bytes];
        let mut scales = vec![0; self.rows * scale_bytes];
        for place in 0..self.places {
            let Some(row) = self.row(place) else { continue };
            let (start, stride) = self.locate(place, steps);
            for (step, to) in codes[row * row_bytes..][..row_bytes].chunks_mut(4).enumerate() {
                let word = to_file(format, self.words[start + step * stride].to_bits());
                to.copy_from_slice(&word.to_le_bytes()[..to.len()]);
            }
            let (start, stride) = self.locate(place, groups);
            let to = &mut scales[row * scale_bytes..][..scale_bytes];
            for group in 0..groups {
                let scale = self.scales[start + group * stride];
                match format {
                    Format::Int4 => {
                        debug_assert_eq!(from_bf16((scale.to_bits() >> 16) as u16), scale);
                        let half = (scale.to_bits() >> 16) as u16;
                        to[2 * group..2 * group + 2].copy_from_slice(&half.to_le_bytes());
                    }
                    _ => to[4 * group..4 * group + 4].copy_from_slice(&scale.to_le_bytes()),
                }
            }
        }
        Rows::from_parts(format, [self.rows, columns], codes, scales)
    }

    /// How the values are held.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Rows and columns of the matrix.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// Bytes that the panels take in memory.
    pub fn bytes(&self) -> usize {
        4 * (self.words.len() + self.scales.len() + self.order.as_ref().map_or(0, |o| o.len()))
    }

    /// Rows with their padding.
    pub fn places(&self) -> usize {
        self.places
    }

    /// How many panels there are.
    pub(crate) fn count(&self) -> usize {
        self.places.div_ceil(PANEL)
    }

    /// Places of a panel.
    pub(super) fn width(&self, panel: usize) -> usize {
        PANEL.min(self.places - panel * PANEL)
    }

    /// Whether the places are the rows in order.
    pub(super) fn in_row_order(&self) -> bool {
        self.order.is_none()
    }

    /// A panel's words, steps × places, and all that is behind them: a product may read on to whole
    /// tiles.
    pub(super) fn words(&self, panel: usize) -> &[f32] {
        &self.words[panel * PANEL * self.format.steps(self.columns)..]
    }

    /// A panel's scales: groups × places.
    pub(super) fn scales(&self, panel: usize) -> &[f32] {
        let groups = self.format.groups(self.columns);
        &self.scales[panel * PANEL * groups..][..self.width(panel) * groups]
    }

    fn row(&self, place: usize) -> Option<usize> {
        match &self.order {
            Some(order) => (order[place] != NOTHING).then_some(order[place] as usize),
            None => (place < self.rows).then_some(place),
        }
    }

    /// Where a place's first of `count` entries is, and the distance to the next one.
    fn locate(&self, place: usize, count: usize) -> (usize, usize) {
        let panel = place / PANEL;
        (panel * PANEL * count + place % PANEL, self.width(panel))
    }
}

/// The byte of a column or row that does not exist. Any byte would do, since the
/// activations there are zero.
fn padding(format: Format) -> u8 {
    if format == Format::Int4 { 0x88 } else { 0 }
}

/// Words behind the last panel, so that a product may read whole tiles of its steps. What it reads
/// there is multiplied by zeros.
fn padding_words(format: Format, steps: usize, places: usize) -> usize {
    match format {
        Format::Int8 => (steps.next_multiple_of(SIDE) - steps) * PANEL.min(places),
        Format::F32 | Format::Bf16 | Format::Int4 => 0,
    }
}

/// A word in the file's order and signs, in those of a panel.
fn to_panel(format: Format, word: u32) -> u32 {
    match format {
        Format::F32 | Format::Bf16 => word,
        Format::Int8 => word ^ 0x8080_8080,
        // Nibbles 7…0 become 7 3 6 2 5 1 4 0.
        Format::Int4 => {
            let byte = |i: u32| (word >> (4 * i) & 15) | (word >> (4 * i + 16) & 15) << 4;
            byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24
        }
    }
}

/// The inverse of [`to_panel`].
fn to_file(format: Format, word: u32) -> u32 {
    match format {
        Format::Int4 => {
            let nibble = |i: u32| word >> (8 * (i % 4) + 4 * (i / 4)) & 15;
            (0..8).fold(0, |all, i| all | nibble(i) << (4 * i))
        }
        _ => to_panel(format, word),
    }
}
