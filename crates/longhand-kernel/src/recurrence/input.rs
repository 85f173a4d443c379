//! The input of a recurrence: rows of numbers, or tokens whose rows are in a table.

use crate::embedding;

/// The input of a recurrence.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// `[T·B, D]`: one row per position.
    Rows(&'a [f32]),
    /// The rows of an embedding: each entry of the table is multiplied by the weights once,
    /// however often it occurs. The gradient is then that of the table. Worth it where the table
    /// has fewer rows than the sequence.
    Tokens {
        /// `[T·B]`: token ids below V.
        ids: &'a [u32],
        /// `[V, D]`: the table of embeddings.
        table: &'a [f32],
    },
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
