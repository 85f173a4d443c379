//! Activations as a format multiplies them.

use super::{Format, GROUP};
use crate::buffer::{Buffer, Buffers};
use crate::cpu::{Cpu, Shards};
use crate::level::Level;
use crate::pointwise::for_rows;
use crate::scratch;
use crate::simd::{Kernel, Vector};

/// Rows of activations. bf16 rounds them; int8 and int4 hold for each row codes of −127 to 127, a
/// scale, and for each group what the weights' offset adds to its sum, negated.
pub(crate) struct Operand {
    format: Format,
    columns: usize,
    rows: usize,
    /// Rows of `stride` elements: the codes, then the scale, then the corrections.
    data: Buffer,
    stride: usize,
}

impl Operand {
    /// Room for `rows` rows, from a free list.
    pub(crate) fn room(buffers: &mut Buffers, format: Format, rows: usize, columns: usize) -> Self {
        let stride = stride(format, columns);
        Self { format, columns, rows, data: buffers.take(rows * stride), stride }
    }

    /// Gives the room back.
    pub(crate) fn release(self, buffers: &mut Buffers) {
        buffers.give(self.data);
    }

    /// The rows [x₁ | x₂ | …], over the threads; each x is `[R, its columns]`. The caller
    /// returns it with [`Operand::give`].
    pub(crate) fn of_rows(cpu: &Cpu, format: Format, rows: usize, parts: &[&[f32]]) -> Self {
        let columns = parts.iter().map(|x| x.len()).sum::<usize>() / rows.max(1);
        let stride = stride(format, columns);
        let mut data = scratch::take(cpu, rows * stride);
        let shards = Shards::new(&mut data);
        for_rows(cpu, rows, columns, |worker, range| {
            let mut joined = worker.buffers.take(columns);
            for r in range {
                // SAFETY: each row belongs to one thread.
                let to = unsafe { shards.part(r * stride..(r + 1) * stride) };
                let mut at = 0;
                let whole = match parts {
                    [x] => &x[r * columns..][..columns],
                    parts => {
                        for x in parts {
                            let width = x.len() / rows;
                            joined[at..at + width].copy_from_slice(&x[r * width..][..width]);
                            at += width;
                        }
                        &joined[..]
                    }
                };
                worker.level.run(Fill { format, from: whole, to });
            }
            worker.buffers.give(joined);
        });
        Self { format, columns, rows, data, stride }
    }

    /// Gives back what [`Operand::of_rows`] took.
    pub(crate) fn give(self, cpu: &Cpu) {
        scratch::give(cpu, self.data);
    }

    /// Sets one row of activations.
    pub(crate) fn fill(&mut self, level: Level, row: usize, from: &[f32]) {
        assert_eq!(from.len(), self.columns, "a row of activations");
        let to = &mut self.data[row * self.stride..(row + 1) * self.stride];
        level.run(Fill { format: self.format, from, to });
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Elements from a row to the next one.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn row(&self, row: usize) -> Row {
        let row = &self.data[row * self.stride..(row + 1) * self.stride];
        let end = codes_len(self.format, self.columns);
        Row { codes: row.as_ptr().cast(), extras: row[end..].as_ptr() }
    }
}

/// One row, as pointers into the operand.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) codes: *const u8,
    /// The scale, then a correction (`i32`) for each group.
    extras: *const f32,
}

impl Row {
    /// # Safety
    /// The row is of an integer format and its operand is alive.
    #[inline(always)]
    pub(super) unsafe fn scale(&self) -> f32 {
        // SAFETY: as the caller promises.
        unsafe { *self.extras }
    }

    /// # Safety
    /// As [`Row::scale`], and the group is one of the row's.
    #[inline(always)]
    pub(super) unsafe fn correction(&self, group: usize) -> i32 {
        // SAFETY: as the caller promises.
        unsafe { *self.extras.add(1 + group).cast::<i32>() }
    }
}

