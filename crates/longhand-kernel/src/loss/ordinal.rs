//! Cross-entropy of ordered classes, such as ratings: what is wrong by more classes costs more.

use super::{IGNORE, Total};

/// Binary cross-entropy of every threshold between two neighbouring classes, summed.
///
/// Formula: with logits z of K classes in their order, p = softmax(z) and Fₖ = Σ p\[j\] over j ≤ k, the
/// loss of class y is `−Σₖ (Oₖ·ln Fₖ + (1 − Oₖ)·ln(1 − Fₖ))` nats over the K − 1 thresholds k, where
/// `Oₖ = (1 − ε)·[y ≤ k] + ε·(k + 1)/K` for the label smoothing ε. It is the loss of Cao, Mirjalili and
/// Raschka ("Rank consistent ordinal regression for neural networks", 2020), whose binary tasks are here
/// sums of one softmax, so that Fₖ rises with k for any logits. It is a strictly proper score (Tödter and
/// Ahrens, "Generalization of the ignorance score", 2012), and of two classes the cross-entropy of their
/// softmax. The gradient by `z[j]` is `Σₖ (p[j] − Oₖ·[j ≤ k]·p[j]/Fₖ − (1 − Oₖ)·[j > k]·p[j]/(1 − Fₖ))`.
///
/// `logits` is `[R, K]` with K = `classes`, and `ids` `[R]` has classes, or [`IGNORE`] for a row without a
/// loss. `losses` `[R]` receives each loss. `gradient` is a scale and `[R, K]`, to which scale · the
/// gradient is added. The total counts the rows, and as correct those whose class has the largest
/// logit. Every sum is one of exponentials less their largest, in `f64`: stable for any finite logits.
/// A row takes K² operations.
///
/// # Panics
/// If a slice's length is not that of its shape, or an id is not below K.
pub fn cross_entropy(
    classes: usize,
    logits: &[f32],
    ids: &[u32],
    smoothing: f32,
    mut losses: Option<&mut [f32]>,
    mut gradient: Option<(f32, &mut [f32])>,
) -> Total {
    assert_eq!(logits.len(), ids.len() * classes, "a row of logits for each class");
    let smoothing = f64::from(smoothing);
    let mut total = Total::default();
    for (row, &id) in ids.iter().enumerate() {
        let mut nats = 0.0;
        if id != IGNORE {
            let place = row * classes..(row + 1) * classes;
            let row = Row::of(&logits[place.clone()]);
            let below = |k: usize| {
                let is_below = if id as usize <= k { 1.0 - smoothing } else { 0.0 };
                is_below + smoothing * (k + 1) as f64 / classes as f64
            };
            nats = row.nats(below);
            total.nats += nats;
            total.count += 1;
            total.correct += usize::from(row.is_largest(id as usize));
            if let Some((scale, gradient)) = &mut gradient {
                row.add_gradient(below, f64::from(*scale), &mut gradient[place]);
            }
        }
        if let Some(losses) = &mut losses {
            losses[row] = nats as f32;
        }
    }
    total
}

/// The logits of a row with the logarithms of their sums.
struct Row {
    logits: Vec<f64>,
    /// `[K]`: ln Σ e^z\[j\] over j ≤ k.
    up_to: Vec<f64>,
    /// `[K]`: ln Σ e^z\[j\] over j ≥ k.
    from: Vec<f64>,
}

impl Row {
    fn of(logits: &[f32]) -> Self {
        let logits: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
        let (mut up_to, mut from) = (logits.clone(), logits.clone());
        for k in 1..logits.len() {
            up_to[k] = log_add(up_to[k - 1], up_to[k]);
            let k = logits.len() - 1 - k;
            from[k] = log_add(from[k], from[k + 1]);
        }
        Self { logits, up_to, from }
    }

    /// The loss, where `below` gives Oₖ.
    fn nats(&self, below: impl Fn(usize) -> f64) -> f64 {
        let last = self.logits.len() - 1;
        let all = self.up_to[last];
        let threshold = |k: usize| {
            let wanted = below(k);
            wanted * (all - self.up_to[k]) + (1.0 - wanted) * (all - self.from[k + 1])
        };
        (0..last).map(threshold).sum()
    }

    fn add_gradient(&self, below: impl Fn(usize) -> f64, scale: f64, gradient: &mut [f32]) {
        let last = self.logits.len() - 1;
        for (j, (d, x)) in gradient.iter_mut().zip(&self.logits).enumerate() {
            let all = (x - self.up_to[last]).exp();
            let threshold = |k: usize| {
                let wanted = below(k);
                match j <= k {
                    true => all - wanted * (x - self.up_to[k]).exp(),
                    false => all - (1.0 - wanted) * (x - self.from[k + 1]).exp(),
                }
            };
            *d += (scale * (0..last).map(threshold).sum::<f64>()) as f32;
        }
    }

    fn is_largest(&self, class: usize) -> bool {
        self.logits.iter().all(|x| *x <= self.logits[class])
    }
}

/// ln(eᵃ + eᵇ), without overflow.
fn log_add(a: f64, b: f64) -> f64 {
    let largest = a.max(b);
    largest + ((a - largest).exp() + (b - largest).exp()).ln()
}

/// The plain form, for tests.
pub mod reference {
    use super::IGNORE;
    use crate::loss::reference::log_softmax;
    use crate::real::Real;

