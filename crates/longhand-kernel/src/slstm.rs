//! sLSTM: the scalar memory of "xLSTM: Extended Long Short-Term Memory" (Beck et al. 2024,
//! equations 8–17), with exponential input gates, heads, and the stabiliser state m of the
//! paper's appendix. Gates in the order i, f, z, o:
//!
//! m\[t\] = max(ĩ, ln σ(f̃) + m\[t−1\]), i = exp(ĩ − m\[t\]),
//! f = exp(ln σ(f̃) + m\[t−1\] − m\[t\]), z = tanh(z̃), o = σ(õ),
//! c\[t\] = f∘c\[t−1\] + i∘z, n\[t\] = f∘n\[t−1\] + i, h\[t\] = o∘c\[t\]/n\[t\].
//!
//! Where n\[t−1\] is zero nothing has been read yet, and m\[t\] = ĩ: else a small ĩ beside m = 0
//! would leave n at zero.
//!
//! **The stabiliser's gradient.** (c, n, m) and (c·e⁻ᵟ, n·e⁻ᵟ, m + δ) are the same memory:
//! h depends on c/n alone, and the factor e⁻ᵟ passes through both sums unchanged. So whatever is
//! computed from h does not change with m, and backward treats every m as a constant. The gradient
//! of a state obeys the same symmetry, d m = c·d c + n·d n; that is how the one of the first m is
//! found, and why that of the last m need not be given.
//!
//! The states are h, c, n and m, zeros before the first position; m is a logarithm. There is one
//! bias. [`recurrence`](crate::recurrence) runs it.

pub mod reference;
#[cfg(test)]
mod tests;

use crate::recurrence::{Cell, CellKind, MAX_GATES, MAX_STATES};
use crate::simd::{Vector, exp, log_sigmoid, sigmoid, tanh};

pub(crate) struct Slstm;

impl Cell for Slstm {
    const KIND: CellKind = CellKind::Slstm;

    #[inline(always)]
    unsafe fn forward<V: Vector>(
        [i, f, z, o]: [V; MAX_GATES],
        [c, n, m]: [V; MAX_STATES],
    ) -> ([V; MAX_GATES], [V; MAX_STATES], V) {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let kept = log_sigmoid(f).add(m);
            let next_m = n.select_less(V::splat(f32::MIN_POSITIVE), i, i.max(kept));
            let i = exp(i.sub(next_m));
            let decay = exp(kept.sub(next_m).min(V::zero()));
            let (z, o) = (tanh(z), sigmoid(o));
            let next_c = decay.mul_add(c, i.mul(z));
            let next_n = decay.mul_add(n, i);
            ([i, f, z, o], [next_c, next_n, next_m], o.mul(next_c.div(next_n)))
        }
    }

    #[inline(always)]
    unsafe fn backward<V: Vector>(
        [i, f, z, o]: [V; MAX_GATES],
        [c, n, m]: [V; MAX_STATES],
        [next_c, next_n, next_m]: [V; MAX_STATES],
        d_h: V,
        [d_c, d_n, _]: [V; MAX_STATES],
    ) -> ([V; MAX_GATES], [V; MAX_STATES]) {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let one = V::splat(1.0);
            let decay = exp(log_sigmoid(f).add(m).sub(next_m).min(V::zero()));
            let ratio = next_c.div(next_n);
            let d_ratio = d_h.mul(o).div(next_n);
            let d_c = d_c.add(d_ratio);
            let d_n = d_n.sub(d_ratio.mul(ratio));
            let d_i = d_c.mul_add(z, d_n).mul(i);
            let d_decay = d_c.mul_add(c, d_n.mul(n));
            let d_f = d_decay.mul(decay).mul(sigmoid(V::zero().sub(f)));
            let d_z = d_c.mul(i).mul(one.sub(z.mul(z)));
            let d_o = d_h.mul(ratio).mul(o).mul(one.sub(o));
            ([d_i, d_f, d_z, d_o], [d_c.mul(decay), d_n.mul(decay), V::zero()])
        }
    }
}
