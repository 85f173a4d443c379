//! Cross-entropy of independent flags, each a logistic function of its own logit.

use super::Total;

/// Binary cross-entropy of σ(logits) against the flags, summed over rows and columns.
///
/// Formula: each flag y ∈ [0, 1] with logit x adds max(x, 0) − x·ỹ + ln(1 + e^−|x|) nats, where
/// ỹ = (1 − ε)·y + ε/2 for the label smoothing ε. The gradient by x is σ(x) − ỹ.
///
/// `logits` and `flags` are `[R, L]` with L = `width`. `losses` `[R]` receives each row's sum.
/// `gradient` is a scale and `[R, L]`, to which scale · (σ(x) − ỹ) is added. The total counts every
/// flag, and as correct those on whose side of 0 the logit is. Stable for any finite logit: no
/// exponential of a positive number is taken.
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn cross_entropy(
    width: usize,
    logits: &[f32],
    flags: &[f32],
    smoothing: f32,
    mut losses: Option<&mut [f32]>,
    gradient: Option<(f32, &mut [f32])>,
) -> Total {
    assert_eq!(logits.len(), flags.len(), "one flag for each logit");
    let smoothing = f64::from(smoothing);
    let wanted = |flag: f32| (1.0 - smoothing) * f64::from(flag) + 0.5 * smoothing;
    let nats_of = |(&x, &flag): (&f32, &f32)| {
        let x = f64::from(x);
        x.max(0.0) - x * wanted(flag) + (-x.abs()).exp().ln_1p()
    };
    let row_nats = |row: usize| {
        let range = row * width..(row + 1) * width;
        logits[range.clone()].iter().zip(&flags[range]).map(nats_of).sum::<f64>()
    };
    let rows = logits.len().checked_div(width).unwrap_or(0);
    assert_eq!(rows * width, logits.len(), "whole rows of logits");
    let mut total = Total { count: logits.len(), ..Total::default() };
    if let Some(losses) = &losses {
        assert_eq!(losses.len(), rows, "one loss per row");
    }
    for row in 0..rows {
        let nats = row_nats(row);
        total.nats += nats;
        if let Some(losses) = &mut losses {
            losses[row] = nats as f32;
        }
    }
    let right = |(&x, &flag): (&f32, &f32)| !x.is_nan() && (x > 0.0) == (flag > 0.5);
    total.correct = logits.iter().zip(flags).filter(|&pair| right(pair)).count();
    if let Some((scale, gradient)) = gradient {
        assert_eq!(gradient.len(), logits.len(), "the gradient of the logits");
        for ((d, &x), &flag) in gradient.iter_mut().zip(logits).zip(flags) {
            *d += (f64::from(scale) * (sigmoid(x.into()) - wanted(flag))) as f32;
        }
    }
    total
}

/// Replaces each logit by its probability σ(x).
pub fn probabilities(logits: &mut [f32]) {
    logits.iter_mut().for_each(|x| *x = sigmoid(f64::from(*x)) as f32);
}

fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
}

/// The plain form, for tests.
pub mod reference {
    use crate::real::Real;

    /// Sum of −ỹ·ln σ(x) − (1 − ỹ)·ln(1 − σ(x)); with a gradient, scale · (σ(x) − ỹ) is added.
    pub fn cross_entropy<R: Real>(
        logits: &[R],
        flags: &[R],
        smoothing: R,
        mut gradient: Option<(R, &mut [R])>,
    ) -> R {
        let half = R::from_f64(0.5);
        let mut sum = R::zero();
        for i in 0..logits.len() {
            let wanted = (R::one() - smoothing) * flags[i] + smoothing * half;
            let on = logits[i].sigmoid();
            let off = (-logits[i]).sigmoid();
            sum += -(wanted * on.ln()) - (R::one() - wanted) * off.ln();
            if let Some((scale, gradient)) = &mut gradient {
                gradient[i] += *scale * (on - wanted);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, close, values, wide};

    fn flags(count: usize) -> Vec<f32> {
        (0..count).map(|i| [0.0, 1.0, 1.0, 0.25][i % 4]).collect()
    }

    #[test]
    fn the_reference_has_the_gradient_of_its_function() {
        let (x, y) = (wide(&values(12, 1)), wide(&flags(12)));
        for smoothing in [0.0, 0.2] {
            let mut dx = [0.0; 12];
            reference::cross_entropy(&x, &y, smoothing, Some((0.3, &mut dx)));
            check_gradient("logits", &x, &dx, |x| {
                0.3 * reference::cross_entropy(x, &y, smoothing, None)
            });
        }
    }

    #[test]
    fn losses_and_gradients_follow_the_reference() {
        for (rows, width) in [(0, 3), (1, 1), (5, 7), (33, 20)] {
            for smoothing in [0.0, 0.1] {
                let (x, y) = (values(rows * width, 3), flags(rows * width));
                let x: Vec<f32> = x.iter().map(|x| 9.0 * x).collect();
                let (wide_x, wide_y) = (wide(&x), wide(&y));
                let mut exact = vec![1.0; x.len()];
                let smooth = f64::from(smoothing);
                let sum =
                    reference::cross_entropy(&wide_x, &wide_y, smooth, Some((0.5, &mut exact)));
                let (mut losses, mut dx) = (vec![9.0; rows], vec![1.0; x.len()]);
                let into = Some((0.5, &mut dx[..]));
                let total = cross_entropy(width, &x, &y, smoothing, Some(&mut losses), into);
                assert!((total.nats - sum).abs() <= 1e-9 * (1.0 + sum));
                assert_eq!(total.count, rows * width);
                close("dx", &dx, &exact, 1e-6);
                let rows = wide_x.chunks(width).zip(wide_y.chunks(width));
                let each: Vec<f64> =
                    rows.map(|(x, y)| reference::cross_entropy(x, y, smooth, None)).collect();
                close("losses", &losses, &each, 1e-6);
            }
        }
    }

    #[test]
    fn large_logits_stay_finite_and_no_number_is_told() {
        let x = [1e4, -1e4, 1e4, -1e4];
        let mut dx = [0.0; 4];
        let total = cross_entropy(2, &x, &[1.0, 0.0, 0.0, 1.0], 0.0, None, Some((1.0, &mut dx)));
        assert_eq!((total.nats, total.count, total.correct), (2e4, 4, 2));
        assert_eq!(dx, [0.0, 0.0, 1.0, -1.0]);
        assert!(cross_entropy(1, &[f32::NAN], &[1.0], 0.0, None, None).nats.is_nan());
        let mut x = [0.0, 1e4, -1e4];
        probabilities(&mut x);
        assert_eq!(x, [0.5, 1.0, 0.0]);
    }
}
