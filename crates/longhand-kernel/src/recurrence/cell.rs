//! Recurrent cells: their gates, their states, and their arithmetic.

use crate::simd::Vector;

/// The most gates a cell has.
pub const MAX_GATES: usize = 4;
/// The most state vectors of a cell besides its output h.
pub const MAX_STATES: usize = 3;

/// Which cell a layer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellKind {
    /// Long short-term memory, see [`lstm`](crate::lstm).
    Lstm,
    /// Scalar memory with exponential gates, see [`slstm`](crate::slstm).
    Slstm,
    /// The network of Elman, see [`rnn`](crate::rnn).
    Rnn,
}

impl CellKind {
    /// Every cell, in the order of the enum.
    pub const ALL: [CellKind; 3] = [CellKind::Lstm, CellKind::Slstm, CellKind::Rnn];

    /// The name in configurations and flags, such as `lstm`.
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

    /// The states that go from position to position, in the order of every list of states. The
    /// output h is the first.
    pub const fn states(self) -> &'static [&'static str] {
        match self {
            CellKind::Lstm => &["h", "c"],
            CellKind::Slstm => &["h", "c", "n", "m"],
            CellKind::Rnn => &["h"],
        }
    }
}

/// The arithmetic of one vector of hidden units at one position. Of the arrays, the first
/// [`Cell::GATES`] and [`Cell::STATES`] entries count.
pub(crate) trait Cell {
    /// The cell that this is the arithmetic of.
    const KIND: CellKind;
    /// Gates per hidden unit.
    const GATES: usize = Self::KIND.gates();
    /// State vectors besides h.
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
