//! How much more probable than a span "no answer" must be for it to be the answer.

/// A held-out question: the logarithm of how much more probable "no answer" is than the best span, and
/// the F1 of either answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decision {
    pub(super) log_ratio: f32,
    pub(super) with_span: f64,
    pub(super) without: f64,
}

/// The margin with the highest mean F1, halfway between two questions. Of equally good ones it is the
/// lowest. Without a finite ratio it is `otherwise`.
pub(super) fn best(decisions: &[Decision], otherwise: f32) -> f32 {
    let mut decisions: Vec<&Decision> =
        decisions.iter().filter(|decision| decision.log_ratio.is_finite()).collect();
    decisions.sort_by(|a, b| a.log_ratio.total_cmp(&b.log_ratio));
    let Some(first) = decisions.first() else { return otherwise };
    // Below every ratio no question gets a span.
    let mut sum: f64 = decisions.iter().map(|decision| decision.without).sum();
    let mut best = (sum, first.log_ratio - 1.0);
    for (place, decision) in decisions.iter().enumerate() {
        sum += decision.with_span - decision.without;
        let next = decisions.get(place + 1).map_or(decision.log_ratio + 1.0, |next| next.log_ratio);
        // Between equal ratios there is no margin.
        if next > decision.log_ratio && sum > best.0 {
            best = (sum, decision.log_ratio.midpoint(next));
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_margin_is_the_one_that_all_others_are_not_better_than() {
        let decision = |i: usize| Decision {
            log_ratio: (i * 37 % 101) as f32 / 10.0 - 5.0,
            with_span: f64::from(u8::from(i * 37 % 101 < 40 + i % 30)),
            without: f64::from(u8::from(i.is_multiple_of(3))),
        };
        let decisions: Vec<Decision> = (0..200).map(decision).collect();
        let mean = |margin: f32| -> f64 {
            let f1 = |d: &Decision| if d.log_ratio > margin { d.without } else { d.with_span };
            decisions.iter().map(f1).sum()
        };
        let found = mean(best(&decisions, 0.0));
        for step in -70..=70 {
            assert!(mean(step as f32 / 10.0 + 0.05) <= found + 1e-9, "{step}");
        }
        assert_eq!(best(&[], 0.5), 0.5);
        let only = |with_span, without| [Decision { log_ratio: 2.0, with_span, without }];
        assert_eq!(best(&only(1.0, 0.0), 0.0), 2.5);
        assert_eq!(best(&only(0.0, 1.0), 0.0), 1.0);
    }
}
