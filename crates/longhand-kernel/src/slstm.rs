//! sLSTM: the scalar memory of "xLSTM: Extended Long Short-Term Memory" (Beck et al. 2024,
//! equations 8–17), with exponential input gates, heads, and the stabiliser state m of the
//! paper's appendix. Gates in the order i, f, z, o:
//!
//! m\[t\] = max(ĩ, ln σ(f̃) + m\[t−1\]), i = exp(ĩ − m\[t\]), f = exp(ln σ(f̃) + m\[t−1\] − m\[t\]),
//! z = tanh(z̃), o = σ(õ),
//! c\[t\] = f∘c\[t−1\] + i∘z, n\[t\] = f∘n\[t−1\] + i, h\[t\] = o∘c\[t\]/n\[t\].
//!
//! Where n\[t−1\] is zero nothing has been read yet, and m\[t\] = ĩ: else a small ĩ beside m = 0
//! would leave n at zero.
//!
//! **The stabiliser's gradient.** (c, n, m) and (c·e⁻ᵟ, n·e⁻ᵟ, m + δ) stand for the same memory:
//! h depends on c/n alone, and the factor e⁻ᵟ passes through both sums unchanged. So whatever is
//! computed from h does not change with m, and backward treats every m as a constant. The gradient
//! of a state obeys the same symmetry, d m = c·d c + n·d n; that is how the one of the first m is
//! found, and why the gradient of the next state has no entry for m.

pub mod reference;
#[cfg(test)]
mod tests;

use crate::cpu::Cpu;
use crate::recurrence::{self, Cell, Input, MAX_GATES, MAX_STATES, Shape};
use crate::scratch;
use crate::sequence::Sequence;
use crate::simd::{Vector, exp, log_sigmoid, sigmoid, sigmoid_slice, tanh};
use crate::weights::CellPanels;

/// The sizes of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// D: elements of an input row.
    pub input: usize,
    /// N: hidden units, elements of an output row.
    pub hidden: usize,
    /// H: a divisor of N. Head j holds the units from j·N/H on, and each unit reads the previous
    /// outputs of its own head only.
    pub heads: usize,
}

/// The weights of a layer, gates in the order i, f, z, o.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a, R = f32> {
    /// `[4N, D]`, row `gate · N + unit`.
    pub input: &'a [R],
    /// `[H, 4, P, P]` with P = N/H: head, gate, unit within the head, unit it reads.
    pub recurrent: &'a [R],
    /// `[4N]`, as the rows of `input`.
    pub bias: &'a [R],
}

/// The state between two positions, `[B, N]` each; zeros before the first one.
#[derive(Clone, Copy, Debug)]
pub struct State<'a, R = f32> {
    /// The last output.
    pub h: &'a [R],
    /// The cell.
    pub c: &'a [R],
    /// The normaliser.
    pub n: &'a [R],
    /// The stabiliser, a logarithm.
    pub m: &'a [R],
}

/// Where a state, or the gradient of one, is written.
#[derive(Debug)]
pub struct StateMut<'a, R = f32> {
    /// `[B, N]`.
    pub h: &'a mut [R],
    /// `[B, N]`.
    pub c: &'a mut [R],
    /// `[B, N]`.
    pub n: &'a mut [R],
    /// `[B, N]`.
    pub m: &'a mut [R],
}

/// The gradient of the next state; that of m follows from the symmetry above.
#[derive(Clone, Copy, Debug)]
pub struct StateGradient<'a, R = f32> {
    /// `[B, N]`.
    pub h: &'a [R],
    /// `[B, N]`.
    pub c: &'a [R],
    /// `[B, N]`.
    pub n: &'a [R],
}

/// Where gradients are added; what is `None` costs no work.
#[derive(Debug)]
pub struct Gradients<'a, R = f32> {
    /// Of the weights.
    pub weights: WeightGradients<'a, R>,
    /// Of the inputs, `[T·B, D]`, or of the table of [`Input::Tokens`].
    pub x: Option<&'a mut [R]>,
    /// Of the state before the sequence.
    pub state: Option<StateMut<'a, R>>,
}

/// Gradients in the layout of [`Weights`].
#[derive(Debug, Default)]
pub struct WeightGradients<'a, R = f32> {
    /// `[4N, D]`.
    pub input: Option<&'a mut [R]>,
    /// `[H, 4, P, P]`.
    pub recurrent: Option<&'a mut [R]>,
    /// `[4N]`.
    pub bias: Option<&'a mut [R]>,
}

/// How many elements `saved` has.
pub fn saved_len(sizes: Sizes, sequence: &Sequence) -> usize {
    shape(sizes).saved_len(sequence)
}

