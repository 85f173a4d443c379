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
