//! The recurrent network of Elman ("Finding structure in time", 1990), in PyTorch's layout:
//! h\[t\] = tanh(W·x\[t\] + U·h\[t−1\] + b).
//!
//! The only state is h. PyTorch's `weight_ih` is W, `weight_hh` is U, and `bias_ih` and `bias_hh`
//! are the two biases of [`Weights`](crate::recurrence::Weights). The time
//! loop is in [`recurrence`](crate::recurrence).

pub mod reference;
#[cfg(test)]
mod tests;

use crate::recurrence::{Cell, CellKind, MAX_GATES, MAX_STATES};
use crate::simd::{Vector, tanh};

/// One gate, the output itself.
pub(crate) struct Rnn;

impl Cell for Rnn {
    const KIND: CellKind = CellKind::Rnn;

    #[inline(always)]
    unsafe fn forward<V: Vector>(
        [gate, ..]: [V; MAX_GATES],
        states: [V; MAX_STATES],
    ) -> ([V; MAX_GATES], [V; MAX_STATES], V) {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let h = tanh(gate);
            ([h; MAX_GATES], states, h)
        }
    }

    #[inline(always)]
    unsafe fn backward<V: Vector>(
        [h, ..]: [V; MAX_GATES],
        _: [V; MAX_STATES],
        _: [V; MAX_STATES],
        d_h: V,
        d_states: [V; MAX_STATES],
    ) -> ([V; MAX_GATES], [V; MAX_STATES]) {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let d = d_h.mul(V::zero().sub(h).mul_add(h, V::splat(1.0)));
            ([d; MAX_GATES], d_states)
        }
    }
}
