//! The recurrent layers: LSTM, sLSTM and Elman RNN differ only in their cell ([`CellKind`]); all
//! else, this front and the time loop behind it, they share.
//!
//! At position t each of the G gates of each of the N hidden units begins as
//! W·x\[t\] + U·h\[t−1\] + b. The cell makes the next state of that and of its previous one:
//! h, the output, and whatever else it carries. The units lie in H heads of P = N/H, and each one
//! reads the previous outputs of its own head only: U holds a block for each head. With one head
//! the layout of all weights is PyTorch's.
//!
//! 1. The input's part of the gates is one matrix product over all positions, or over all tokens
//!    where they are fewer ([`forward()`], [`Input`]).
//! 2. The recurrent weights are packed once per call (`pack`), with the gates interleaved:
//!    one tile of the product holds all gates of a vector of hidden units.
//! 3. The time loop runs in one region. Hidden units are split over the threads, which meet at a
//!    barrier after each position, unless each has whole heads; each thread multiplies a tile, then
//!    runs the cell on it.
//! 4. [`backward()`] walks the positions the other way and turns the kept gates into their
//!    gradients in place ([`through_time`]); the weights' gradients are then products over all
//!    positions at once ([`products`]).

pub(crate) mod backward;
mod forward;
mod gates;
mod input;
mod layout;
mod links;
mod pack;
mod panels;
mod product;
pub mod reference;
#[cfg(test)]
mod tests;

pub use input::Input;
pub(crate) use layout::Shape;
pub use panels::{CellPanels, input_order, recurrent_order};

use crate::cpu::Cpu;
use crate::lstm::Lstm;
use crate::rnn::Rnn;
use crate::sequence::Sequence;
use crate::simd::{Vector, sigmoid_slice};
use crate::slstm::{self, Slstm};

/// The most gates a cell has.
pub const MAX_GATES: usize = 4;
/// The most state vectors a cell carries besides its output h.
pub const MAX_STATES: usize = 3;

/// Which cell a layer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellKind {
    /// Long short-term memory, see [`lstm`](crate::lstm).
    Lstm,
    /// Scalar memory with exponential gates, see [`slstm`].
    Slstm,
    /// Elman's, see [`rnn`](crate::rnn).
    Rnn,
}

impl CellKind {
    /// Every cell.
    pub const ALL: [CellKind; 3] = [CellKind::Lstm, CellKind::Slstm, CellKind::Rnn];

    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            CellKind::Lstm => "lstm",
            CellKind::Slstm => "slstm",
            CellKind::Rnn => "rnn",
        }
    }

    /// G: gates per hidden unit. Their order is that of the cell's equations.
    pub const fn gates(self) -> usize {
        match self {
            CellKind::Lstm | CellKind::Slstm => 4,
            CellKind::Rnn => 1,
        }
    }

    /// What it carries from position to position, in the order of every list of states: the
    /// output h first.
    pub const fn states(self) -> &'static [&'static str] {
        match self {
            CellKind::Lstm => &["h", "c"],
            CellKind::Slstm => &["h", "c", "n", "m"],
            CellKind::Rnn => &["h"],
        }
    }
}

/// The sizes of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Its cell.
    pub cell: CellKind,
    /// D: elements of an input row.
    pub input: usize,
    /// N: hidden units, elements of an output row and of each state.
    pub hidden: usize,
    /// H: a divisor of N; 1 in an LSTM and an Elman network as they are known. Head j holds the
    /// units from j·N/H on.
    pub heads: usize,
}

/// The weights of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a, R = f32> {
    /// W: `[G·N, D]`, row `gate · N + unit`.
    pub input: &'a [R],
    /// U: `[H, G·P, P]`, row `gate · P + unit` within a head, column the unit of the head that is
    /// read. With one head `[G·N, N]`.
    pub recurrent: &'a [R],
    /// b: `[G·N]` each, as the rows of `input`; they are added together. A layer with one bias
    /// leaves the second empty.
    pub biases: [&'a [R]; 2],
}

/// Where gradients are added; what is `None` costs no work.
#[derive(Debug)]
pub struct Gradients<'a, R = f32> {
    /// Of the weights.
    pub weights: WeightGradients<'a, R>,
    /// Of the inputs, `[T·B, D]`, or of the table of [`Input::Tokens`].
    pub x: Option<&'a mut [R]>,
    /// Of the states before the sequence, `[B, N]` each.
    pub state: Option<&'a mut [&'a mut [R]]>,
}

