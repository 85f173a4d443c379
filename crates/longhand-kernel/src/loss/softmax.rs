//! Probabilities from logits, row by row.

use crate::cpu::Cpu;
use crate::pointwise::{apply, pointwise};
use crate::simd::exp;

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
}
