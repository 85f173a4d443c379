//! Optimiser steps over flat slices of weights, each in one pass over
//! memory; Muon's, over matrices.

pub mod muon;

pub use muon::{Muon, muon};

use crate::cpu::{Cpu, Shards};
use crate::pointwise::{apply, pointwise};
use crate::simd::{Kernel, Vector};

/// AdamW (Loshchilov & Hutter, "Decoupled weight decay regularization", 2019).
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Step size of this step.
    pub learning_rate: f64,
    /// Decay of the running mean of gradients (usually 0.9).
    pub beta1: f64,
    /// Decay of the running mean of their squares (usually 0.999 or 0.95).
    pub beta2: f64,
    /// Added to the root of the second mean (usually 1e-8).
    pub epsilon: f64,
    /// Weights shrink by learning rate × this, apart from the gradient. 0 for none.
    pub weight_decay: f64,
    /// The number of this step, from 1: the running means are corrected for having begun at 0.
    pub step: u64,
}

/// Stochastic gradient descent, in PyTorch's form of momentum without dampening.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// Step size of this step.
    pub learning_rate: f64,
    /// Decay of the running sum of gradients; 0 for none.
    pub momentum: f64,
    /// Looks ahead along the momentum (Nesterov).
    pub nesterov: bool,
    /// Added to the gradient as weight × this. 0 for none.
    pub weight_decay: f64,
}

/// One step of AdamW. With g = `gradient_scale` · gradient (clipping folded in):
/// m = β₁m + (1−β₁)g, v = β₂v + (1−β₂)g²,
/// w = (1 − ηλ)w − η · (m / (1−β₁ᵗ)) / (√(v / (1−β₂ᵗ)) + ε).
///
/// # Panics
/// If the lengths differ.
pub fn adamw(
    cpu: &Cpu,
    settings: AdamW,
    gradient_scale: f32,
    gradient: &[f32],
    weights: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    pointwise!(Step { scale, beta1, rest1, beta2, rest2, keep, rate, root, epsilon } [g] [w, m, v] {
        let g = g.mul(scale);
        let m = m.mul_add(beta1, g.mul(rest1));
        let v = v.mul_add(beta2, g.mul(g).mul(rest2));
        let denominator = v.sqrt().mul_add(root, epsilon);
        [w.mul(keep).sub(m.mul(rate).div(denominator)), m, v]
    });
    let AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, step } = settings;
    let corrected = |beta: f64| 1.0 - beta.powf(step.max(1) as f64);
    let op = Step {
        scale: gradient_scale,
        beta1: beta1 as f32,
        rest1: (1.0 - beta1) as f32,
        beta2: beta2 as f32,
        rest2: (1.0 - beta2) as f32,
        keep: (1.0 - learning_rate * weight_decay) as f32,
        rate: (learning_rate / corrected(beta1)) as f32,
        root: (1.0 / corrected(beta2).sqrt()) as f32,
        epsilon: epsilon as f32,
    };
    apply(cpu, op, [gradient], [weights, first, second]);
}

/// One step of gradient descent. With g = `gradient_scale` · gradient + λw:
/// b = μb + g; w −= η·b, or η·(g + μb) with Nesterov. Without momentum pass no buffer.
///
/// # Panics
/// If the lengths differ, or there is momentum and no buffer for it.
pub fn sgd(
    cpu: &Cpu,
    settings: Sgd,
    gradient_scale: f32,
    gradient: &[f32],
    weights: &mut [f32],
    buffer: Option<&mut [f32]>,
) {
    pointwise!(Plain { scale, rate, decay } [g] [w] {
        [w.sub(w.mul_add(decay, g.mul(scale)).mul(rate))]
    });
    pointwise!(Momentum { scale, rate, decay, momentum } [g] [w, b] {
        let b = b.mul_add(momentum, w.mul_add(decay, g.mul(scale)));
        [w.sub(b.mul(rate)), b]
    });
    pointwise!(Nesterov { scale, rate, decay, momentum } [g] [w, b] {
        let g = w.mul_add(decay, g.mul(scale));
        let b = b.mul_add(momentum, g);
        [w.sub(b.mul_add(momentum, g).mul(rate)), b]
    });
    let (scale, rate) = (gradient_scale, settings.learning_rate as f32);
    let (decay, momentum) = (settings.weight_decay as f32, settings.momentum as f32);
    if settings.momentum == 0.0 {
        return apply(cpu, Plain { scale, rate, decay }, [gradient], [weights]);
    }
    assert!(buffer.is_some(), "momentum needs a buffer");
    let Some(buffer) = buffer else { return };
    if settings.nesterov {
        let op = Nesterov { scale, rate, decay, momentum };
        apply(cpu, op, [gradient], [weights, buffer]);
    } else {
        let op = Momentum { scale, rate, decay, momentum };
        apply(cpu, op, [gradient], [weights, buffer]);
    }
}

