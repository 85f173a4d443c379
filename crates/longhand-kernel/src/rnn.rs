//! The recurrent network of Elman ("Finding structure in time", 1990), in PyTorch's layout:
//! h\[t\] = tanh(W·x\[t\] + b + U·h\[t−1\] + c).

pub mod reference;
#[cfg(test)]
mod tests;

use crate::cpu::Cpu;
use crate::recurrence::{self, Cell, Input, MAX_GATES, MAX_STATES, Shape};
use crate::sequence::Sequence;
use crate::simd::{Vector, tanh};
use crate::weights::CellPanels;

/// The sizes of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// D: elements of an input row.
    pub input: usize,
    /// N: hidden units, elements of an output row.
    pub hidden: usize,
}

/// The weights of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a, R = f32> {
    /// `weight_ih`, `[N, D]`.
    pub input: &'a [R],
    /// `weight_hh`, `[N, N]`.
    pub recurrent: &'a [R],
    /// `bias_ih`, `[N]`.
    pub bias_input: &'a [R],
    /// `bias_hh`, `[N]`.
    pub bias_recurrent: &'a [R],
}

/// Where gradients are added; what is `None` costs no work.
#[derive(Debug)]
pub struct Gradients<'a, R = f32> {
    /// Of the weights.
    pub weights: WeightGradients<'a, R>,
    /// Of the inputs, `[T·B, D]`, or of the table of [`Input::Tokens`].
    pub x: Option<&'a mut [R]>,
    /// Of the state before the sequence, `[B, N]`.
    pub state: Option<&'a mut [R]>,
}

/// Gradients in the layout of [`Weights`]. Both biases have the same one.
#[derive(Debug, Default)]
pub struct WeightGradients<'a, R = f32> {
    /// `[N, D]`.
    pub input: Option<&'a mut [R]>,
    /// `[N, N]`.
    pub recurrent: Option<&'a mut [R]>,
    /// `[N]`.
    pub bias_input: Option<&'a mut [R]>,
    /// `[N]`.
    pub bias_recurrent: Option<&'a mut [R]>,
}

/// How many elements `saved` has.
pub fn saved_len(sizes: Sizes, sequence: &Sequence) -> usize {
    shape(sizes).saved_len(sequence)
}

/// Reads `x` (`[T·B, D]`) from `state` (`[B, N]`) on; writes the outputs `y` (`[T·B, N]`), the
/// state after the last position, and into `saved` what [`backward`] needs.
///
/// # Panics
/// If a slice has not the length its shape says.
pub fn forward<'a>(
    cpu: &Cpu,
    sizes: Sizes,
    sequence: &Sequence,
    weights: Weights,
    x: impl Into<Input<'a>>,
    state: &[f32],
    y: &mut [f32],
    next: &mut [f32],
    saved: &mut [f32],
) {
    recurrence::forward::<Elman>(
        cpu,
        shape(sizes),
        sequence,
        &weights.shared(),
        x.into(),
        &[state],
        y,
        &mut [next],
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
    state: &[f32],
    y: &mut [f32],
    next: &mut [f32],
    saved: &mut [f32],
) {
    recurrence::forward_packed::<Elman>(
        cpu,
        shape(sizes),
        sequence,
        &weights,
        x,
        &[state],
        y,
        &mut [next],
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
    state: &[f32],
    y: &[f32],
    saved: &mut [f32],
    d_y: &[f32],
    d_next: Option<&[f32]>,
    gradients: Gradients,
) {
    let mut d_state = gradients.state.map(|state| [state]);
    recurrence::backward::<Elman>(
        cpu,
        shape(sizes),
        sequence,
        &weights.shared(),
        x.into(),
        &[state],
        y,
        saved,
        d_y,
        d_next.as_slice(),
        recurrence::Gradients {
            weights: gradients.weights.shared(),
            x: gradients.x,
            state: d_state.as_mut().map(|d| d.as_mut_slice()),
        },
    );
}

fn shape(sizes: Sizes) -> Shape {
    Shape {
        input: sizes.input,
        heads: 1,
        units: sizes.hidden,
        gates: Elman::GATES,
        states: Elman::STATES,
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

/// One gate, the output itself.
struct Elman;

impl Cell for Elman {
    const GATES: usize = 1;
    const STATES: usize = 0;

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
