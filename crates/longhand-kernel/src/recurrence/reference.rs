//! The plain form of every recurrence: position after position, unit after unit. The equations of
//! the cells are in [`lstm`](crate::lstm::reference), [`slstm`](crate::slstm::reference) and
//! [`rnn`](crate::rnn::reference), each for one unit.

use std::array::from_fn;

use super::{CellKind, Gradients, MAX_GATES, MAX_STATES, OutputGradients, Sizes, Weights};
use crate::real::Real;
use crate::sequence::Sequence;
use crate::{lstm, rnn, slstm};

/// Every value of a forward pass.
struct Pass<R> {
    /// `[T·B, G·N]`: the gates' preactivations.
    gates: Vec<R>,
    /// `[T·B, N]` each: the states before the position.
    before: Vec<Vec<R>>,
    /// `[T·B, N]`: the outputs.
    y: Vec<R>,
    /// `[B, N]` each: the states after the last position.
    next: Vec<Vec<R>>,
}

/// As the fast [`forward`](fn@super::forward), position by position.
pub fn forward<R: Real>(
    sizes: Sizes,
    sequence: &Sequence,
    weights: Weights<R>,
    x: &[R],
    state: &[&[R]],
    y: &mut [R],
    next: &mut [&mut [R]],
) {
    let pass = read(sizes, sequence, weights, x, state);
    y.copy_from_slice(&pass.y);
    for (to, next) in next.iter_mut().zip(&pass.next) {
        to.copy_from_slice(next);
    }
}

fn read<R: Real>(
    sizes: Sizes,
    sequence: &Sequence,
    weights: Weights<R>,
    x: &[R],
    state: &[&[R]],
) -> Pass<R> {
    let cell = match sizes.cell {
        CellKind::Lstm => lstm::reference::forward::<R>,
        CellKind::Slstm => slstm::reference::forward::<R>,
        CellKind::Rnn => rnn::reference::forward::<R>,
    };
    let (d, n, columns) = (sizes.input, sizes.hidden, sizes.cell.gates() * sizes.hidden);
    let zeros = |width: usize| vec![R::zero(); sequence.rows() * width];
    let mut pass = Pass {
        gates: zeros(columns),
        before: vec![zeros(n); state.len()],
        y: zeros(n),
        next: state.iter().map(|state| state.to_vec()).collect(),
    };
    for t in sequence.steps() {
        for b in (0..sequence.batch).filter(|&b| sequence.is_real(t, b)) {
            let row = t * sequence.batch + b;
            for (state, before) in pass.next.iter_mut().zip(&mut pass.before) {
                let state = &mut state[b * n..(b + 1) * n];
                if sequence.starts_empty(t, b) {
                    state.fill(R::zero());
                }
                before[row * n..(row + 1) * n].copy_from_slice(state);
            }
            for j in 0..columns {
                let mut sum = R::zero();
                for bias in weights.biases.iter().filter(|bias| !bias.is_empty()) {
                    sum += bias[j];
                }
                for k in 0..d {
                    sum += weights.input[j * d + k] * x[row * d + k];
                }
                for (weight, unit) in recurrent(sizes, j) {
                    sum += weights.recurrent[weight] * pass.before[0][row * n + unit];
                }
                pass.gates[row * columns + j] = sum;
            }
            for u in 0..n {
                let (gates, previous) = pass.unit(sizes, row, u);
                let (states, h) = cell(gates, previous);
                pass.y[row * n + u] = h;
                for (to, value) in pass.next.iter_mut().zip([h].into_iter().chain(states)) {
                    to[b * n + u] = value;
                }
            }
        }
    }
    pass
}