/// average += factor · (weights − average): with factor 1/n the mean of n weights (averaged SGD),
/// with a constant factor an exponential moving average.
///
/// # Panics
/// If the lengths differ.
pub fn average(cpu: &Cpu, factor: f32, weights: &[f32], average: &mut [f32]) {
    pointwise!(Average { factor } [w] [a] { [w.sub(a).mul_add(factor, a)] });
    apply(cpu, Average { factor }, [weights], [average]);
}

/// The sum of the squares, in double precision; the same for any number of threads and any
/// instruction set. Not finite if and only if an element is not.
pub fn squared_norm(cpu: &Cpu, values: &[f32]) -> f64 {
    let piece = values.len().div_ceil(PIECES).next_multiple_of(SQUARES).max(PIECE_LEAST);
    let count = values.len().div_ceil(piece);
    let mut sums = [0.0f64; PIECES];
    let shards = Shards::new(&mut sums);
    cpu.for_each(count, |worker, i| {
        let part = &values[i * piece..((i + 1) * piece).min(values.len())];
        // SAFETY: each piece is summed by one thread.
        let sum = unsafe { shards.part(i..i + 1) };
        sum[0] = worker.level.run(Squares(part));
    });
    sums.iter().sum()
}

/// Pieces whose sums are added in order.
const PIECES: usize = 256;
/// A smaller piece costs more to hand out than to sum.
const PIECE_LEAST: usize = 1 << 14;
/// Sums side by side within a piece.
const SQUARES: usize = 32;

struct Squares<'a>(&'a [f32]);

impl Kernel for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> f64 {
        let mut sums = [0.0f64; SQUARES];
        let (chunks, rest) = self.0.as_chunks::<SQUARES>();
        for chunk in chunks {
            for (sum, &x) in sums.iter_mut().zip(chunk) {
                *sum += f64::from(x) * f64::from(x);
            }
        }
        for (sum, &x) in sums.iter_mut().zip(rest) {
            *sum += f64::from(x) * f64::from(x);
        }
        sums.iter().sum()
    }
}

/// The plain forms, one weight at a time.
pub mod reference {
    use super::{AdamW, Sgd};
    use crate::real::Real;

    /// The new (w, m, v).
    pub fn adamw<R: Real>(s: AdamW, g: R, w: R, m: R, v: R) -> (R, R, R) {
        let number = R::from_f64;
        let m = number(s.beta1) * m + number(1.0 - s.beta1) * g;
        let v = number(s.beta2) * v + number(1.0 - s.beta2) * g * g;
        let mean = m / number(1.0 - s.beta1.powf(s.step as f64));
        let square = v / number(1.0 - s.beta2.powf(s.step as f64));
        let rate = number(s.learning_rate);
        let w = w * (R::one() - rate * number(s.weight_decay));
        (w - rate * mean / (square.sqrt() + number(s.epsilon)), m, v)
    }

