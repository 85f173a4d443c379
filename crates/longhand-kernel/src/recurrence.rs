//! The recurrent layers: LSTM, sLSTM and Elman RNN differ only in their cell ([`CellKind`]); all
//! else, this front and the time loop behind it, they share.
//!
//! At position t each of the G gates of each of the N hidden units begins as
//! W·x\[t\] + U·h\[t−1\] + b. The cell makes the next state of that and of its previous one:
//! h, the output, and the cell's other states. The units form H heads of P = N/H, and each one
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
//! 4. [`backward()`] walks the positions the other way and overwrites the saved gates with their
//!    gradients ([`through_time`]). The weights' gradients are then products over all positions
//!    ([`products`]), one for each weight; where a weight has a change of low rank, products with
//!    its factors alone ([`factors()`]).

mod backward;
mod cell;
mod factors;
mod forward;
mod gates;
mod input;
mod layout;
mod links;
mod pack;
mod panels;
mod product;
pub mod reference;
mod stabilised;
#[cfg(test)]
mod tests;

pub(crate) use cell::Cell;
pub use cell::{CellKind, MAX_GATES, MAX_STATES};
pub use factors::{Change, Changes};
pub use input::Input;
use layout::Shape;
pub use panels::{CellPanels, input_order, recurrent_order};

use crate::call::Call;
use crate::cpu::Cpu;
use crate::lstm::Lstm;
use crate::rnn::Rnn;
use crate::sequence::Sequence;
use crate::simd::sigmoid_slice;
use crate::slstm::Slstm;

/// The sizes of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The cell that every unit runs.
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

/// Where the results of a forward pass go.
#[derive(Debug)]
pub struct Outputs<'a, 'b> {
    /// `[T·B, N]`: h at every position, zeros at padded ones.
    pub y: &'a mut [f32],
    /// `[B, N]` for each of [`CellKind::states`]: the state after the last position.
    pub next: &'a mut [&'b mut [f32]],
    /// [`saved_len`] elements, which [`backward()`] and [`gate`] read; none where neither follows.
    pub saved: Option<&'a mut [f32]>,
}

/// The results of the forward pass that the backward pass reads.
#[derive(Debug)]
pub struct Kept<'a> {
    /// `[T·B, N]`: the outputs.
    pub y: &'a [f32],
    /// [`saved_len`] elements of the forward pass, overwritten.
    pub saved: &'a mut [f32],
}

/// Gradients of the results of a forward pass.
#[derive(Clone, Copy, Debug)]
pub struct OutputGradients<'a, R = f32> {
    /// `[T·B, N]`: gradient of the outputs.
    pub y: &'a [R],
    /// `[B, N]` each: gradients of the first states of [`CellKind::states`] after the last
    /// position; those that are left out are zero. That of an sLSTM's m is not read:
    /// [it follows from the others](crate::slstm).
    pub next: &'a [&'a [R]],
}

/// Where gradients are added; what is `None` costs no work.
#[derive(Debug)]
pub struct Gradients<'a, R = f32> {
    /// Gradients of the weights and biases.
    pub weights: WeightGradients<'a, R>,
    /// `[T·B, D]`: gradient of the inputs, or that of the table of [`Input::Tokens`].
    pub x: Option<&'a mut [R]>,
    /// `[B, N]` each: gradients of the states before the first position.
    pub state: Option<&'a mut [&'a mut [R]]>,
}

/// Gradients in the layout of [`Weights`]. Both biases have the same one.
#[derive(Debug, Default)]
pub struct WeightGradients<'a, R = f32> {
    /// `[G·N, D]`: gradient of the input weights.
    pub input: Option<&'a mut [R]>,
    /// `[H, G·P, P]`: gradient of the recurrent weights.
    pub recurrent: Option<&'a mut [R]>,
    /// `[G·N]` each: gradients of the biases.
    pub biases: [Option<&'a mut [R]>; 2],
}

/// How many elements `saved` has.
///
/// # Panics
/// If the heads do not divide the hidden units.
pub fn saved_len(sizes: Sizes, sequence: &Sequence) -> usize {
    sizes.shape().saved_len(sequence)
}

/// Reads `x` (`[T·B, D]`) from `state` on. `state` is `[B, N]` for each of [`CellKind::states`]; an
/// empty memory is zeros.
///
/// # Panics
/// If a slice has not the length its shape says, or the heads do not divide the hidden units.
pub fn forward(call: Call<Sizes>, weights: Weights, x: Input, state: &[&[f32]], outputs: Outputs) {
    let run = match call.sizes.cell {
        CellKind::Lstm => forward::forward::<Lstm>,
        CellKind::Slstm => forward::forward::<Slstm>,
        CellKind::Rnn => forward::forward::<Rnn>,
    };
    run(call.with(call.sizes.shape()), &weights, x, state, outputs);
}

