//! The plain form.

use super::{Gradients, Sizes, State, StateGradient, StateMut, Weights};
use crate::real::Real;
use crate::sequence::Sequence;

/// What forward went through, `[T·B, N]` each.
struct Kept<R> {
    /// i and f as they multiply, z, o, and σ(−f̃).
    gates: [Vec<R>; 5],
    /// h, c and n before the position.
    before: [Vec<R>; 3],
    /// c and n after it.
    after: [Vec<R>; 2],
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
    let (d, n, p) = (sizes.input, sizes.hidden, sizes.hidden / sizes.heads);
    let rows = || vec![R::zero(); sequence.rows() * n];
    let mut kept = Kept {
        gates: std::array::from_fn(|_| rows()),
        before: std::array::from_fn(|_| rows()),
        after: std::array::from_fn(|_| rows()),
    };
    next.h.copy_from_slice(state.h);
    next.c.copy_from_slice(state.c);
    next.n.copy_from_slice(state.n);
    next.m.copy_from_slice(state.m);
    y.fill(R::zero());
    for t in sequence.steps() {
        for b in (0..sequence.batch).filter(|&b| sequence.is_real(t, b)) {
            let (row, own) = (t * sequence.batch + b, b * n..(b + 1) * n);
            let h = &mut next.h[own.clone()];
            let c = &mut next.c[own.clone()];
            let norm = &mut next.n[own.clone()];
            let m = &mut next.m[own];
            if sequence.starts_empty(t, b) {
                [&mut *h, &mut *c, &mut *norm, &mut *m].into_iter().for_each(|s| s.fill(R::zero()));
            }
            let previous = h.to_vec();
            for u in 0..n {
                let raw: [R; 4] = std::array::from_fn(|gate| {
                    let j = gate * n + u;
                    let mut sum = weights.bias[j];
                    for k in 0..d {
                        sum += weights.input[j * d + k] * x[row * d + k];
                    }
                    let head = u / p;
                    for k in 0..p {
                        let weight = ((head * 4 + gate) * p + u % p) * p + k;
                        sum += weights.recurrent[weight] * previous[head * p + k];
                    }
                    sum
                });
                let [raw_i, raw_f, raw_z, raw_o] = raw;
                let log_f = -((-raw_f.abs()).exp().ln_1p() + (-raw_f).max(R::zero()));
                let next_m = if norm[u] == R::zero() { raw_i } else { raw_i.max(log_f + m[u]) };
                let i = (raw_i - next_m).exp();
                let f = -(-(log_f + m[u] - next_m)).max(R::zero());
                let (f, z, o) = (f.exp(), raw_z.tanh(), raw_o.sigmoid());
                let at = row * n + u;
                kept.before[0][at] = previous[u];
                kept.before[1][at] = c[u];
                kept.before[2][at] = norm[u];
                for (kept, value) in kept.gates.iter_mut().zip([i, f, z, o, (-raw_f).sigmoid()]) {
                    kept[at] = value;
                }
                c[u] = f * c[u] + i * z;
                norm[u] = f * norm[u] + i;
                m[u] = next_m;
                h[u] = o * c[u] / norm[u];
                kept.after[0][at] = c[u];
                kept.after[1][at] = norm[u];
                y[at] = h[u];
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
    d_next: Option<StateGradient<R>>,
    mut gradients: Gradients<R>,
) {
    let (d, n, p) = (sizes.input, sizes.hidden, sizes.hidden / sizes.heads);
    let zeros = || vec![R::zero(); sequence.batch * n];
    let mut y = vec![R::zero(); d_y.len()];
    let (mut h, mut c, mut norm, mut m) = (zeros(), zeros(), zeros(), zeros());
    let next = StateMut { h: &mut h, c: &mut c, n: &mut norm, m: &mut m };
    let kept = read(sizes, sequence, weights, x, state, &mut y, next);
    let mut d_h = d_next.map_or(zeros(), |d| d.h.to_vec());
    let mut d_c = d_next.map_or(zeros(), |d| d.c.to_vec());
    let mut d_n = d_next.map_or(zeros(), |d| d.n.to_vec());
    let one = R::one();
    for t in sequence.steps().rev() {
        for b in (0..sequence.batch).filter(|&b| sequence.is_real(t, b)) {
            let row = t * sequence.batch + b;
            let mut d_gates = vec![R::zero(); 4 * n];
            for u in 0..n {
                let (at, own) = (row * n + u, b * n + u);
                let [i, f, z, o, not_f] = std::array::from_fn(|g| kept.gates[g][at]);
                let [_, c, norm] = std::array::from_fn(|s| kept.before[s][at]);
                let [next_c, next_n] = std::array::from_fn(|s| kept.after[s][at]);
                let d_out = d_y[at] + d_h[own];
                let d_cell = d_c[own] + d_out * o / next_n;
                let d_norm = d_n[own] - d_out * o * next_c / (next_n * next_n);
                d_gates[u] = (d_cell * z + d_norm) * i;
                d_gates[n + u] = (d_cell * c + d_norm * norm) * f * not_f;
                d_gates[2 * n + u] = d_cell * i * (one - z * z);
                d_gates[3 * n + u] = d_out * next_c / next_n * o * (one - o);
                d_c[own] = d_cell * f;
                d_n[own] = d_norm * f;
                d_h[own] = R::zero();
            }
            for (j, &d_gate) in d_gates.iter().enumerate() {
                let (gate, head, unit) = (j / n, j % n / p, j % p);
                for k in 0..p {
                    let weight = ((head * 4 + gate) * p + unit) * p + k;
                    d_h[b * n + head * p + k] += d_gate * weights.recurrent[weight];
                    if let Some(to) = &mut gradients.weights.recurrent {
                        to[weight] += d_gate * kept.before[0][row * n + head * p + k];
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
                if let Some(to) = &mut gradients.weights.bias {
                    to[j] += d_gate;
                }
            }
            if sequence.starts_empty(t, b) {
                for d in [&mut d_h, &mut d_c, &mut d_n] {
                    d[b * n..(b + 1) * n].fill(R::zero());
                }
            }
        }
    }
    if let Some(to) = gradients.state {
        for i in 0..d_h.len() {
            to.h[i] += d_h[i];
            to.c[i] += d_c[i];
            to.n[i] += d_n[i];
            to.m[i] += state.c[i] * d_c[i] + state.n[i] * d_n[i];
        }
    }
}