    /// The sum of the losses; with a gradient, that of the sum times a scale is added.
    pub fn cross_entropy<R: Real>(
        classes: usize,
        logits: &[R],
        ids: &[u32],
        smoothing: R,
        mut gradient: Option<(R, &mut [R])>,
    ) -> R {
        let mut sum = R::zero();
        for (row, &id) in ids.iter().enumerate().filter(|&(_, &id)| id != IGNORE) {
            let mut p = logits[row * classes..(row + 1) * classes].to_vec();
            log_softmax(&mut p);
            p.iter_mut().for_each(|x| *x = x.exp());
            for k in 0..classes - 1 {
                let below: R = p[..=k].iter().copied().sum();
                let above: R = p[k + 1..].iter().copied().sum();
                let is_below = if id as usize <= k { R::one() - smoothing } else { R::zero() };
                let share = R::from_f64((k + 1) as f64 / classes as f64);
                let wanted = is_below + smoothing * share;
                sum += -(wanted * below.ln()) - (R::one() - wanted) * above.ln();
                let Some((scale, gradient)) = &mut gradient else { continue };
                // By F, and F by the logits.
                let slope = (R::one() - wanted) / above - wanted / below;
                for (j, &share) in p.iter().enumerate() {
                    let is_part = if j <= k { R::one() } else { R::zero() };
                    gradient[row * classes + j] += *scale * slope * share * (is_part - below);
                }
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::cross_entropy_of_logits;
    use crate::testing::{check_gradient, close, values, wide};

    fn ids(rows: usize, classes: usize) -> Vec<u32> {
        let id = |row: usize| if row % 5 == 3 { IGNORE } else { (row * 7 % classes) as u32 };
        (0..rows).map(id).collect()
    }

    #[test]
    fn the_reference_has_the_gradient_of_its_function() {
        for classes in [2, 3, 5] {
            let x: Vec<f64> = wide(&values(6 * classes, 1)).iter().map(|x| 3.0 * x).collect();
            let ids = ids(6, classes);
            for smoothing in [0.0, 0.2] {
                let mut dx = vec![0.0; x.len()];
                let into = Some((0.3, &mut dx[..]));
                reference::cross_entropy(classes, &x, &ids, smoothing, into);
                check_gradient("logits", &x, &dx, |x| {
                    0.3 * reference::cross_entropy(classes, x, &ids, smoothing, None)
                });
            }
        }
    }

    #[test]
    fn losses_and_gradients_follow_the_reference() {
        for (rows, classes) in [(0, 3), (1, 1), (1, 2), (5, 3), (33, 10)] {
            for smoothing in [0.0, 0.1] {
                let ids = ids(rows, classes);
                let x: Vec<f32> = values(rows * classes, 3).iter().map(|x| 9.0 * x).collect();
                let (wide_x, mut exact) = (wide(&x), vec![1.0; x.len()]);
                let smooth = f64::from(smoothing);
                let into = Some((0.5, &mut exact[..]));
                let sum = reference::cross_entropy(classes, &wide_x, &ids, smooth, into);
                let (mut losses, mut dx) = (vec![9.0; rows], vec![1.0; x.len()]);
                let (each, into) = (Some(&mut losses[..]), Some((0.5, &mut dx[..])));
                let total = cross_entropy(classes, &x, &ids, smoothing, each, into);
                assert!((total.nats - sum).abs() <= 1e-9 * (1.0 + sum), "{} {sum}", total.nats);
                assert_eq!(total.count, ids.iter().filter(|&&id| id != IGNORE).count());
                close("dx", &dx, &exact, 1e-6);
                let of_row = |row: usize| {
                    let x = &wide_x[row * classes..(row + 1) * classes];
                    reference::cross_entropy(classes, x, &ids[row..=row], smooth, None)
                };
                close("losses", &losses, &(0..rows).map(of_row).collect::<Vec<_>>(), 1e-5);
            }
        }
    }

    #[test]
    fn of_two_classes_it_is_the_cross_entropy_and_of_more_what_is_far_costs_more() {
        let x: Vec<f32> = values(12, 5).iter().map(|x| 4.0 * x).collect();
        let ids = [0, 1, 1, IGNORE, 0, 1];
        let (own, plain) =
            (cross_entropy(2, &x, &ids, 0.0, None, None), cross_entropy_of_logits(2, &x, &ids));
        assert!((own.nats - plain.nats).abs() < 1e-5, "{} {}", own.nats, plain.nats);
        assert_eq!((own.count, own.correct), (plain.count, plain.correct));
        // The right class is the first one, and another is as probable as it.
        let loss = |x: &[f32]| cross_entropy(4, x, &[0], 0.0, None, None).nats;
        let [near, far] = [[2.0, 2.0, 0.0, 0.0], [2.0, 0.0, 0.0, 2.0]].map(|x| loss(&x));
        assert!(near + 0.5 < far, "{near} {far}");
    }

    #[test]
    fn large_logits_stay_finite_and_no_number_is_told() {
        let x = [1e4, -1e4, 0.0, 1e4, -1e4, 0.0];
        let mut dx = [0.0; 6];
        let total = cross_entropy(3, &x, &[0, 1], 0.0, None, Some((1.0, &mut dx)));
        assert_eq!((total.nats, total.count, total.correct), (1e4, 2, 1));
        assert_eq!(dx, [0.0, 0.0, 0.0, 1.0, 0.0, -1.0]);
        assert!(cross_entropy(2, &[f32::NAN, 1.0], &[0], 0.0, None, None).nats.is_nan());
    }
}
