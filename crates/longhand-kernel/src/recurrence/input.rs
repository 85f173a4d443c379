//! What a recurrence reads: rows of numbers, or tokens whose rows stand in a table.

use std::ops::Range;

use super::layout::Shape;
use crate::cpu::{Cpu, Shards};
use crate::embedding;
use crate::pointwise::{apply_serial, for_columns, pointwise};

/// The input of a recurrence.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// `[T·B, D]`.
    Rows(&'a [f32]),
    /// The rows of an embedding: each entry of the table is multiplied by the weights once,
    /// however often it occurs. The gradient is then that of the table. Worth it where the table
    /// has fewer rows than the sequence.
    Tokens {
        /// `[T·B]`, below V.
        ids: &'a [u32],
        /// `[V, D]`.
        table: &'a [f32],
    },
}

impl<'a> From<&'a [f32]> for Input<'a> {
    fn from(rows: &'a [f32]) -> Self {
        Input::Rows(rows)
    }
}

impl<'a> From<&'a Vec<f32>> for Input<'a> {
    fn from(rows: &'a Vec<f32>) -> Self {
        Input::Rows(rows)
    }
}

impl Input<'_> {
    pub(super) fn check(&self, rows: usize, width: usize) {
        match *self {
            Input::Rows(x) => assert_eq!(x.len(), rows * width, "x is [T·B, D]"),
            Input::Tokens { ids, table } => {
                assert_eq!(ids.len(), rows, "ids are [T·B]");
                assert!(width > 0 && table.len().is_multiple_of(width), "the table is [V, D]");
                let found = embedding::out_of_range(ids, table.len() / width);
                assert!(found.is_none(), "a token (place, id) outside the table: {found:?}");
            }
        }
    }
}

/// `to` (rows of `gate_stride`, one for each entry of a table) += the gates' gradients of the
/// positions where the entry stands, in their order.
pub(super) fn sum_by_token(cpu: &Cpu, shape: &Shape, ids: &[u32], d_gates: &[f32], to: &mut [f32]) {
    pointwise!(Accumulate {} [x] [y] { [y.add(x)] });
    let stride = shape.gate_stride();
    let to = Shards::new(to);
    for_columns(cpu, ids.len(), shape.gate_columns(), |worker, columns: Range<usize>| {
        for (row, &id) in ids.iter().enumerate() {
            let (from, at) = (row * stride, id as usize * stride);
            let from = &d_gates[from + columns.start..from + columns.end];
            // SAFETY: each column belongs to one thread.
            let into = unsafe { to.part(at + columns.start..at + columns.end) };
            apply_serial(worker.level, Accumulate {}, [from], [into]);
        }
    });
}
