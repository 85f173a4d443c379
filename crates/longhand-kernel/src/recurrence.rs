//! The time loop that the recurrent cells share: LSTM, sLSTM and Elman RNN differ only in their
//! [`Cell`].
//!
//! 1. The input's part of the gates is one matrix product over all positions, or over all tokens
//!    where they are fewer ([`forward`], [`Input`]).
//! 2. The recurrent weights are packed once per call (`pack`), with the gates interleaved:
//!    one tile of the product holds all gates of a vector of hidden units.
//! 3. The time loop runs in one region. Hidden units are split over the threads, which meet at a
//!    barrier after each position; each thread multiplies a tile, then runs the cell on it.
//! 4. [`backward`] walks the positions the other way and turns the kept gates into their
//!    gradients in place; the weights' gradients are then products over all positions at once.

mod backward;
mod forward;
mod gates;
mod input;
mod layout;
mod links;
mod pack;
mod panels;
mod product;

pub(crate) use backward::{Gradients, WeightGradients, backward};
pub(crate) use forward::{forward, forward_packed};
pub(crate) use gates::gate;
pub use input::Input;
pub(crate) use layout::Shape;
pub use panels::{CellPanels, input_order, recurrent_order};

use crate::simd::Vector;

/// The most gates a cell has.
pub(crate) const MAX_GATES: usize = 4;
/// The most state vectors a cell carries besides its output h.
pub(crate) const MAX_STATES: usize = 3;

/// The arithmetic of one vector of hidden units at one position. Of the arrays, the first
/// [`Cell::GATES`] and [`Cell::STATES`] entries count.
pub(crate) trait Cell {
    /// Gates per hidden unit.
    const GATES: usize;
    /// State vectors carried besides h.
    const STATES: usize;

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

/// The weights of a cell with G gates and H heads of P units, N = H·P.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    /// `[G·N, D]`, row `gate · N + unit`.
    pub(crate) input: &'a [f32],
    /// `[H, G·P, P]`, row `gate · P + unit` within a head.
    pub(crate) recurrent: &'a [f32],
    /// `[G·N]` each; they are added together. A cell with one bias leaves the second empty.
    pub(crate) biases: [&'a [f32]; 2],
}
