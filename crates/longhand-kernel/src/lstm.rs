//! Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers,
//! Schmidhuber & Cummins 2000), in PyTorch's layout and gate order i, f, g, o:
//!
//! i, f, o = σ(W·x\[t\] + U·h\[t−1\] + b), g = tanh(…), c\[t\] = f∘c\[t−1\] + i∘g,
//! h\[t\] = o∘tanh(c\[t\]).

pub mod reference;
#[cfg(test)]
mod tests;

use crate::cpu::Cpu;
use crate::recurrence::{self, Cell, Input, MAX_GATES, MAX_STATES, Shape};
use crate::sequence::Sequence;
use crate::simd::{Vector, sigmoid, tanh};
use crate::weights::CellPanels;

/// The sizes of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// D: elements of an input row.
    pub input: usize,
    /// N: hidden units, elements of an output row.
    pub hidden: usize,
}

/// The weights of a layer; row `gate · N + unit`, gates in the order i, f, g, o.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a, R = f32> {
    /// `weight_ih`, `[4N, D]`.
    pub input: &'a [R],
    /// `weight_hh`, `[4N, N]`.
    pub recurrent: &'a [R],
    /// `bias_ih`, `[4N]`.
    pub bias_input: &'a [R],
    /// `bias_hh`, `[4N]`.
    pub bias_recurrent: &'a [R],
}

/// The state between two positions.
#[derive(Clone, Copy, Debug)]
pub struct State<'a, R = f32> {
    /// `[B, N]`: the last output.
    pub h: &'a [R],
    /// `[B, N]`: the cell.
    pub c: &'a [R],
}

/// Where a state, or the gradient of one, is written.
#[derive(Debug)]
pub struct StateMut<'a, R = f32> {
    /// `[B, N]`.
    pub h: &'a mut [R],
    /// `[B, N]`.
    pub c: &'a mut [R],
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

/// Gradients in the layout of [`Weights`]. Both biases have the same one.
#[derive(Debug, Default)]
pub struct WeightGradients<'a, R = f32> {
    /// `[4N, D]`.
    pub input: Option<&'a mut [R]>,
    /// `[4N, N]`.
    pub recurrent: Option<&'a mut [R]>,
    /// `[4N]`.
    pub bias_input: Option<&'a mut [R]>,
    /// `[4N]`.
    pub bias_recurrent: Option<&'a mut [R]>,
}

/// How many elements `saved` has.
pub fn saved_len(sizes: Sizes, sequence: &Sequence) -> usize {
    shape(sizes).saved_len(sequence)
}

/// Reads `x` (`[T·B, D]`) from `state` on; writes the outputs `y` (`[T·B, N]`), the state after
/// the last position, and into `saved` what [`backward`] needs.
///
/// # Panics
/// If a slice has not the length its shape says.
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
    recurrence::forward::<Lstm>(
        cpu,
        shape(sizes),
        sequence,
        &weights.shared(),
        x.into(),
        &[state.h, state.c],
        y,
        &mut [next.h, next.c],
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
    recurrence::forward_packed::<Lstm>(
        cpu,
        shape(sizes),
        sequence,
        &weights,
        x,
        &[state.h, state.c],
        y,
        &mut [next.h, next.c],
        saved,
    );
}

/// Adds to `gradients`, given `d_y` (`[T·B, N]`) and the gradient of the next state, if any.
/// The other arguments are those of [`forward`]; `saved` is overwritten.
///
/// # Panics
/// If a slice has not the length its shape says.
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
    d_next: Option<State>,
    gradients: Gradients,
) {
    let mut d_state = gradients.state.map(|state| [state.h, state.c]);
    recurrence::backward::<Lstm>(
        cpu,
        shape(sizes),
        sequence,
        &weights.shared(),
        x.into(),
        &[state.h, state.c],
        y,
        saved,
        d_y,
        d_next.map(|d| [d.h, d.c]).as_ref().map_or(&[], |d| d.as_slice()),
        recurrence::Gradients {
            weights: gradients.weights.shared(),
            x: gradients.x,
            state: d_state.as_mut().map(|d| d.as_mut_slice()),
        },
    );
}

/// `out [R, N]` = one gate of every unit at each of the R real positions, after its nonlinearity.
/// `saved` is what [`forward`] left, before a backward pass; `gate` counts i, f, g, o from 0.
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
}

fn shape(sizes: Sizes) -> Shape {
    Shape {
        input: sizes.input,
        heads: 1,
        units: sizes.hidden,
        gates: Lstm::GATES,
        states: Lstm::STATES,
    }
}

impl<'a> Weights<'a> {
    fn shared(&self) -> recurrence::Weights<'a> {
        recurrence::Weights {
            input: self.input,
            recurrent: self.recurrent,
            biases: [self.bias_input, self.bias_recurrent],
        }
    }
}

impl<'a> WeightGradients<'a> {
    fn shared(self) -> recurrence::WeightGradients<'a> {
        recurrence::WeightGradients {
            input: self.input,
            recurrent: self.recurrent,
            biases: [self.bias_input, self.bias_recurrent],
        }
    }
}

struct Lstm;

impl Cell for Lstm {
    const GATES: usize = 4;
    const STATES: usize = 1;

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