/// [`forward()`] with weights that are packed for reading. `outputs.saved` receives the
/// same layout as there.
///
/// # Panics
/// The panics of [`forward()`] for these lengths.
pub fn forward_packed(
    call: Call<Sizes>,
    weights: CellPanels,
    x: &[f32],
    state: &[&[f32]],
    outputs: Outputs,
) {
    let run = match call.sizes.cell {
        CellKind::Lstm => forward::forward_packed::<Lstm>,
        CellKind::Slstm => forward::forward_packed::<Slstm>,
        CellKind::Rnn => forward::forward_packed::<Rnn>,
    };
    run(call.with(call.sizes.shape()), &weights, x, state, outputs);
}

/// Adds to `gradients`, given the gradients `d` of the results. The other arguments are those of
/// [`forward()`]; `kept.saved` is overwritten. It is [`through_time`] and [`products`] in one.
///
/// # Panics
/// The panics of [`forward()`] for these lengths.
pub fn backward(
    call: Call<Sizes>,
    weights: Weights,
    x: Input,
    state: &[&[f32]],
    kept: Kept,
    d: OutputGradients,
    gradients: Gradients,
) {
    let Gradients { weights: mut to, x: d_x, state: d_state } = gradients;
    let biases = std::mem::take(&mut to.biases);
    through_time(call, weights.recurrent, state, kept.saved, d, biases, d_state);
    products(call, weights.input, x, state[0], kept, to, d_x);
}

/// The first half of [`backward()`]: walks the positions from the last to the first, and adds to
/// the gradients of the biases and of the states before the first position. `saved` then holds
/// what [`products`] reads; `d` is not needed any more.
///
/// # Panics
/// The panics of [`forward()`] for these lengths.
pub fn through_time(
    call: Call<Sizes>,
    recurrent: &[f32],
    state: &[&[f32]],
    saved: &mut [f32],
    d: OutputGradients,
    d_biases: [Option<&mut [f32]>; 2],
    d_state: Option<&mut [&mut [f32]]>,
) {
    let Call { sizes, sequence, .. } = call;
    if let Some(d_state) = &d_state {
        assert_eq!(d_state.len(), state.len(), "a gradient for each state");
        let len = sequence.batch * sizes.hidden;
        assert!(d_state.iter().all(|d| d.len() == len), "states are [B, N]");
    }
    let run = match sizes.cell {
        CellKind::Lstm => backward::through_time::<Lstm>,
        CellKind::Slstm => stabilised::through_time,
        CellKind::Rnn => backward::through_time::<Rnn>,
    };
    run(call.with(sizes.shape()), recurrent, state, saved, d, d_biases, d_state);
}

/// The second half of [`backward()`], after [`through_time`]: adds to the gradients of the input
/// weights (`input` `[G·N, D]`), the recurrent weights and `x`. `hidden` is h before the first
/// position; `gradients.biases` are left alone, and `kept.saved` is overwritten.
///
/// # Panics
/// The panics of [`forward()`] for these lengths.
pub fn products(
    call: Call<Sizes>,
    input: &[f32],
    x: Input,
    hidden: &[f32],
    kept: Kept,
    gradients: WeightGradients,
    d_x: Option<&mut [f32]>,
) {
    let call = call.with(call.sizes.shape());
    backward::products(call, input, x, hidden, kept, gradients, d_x);
}

/// Beside [`products`], and before it: where the matrices were made of changes of low rank, W + s·B·A
/// and U + s·B·A, adds to the gradients of the wanted factors and never makes those of the
/// matrices. The other arguments are those of [`products`]; `kept.saved` is only read.
///
/// # Panics
/// The panics of [`forward()`] for these lengths, or if a change is of a matrix of another size.
pub fn factors(call: Call<Sizes>, x: Input, hidden: &[f32], kept: Kept, changes: Changes) {
    factors::factors(call.with(call.sizes.shape()), x, hidden, kept, changes);
}

/// `out [R, N]` = one gate of every unit at each of the R real positions, after its nonlinearity:
/// an sLSTM's are exp(ĩ − m), σ(f̃), tanh(z̃) and σ(õ), and an Elman cell's is its output. `saved`
/// is what [`forward()`] left, before a backward pass; `gate` counts from 0 in the cell's order.
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
    // Forward saves this gate's preactivation, because backward stabilises it again.
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
