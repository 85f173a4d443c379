//! The plain form of the cell, for one unit at one position. The loop around
//! it is in [`recurrence::reference`](crate::recurrence::reference).

use crate::real::Real;
use crate::recurrence::{MAX_GATES, MAX_STATES};

/// From the preactivations of i, f, g, o and the previous c: the next c, and h.
pub fn forward<R: Real>(gates: [R; MAX_GATES], previous: [R; MAX_STATES]) -> ([R; MAX_STATES], R) {
    let ([.., o], c) = step(gates, previous);
    ([c, R::zero(), R::zero()], o * c.tanh())
}

/// From what [`forward`] took, the gradient of h and that of the next c: the gradients of the
/// preactivations and of the previous c.
pub fn backward<R: Real>(
    gates: [R; MAX_GATES],
    previous: [R; MAX_STATES],
    d_h: R,
    [d_c, ..]: [R; MAX_STATES],
) -> ([R; MAX_GATES], [R; MAX_STATES]) {
    let ([i, f, g, o], c) = step(gates, previous);
    let (one, squashed) = (R::one(), c.tanh());
    let d_c = d_c + d_h * o * (one - squashed * squashed);
    let d_i = d_c * g * i * (one - i);
    let d_f = d_c * previous[0] * f * (one - f);
    let d_g = d_c * i * (one - g * g);
    let d_o = d_h * squashed * o * (one - o);
    ([d_i, d_f, d_g, d_o], [d_c * f, R::zero(), R::zero()])
}

/// The gates after their functions, and the next c.
fn step<R: Real>([i, f, g, o]: [R; MAX_GATES], [c, ..]: [R; MAX_STATES]) -> ([R; MAX_GATES], R) {
    let (i, f, g, o) = (i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid());
    ([i, f, g, o], f * c + i * g)
}