/// Reads `x` (`[T·B, D]`) from `state` on; writes the outputs `y` (`[T·B, N]`), the state after
/// the last position, and into `saved` what [`backward`] needs.
///
/// # Panics
/// If a slice has not the length its shape says, or the heads do not divide the hidden units.
pub fn forward<'a>(
    cpu: &Cpu,
    sizes: Sizes,
    sequence: &Sequence,
    weights: Weights,
    x: impl Into<Input<'a>>,
    state: State,
    y: &mut [f32],
    next: StateMut,
    saved: &mut [f32],
) {
    recurrence::forward::<Slstm>(
        cpu,
        shape(sizes),
        sequence,
        &weights.shared(),
        x.into(),
        &[state.h, state.c, state.n, state.m],
        y,
        &mut [next.h, next.c, next.n, next.m],
        saved,
    );
}

/// As [`forward`], with weights that are packed for reading. `saved` gets what [`forward`] would
/// leave there.
///
/// # Panics
/// As [`forward`].
pub fn forward_packed(
    cpu: &Cpu,
    sizes: Sizes,
    sequence: &Sequence,
    weights: CellPanels,
    x: &[f32],
    state: State,
    y: &mut [f32],
    next: StateMut,
    saved: &mut [f32],
) {
    recurrence::forward_packed::<Slstm>(
        cpu,
        shape(sizes),
        sequence,
        &weights,
        x,
        &[state.h, state.c, state.n, state.m],
        y,
        &mut [next.h, next.c, next.n, next.m],
        saved,
    );
}

/// Adds to `gradients`, given `d_y` (`[T·B, N]`) and the gradient of the next state, if any.
/// The other arguments are those of [`forward`]; `saved` is overwritten.
///
/// # Panics
/// As [`forward`].
pub fn backward<'a>(
    cpu: &Cpu,
    sizes: Sizes,
    sequence: &Sequence,
    weights: Weights,
    x: impl Into<Input<'a>>,
    state: State,
    y: &[f32],
    saved: &mut [f32],
    d_y: &[f32],
    d_next: Option<StateGradient>,
    gradients: Gradients,
) {
    // c and n apart from what their destinations hold, for the gradient of m.
    let len = if gradients.state.is_some() { state.c.len() } else { 0 };
    let (mut d_c, mut d_n) = (scratch::take(cpu, len), scratch::take(cpu, len));
    d_c.fill(0.0);
    d_n.fill(0.0);
    let (d_h, d_rest) = match gradients.state {
        Some(to) => (Some(to.h), Some((to.c, to.n, to.m))),
        None => (None, None),
    };
    let mut d_state = d_h.map(|d_h| [d_h, &mut *d_c, &mut *d_n]);
    recurrence::backward::<Slstm>(
        cpu,
        shape(sizes),
        sequence,
        &weights.shared(),
        x.into(),
        &[state.h, state.c, state.n, state.m],
        y,
        saved,
        d_y,
        d_next.map(|d| [d.h, d.c, d.n]).as_ref().map_or(&[], |d| d.as_slice()),
        recurrence::Gradients {
            weights: gradients.weights.shared(),
            x: gradients.x,
            state: d_state.as_mut().map(|d| d.as_mut_slice()),
        },
    );
    if let Some((to_c, to_n, to_m)) = d_rest {
        for i in 0..len {
            to_c[i] += d_c[i];
            to_n[i] += d_n[i];
            to_m[i] += state.c[i] * d_c[i] + state.n[i] * d_n[i];
        }
    }
    scratch::give(cpu, d_c);
    scratch::give(cpu, d_n);
}

/// `out [R, N]` = one gate of every unit at each of the R real positions: exp(ĩ − m), σ(f̃), tanh(z̃)
/// or σ(õ). `saved` is what [`forward`] left, before a backward pass; `gate` counts i, f, z, o
/// from 0.
///
/// # Panics
/// If a slice has not the length its shape says.
pub fn gate(
    cpu: &Cpu,
    sizes: Sizes,
    sequence: &Sequence,
    saved: &[f32],
    gate: usize,
    out: &mut [f32],
) {
    recurrence::gate(shape(sizes), sequence, cpu.level().lanes(), saved, gate, out);
    // Of the forget gate its preactivation is kept, which is stabilised anew on the way back.
    if gate == 1 {
        sigmoid_slice(cpu.level(), out);
    }
}

fn shape(sizes: Sizes) -> Shape {
    assert!(
        sizes.heads > 0 && sizes.hidden.is_multiple_of(sizes.heads),
        "{} hidden units in {} heads",
        sizes.hidden,
        sizes.heads
    );
    Shape {
        input: sizes.input,
        heads: sizes.heads,
        units: sizes.hidden / sizes.heads,
        gates: Slstm::GATES,
        states: Slstm::STATES,
    }
}

impl<'a> Weights<'a> {
    fn shared(&self) -> recurrence::Weights<'a> {
        recurrence::Weights {
            input: self.input,
            recurrent: self.recurrent,
            biases: [self.bias, &[]],
        }
    }
}

impl<'a> WeightGradients<'a> {
    fn shared(self) -> recurrence::WeightGradients<'a> {
        recurrence::WeightGradients {
            input: self.input,
            recurrent: self.recurrent,
            biases: [self.bias, None],
        }
    }
}

struct Slstm;

impl Cell for Slstm {
    const GATES: usize = 4;
    const STATES: usize = 3;

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
