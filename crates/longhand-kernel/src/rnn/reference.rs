//! The plain form of the cell, for one unit at one position. The loop around
//! it is in [`recurrence::reference`](crate::recurrence::reference).

use crate::real::Real;
use crate::recurrence::{MAX_GATES, MAX_STATES};

/// From the preactivation: h. There is no other state.
pub fn forward<R: Real>(
    [gate, ..]: [R; MAX_GATES],
    states: [R; MAX_STATES],
) -> ([R; MAX_STATES], R) {
    (states, gate.tanh())
}

/// From what [`forward`] took and the gradient of h: that of the preactivation.
pub fn backward<R: Real>(
    [gate, ..]: [R; MAX_GATES],
    _: [R; MAX_STATES],
    d_h: R,
    d_states: [R; MAX_STATES],
) -> ([R; MAX_GATES], [R; MAX_STATES]) {
    let h = gate.tanh();
    ([d_h * (R::one() - h * h); MAX_GATES], d_states)
}