    /// The new (w, b).
    pub fn sgd<R: Real>(s: Sgd, g: R, w: R, b: R) -> (R, R) {
        let number = R::from_f64;
        let g = g + number(s.weight_decay) * w;
        let b = number(s.momentum) * b + g;
        let direction = if s.nesterov { g + number(s.momentum) * b } else { b };
        (w - number(s.learning_rate) * direction, b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, levels, values, wide};

    const SIZES: [usize; 5] = [0, 1, 17, 100, 50_001];

    fn on_all(check: impl Fn(&Cpu, usize)) {
        for level in levels() {
            for threads in [1, 3] {
                let cpu = Cpu::with_level(threads, level);
                SIZES.into_iter().for_each(|len| check(&cpu, len));
            }
        }
    }

    #[test]
    fn adamw_follows_the_reference_over_steps() {
        on_all(|cpu, len| {
            let (mut w, mut m, mut v) = (values(len, 1), vec![0.0; len], vec![0.0; len]);
            let mut exact: Vec<_> = wide(&w).into_iter().map(|w| (w, 0.0, 0.0)).collect();
            for step in 1..=5 {
                let settings = AdamW {
                    learning_rate: 0.01,
                    beta1: 0.9,
                    beta2: 0.95,
                    epsilon: 1e-8,
                    weight_decay: 0.1,
                    step,
                };
                let g = values(len, 10 + step);
                adamw(cpu, settings, 0.5, &g, &mut w, &mut m, &mut v);
                for (x, &g) in exact.iter_mut().zip(&g) {
                    *x = reference::adamw(settings, 0.5 * f64::from(g), x.0, x.1, x.2);
                }
            }
            let part = |f: fn(&(f64, f64, f64)) -> f64| exact.iter().map(f).collect::<Vec<_>>();
            close("weights", &w, &part(|x| x.0), 2e-6);
            close("first", &m, &part(|x| x.1), 1e-6);
            close("second", &v, &part(|x| x.2), 1e-6);
        });
    }

    #[test]
    fn sgd_follows_the_reference_over_steps() {
        for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
            let settings = Sgd { learning_rate: 0.1, momentum, nesterov, weight_decay: 0.01 };
            on_all(|cpu, len| {
                let (mut w, mut b) = (values(len, 1), vec![0.0; len]);
                let mut exact: Vec<_> = wide(&w).into_iter().map(|w| (w, 0.0)).collect();
                for step in 0..5 {
                    let g = values(len, 10 + step);
                    let buffer = (momentum != 0.0).then_some(&mut b[..]);
                    sgd(cpu, settings, 0.5, &g, &mut w, buffer);
                    for (x, &g) in exact.iter_mut().zip(&g) {
                        *x = reference::sgd(settings, 0.5 * f64::from(g), x.0, x.1);
                    }
                }
                close("weights", &w, &exact.iter().map(|x| x.0).collect::<Vec<_>>(), 2e-6);
            });
        }
    }

    #[test]
    fn an_average_over_n_steps_is_the_mean() {
        on_all(|cpu, len| {
            let mut mean = vec![0.0; len];
            let mut exact = vec![0.0; len];
            for n in 1..=4u8 {
                let w = values(len, u64::from(n));
                average(cpu, 1.0 / f32::from(n), &w, &mut mean);
                exact.iter_mut().zip(&w).for_each(|(x, &w)| *x += f64::from(w) / 4.0);
            }
            close("mean", &mean, &exact, 1e-6);
        });
    }

    #[test]
    fn the_norm_is_exact_and_the_same_everywhere() {
        let long = values(5_000_003, 1);
        let mut seen = Vec::new();
        on_all(|cpu, len| {
            let exact: f64 = long[..len].iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            assert!((squared_norm(cpu, &long[..len]) - exact).abs() <= 1e-12 * exact);
        });
        for level in levels() {
            for threads in [1, 2, 5] {
                seen.push(squared_norm(&Cpu::with_level(threads, level), &long));
            }
        }
        assert!(seen.iter().all(|norm| norm.to_bits() == seen[0].to_bits()));
        let cpu = Cpu::new(2);
        assert_eq!(squared_norm(&cpu, &[f32::MAX; 3]), 3.0 * f64::from(f32::MAX).powi(2));
        assert!(squared_norm(&cpu, &[1.0, f32::NAN]).is_nan());
    }
}
