//! Cross-entropy of spans: the first and the last position of one span in each sequence.

use super::{IGNORE, Total};
use crate::sequence::Sequence;

/// Cross-entropy of the softmax over each sequence's real positions, once for the first and once
/// for the last position of its span, summed.
///
/// Formula: for a sequence with scores `s[t]` over n real positions and the boundary p, the loss is
/// `ln Σ e^s[t] − (1 − ε)·s[p] − ε/n·Σ s[t]` nats with the label smoothing ε. The gradient by
/// `s[t]` is `softmax(s)[t] − (1 − ε)·[t = p] − ε/n` (compare Devlin et al.,
/// "BERT", 2019, section 4.2).
///
/// `scores` is `[T·B, 2]`, the score of being first and of being last. `spans` `[B]` holds both
/// positions, from 0; [`IGNORE`] as a first position leaves the sequence out. `losses` `[B]`
/// receives the sum of both losses. `gradient` is a scale and `[T·B, 2]`, to which the gradient is
/// added; padding gets none. The total counts both boundaries, and as correct those with the
/// largest score. Stable for any finite score.
///
/// # Panics
/// If a slice's length is not that of its shape, or a boundary is no real position.
pub fn cross_entropy(
    sequence: Sequence,
    scores: &[f32],
    spans: &[(u32, u32)],
    smoothing: f32,
    mut losses: Option<&mut [f32]>,
    mut gradient: Option<(f32, &mut [f32])>,
) -> Total {
    assert_eq!(scores.len(), 2 * sequence.rows(), "two scores for each position");
    assert_eq!(spans.len(), sequence.batch, "a span for each sequence");
    let smoothing = f64::from(smoothing);
    let mut total = Total::default();
    for (b, &(first, last)) in spans.iter().enumerate() {
        let mut both = 0.0;
        for (boundary, target) in [first, last].into_iter().enumerate() {
            if first == IGNORE {
                continue;
            }
            let (real, target) = (sequence.real(b), target as usize);
            assert!(target < real, "boundary {target} of a sequence with {real} positions");
            let at = |t: usize| 2 * (t * sequence.batch + b) + boundary;
            let (largest, sum) = softmax_sums(real, |t| scores[at(t)]);
            let wanted = |t: usize| {
                smoothing / real as f64 + if t == target { 1.0 - smoothing } else { 0.0 }
            };
            // Relative to the largest: differences of large scores lose no digits.
            let less = |t: usize| f64::from(scores[at(t)]) - largest;
            both += sum.ln() - (0..real).map(|t| wanted(t) * less(t)).sum::<f64>();
            total.count += 1;
            total.correct += usize::from(less(target) == 0.0);
            if let Some((scale, gradient)) = &mut gradient {
                for t in 0..real {
                    let slope = less(t).exp() / sum - wanted(t);
                    gradient[at(t)] += (f64::from(*scale) * slope) as f32;
                }
            }
        }
        total.nats += both;
        if let Some(losses) = &mut losses {
            losses[b] = both as f32;
        }
    }
    total
}

/// Replaces scores `[T·B, 2]` by probabilities, which sum to 1 over the real positions of each
/// sequence for either boundary; padding gets 0.
///
/// # Panics
/// If `scores` is not that shape.
pub fn probabilities(sequence: Sequence, scores: &mut [f32]) {
    assert_eq!(scores.len(), 2 * sequence.rows(), "two scores for each position");
    for b in 0..sequence.batch {
        let real = sequence.real(b);
        for boundary in 0..2 {
            let at = |t: usize| 2 * (t * sequence.batch + b) + boundary;
            let (largest, sum) = softmax_sums(real, |t| scores[at(t)]);
            for t in 0..sequence.time {
                let score = f64::from(scores[at(t)]);
                scores[at(t)] = if t < real { ((score - largest).exp() / sum) as f32 } else { 0.0 };
            }
        }
    }
}

/// The largest score, and the sum of e to the power of each score less the largest.
fn softmax_sums(real: usize, score: impl Fn(usize) -> f32) -> (f64, f64) {
    let largest = (0..real).map(&score).fold(f32::NEG_INFINITY, f32::max);
    let largest = f64::from(largest);
    (largest, (0..real).map(|t| (f64::from(score(t)) - largest).exp()).sum())
}

/// The plain form, for tests.
pub mod reference {
    use super::{IGNORE, Sequence};
    use crate::loss::reference::log_softmax;
    use crate::real::Real;

