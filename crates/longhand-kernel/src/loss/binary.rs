//! Cross-entropy of independent flags, each a logistic function of its own logit.

use super::Total;

/// Binary cross-entropy of σ(logits) against the flags, summed over rows and columns.
///
/// Formula: each flag y ∈ [0, 1] with logit x adds max(x, 0) − x·ỹ + ln(1 + e^−|x|) nats, where ỹ =
/// (1 − ε)·y + ε/2 for the label smoothing ε. The gradient by x is σ(x) − ỹ. In a column with the
/// weight w a flag that is on has its loss w times, and one between off and on that share of it. The
/// weight follows the flag and not ỹ: else a large one would raise σ(x) of the flags that are off,
/// far above their ε/2.
///
/// `logits` and `flags` are `[R, L]` with L = `width`, and `weights` `[L]` (none: 1 each). `losses` `[R]`
/// receives each row's sum. `gradient` is a scale and `[R, L]`, to which scale · the gradient is added.
/// The total counts every flag, and as correct those on whose side of 0 the logit is. Stable for any
/// finite logit: no exponential of a positive number is taken.
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn cross_entropy(
    width: usize,
    logits: &[f32],
    flags: &[f32],
    weights: Option<&[f32]>,
    smoothing: f32,
    mut losses: Option<&mut [f32]>,
    gradient: Option<(f32, &mut [f32])>,
) -> Total {
    assert_eq!(logits.len(), flags.len(), "one flag for each logit");
    let smoothing = f64::from(smoothing);
    if let Some(weights) = weights {
        assert_eq!(weights.len(), width, "a weight for each column");
    }
    // How often a flag counts, and that times ỹ.
    let wanted = |place: usize| {
        let flag = f64::from(flags[place]);
        let on = flag * weights.map_or(1.0, |weights| f64::from(weights[place % width]));
        let off = 1.0 - flag;
        (on + off, on * (1.0 - 0.5 * smoothing) + off * 0.5 * smoothing)
    };
    let nats_of = |place: usize| {
        let (x, (count, wanted)) = (f64::from(logits[place]), wanted(place));
        count * (x.max(0.0) + (-x.abs()).exp().ln_1p()) - x * wanted
    };
    let row_nats = |row: usize| (row * width..(row + 1) * width).map(nats_of).sum::<f64>();
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
        for (place, d) in gradient.iter_mut().enumerate() {
            let (count, wanted) = wanted(place);
            let slope = count * sigmoid(logits[place].into()) - wanted;
            *d += (f64::from(scale) * slope) as f32;
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

    /// Sum of (w·y + 1 − y) times the loss of σ(x) against the smoothed flag, with the weights w `[L]`
    /// (none: 1 each): y of it for a flag that is on, and 1 − y for one that is off. With a gradient, that of
    /// the sum times a scale is added.
    pub fn cross_entropy<R: Real>(
        logits: &[R],
        flags: &[R],
        weights: Option<&[R]>,
        smoothing: R,
        mut gradient: Option<(R, &mut [R])>,
    ) -> R {
        let half = R::from_f64(0.5);
        let mut sum = R::zero();
        for i in 0..logits.len() {
            let weight = weights.map_or(R::one(), |weights| weights[i % weights.len()]);
            let on = logits[i].sigmoid();
            let off = (-logits[i]).sigmoid();
            let rest = smoothing * half;
            for (count, wanted) in
                [(weight * flags[i], R::one() - rest), (R::one() - flags[i], rest)]
            {
                sum += -(count * wanted * on.ln()) - count * (R::one() - wanted) * off.ln();
                if let Some((scale, gradient)) = &mut gradient {
                    gradient[i] += *scale * count * ((R::one() - wanted) * on - wanted * off);
                }
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
        let few = [0.25, 1.0, 8.0];
        for (smoothing, weights) in
            [(0.0, None), (0.2, None), (0.0, Some(&few[..])), (0.2, Some(&few[..]))]
        {
            let mut dx = [0.0; 12];
            reference::cross_entropy(&x, &y, weights, smoothing, Some((0.3, &mut dx)));
            check_gradient("logits", &x, &dx, |x| {
                0.3 * reference::cross_entropy(x, &y, weights, smoothing, None)
            });
        }
    }

    #[test]
    fn losses_and_gradients_follow_the_reference() {
        let weights: Vec<f32> = (0..20).map(|place| [0.25, 1.0, 8.0][place % 3]).collect();
        for (rows, width, weighted) in [
            (0, 3, false),
            (1, 1, false),
            (5, 7, false),
            (33, 20, false),
            (1, 1, true),
            (33, 20, true),
        ] {
            let weights = weighted.then_some(&weights[..width]);
            let wide_weights = weights.map(wide);
            let exact_weights = wide_weights.as_deref();
            for smoothing in [0.0, 0.1] {
                let (x, y) = (values(rows * width, 3), flags(rows * width));
                let x: Vec<f32> = x.iter().map(|x| 9.0 * x).collect();
                let (wide_x, wide_y) = (wide(&x), wide(&y));
                let mut exact = vec![1.0; x.len()];
                let smooth = f64::from(smoothing);
                let into = Some((0.5, &mut exact[..]));
                let sum = reference::cross_entropy(&wide_x, &wide_y, exact_weights, smooth, into);
                let (mut losses, mut dx) = (vec![9.0; rows], vec![1.0; x.len()]);
                let into = Some((0.5, &mut dx[..]));
                let each = Some(&mut losses[..]);
                let total = cross_entropy(width, &x, &y, weights, smoothing, each, into);
                assert!((total.nats - sum).abs() <= 1e-9 * (1.0 + sum));
                assert_eq!(total.count, rows * width);
                close("dx", &dx, &exact, 1e-6);
                let rows = wide_x.chunks(width).zip(wide_y.chunks(width));
                let of_row = |(x, y)| reference::cross_entropy(x, y, exact_weights, smooth, None);
                let each: Vec<f64> = rows.map(of_row).collect();
                close("losses", &losses, &each, 1e-6);
            }
        }
    }

    #[test]
    fn a_weight_leaves_the_flags_that_are_off_as_improbable_as_smoothing_says() {
        let x = [(0.05_f32 / 0.95).ln()];
        let of = |weights: Option<&[f32]>| {
            let mut dx = [0.0];
            let into = Some((1.0, &mut dx[..]));
            let nats = cross_entropy(1, &x, &[0.0], weights, 0.1, None, into).nats;
            (nats, dx[0])
        };
        let (nats, slope) = of(Some(&[1000.0]));
        assert!(slope.abs() < 1e-6, "{slope}");
        assert_eq!((nats, slope), of(None));
    }

    #[test]
    fn large_logits_stay_finite_and_no_number_is_told() {
        let x = [1e4, -1e4, 1e4, -1e4];
        let mut dx = [0.0; 4];
        let into = Some((1.0, &mut dx[..]));
        let total = cross_entropy(2, &x, &[1.0, 0.0, 0.0, 1.0], None, 0.0, None, into);
        assert_eq!((total.nats, total.count, total.correct), (2e4, 4, 2));
        assert_eq!(dx, [0.0, 0.0, 1.0, -1.0]);
        let weighted =
            cross_entropy(2, &x, &[1.0, 0.0, 0.0, 1.0], Some(&[9.0, 3.0]), 0.0, None, None);
        assert_eq!(weighted.nats, 4e4);
        assert!(cross_entropy(1, &[f32::NAN], &[1.0], None, 0.0, None, None).nats.is_nan());
        let mut x = [0.0, 1e4, -1e4];
        probabilities(&mut x);
        assert_eq!(x, [0.5, 1.0, 0.0]);
    }
}