/// Gradients in the layout of [`Weights`]. Both biases have the same one.
#[derive(Debug, Default)]
pub struct WeightGradients<'a, R = f32> {
    /// `[G·N, D]`.
    pub input: Option<&'a mut [R]>,
    /// `[H, G·P, P]`.
    pub recurrent: Option<&'a mut [R]>,
    /// `[G·N]` each.
    pub biases: [Option<&'a mut [R]>; 2],
}

/// How many elements `saved` has.
///
/// # Panics
/// If the heads do not divide the hidden units.
pub fn saved_len(sizes: Sizes, sequence: &Sequence) -> usize {
    sizes.shape().saved_len(sequence)
}

/// Reads `x` (`[T·B, D]`) from `state` on; writes the outputs `y` (`[T·B, N]`), the state after
/// the last position into `next`, and into `saved` what [`backward()`] needs. `state` and `next`
/// are `[B, N]` for each of [`CellKind::states`]; an empty memory is zeros.
///
/// # Panics
/// If a slice has not the length its shape says, or the heads do not divide the hidden units.
pub fn forward<'a>(
    cpu: &Cpu,
    sizes: Sizes,
    sequence: &Sequence,
    weights: Weights,
    x: impl Into<Input<'a>>,
    state: &[&[f32]],
    y: &mut [f32],
    next: &mut [&mut [f32]],
    saved: &mut [f32],
) {
    let run = match sizes.cell {
        CellKind::Lstm => forward::forward::<Lstm>,
        CellKind::Slstm => forward::forward::<Slstm>,
        CellKind::Rnn => forward::forward::<Rnn>,
    };
    run(cpu, sizes.shape(), sequence, &weights, x.into(), state, y, next, saved);
}

/// As [`forward()`], with weights that are packed for reading. `saved` gets what [`forward()`]
/// would leave there.
///
/// # Panics
/// As [`forward()`].
pub fn forward_packed(
    cpu: &Cpu,
    sizes: Sizes,
    sequence: &Sequence,
    weights: CellPanels,
    x: &[f32],
    state: &[&[f32]],
    y: &mut [f32],
    next: &mut [&mut [f32]],
    saved: &mut [f32],
) {
    let run = match sizes.cell {
        CellKind::Lstm => forward::forward_packed::<Lstm>,
        CellKind::Slstm => forward::forward_packed::<Slstm>,
        CellKind::Rnn => forward::forward_packed::<Rnn>,
    };
    run(cpu, sizes.shape(), sequence, &weights, x, state, y, next, saved);
}

/// Adds to `gradients`, given `d_y` (`[T·B, N]`) and `d_next`, the gradients of the next states:
/// `[B, N]` each, of the first few or of none, for the others are zero. That of an sLSTM's m is
/// not read: [it follows from the others](crate::slstm). The other arguments are those of
/// [`forward()`]; `saved` is overwritten. It is [`through_time`] and [`products`] in one.
///
/// # Panics
/// As [`forward()`].
pub fn backward<'a>(
    cpu: &Cpu,
    sizes: Sizes,
    sequence: &Sequence,
    weights: Weights,
    x: impl Into<Input<'a>>,
    state: &[&[f32]],
    y: &[f32],
    saved: &mut [f32],
    d_y: &[f32],
    d_next: &[&[f32]],
    gradients: Gradients,
) {
    let Gradients { weights: mut to, x: d_x, state: d_state } = gradients;
    let (recurrent, biases) = (weights.recurrent, std::mem::take(&mut to.biases));
    through_time(cpu, sizes, sequence, recurrent, state, saved, d_y, d_next, biases, d_state);
    products(cpu, sizes, sequence, weights.input, x, state[0], y, saved, to, d_x);
}

