//! The plain form.

use super::{Gradients, Sizes, Weights};
use crate::real::Real;
use crate::sequence::Sequence;

/// As the fast [`forward`](super::forward), position by position.
pub fn forward<R: Real>(
    sizes: Sizes,
    sequence: &Sequence,
    weights: Weights<R>,
    x: &[R],
    state: &[R],
    y: &mut [R],
    next: &mut [R],
) {
    read(sizes, sequence, weights, x, state, y, next);
}

/// Returns h before every position, `[T·B, N]`.
fn read<R: Real>(
    sizes: Sizes,
    sequence: &Sequence,
    weights: Weights<R>,
    x: &[R],
    state: &[R],
    y: &mut [R],
    next: &mut [R],
) -> Vec<R> {
    let (d, n) = (sizes.input, sizes.hidden);
    let mut before = vec![R::zero(); sequence.rows() * n];
    next.copy_from_slice(state);
    y.fill(R::zero());
    for t in sequence.steps() {
        for b in (0..sequence.batch).filter(|&b| sequence.is_real(t, b)) {
            let row = t * sequence.batch + b;
            let h = &mut next[b * n..(b + 1) * n];
            if sequence.starts_empty(t, b) {
                h.fill(R::zero());
            }
            let before = &mut before[row * n..(row + 1) * n];
            before.copy_from_slice(h);
            for u in 0..n {
                let mut sum = weights.bias_input[u] + weights.bias_recurrent[u];
                for k in 0..d {
                    sum += weights.input[u * d + k] * x[row * d + k];
                }
                for k in 0..n {
                    sum += weights.recurrent[u * n + k] * before[k];
                }
                h[u] = sum.tanh();
            }
            y[row * n..(row + 1) * n].copy_from_slice(h);
        }
    }
    before
}

/// As the fast [`backward`](super::backward); what it needs of forward it computes again.
pub fn backward<R: Real>(
    sizes: Sizes,
    sequence: &Sequence,
    weights: Weights<R>,
    x: &[R],
    state: &[R],
    d_y: &[R],
    d_next: Option<&[R]>,
    mut gradients: Gradients<R>,
) {
    let (d, n) = (sizes.input, sizes.hidden);
    let zeros = vec![R::zero(); sequence.batch * n];
    let (mut y, mut next) = (vec![R::zero(); d_y.len()], zeros.clone());
    let before = read(sizes, sequence, weights, x, state, &mut y, &mut next);
    let mut d_h = d_next.map_or(zeros, <[R]>::to_vec);
    for t in sequence.steps().rev() {
        for b in (0..sequence.batch).filter(|&b| sequence.is_real(t, b)) {
            let row = t * sequence.batch + b;
            let d_h = &mut d_h[b * n..(b + 1) * n];
            let d_sums: Vec<R> = (0..n)
                .map(|u| {
                    let h = y[row * n + u];
                    (d_y[row * n + u] + d_h[u]) * (R::one() - h * h)
                })
                .collect();
            d_h.fill(R::zero());
            for (u, &d_sum) in d_sums.iter().enumerate() {
                for k in 0..n {
                    d_h[k] += d_sum * weights.recurrent[u * n + k];
                }
                if let Some(d_x) = &mut gradients.x {
                    for k in 0..d {
                        d_x[row * d + k] += d_sum * weights.input[u * d + k];
                    }
                }
                let to = &mut gradients.weights;
                if let Some(to) = &mut to.input {
                    for k in 0..d {
                        to[u * d + k] += d_sum * x[row * d + k];
                    }
                }
                if let Some(to) = &mut to.recurrent {
                    for k in 0..n {
                        to[u * n + k] += d_sum * before[row * n + k];
                    }
                }
                for to in [&mut to.bias_input, &mut to.bias_recurrent].into_iter().flatten() {
                    to[u] += d_sum;
                }
            }
            if sequence.starts_empty(t, b) {
                d_h.fill(R::zero());
            }
        }
    }
    if let Some(to) = gradients.state {
        to.iter_mut().zip(d_h).for_each(|(to, d)| *to += d);
    }
}
