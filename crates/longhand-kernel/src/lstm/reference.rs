//! The plain form.

use super::{Gradients, Sizes, State, StateMut, Weights};
use crate::real::Real;
use crate::sequence::Sequence;

/// The gates and cells of every position.
struct Kept<R> {
    /// `[T·B, 4N]` after their functions.
    gates: Vec<R>,
    /// `[T·B, N]` each: h and c before and after the position.
    before: [Vec<R>; 2],
    c: Vec<R>,
}

/// As the fast [`forward`](super::forward), position by position.
pub fn forward<R: Real>(
    sizes: Sizes,
    sequence: &Sequence,
    weights: Weights<R>,
    x: &[R],
    state: State<R>,
    y: &mut [R],
    next: StateMut<R>,
) {
    read(sizes, sequence, weights, x, state, y, next);
}

fn read<R: Real>(
    sizes: Sizes,
    sequence: &Sequence,
    weights: Weights<R>,
    x: &[R],
    state: State<R>,
    y: &mut [R],
    next: StateMut<R>,
) -> Kept<R> {
    let (d, n, rows) = (sizes.input, sizes.hidden, sequence.rows());
    let zeros = || vec![R::zero(); rows * n];
    let mut kept =
        Kept { gates: vec![R::zero(); rows * 4 * n], before: [zeros(), zeros()], c: zeros() };
    next.h.copy_from_slice(state.h);
    next.c.copy_from_slice(state.c);
    y.fill(R::zero());
    for t in sequence.steps() {
        for b in (0..sequence.batch).filter(|&b| sequence.is_real(t, b)) {
            let row = t * sequence.batch + b;
            let (h, c) = (&mut next.h[b * n..(b + 1) * n], &mut next.c[b * n..(b + 1) * n]);
            if sequence.starts_empty(t, b) {
                h.fill(R::zero());
                c.fill(R::zero());
            }
            kept.before[0][row * n..(row + 1) * n].copy_from_slice(h);
            kept.before[1][row * n..(row + 1) * n].copy_from_slice(c);
            let gates = &mut kept.gates[row * 4 * n..(row + 1) * 4 * n];
            for (j, gate) in gates.iter_mut().enumerate() {
                let mut sum = weights.bias_input[j] + weights.bias_recurrent[j];
                for k in 0..d {
                    sum += weights.input[j * d + k] * x[row * d + k];
                }
                for k in 0..n {
                    sum += weights.recurrent[j * n + k] * h[k];
                }
                *gate = if j / n.max(1) == 2 { sum.tanh() } else { sum.sigmoid() };
            }
            for u in 0..n {
                let (i, f, g, o) = (gates[u], gates[n + u], gates[2 * n + u], gates[3 * n + u]);
                c[u] = f * c[u] + i * g;
                h[u] = o * c[u].tanh();
                kept.c[row * n + u] = c[u];
                y[row * n + u] = h[u];
            }
        }
    }
    kept
}

/// As the fast [`backward`](super::backward); what it needs of forward it computes again.
pub fn backward<R: Real>(
    sizes: Sizes,
    sequence: &Sequence,
    weights: Weights<R>,
    x: &[R],
    state: State<R>,
    d_y: &[R],
    d_next: Option<State<R>>,
    mut gradients: Gradients<R>,
) {
    let (d, n) = (sizes.input, sizes.hidden);
    let zeros = vec![R::zero(); sequence.batch * n];
    let (mut y, mut h, mut c) = (vec![R::zero(); d_y.len()], zeros.clone(), zeros.clone());
    let next = StateMut { h: &mut h, c: &mut c };
    let kept = read(sizes, sequence, weights, x, state, &mut y, next);
    let mut d_h = d_next.map_or(zeros.clone(), |d| d.h.to_vec());
    let mut d_c = d_next.map_or(zeros, |d| d.c.to_vec());
    let one = R::one();
    for t in sequence.steps().rev() {
        for b in (0..sequence.batch).filter(|&b| sequence.is_real(t, b)) {
            let row = t * sequence.batch + b;
            let gates = &kept.gates[row * 4 * n..(row + 1) * 4 * n];
            let mut d_gates = vec![R::zero(); 4 * n];
            for u in 0..n {
                let (i, f, g, o) = (gates[u], gates[n + u], gates[2 * n + u], gates[3 * n + u]);
                let squashed = kept.c[row * n + u].tanh();
                let d_out = d_y[row * n + u] + d_h[b * n + u];
                let d_cell = d_c[b * n + u] + d_out * o * (one - squashed * squashed);
                d_gates[u] = d_cell * g * i * (one - i);
                d_gates[n + u] = d_cell * kept.before[1][row * n + u] * f * (one - f);
                d_gates[2 * n + u] = d_cell * i * (one - g * g);
                d_gates[3 * n + u] = d_out * squashed * o * (one - o);
                d_c[b * n + u] = d_cell * f;
                d_h[b * n + u] = R::zero();
            }
            for (j, &d_gate) in d_gates.iter().enumerate() {
                for k in 0..n {
                    d_h[b * n + k] += d_gate * weights.recurrent[j * n + k];
                }
                if let Some(d_x) = &mut gradients.x {
                    for k in 0..d {
                        d_x[row * d + k] += d_gate * weights.input[j * d + k];
                    }
                }
                let to = &mut gradients.weights;
                if let Some(to) = &mut to.input {
                    for k in 0..d {
                        to[j * d + k] += d_gate * x[row * d + k];
                    }
                }
                if let Some(to) = &mut to.recurrent {
                    for k in 0..n {
                        to[j * n + k] += d_gate * kept.before[0][row * n + k];
                    }
                }
                for to in [&mut to.bias_input, &mut to.bias_recurrent].into_iter().flatten() {
                    to[j] += d_gate;
                }
            }
            if sequence.starts_empty(t, b) {
                d_h[b * n..(b + 1) * n].fill(R::zero());
                d_c[b * n..(b + 1) * n].fill(R::zero());
            }
        }
    }
    if let Some(to) = gradients.state {
        to.h.iter_mut().zip(d_h).for_each(|(to, d)| *to += d);
        to.c.iter_mut().zip(d_c).for_each(|(to, d)| *to += d);
    }
}
