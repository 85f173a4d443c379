//! The plain form of the cell, for one unit at one position. The loop around
//! it is in [`recurrence::reference`](crate::recurrence::reference).

use crate::real::Real;
use crate::recurrence::{MAX_GATES, MAX_STATES};

/// From the preactivations of i, f, z, o and the previous c, n, m: the next c, n, m, and h.
pub fn forward<R: Real>(gates: [R; MAX_GATES], previous: [R; MAX_STATES]) -> ([R; MAX_STATES], R) {
    let ([.., o], [c, n, m]) = step(gates, previous);
    ([c, n, m], o * c / n)
}

/// From what [`forward`] took, the gradient of h and those of the next c and n: the gradients of
/// the preactivations and of the previous c and n. Every m is a constant.
pub fn backward<R: Real>(
    gates: [R; MAX_GATES],
    previous: [R; MAX_STATES],
    d_h: R,
    [d_c, d_n, _]: [R; MAX_STATES],
) -> ([R; MAX_GATES], [R; MAX_STATES]) {
    let ([i, f, z, o], [next_c, next_n, _]) = step(gates, previous);
    let ([_, raw_f, ..], [c, n, _]) = (gates, previous);
    let one = R::one();
    let d_c = d_c + d_h * o / next_n;
    let d_n = d_n - d_h * o * next_c / (next_n * next_n);
    let d_i = (d_c * z + d_n) * i;
    let d_f = (d_c * c + d_n * n) * f * (-raw_f).sigmoid();
    let d_z = d_c * i * (one - z * z);
    let d_o = d_h * next_c / next_n * o * (one - o);
    ([d_i, d_f, d_z, d_o], [d_c * f, d_n * f, R::zero()])
}

/// The gates as they multiply, and the next c, n, m.
fn step<R: Real>(
    [i, f, z, o]: [R; MAX_GATES],
    [c, n, m]: [R; MAX_STATES],
) -> ([R; MAX_GATES], [R; MAX_STATES]) {
    let log_f = -((-f.abs()).exp().ln_1p() + (-f).max(R::zero()));
    let next_m = if n == R::zero() { i } else { i.max(log_f + m) };
    let i = (i - next_m).exp();
    let f = -(-(log_f + m - next_m)).max(R::zero());
    let (f, z, o) = (f.exp(), z.tanh(), o.sigmoid());
    ([i, f, z, o], [f * c + i * z, f * n + i, next_m])
}
