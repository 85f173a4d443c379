//! Whether the probabilities of answers are as often right as they say.

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
}