    /// The sum of the losses; with a gradient, that of the sum times a scale is added.
    pub fn cross_entropy<R: Real>(
        sequence: Sequence,
        scores: &[R],
        spans: &[(u32, u32)],
        smoothing: R,
        mut gradient: Option<(R, &mut [R])>,
    ) -> R {
        let mut sum = R::zero();
        for b in (0..sequence.batch).filter(|&b| spans[b].0 != IGNORE) {
            let real = sequence.real(b);
            for (boundary, target) in [spans[b].0, spans[b].1].into_iter().enumerate() {
                let at = |t: usize| 2 * (t * sequence.batch + b) + boundary;
                let mut logs: Vec<R> = (0..real).map(|t| scores[at(t)]).collect();
                log_softmax(&mut logs);
                for t in 0..real {
                    let on_target =
                        if t == target as usize { R::one() - smoothing } else { R::zero() };
                    let wanted = on_target + smoothing / R::from_f64(real as f64);
                    sum += -(wanted * logs[t]);
                    if let Some((scale, gradient)) = &mut gradient {
                        gradient[at(t)] += *scale * (logs[t].exp() - wanted);
                    }
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

    const LENGTHS: [u32; 4] = [5, 1, 3, 4];
    const SPANS: [(u32, u32); 4] = [(1, 4), (0, 0), (2, 2), (IGNORE, 0)];

    fn sequence() -> Sequence<'static> {
        Sequence { lengths: Some(&LENGTHS), ..Sequence::new(5, 4) }
    }

    #[test]
    fn the_reference_has_the_gradient_of_its_function() {
        let x = wide(&values(40, 1));
        for smoothing in [0.0, 0.2] {
            let mut dx = [0.0; 40];
            let into = Some((0.3, &mut dx[..]));
            reference::cross_entropy(sequence(), &x, &SPANS, smoothing, into);
            check_gradient("scores", &x, &dx, |x| {
                0.3 * reference::cross_entropy(sequence(), x, &SPANS, smoothing, None)
            });
        }
    }

    #[test]
    fn losses_and_gradients_follow_the_reference() {
        let x: Vec<f32> = values(40, 2).iter().map(|x| 9.0 * x).collect();
        let wide_x = wide(&x);
        for smoothing in [0.0, 0.1] {
            let mut exact = vec![1.0; 40];
            let smooth = f64::from(smoothing);
            let into = Some((0.5, &mut exact[..]));
            let sum = reference::cross_entropy(sequence(), &wide_x, &SPANS, smooth, into);
            let (mut losses, mut dx) = ([9.0; 4], vec![1.0; 40]);
            let into = Some((0.5, &mut dx[..]));
            let each = Some(&mut losses[..]);
            let total = cross_entropy(sequence(), &x, &SPANS, smoothing, each, into);
            assert!((total.nats - sum).abs() < 1e-9 * (1.0 + sum), "{} {sum}", total.nats);
            assert_eq!(total.count, 6);
            close("dx", &dx, &exact, 1e-6);
            assert_eq!(losses[3], 0.0);
            assert!((f64::from(losses.iter().sum::<f32>()) - sum).abs() < 1e-4);
        }
    }

    #[test]
    fn probabilities_sum_to_one_over_real_positions() {
        let mut x: Vec<f32> = values(40, 2).iter().map(|x| 1e4 * x).collect();
        probabilities(sequence(), &mut x);
        for (b, &length) in LENGTHS.iter().enumerate() {
            for boundary in 0..2 {
                let of = |t: usize| x[2 * (4 * t + b) + boundary];
                let (real, padding) = (0..length as usize, length as usize..5);
                assert!((real.map(of).sum::<f32>() - 1.0).abs() < 1e-6);
                assert!(padding.map(of).all(|p| p == 0.0));
            }
        }
        let none = Sequence { lengths: Some(&[0]), ..Sequence::new(1, 1) };
        let mut x = [3.0, 4.0];
        probabilities(none, &mut x);
        assert_eq!(x, [0.0; 2]);
    }

    #[test]
    fn large_scores_stay_finite() {
        let mut dx = [0.0; 6];
        let x = [1e4, -1e4, -1e4, 1e4, 0.0, 0.0];
        let into = Some((1.0, &mut dx[..]));
        let total = cross_entropy(Sequence::new(3, 1), &x, &[(0, 0)], 0.0, None, into);
        assert_eq!((total.nats, total.count, total.correct), (2e4, 2, 1));
        assert_eq!(dx, [0.0, -1.0, 0.0, 1.0, 0.0, 0.0]);
    }
}