/// As the fast [`backward`](fn@super::backward); what it needs of forward it computes again.
pub fn backward<R: Real>(
    sizes: Sizes,
    sequence: &Sequence,
    weights: Weights<R>,
    x: &[R],
    state: &[&[R]],
    d_outputs: OutputGradients<R>,
    mut gradients: Gradients<R>,
) {
    let OutputGradients { y: d_y, next: d_next } = d_outputs;
    let cell = match sizes.cell {
        CellKind::Lstm => lstm::reference::backward::<R>,
        CellKind::Slstm => slstm::reference::backward::<R>,
        CellKind::Rnn => rnn::reference::backward::<R>,
    };
    let (d, n, columns) = (sizes.input, sizes.hidden, sizes.cell.gates() * sizes.hidden);
    let pass = read(sizes, sequence, weights, x, state);
    let mut d_state = vec![vec![R::zero(); sequence.batch * n]; state.len()];
    for (to, d) in d_state.iter_mut().zip(d_next) {
        to.copy_from_slice(d);
    }
    for t in sequence.steps().rev() {
        for b in (0..sequence.batch).filter(|&b| sequence.is_real(t, b)) {
            let row = t * sequence.batch + b;
            let mut d_gates = vec![R::zero(); columns];
            for u in 0..n {
                let (gates, previous) = pass.unit(sizes, row, u);
                let d_h = d_y[row * n + u] + d_state[0][b * n + u];
                let d_after = from_fn(|s| d_state.get(1 + s).map_or(R::zero(), |d| d[b * n + u]));
                let (d_unit, d_before) = cell(gates, previous, d_h, d_after);
                for (gate, d) in d_unit.into_iter().enumerate().take(sizes.cell.gates()) {
                    d_gates[gate * n + u] = d;
                }
                for (to, d) in d_state.iter_mut().zip([R::zero()].into_iter().chain(d_before)) {
                    to[b * n + u] = d;
                }
            }
            for (j, &d_gate) in d_gates.iter().enumerate() {
                for (weight, unit) in recurrent(sizes, j) {
                    d_state[0][b * n + unit] += d_gate * weights.recurrent[weight];
                    if let Some(to) = &mut gradients.weights.recurrent {
                        to[weight] += d_gate * pass.before[0][row * n + unit];
                    }
                }
                for k in 0..d {
                    if let Some(d_x) = &mut gradients.x {
                        d_x[row * d + k] += d_gate * weights.input[j * d + k];
                    }
                    if let Some(to) = &mut gradients.weights.input {
                        to[j * d + k] += d_gate * x[row * d + k];
                    }
                }
                for to in gradients.weights.biases.iter_mut().flatten() {
                    to[j] += d_gate;
                }
            }
            if sequence.starts_empty(t, b) {
                d_state.iter_mut().for_each(|d| d[b * n..(b + 1) * n].fill(R::zero()));
            }
        }
    }
    // The stabiliser's follows from the symmetry that the `slstm` module names.
    if let (CellKind::Slstm, [_, d_c, d_n, d_m], [_, c, n, _]) =
        (sizes.cell, &mut d_state[..], state)
    {
        for i in 0..d_m.len() {
            d_m[i] = c[i] * d_c[i] + n[i] * d_n[i];
        }
    }
    for (to, d) in gradients.state.into_iter().flatten().zip(&d_state) {
        to.iter_mut().zip(d).for_each(|(to, &d)| *to += d);
    }
}

/// The recurrent weights of gate row `j` (gate · N + unit), each with the unit it reads.
fn recurrent(sizes: Sizes, j: usize) -> impl Iterator<Item = (usize, usize)> {
    let (n, p) = (sizes.hidden, sizes.hidden / sizes.heads);
    let (gate, head, unit) = (j / n, j % n / p, j % p);
    let first = ((head * sizes.cell.gates() + gate) * p + unit) * p;
    (0..p).map(move |k| (first + k, head * p + k))
}

impl<R: Real> Pass<R> {
    /// The preactivations of one unit at one row, and its states before it without h.
    fn unit(&self, sizes: Sizes, row: usize, unit: usize) -> ([R; MAX_GATES], [R; MAX_STATES]) {
        let (n, count) = (sizes.hidden, sizes.cell.gates());
        let gate = |gate: usize| {
            if gate < count { self.gates[(row * count + gate) * n + unit] } else { R::zero() }
        };
        let state =
            |s: usize| self.before.get(1 + s).map_or(R::zero(), |before| before[row * n + unit]);
        (from_fn(gate), from_fn(state))
    }
}
