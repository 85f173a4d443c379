//! A matrix as a file holds it: little-endian codes row after row, and their scales.

use std::borrow::Cow;

use super::{Format, GROUP};
use crate::cpu::{Cpu, Shards};
use crate::pointwise::for_rows;
use crate::precision::{bf16, from_bf16};

/// A matrix row after row, owned or borrowed from a file.
///
/// | format | codes of a row | scales of a row |
/// |---|---|---|
/// | f32 | 4·columns bytes | none |
/// | bf16 | 2·columns bytes | none |
/// | int8 | columns bytes, two's complement | one f32 |
/// | int4 | ⌈columns / 2⌉ bytes, code + 8, even columns in the low half | ⌈columns / 32⌉ bf16 |
#[derive(Clone, Debug, PartialEq)]
pub struct Rows<'a> {
    format: Format,
    rows: usize,
    columns: usize,
    codes: Cow<'a, [u8]>,
    scales: Cow<'a, [u8]>,
}

/// Why bytes are no matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsError {
    /// Another number of bytes than the sizes say.
    Length,
    /// A value that is not finite, by its index; of the scales where there are any.
    NotFinite(usize),
}

impl<'a> Rows<'a> {
    /// Checks lengths, and that every value or scale is finite.
    ///
    /// # Errors
    /// If one of them does not hold.
    pub fn new(
        format: Format,
        [rows, columns]: [usize; 2],
        codes: impl Into<Cow<'a, [u8]>>,
        scales: impl Into<Cow<'a, [u8]>>,
    ) -> Result<Self, RowsError> {
        let (codes, scales) = (codes.into(), scales.into());
        let lengths = (rows.checked_mul(format.row_bytes(columns)))
            .zip(rows.checked_mul(format.scale_bytes(columns)));
        if lengths != Some((codes.len(), scales.len())) {
            return Err(RowsError::Length);
        }
        let finite = match format {
            Format::F32 => finite_words(&codes),
            Format::Int8 => finite_words(&scales),
            Format::Bf16 => finite_halves(&codes),
            Format::Int4 => finite_halves(&scales),
        };
        match finite {
            Ok(()) => Ok(Self { format, rows, columns, codes, scales }),
            Err(index) => Err(RowsError::NotFinite(index)),
        }
    }

    /// The nearest matrix in a format. int8 takes each row's scale from its largest magnitude;
    /// int4 takes for each group the scale with the least squared error among some near that.
    ///
    /// # Panics
    /// If `values` is not `rows × columns`.
    pub fn encode(format: Format, [rows, columns]: [usize; 2], values: &[f32]) -> Rows<'static> {
        assert_eq!(values.len(), rows * columns, "a {rows} × {columns} matrix");
        let mut codes = Vec::with_capacity(rows * format.row_bytes(columns));
        let mut scales = Vec::with_capacity(rows * format.scale_bytes(columns));
        if columns > 0 {
            for row in values.chunks_exact(columns) {
                match format {
                    Format::F32 => codes.extend(row.iter().flat_map(|x| x.to_le_bytes())),
                    Format::Bf16 => codes.extend(row.iter().flat_map(|&x| bf16(x).to_le_bytes())),
                    Format::Int8 => encode_int8(row, &mut codes, &mut scales),
                    Format::Int4 => encode_int4(row, &mut codes, &mut scales),
                }
            }
        }
        Rows { format, rows, columns, codes: codes.into(), scales: scales.into() }
    }

    pub(super) fn from_parts(
        format: Format,
        [rows, columns]: [usize; 2],
        codes: Vec<u8>,
        scales: Vec<u8>,
    ) -> Rows<'static> {
        Rows { format, rows, columns, codes: codes.into(), scales: scales.into() }
    }

    /// Owning what it holds.
    pub fn into_owned(self) -> Rows<'static> {
        Rows {
            codes: self.codes.into_owned().into(),
            scales: self.scales.into_owned().into(),
            format: self.format,
            rows: self.rows,
            columns: self.columns,
        }
    }

    /// How the values are held.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The sizes `[rows, columns]` of the matrix.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// The codes as the file holds them.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// The scales as the file holds them; empty where the format has none.
    pub fn scales(&self) -> &[u8] {
        &self.scales
    }

    /// `to [columns]` = one row.
    ///
    /// # Panics
    /// If there is no such row, or `to` has another length.
    pub fn decode_row(&self, row: usize, to: &mut [f32]) {
        assert!(row < self.rows && to.len() == self.columns, "a row of {} values", self.columns);
        let bytes = self.format.row_bytes(self.columns);
        let codes = &self.codes[row * bytes..][..bytes];
        match self.format {
            Format::F32 => {
                for (to, word) in to.iter_mut().zip(codes.chunks_exact(4)) {
                    *to = f32::from_le_bytes([word[0], word[1], word[2], word[3]]);
                }
            }
            Format::Bf16 => {
                for (to, half) in to.iter_mut().zip(codes.chunks_exact(2)) {
                    *to = from_bf16(u16::from_le_bytes([half[0], half[1]]));
                }
            }
            Format::Int8 => {
                let scale = self.scale(row, 0);
                for (to, &code) in to.iter_mut().zip(codes) {
                    *to = f32::from(code as i8) * scale;
                }
            }
            Format::Int4 => {
                for (group, to) in to.chunks_mut(GROUP).enumerate() {
                    let scale = self.scale(row, group);
                    let codes = &codes[group * GROUP / 2..];
                    for (k, to) in to.iter_mut().enumerate() {
                        let code = (codes[k / 2] >> (4 * (k % 2))) & 15;
                        *to = (f32::from(code) - 8.0) * scale;
                    }
                }
            }
        }
    }

    /// All values in `f32`, row after row.
    pub fn decode(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.columns];
        if self.columns > 0 {
            for (row, to) in values.chunks_exact_mut(self.columns).enumerate() {
                self.decode_row(row, to);
            }
        }
        values
    }

    /// y [R, columns] = the rows `ids` `[R]`.
    ///
    /// # Panics
    /// If an id is not below the number of rows, or `y` has another length.
    pub fn gather(&self, cpu: &Cpu, ids: &[u32], y: &mut [f32]) {
        let width = self.columns;
        assert_eq!(y.len(), ids.len() * width, "the output of an embedding");
        let y = Shards::new(y);
        for_rows(cpu, ids.len(), width, |_, range| {
            for r in range {
                // SAFETY: each row belongs to one thread.
                self.decode_row(ids[r] as usize, unsafe { y.part(r * width..(r + 1) * width) });
            }
        });
    }

    /// The scale of a group of a row.
    pub(super) fn scale(&self, row: usize, group: usize) -> f32 {
        let at = row * self.format.groups(self.columns) + group;
        match self.format {
            Format::Int4 => {
                from_bf16(u16::from_le_bytes([self.scales[2 * at], self.scales[2 * at + 1]]))
            }
            _ => f32::from_le_bytes([0, 1, 2, 3].map(|i| self.scales[4 * at + i])),
        }
    }
}

