//! Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers,
//! Schmidhuber & Cummins 2000), in PyTorch's layout and gate order i, f, g, o:
//!
//! i, f, o = σ(W·x\[t\] + U·h\[t−1\] + b), g = tanh(…),
//! c\[t\] = f∘c\[t−1\] + i∘g, h\[t\] = o∘tanh(c\[t\]).
//!
//! The states are h and c. PyTorch's `weight_ih` is W, `weight_hh` is U, and `bias_ih` and
//! `bias_hh` are the two biases of [`Weights`](crate::recurrence::Weights). The time
//! loop is in [`recurrence`](crate::recurrence).

pub mod reference;
#[cfg(test)]
mod tests;

use crate::recurrence::{Cell, CellKind, MAX_GATES, MAX_STATES};
use crate::simd::{Vector, sigmoid, tanh};

pub(crate) struct Lstm;

impl Cell for Lstm {
    const KIND: CellKind = CellKind::Lstm;

    #[inline(always)]
    unsafe fn forward<V: Vector>(
        [i, f, g, o]: [V; MAX_GATES],
        [c, ..]: [V; MAX_STATES],
    ) -> ([V; MAX_GATES], [V; MAX_STATES], V) {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let (i, f, g, o) = (sigmoid(i), sigmoid(f), tanh(g), sigmoid(o));
            let c = f.mul_add(c, i.mul(g));
            ([i, f, g, o], [c, V::zero(), V::zero()], o.mul(tanh(c)))
        }
    }

    #[inline(always)]
    unsafe fn backward<V: Vector>(
        [i, f, g, o]: [V; MAX_GATES],
        [previous, ..]: [V; MAX_STATES],
        [c, ..]: [V; MAX_STATES],
        d_h: V,
        [d_c, ..]: [V; MAX_STATES],
    ) -> ([V; MAX_GATES], [V; MAX_STATES]) {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let one = V::splat(1.0);
            let squashed = tanh(c);
            let through = V::zero().sub(squashed).mul_add(squashed, one);
            let d_c = d_h.mul(o).mul_add(through, d_c);
            let d_i = d_c.mul(g).mul(i).mul(one.sub(i));
            let d_f = d_c.mul(previous).mul(f).mul(one.sub(f));
            let d_g = d_c.mul(i).mul(V::zero().sub(g).mul_add(g, one));
            let d_o = d_h.mul(squashed).mul(o).mul(one.sub(o));
            ([d_i, d_f, d_g, d_o], [d_c.mul(f), V::zero(), V::zero()])
        }
    }
}