/// Elements of a row's codes: whole cache lines, so that a row can be written in whole vectors.
fn codes_len(format: Format, columns: usize) -> usize {
    let bytes = match format {
        Format::F32 => 4 * columns,
        Format::Bf16 => 2 * columns,
        Format::Int8 | Format::Int4 => columns,
    };
    bytes.next_multiple_of(64) / 4
}

fn stride(format: Format, columns: usize) -> usize {
    let extras = match format {
        Format::F32 | Format::Bf16 => 0,
        Format::Int8 | Format::Int4 => 1 + format.groups(columns),
    };
    (codes_len(format, columns) + extras).next_multiple_of(16)
}

struct Fill<'a> {
    format: Format,
    from: &'a [f32],
    to: &'a mut [f32],
}

impl Kernel for Fill<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Fill { format, from, to } = self;
        let end = codes_len(format, from.len());
        let (codes, extras) = to.split_at_mut(end);
        // SAFETY: codes are padded to whole vectors of every format.
        unsafe {
            match format {
                Format::F32 => codes[..from.len()].copy_from_slice(from),
                Format::Bf16 => {
                    let to = codes.as_mut_ptr().cast::<u16>();
                    for k in (0..from.len()).step_by(V::LANES) {
                        load::<V>(from, k).store_bf16(to.add(k));
                    }
                }
                Format::Int8 | Format::Int4 => quantise::<V>(format, from, codes, extras),
            }
        }
    }
}

/// Codes round(x · 127 / most), their scale most / 127, and the corrections. A row with something
/// not finite gets a scale that is no number, and so do its products.
#[inline(always)]
unsafe fn quantise<V: Vector>(format: Format, from: &[f32], codes: &mut [f32], extras: &mut [f32]) {
    let columns = from.len();
    // SAFETY: loads stay within the row, and stores within codes padded to 64 bytes.
    unsafe {
        let (mut most, mut nothing) = (V::zero(), V::zero());
        for k in (0..columns).step_by(V::LANES) {
            let x = load::<V>(from, k);
            most = most.max(x.abs());
            nothing = x.mul_add(V::zero(), nothing);
        }
        let (most, nothing) = (most.largest(), nothing.sum());
        extras[0] = most / 127.0 + nothing;
        let inverse = if most > 0.0 && most.is_finite() { 127.0 / most } else { 0.0 };
        // A magnitude so small that its inverse is none.
        let inverse = V::splat(if inverse.is_finite() { inverse } else { 0.0 });
        let to = codes.as_mut_ptr().cast::<i8>();
        let mut total = V::zero();
        for (group, start) in (0..columns).step_by(GROUP).enumerate() {
            let mut sum = V::zero();
            let mut k = start;
            while k < (start + GROUP).min(columns.next_multiple_of(V::LANES)) {
                let code = load::<V>(from, k).mul(inverse).round();
                code.store_bytes(to.add(k));
                sum = sum.add(code);
                k += V::LANES;
            }
            // Columns that are not there, to the end of the group.
            to.add(k).write_bytes(0, (start + GROUP).saturating_sub(k));
            if format == Format::Int4 {
                extras[1 + group] = correction(8.0, sum.sum());
            } else {
                total = total.add(sum);
            }
        }
        // And to the end of the row: a tile reads whole cache lines.
        let end = columns.next_multiple_of(GROUP);
        to.add(end).write_bytes(0, 4 * codes.len() - end);
        if format == Format::Int8 {
            extras[1] = correction(128.0, total.sum());
        }
    }
}

/// −offset · sum as an integer's bits: both are integers below 2²⁴ in magnitude.
fn correction(offset: f32, sum: f32) -> f32 {
    f32::from_bits((-(offset as i32) * sum as i32) as u32)
}

#[inline(always)]
unsafe fn load<V: Vector>(from: &[f32], k: usize) -> V {
    // SAFETY: only elements of the slice are read.
    unsafe {
        let left = from.len() - k;
        let from = from.as_ptr().add(k);
        if left >= V::LANES { V::load(from) } else { V::load_first(from, left) }
    }
}
