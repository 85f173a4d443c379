use super::*;

/// Votes on three classes, drawn so that both parts know something of the right one.
fn votes(count: usize) -> Vec<Votes> {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let one = |place: usize| {
        let class = place % 3;
        let mut row = |signal: f32, spread: f32| -> Vec<f32> {
            let hit = |k: usize| if k == class { signal } else { 0.0 };
            (0..3).map(|k| hit(k) + spread * noise()).collect()
        };
        Votes { network: row(0.5, 3.0), baseline: row(2.0, 12.0), class }
    };
    (0..count).map(one).collect()
}

#[test]
fn the_derivatives_are_those_of_the_loss() {
    let votes = votes(20);
    let at = [0.7, 0.3];
    let sum = Sum::at(&votes, at);
    let step = 1e-5;
    for part in 0..2 {
        let moved = |by: f64| {
            let mut place = at;
            place[part] += by;
            Sum::at(&votes, place)
        };
        let (above, below) = (moved(step), moved(-step));
        let slope = (above.loss - below.loss) / (2.0 * step);
        assert!((slope - sum.gradient[part]).abs() < 1e-6, "{slope} {}", sum.gradient[part]);
        for other in 0..2 {
            let bend = (above.gradient[other] - below.gradient[other]) / (2.0 * step);
            assert!((bend - sum.curvature[part][other]).abs() < 1e-6, "{bend}");
        }
    }
}

#[test]
fn the_exponents_are_at_the_minimum() {
    let votes = votes(300);
    let Exponents { network, baseline } = Exponents::fit(&votes);
    let sum = Sum::at(&votes, [network, baseline]);
    assert!(sum.gradient.iter().all(|slope| slope.abs() < 1e-6), "{:?}", sum.gradient);
    assert!(network > 0.1 && baseline > 0.02, "both know something: {network} {baseline}");
    for alone in [[network, 0.0], [0.0, baseline], Exponents::ALONE] {
        assert!(Sum::at(&votes, alone).loss > sum.loss + 1.0, "{alone:?}");
    }
}

#[test]
fn a_part_that_knows_nothing_hardly_counts() {
    let mut votes = votes(300);
    for (place, votes) in votes.iter_mut().enumerate() {
        votes.baseline = vec![(place % 7) as f32; 3];
    }
    // A constant added to each logit changes no probability.
    assert!(Exponents::fit(&votes).baseline.abs() < 1e-9);
    let none = Exponents::fit(&[]);
    assert_eq!([none.network, none.baseline], Exponents::ALONE);
}

#[test]
fn logits_without_bounds_stay_finite() {
    let vote = |class: usize| Votes { network: vec![1e4, -1e4], baseline: vec![-1e4, 1e4], class };
    let Exponents { network, baseline } = Exponents::fit(&[vote(0), vote(1)]);
    assert!(network.is_finite() && baseline.is_finite(), "{network} {baseline}");
}
