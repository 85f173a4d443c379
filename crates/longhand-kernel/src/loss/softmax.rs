//! Probabilities from logits, row by row.

use crate::cpu::Cpu;
use crate::pointwise::{apply, pointwise};
use crate::simd::exp;

use super::{IGNORE, Total};

/// Replaces each row of `x` `[R, V]` by its softmax, `e^x[v] / Σ e^x`: probabilities that sum to 1.
/// The largest logit is subtracted first, so that finite logits do not overflow.
///
/// # Panics
/// If `x` is not whole rows of `vocabulary`.
pub fn softmax(cpu: &Cpu, vocabulary: usize, x: &mut [f32]) {
    pointwise!(Exp {} [] [x] { [exp(x)] });
    super::log_softmax(cpu, vocabulary, x);
    apply(cpu, Exp {}, [], [x]);
}

/// Cross-entropy of softmax(z) for logits z `[R, V]` that are there as a whole, such as the mean of
/// those of several models, against `ids` `[R]`, summed: ln Σₖ exp(zₖ − max z) + max z − z of the
/// target, in `f64`, so that finite logits do not overflow. A row with [`IGNORE`] does not count.
///
/// # Panics
/// If an id is not below V, or there are fewer rows of logits.
pub fn cross_entropy_of_logits(vocabulary: usize, logits: &[f32], ids: &[u32]) -> Total {
    let mut total = Total::default();
    for (row, &id) in ids.iter().enumerate().filter(|&(_, &id)| id != IGNORE) {
        let row = &logits[row * vocabulary..(row + 1) * vocabulary];
        let (own, largest) =
            (row[id as usize], row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = row.iter().map(|logit| f64::from(logit - largest).exp()).sum();
        total.nats += sum.ln() + f64::from(largest - own);
        total.count += 1;
        total.correct += usize::from(own == largest);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::reference;
    use crate::testing::{close, levels, values, wide};

    #[test]
    fn probabilities_follow_the_reference() {
        for level in levels() {
            let cpu = Cpu::with_level(2, level);
            for (rows, vocabulary) in [(0, 3), (1, 1), (5, 7), (3, 1000)] {
                let mut x: Vec<f32> =
                    values(rows * vocabulary, 1).iter().map(|x| 20.0 * x).collect();
                let mut exact = wide(&x);
                for row in exact.chunks_mut(vocabulary) {
                    reference::log_softmax(row);
                    row.iter_mut().for_each(|x| *x = x.exp());
                }
                softmax(&cpu, vocabulary, &mut x);
                close("softmax", &x, &exact, 1e-5);
            }
        }
        let mut x = [1e4, -1e4, 1e4];
        softmax(&Cpu::new(1), 3, &mut x);
        assert_eq!((x[1], x[0] == x[2]), (0.0, true));
        assert!((x[0] - 0.5).abs() < 1e-6);
    }

    #[test]
    fn the_loss_of_logits_is_that_of_their_softmax() {
        for (rows, vocabulary) in [(0, 3), (1, 1), (5, 7), (3, 1000)] {
            let x: Vec<f32> = values(rows * vocabulary, 1).iter().map(|x| 20.0 * x).collect();
            let mut exact = wide(&x);
            let mut ids: Vec<u32> = (0..rows as u32).map(|row| row % vocabulary as u32).collect();
            if rows > 2 {
                ids[1] = IGNORE;
            }
            let mut expected = 0.0;
            for (row, &id) in exact.chunks_mut(vocabulary).zip(&ids) {
                reference::log_softmax(row);
                expected -= row.get(id as usize).copied().unwrap_or(0.0);
            }
            let total = cross_entropy_of_logits(vocabulary, &x, &ids);
            assert!((total.nats - expected).abs() <= 1e-5 * expected.abs(), "{total:?} {expected}");
            assert_eq!(total.count, rows - usize::from(rows > 2));
        }
        let far = cross_entropy_of_logits(2, &[1e4, -1e4, 1e4, -1e4], &[0, 1]);
        assert_eq!((far.nats, far.count, far.correct), (2e4, 2, 1));
    }
}
