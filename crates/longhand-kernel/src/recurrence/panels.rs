//! A cell's weights packed for reading: gates interleaved in blocks of sixteen units.

use super::layout::Shape;
use crate::weights::{Format, Gathered, NOTHING, Panels};

/// Units of a block, whose gates are interleaved.
pub(super) const UNITS: usize = 16;

/// The weights of a recurrence, packed in the orders of [`input_order`] and [`recurrent_order`].
#[derive(Clone, Copy)]
pub struct CellPanels<'a> {
    /// W `[G·N, D]`, PyTorch's `weight_ih`.
    pub input: &'a Panels,
    /// `weight_hh`, `[G·N, N]`, or `[H·G·P, P]` of a cell with heads.
    pub recurrent: &'a Panels,
    /// `[G·N]` each; they are added together. A cell with one bias leaves the second empty.
    pub biases: [&'a [f32]; 2],
    /// x·`input`ᵀ, T·B rows of `places`, where it is known already
    /// ([`Memo`](crate::weights::Memo)): `x` is not read then.
    pub projected: Option<Gathered<'a>>,
}

/// The order of a cell's input weights for [`Panels::in_order`], given its gates, its heads and the
/// units per head. The row of a gate is `gate · N + unit`.
pub fn input_order(gates: usize, heads: usize, units: usize) -> Vec<u32> {
    order(gates, heads, units, |head, gate, unit| (gate * heads + head) * units + unit)
}

/// [`input_order`] for the recurrent weights. The row of a gate is `(head · G + gate) · P + unit`.
pub fn recurrent_order(gates: usize, heads: usize, units: usize) -> Vec<u32> {
    order(gates, heads, units, |head, gate, unit| (head * gates + gate) * units + unit)
}

fn order(
    gates: usize,
    heads: usize,
    units: usize,
    row: impl Fn(usize, usize, usize) -> usize,
) -> Vec<u32> {
    let mut places = Vec::new();
    for head in 0..heads {
        for first in (0..units).step_by(UNITS) {
            for gate in 0..gates {
                places.extend(
                    (first..first + UNITS).map(|unit| {
                        if unit < units { row(head, gate, unit) as u32 } else { NOTHING }
                    }),
                );
            }
        }
    }
    places
}

impl CellPanels<'_> {
    /// The format of the recurrent weights.
    pub(super) fn format(&self) -> Format {
        self.recurrent.format()
    }

    pub(super) fn check(&self, shape: &Shape, positions: usize) {
        let rows = shape.gates * shape.hidden();
        assert_eq!(self.input.shape(), [rows, shape.input], "input weights are [G·N, D]");
        assert_eq!(self.recurrent.shape(), [rows, shape.units], "recurrent weights");
        assert!([self.input, self.recurrent].iter().all(|w| w.places() == shape.gate_columns()));
        let fits =
            |known: Gathered| known.rows.len() == positions && known.width == shape.gate_columns();
        assert!(self.projected.is_none_or(fits), "a row of places for each position");
        for bias in self.biases {
            assert!(bias.is_empty() || bias.len() == rows, "biases are [G·N]");
        }
    }
}