/// The first half of [`backward()`]: goes back over the positions, and adds to the gradients of
/// the biases and of the states before the first one. What it leaves in `saved` is for
/// [`products`]; `d_y` is not needed any more.
///
/// # Panics
/// As [`forward()`].
pub fn through_time(
    cpu: &Cpu,
    sizes: Sizes,
    sequence: &Sequence,
    recurrent: &[f32],
    state: &[&[f32]],
    saved: &mut [f32],
    d_y: &[f32],
    d_next: &[&[f32]],
    d_biases: [Option<&mut [f32]>; 2],
    d_state: Option<&mut [&mut [f32]]>,
) {
    if let Some(d_state) = &d_state {
        assert_eq!(d_state.len(), state.len(), "a gradient for each state");
        let len = sequence.batch * sizes.hidden;
        assert!(d_state.iter().all(|d| d.len() == len), "states are [B, N]");
    }
    let run = match sizes.cell {
        CellKind::Lstm => backward::through_time::<Lstm>,
        CellKind::Slstm => slstm::through_time,
        CellKind::Rnn => backward::through_time::<Rnn>,
    };
    let shape = sizes.shape();
    run(cpu, shape, sequence, recurrent, state, saved, d_y, d_next, d_biases, d_state);
}

/// The second half of [`backward()`], after [`through_time`]: adds to the gradients of the input
/// weights (`input` `[G·N, D]`), the recurrent weights and `x`. `hidden` is h before the first
/// position; `gradients.biases` are left alone, and `saved` is overwritten.
///
/// # Panics
/// As [`forward()`].
pub fn products<'a>(
    cpu: &Cpu,
    sizes: Sizes,
    sequence: &Sequence,
    input: &[f32],
    x: impl Into<Input<'a>>,
    hidden: &[f32],
    y: &[f32],
    saved: &mut [f32],
    gradients: WeightGradients,
    d_x: Option<&mut [f32]>,
) {
    let WeightGradients { input: d_input, recurrent, .. } = gradients;
    let (shape, x) = (sizes.shape(), x.into());
    let run = backward::products;
    run(cpu, shape, sequence, input, x, hidden, y, saved, d_input, recurrent, d_x);
}

/// `out [R, N]` = one gate of every unit at each of the R real positions, after its nonlinearity:
/// an sLSTM's are exp(ĩ − m), σ(f̃), tanh(z̃) and σ(õ), and an Elman cell's is its output. `saved` is
/// what [`forward()`] left, before a backward pass; `gate` counts from 0 in the cell's order.
///
/// # Panics
/// If a slice has not the length its shape says, or there is no such gate.
pub fn gate(
    cpu: &Cpu,
    sizes: Sizes,
    sequence: &Sequence,
    saved: &[f32],
    gate: usize,
    out: &mut [f32],
) {
    gates::gate(sizes.shape(), sequence, cpu.level().lanes(), saved, gate, out);
    // Of this gate the preactivation is kept, which is stabilised anew on the way back.
    if (sizes.cell, gate) == (CellKind::Slstm, 1) {
        sigmoid_slice(cpu.level(), out);
    }
}

impl Sizes {
    fn shape(self) -> Shape {
        let Sizes { cell, input, hidden, heads } = self;
        assert!(
            heads > 0 && hidden.is_multiple_of(heads),
            "{hidden} hidden units in {heads} heads"
        );
        let (gates, states) = (cell.gates(), cell.states().len() - 1);
        Shape { input, heads, units: hidden / heads, gates, states }
    }
}

/// The arithmetic of one vector of hidden units at one position. Of the arrays, the first
/// [`Cell::GATES`] and [`Cell::STATES`] entries count.
pub(crate) trait Cell {
    /// Which one it is.
    const KIND: CellKind;
    /// Gates per hidden unit.
    const GATES: usize = Self::KIND.gates();
    /// State vectors carried besides h.
    const STATES: usize = Self::KIND.states().len() - 1;

    /// From the gates' pre-activations and the previous state: what backward needs of the gates,
    /// the next state, and h.
    ///
    /// # Safety
    /// The machine must have the instruction set of `V`.
    unsafe fn forward<V: Vector>(
        gates: [V; MAX_GATES],
        previous: [V; MAX_STATES],
    ) -> ([V; MAX_GATES], [V; MAX_STATES], V);

    /// From what `forward` kept and took, the gradient of h and that of the next state: the
    /// gradients of the pre-activations and of the previous state.
    ///
    /// # Safety
    /// The machine must have the instruction set of `V`.
    unsafe fn backward<V: Vector>(
        kept: [V; MAX_GATES],
        previous: [V; MAX_STATES],
        next: [V; MAX_STATES],
        d_h: V,
        d_next: [V; MAX_STATES],
    ) -> ([V; MAX_GATES], [V; MAX_STATES]);
}
