//! The probability from which on a label is given.

/// The threshold with the highest micro-F1 on decisions, each a probability and whether the label is
/// true. It is halfway between two probabilities. Of equally good ones it is the highest. Without a
/// true label it is `otherwise`.
pub(super) fn best(mut decisions: Vec<(f32, bool)>, otherwise: f32) -> f32 {
    decisions.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = decisions.iter().filter(|(_, is_true)| *is_true).count();
    let (mut right, mut best) = (0, (0.0, otherwise));
    for (place, &(share, is_true)) in decisions.iter().enumerate() {
        right += usize::from(is_true);
        let next = decisions.get(place + 1).map_or(0.0, |next| next.0);
        // Between equal probabilities there is no threshold.
        if next == share {
            continue;
        }
        let f1 = 2.0 * right as f64 / (place + 1 + positives) as f64;
        if f1 > best.0 {
            best = (f1, share.midpoint(next));
        }
    }
    best.1
}

/// Micro-F1 of decisions at a threshold; 0 where no label is true or given.
pub(super) fn f1(decisions: &[(f32, bool)], threshold: f32) -> f64 {
    let given = decisions.iter().filter(|(share, _)| *share >= threshold).count();
    let positives = decisions.iter().filter(|(_, is_true)| *is_true).count();
    let right = decisions.iter().filter(|(share, is_true)| *is_true && *share >= threshold).count();
    2.0 * right as f64 / (given + positives).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_threshold_is_the_one_that_all_others_are_not_better_than() {
        let decisions: Vec<(f32, bool)> = (0..200)
            .map(|i| ((i * 37 % 101) as f32 / 100.0, (i * 53 + i * i) % 7 < 1 + i * 37 % 101 / 20))
            .collect();
        let found = f1(&decisions, best(decisions.clone(), 0.5));
        for step in 0..=1000 {
            assert!(f1(&decisions, step as f32 / 1000.0) <= found + 1e-12, "{step}");
        }
        // Two of three are true above 0.4, and all three true ones above 0.05.
        let few = vec![(0.9, true), (0.5, false), (0.5, true), (0.1, true), (0.0, false)];
        assert_eq!(best(few.clone(), 0.5), 0.05);
        assert!((f1(&few, 0.05) - 6.0 / 7.0).abs() < 1e-12);
        assert_eq!(best(vec![(0.9, false)], 0.5), 0.5);
        assert_eq!(best(Vec::new(), 0.5), 0.5);
        assert_eq!(f1(&[], 0.5), 0.0);
    }
}
