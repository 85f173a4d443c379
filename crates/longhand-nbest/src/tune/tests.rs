use proptest::prelude::*;

use super::*;

/// Lists of hypotheses `w{i}` with random values of two features.
fn lists(values: &[Vec<(f64, f64)>]) -> Lists {
    let mut text = String::new();
    for (id, list) in values.iter().enumerate() {
        for (i, (a, b)) in list.iter().enumerate() {
            text += &format!("{id} ||| w{i} ||| a= {a} b= {b} ||| 0\n");
        }
    }
    Lists::parse(&text, "example").unwrap()
}

/// The counts of each hypothesis against `w{right}` of its list.
fn counts(lists: &Lists, right: &[usize]) -> Vec<Vec<Statistics>> {
    let all = lists.lists().iter().zip(right);
    let counts = all.map(|(list, right)| {
        let reference = format!("w{right}");
        let texts = list.hypotheses().iter();
        texts.map(|one| Objective::WordErrors.count(one.text(), &[&reference])).collect()
    });
    counts.collect()
}

fn random_lists() -> impl Strategy<Value = Vec<(Vec<(f64, f64)>, usize)>> {
    let value = || (-20_i32..20).prop_map(f64::from);
    let list = prop::collection::vec((value(), value()), 1..6);
    prop::collection::vec((list, 0_usize..6), 1..8)
}

proptest! {
    /// The search along a line is exact: no γ of a fine grid is better than what it finds.
    #[test]
    fn no_point_of_a_line_is_better_than_the_one_that_is_found(data in random_lists()) {
        let (values, right): (Vec<_>, Vec<_>) = data.into_iter().unzip();
        let lists = lists(&values);
        let statistics = counts(&lists, &right);
        let search = Search { lists: &lists, statistics: &statistics, objective: Objective::WordErrors };
        let weights = vec![0.0, 1.0, 0.25];
        let step = vec![0.0, 0.5, -1.0];
        let at = |gamma: f64| -> Vec<f64> {
            weights.iter().zip(&step).map(|(w, d)| w + gamma * d).collect()
        };
        let (found, gain) = search.line(&weights, &step);
        prop_assert!((search.gain(&at(found)) - gain).abs() < 1e-9);
        for place in -4001..=4001 {
            // Between the corners, which are ratios of small whole numbers.
            let gamma = f64::from(place) * 0.0123457;
            prop_assert!(search.gain(&at(gamma)) <= gain + 1e-9, "{gamma}");
        }
    }

    #[test]
    fn the_envelope_is_the_largest_line_everywhere(
        lines in prop::collection::vec((-5_i32..5, -9_i32..9), 1..9)
    ) {
        let lines: Vec<(f64, f64)> =
            lines.into_iter().map(|(a, b)| (f64::from(a), f64::from(b))).collect();
        let mut corners = Vec::new();
        let mut now = envelope(lines.iter().copied(), |at, from, to| corners.push((at, from, to)));
        let at = |place: usize, gamma: f64| lines[place].0 * gamma + lines[place].1;
        let mut next = 0;
        for step in -3000..3000 {
            let gamma = f64::from(step) * 0.0101;
            while next < corners.len() && corners[next].0 < gamma {
                prop_assert_eq!(corners[next].1, now);
                now = corners[next].2;
                next += 1;
            }
            let most = (0..lines.len()).map(|i| at(i, gamma)).fold(f64::MIN, f64::max);
            prop_assert!((at(now, gamma) - most).abs() < 1e-9);
        }
    }
}

#[test]
fn weights_are_found_that_choose_every_right_hypothesis() {
    // The right one has a larger a + 2b always, and neither a nor b alone tells it.
    let values = vec![
        vec![(5.0, 0.0), (0.0, 3.0)],
        vec![(4.0, 1.0), (7.0, 0.0)],
        vec![(1.0, 4.0), (7.0, 1.5)],
        vec![(0.0, 0.0), (-5.0, 3.0), (5.0, -3.0)],
    ];
    let lists = lists(&values);
    let statistics = counts(&lists, &[1, 1, 1, 1]);
    let start = Weights::of(lists.features(), [("a", 1.0)]).unwrap();
    let tuning = Tuning {
        objective: Objective::WordErrors,
        features: vec!["a".into(), "b".into()],
        restarts: 4,
        seed: 0,
    };
    let tuned = tune(&lists, &statistics, &start, &tuning);
    assert_eq!((tuned.before, tuned.after), (50.0, 0.0));
    let found: Vec<_> = tuned.weights.iter().collect();
    assert_eq!(found[0].1, 0.0, "a feature that is not searched keeps its weight: {found:?}");
    assert_eq!(found[1].1, 1.0);
    assert!(found[2].1 > 5.0 / 3.0 && found[2].1 < 2.4, "{found:?}");
    // The same again, and nothing where there is nothing to gain.
    assert_eq!(tune(&lists, &statistics, &start, &tuning), tuned);
    let again = tune(&lists, &statistics, &tuned.weights, &tuning);
    assert_eq!(again.weights, tuned.weights);
}
