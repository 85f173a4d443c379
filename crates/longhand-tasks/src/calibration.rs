//! Whether the probabilities of answers are as often right as they say.

use std::collections::BTreeMap;

/// Expected calibration error (Guo et al. 2017, equation 3) of answers, each with whether it is right
/// and its probability. The answers are put into 15 bins of equal width by their probability; the
/// error is the mean of |accuracy − mean probability| over the bins, weighted by their answers. 0
/// where there is none.
pub(crate) fn calibration_error(answers: impl Iterator<Item = (bool, f64)>) -> f64 {
    const BINS: usize = 15;
    // Right answers, sum of probabilities.
    let mut bins = [(0.0_f64, 0.0_f64); BINS];
    let mut all = 0_u64;
    for (is_right, chance) in answers {
        // A bin holds its upper bound, as in the paper.
        let bin = ((chance * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        bins[bin].0 += f64::from(u8::from(is_right));
        bins[bin].1 += chance;
        all += 1;
    }
    bins.iter().map(|(right, sum)| (right - sum).abs()).sum::<f64>() / all.max(1) as f64
}

/// A temperature T that makes probabilities softmax(log p / T) fit the right answers, as temperature
/// scaling does (Guo et al. 2017, section 4.2).
pub(crate) struct Temperature {
    /// T, from 0.05 to 20: above 1 where the model is too sure of its answers.
    pub(crate) temperature: f64,
    /// The calibration error of the probabilities as they were.
    pub(crate) error_before: f64,
    /// The calibration error with the temperature.
    pub(crate) error_after: f64,
}

impl Temperature {
    /// The temperature with the lowest loss on rows of probabilities, each with the right label.
    /// The loss is convex in 1/T, so its interval is narrowed in thirds.
    pub(crate) fn fit(rows: &[(&[f32], u32)]) -> Self {
        // A probability of 0 has no logarithm.
        let logarithm = |share: &f32| f64::from(share.max(f32::MIN_POSITIVE)).ln();
        let rows: Vec<(Vec<f64>, usize)> = rows
            .iter()
            .map(|(row, label)| (row.iter().map(logarithm).collect(), *label as usize))
            .collect();
        let loss = |inverse: f64| -> f64 {
            rows.iter().map(|(row, label)| log_sum(row, inverse) - inverse * row[*label]).sum()
        };
        let (mut low, mut high) = (1.0 / 20.0, 20.0);
        for _ in 0..80 {
            let third = (high - low) / 3.0;
            if loss(low + third) < loss(high - third) { high -= third } else { low += third }
        }
        let inverse = if rows.is_empty() { 1.0 } else { (low + high) / 2.0 };
        let error = |inverse: f64| {
            calibration_error(rows.iter().map(|(row, label)| {
                let largest =
                    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
                let share = (inverse * row[largest] - log_sum(row, inverse)).exp();
                (largest == *label, share)
            }))
        };
        Self { temperature: 1.0 / inverse, error_before: error(1.0), error_after: error(inverse) }
    }
}

impl Temperature {
    /// As [`Temperature::fit`], of independent flags, each with its probability and whether it is on: each
    /// is a choice of two.
    pub(crate) fn fit_flags(flags: &[(f32, bool)]) -> Self {
        let choices: Vec<([f32; 2], u32)> =
            flags.iter().map(|&(share, is_on)| (choice(share), u32::from(is_on))).collect();
        Self::fit(&choices.iter().map(|(row, on)| (&row[..], *on)).collect::<Vec<_>>())
    }

    /// The probability of a flag with the temperature: σ(x / T) for σ(x).
    pub(crate) fn of_flag(&self, share: f32) -> f32 {
        let [off, on] = choice(share).map(|share| f64::from(share).ln());
        (1.0 / (1.0 + ((off - on) / self.temperature).exp())) as f32
    }

    /// Multiplies a task's temperature by this one, and gives the figures by name.
    pub(crate) fn apply(&self, temperature: &mut f32) -> BTreeMap<String, f64> {
        *temperature *= self.temperature as f32;
        let figures = [
            ("temperature", f64::from(*temperature)),
            ("calibration_error_before", self.error_before),
            ("calibration_error_after", self.error_after),
        ];
        figures.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

/// The probabilities of a flag that is off and on. Next to 1 single precision has no other number, so that
/// the other one is at least the distance of two numbers there.
fn choice(share: f32) -> [f32; 2] {
    [(1.0 - share).max(f32::EPSILON), share.max(f32::MIN_POSITIVE)]
}

/// Why a stored temperature cannot be; none if it can.
pub(crate) fn fault(temperature: f32) -> Option<&'static str> {
    let is_fine = temperature > 0.0;
    (!is_fine).then_some("its temperature must be above 0")
}

/// The temperature that changes nothing.
pub(crate) fn one() -> f32 {
    1.0
}

pub(crate) fn is_one(temperature: &f32) -> bool {
    *temperature == 1.0
}

/// ln Σ exp(factor·xᵢ), without overflow.
fn log_sum(row: &[f64], factor: f64) -> f64 {
    let largest = row.iter().fold(f64::NEG_INFINITY, |largest, &x| largest.max(factor * x));
    largest + row.iter().map(|x| (factor * x - largest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_is_too_sure_gets_the_temperature_that_is_right() {
        // It says 0.9 and is right in 7 of 10: with log-odds ln 9, T = ln 9 / ln (7/3).
        let (sure, other) = ([0.9_f32, 0.1], [0.1_f32, 0.9]);
        let rows: Vec<(&[f32], u32)> = (0..40)
            .map(|i| {
                let is_right = i % 10 < 7;
                let row: &[f32] = if i % 2 == 0 { &sure } else { &other };
                (row, u32::from(is_right == (i % 2 == 1)))
            })
            .collect();
        let Temperature { temperature, error_before, error_after } = Temperature::fit(&rows);
        let expected = 9.0_f64.ln() / (7.0_f64 / 3.0).ln();
        assert!((temperature - expected).abs() < 1e-4, "{temperature}, not {expected}");
        assert!(
            (error_before - 0.2).abs() < 1e-6 && error_after < 1e-4,
            "{error_before} {error_after}"
        );
        // An answer that is always right would have no temperature; it stays in its bounds.
        let right: Vec<(&[f32], u32)> = vec![(&sure, 0), (&other, 1)];
        let fitted = Temperature::fit(&right).temperature;
        assert!((0.04..0.06).contains(&fitted), "{fitted}");
        let zero = [1.0_f32, 0.0];
        assert!(Temperature::fit(&[(&zero, 1)]).temperature.is_finite());
        assert_eq!(Temperature::fit(&[]).temperature, 1.0);
    }

    #[test]
    fn flags_are_as_often_on_as_their_probabilities_say() {
        // Log-odds of ±ln 9, of which 7 of 10 are right, and one that is sure and right.
        let mut flags: Vec<(f32, bool)> = (0..40)
            .map(|i| {
                let (share, is_right) = (if i % 2 == 0 { 0.9 } else { 0.1 }, i / 2 % 10 < 7);
                (share, (share > 0.5) == is_right)
            })
            .collect();
        let fitted = Temperature::fit_flags(&flags);
        let expected = 9.0_f64.ln() / (7.0_f64 / 3.0).ln();
        assert!((fitted.temperature - expected).abs() < 1e-4, "{}", fitted.temperature);
        assert!((fitted.error_before - 0.2).abs() < 1e-6 && fitted.error_after < 1e-4);
        for (share, right) in [(0.9, 0.7), (0.1, 0.3), (0.5, 0.5), (1.0, 1.0), (0.0, 0.0)] {
            assert!((fitted.of_flag(share) - right).abs() < 3e-3, "{share}");
        }
        let mut temperature = 2.0;
        let figures = fitted.apply(&mut temperature);
        assert!((f64::from(temperature) - 2.0 * expected).abs() < 1e-3);
        assert_eq!(figures["temperature"], f64::from(temperature));
        flags.push((1.0, true));
        flags.push((1.0, false));
        assert!(Temperature::fit_flags(&flags).temperature.is_finite());
    }
}
