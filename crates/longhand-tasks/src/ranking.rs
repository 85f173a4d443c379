//! Metrics of a ranking: probabilities of examples, of which some are positive.

/// The area under the ROC curve: the share of pairs of a positive and a negative example in which the
/// positive one has the higher probability, with half for equal ones (Mann & Whitney 1947); none
/// without a positive or a negative example.
pub(crate) fn auc(mut decisions: Vec<(f32, bool)>) -> Option<f64> {
    decisions.sort_by(|a, b| a.0.total_cmp(&b.0));
    let positives = decisions.iter().filter(|(_, is_positive)| *is_positive).count() as f64;
    let negatives = decisions.len() as f64 - positives;
    // Twice the pairs, so that halves are whole numbers.
    let (mut below, mut pairs) = (0.0, 0.0);
    for equal in decisions.chunk_by(|a, b| a.0 == b.0) {
        let own = equal.iter().filter(|(_, is_positive)| *is_positive).count() as f64;
        let other = equal.len() as f64 - own;
        pairs += own * (2.0 * below + other);
        below += other;
    }
    (positives * negatives > 0.0).then(|| pairs / (2.0 * positives * negatives))
}

/// The average precision Σ (Rₙ − Rₙ₋₁)·Pₙ over the thresholds, with precision P and recall R; none
/// without a positive example.
pub(crate) fn average_precision(mut decisions: Vec<(f32, bool)>) -> Option<f64> {
    decisions.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = decisions.iter().filter(|(_, is_positive)| *is_positive).count() as f64;
    let (mut given, mut right, mut sum) = (0.0, 0.0, 0.0);
    for equal in decisions.chunk_by(|a, b| a.0 == b.0) {
        let own = equal.iter().filter(|(_, is_positive)| *is_positive).count() as f64;
        given += equal.len() as f64;
        right += own;
        sum += own / positives.max(1.0) * right / given;
    }
    (positives > 0.0).then_some(sum)
}

/// The mean of values; none of none.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u64), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rankings_are_measured_as_scikit_learn_does() {
        // roc_auc_score and average_precision_score of these.
        let decisions = vec![(0.1, false), (0.4, false), (0.35, true), (0.8, true)];
        assert_eq!(auc(decisions.clone()), Some(0.75));
        assert!((average_precision(decisions).unwrap() - 0.8333333333333333).abs() < 1e-12);
        let equal = vec![(0.5, true), (0.5, false), (0.5, false), (0.9, true)];
        assert_eq!(auc(equal.clone()), Some(0.75));
        assert_eq!(average_precision(equal), Some(0.75));
        assert_eq!((auc(vec![(0.1, true)]), average_precision(vec![(0.1, false)])), (None, None));
        assert_eq!((mean([1.0, 2.0].into_iter()), mean(std::iter::empty())), (Some(1.5), None));
    }
}