impl Format {
    /// Bytes of a row's codes.
    pub fn row_bytes(self, columns: usize) -> usize {
        match self {
            Format::F32 => 4 * columns,
            Format::Bf16 => 2 * columns,
            Format::Int8 => columns,
            Format::Int4 => columns.div_ceil(2),
        }
    }

    /// Bytes of a row's scales.
    pub fn scale_bytes(self, columns: usize) -> usize {
        match self {
            Format::Int4 => 2 * self.groups(columns),
            _ => 4 * self.groups(columns),
        }
    }
}

fn encode_int8(row: &[f32], codes: &mut Vec<u8>, scales: &mut Vec<u8>) {
    let most = row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let scale = most / 127.0;
    scales.extend(scale.to_le_bytes());
    let inverse = if scale > 0.0 { 127.0 / most } else { 0.0 };
    let code = |x: &f32| (x * inverse).round_ties_even().clamp(-127.0, 127.0) as i8 as u8;
    codes.extend(row.iter().map(code));
}

fn encode_int4(row: &[f32], codes: &mut Vec<u8>, scales: &mut Vec<u8>) {
    let start = codes.len();
    codes.resize(start + row.len().div_ceil(2), 0x88);
    for (group, values) in row.chunks(GROUP).enumerate() {
        let scale = int4_scale(values);
        scales.extend(bf16(scale).to_le_bytes());
        for (k, &x) in values.iter().enumerate() {
            let byte = &mut codes[start + (group * GROUP + k) / 2];
            let code = (int4_code(x, scale) + 8) as u8;
            *byte = if k % 2 == 0 { (*byte & 0xf0) | code } else { (*byte & 0x0f) | code << 4 };
        }
    }
}

fn int4_code(x: f32, scale: f32) -> i8 {
    if scale == 0.0 { 0 } else { (x / scale).round_ties_even().clamp(-8.0, 7.0) as i8 }
}

/// The scale, of either sign and exact in bf16, with the least squared error among those that map
/// the largest magnitude to −9.5 … −5.
fn int4_scale(values: &[f32]) -> f32 {
    let extreme =
        values.iter().fold(0.0f32, |most, &x| if x.abs() > most.abs() { x } else { most });
    if extreme == 0.0 {
        return 0.0;
    }
    let mut best = (f64::INFINITY, 0.0);
    for step in 0..37 {
        for sign in [1.0, -1.0] {
            let scale = from_bf16(bf16(sign * extreme / (5.0 + 0.125 * step as f32)));
            let error = |&x: &f32| f64::from(x - f32::from(int4_code(x, scale)) * scale).powi(2);
            let error = values.iter().map(error).sum::<f64>();
            if error < best.0 {
                best = (error, scale);
            }
        }
    }
    best.1
}

fn finite_words(bytes: &[u8]) -> Result<(), usize> {
    let infinite = |w: &[u8]| (w[3] & 0x7f) == 0x7f && (w[2] & 0x80) != 0;
    // Whole blocks first, without a branch for each value.
    let any = bytes
        .chunks(4096)
        .position(|block| block.chunks_exact(4).fold(false, |any, word| any | infinite(word)));
    let Some(block) = any else { return Ok(()) };
    let at = bytes[block * 4096..].chunks_exact(4).position(infinite).unwrap_or(0);
    Err(block * 1024 + at)
}

fn finite_halves(bytes: &[u8]) -> Result<(), usize> {
    let infinite = |h: &[u8]| (h[1] & 0x7f) == 0x7f && (h[0] & 0x80) != 0;
    let any = bytes
        .chunks(4096)
        .position(|block| block.chunks_exact(2).fold(false, |any, half| any | infinite(half)));
    let Some(block) = any else { return Ok(()) };
    let at = bytes[block * 4096..].chunks_exact(2).position(infinite).unwrap_or(0);
    Err(block * 2048 + at)
}
