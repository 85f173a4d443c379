use proptest::prelude::*;

use super::*;

fn sampler(settings: SamplerSettings) -> Sampler {
    Sampler::new(settings).expect("settings within their ranges")
}

fn distribution(settings: SamplerSettings, logits: &[f32], recent: &[u32]) -> Vec<Candidate> {
    sampler(settings).distribution(logits, recent).unwrap().to_vec()
}

fn plain() -> SamplerSettings {
    SamplerSettings { temperature: 1.0, ..SamplerSettings::default() }
}

fn logits() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-30.0f32..30.0, 1..200)
}

fn settings() -> impl Strategy<Value = SamplerSettings> {
    (0.0f32..3.0, 0usize..50, 0.01f32..=1.0, 0.0f32..=1.0, 0.5f32..3.0, any::<u64>()).prop_map(
        |(temperature, top_k, top_p, min_p, repetition_penalty, seed)| SamplerSettings {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            seed,
        },
    )
}

/// The steps of [`SamplerSettings`] word by word: every logit gets its weight first.
fn word_by_word(settings: &SamplerSettings, logits: &[f32]) -> Vec<Candidate> {
    let best = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
    let scale = 1.0 / f64::from(settings.temperature);
    let weigh = |x: f32| ((f64::from(x) - best) * scale).exp();
    let mut kept: Vec<Candidate> =
        (0..).zip(logits).map(|(id, &x)| Candidate { id, probability: weigh(x) }).collect();
    kept.sort_by(order);
    if settings.top_k > 0 {
        kept.truncate(settings.top_k);
    }
    let whole: f64 = kept.iter().map(|it| it.probability).sum();
    let (mut sum, share) = (0.0, f64::from(settings.top_p));
    let enough = kept.iter().position(|it| {
        sum += it.probability;
        sum >= share * whole
    });
    if share < 1.0 {
        kept.truncate(enough.map_or(kept.len(), |last| last + 1));
    }
    kept.retain(|it| it.probability >= f64::from(settings.min_p));
    kept.sort_by_key(|it| it.id);
    let sum: f64 = kept.iter().map(|it| it.probability).sum();
    kept.iter_mut().for_each(|it| it.probability /= sum);
    kept
}

proptest! {
    /// A cut before the weights removes the same tokens as a cut after them.
    #[test]
    fn cuts_before_the_weights_change_nothing(
        logits in logits(),
        temperature in 0.1f32..3.0,
        top_k in 0usize..50,
        top_p in prop_oneof![Just(1.0f32), 0.05f32..1.0],
        min_p in prop_oneof![Just(0.0f32), Just(1.0f32), 0.0f32..1.0],
    ) {
        let settings = SamplerSettings { temperature, top_k, top_p, min_p, ..plain() };
        let expected = word_by_word(&settings, &logits);
        let kept = distribution(settings, &logits, &[]);
        prop_assert_eq!(kept.len(), expected.len());
        for (kept, expected) in kept.iter().zip(expected) {
            prop_assert_eq!(kept.id, expected.id);
            prop_assert!((kept.probability - expected.probability).abs() < 1e-12);
        }
    }

    #[test]
    fn probabilities_sum_to_one_whatever_the_settings(
        settings in settings(),
        logits in logits(),
        recent in prop::collection::vec(0u32..300, 0..20),
    ) {
        let kept = distribution(settings, &logits, &recent);
        let sum: f64 = kept.iter().map(|candidate| candidate.probability).sum();
        prop_assert!((sum - 1.0).abs() < 1e-9);
        prop_assert!(!kept.is_empty());
        prop_assert!(settings.top_k == 0 || kept.len() <= settings.top_k.max(1));
        let drawn = sampler(settings).sample(&logits, &recent).unwrap();
        prop_assert!(kept.iter().any(|candidate| candidate.id == drawn));
    }

    #[test]
    fn one_candidate_is_greedy(logits in logits(), seed: u64) {
        let greedy = sampler(SamplerSettings::greedy()).sample(&logits, &[]).unwrap();
        for narrow in [
            SamplerSettings { top_k: 1, seed, ..plain() },
            SamplerSettings { top_p: 1e-6, seed, ..plain() },
        ] {
            prop_assert_eq!(sampler(narrow).sample(&logits, &[]).unwrap(), greedy);
        }
    }

    #[test]
    fn top_k_and_top_p_keep_the_most_probable(logits in logits(), k in 1usize..50, p in 0.05f32..1.0) {
        let all = distribution(plain(), &logits, &[]);
        let of = |id: u32| all[id as usize].probability;
        let least = |kept: &[Candidate]| kept.iter().map(|c| of(c.id)).fold(1.0, f64::min);
        let left = |kept: &[Candidate]| {
            let out = all.iter().filter(|c| !kept.iter().any(|k| k.id == c.id));
            out.map(|c| c.probability).fold(0.0, f64::max)
        };
        let by_count = distribution(SamplerSettings { top_k: k, ..plain() }, &logits, &[]);
        prop_assert_eq!(by_count.len(), k.min(logits.len()));
        prop_assert!(least(&by_count) >= left(&by_count));
        let by_share = distribution(SamplerSettings { top_p: p, ..plain() }, &logits, &[]);
        prop_assert!(least(&by_share) >= left(&by_share));
        let share: f64 = by_share.iter().map(|c| of(c.id)).sum();
        prop_assert!(share >= f64::from(p) - 1e-9);
        // One less would not reach the share.
        prop_assert!(share - least(&by_share) < f64::from(p) + 1e-9);
    }

    #[test]
    fn min_p_keeps_what_is_probable_enough(logits in logits(), m in 0.0f32..=1.0) {
        let all = distribution(plain(), &logits, &[]);
        let most = all.iter().map(|c| c.probability).fold(0.0, f64::max);
        let kept = distribution(SamplerSettings { min_p: m, ..plain() }, &logits, &[]);
        for candidate in all {
            let ratio = candidate.probability / most;
            let expected = ratio >= f64::from(m);
            let found = kept.iter().any(|c| c.id == candidate.id);
            prop_assert!(expected == found || (ratio - f64::from(m)).abs() < 1e-9);
        }
    }

    #[test]
    fn a_stronger_penalty_never_favours_what_was_read(
        logits in logits(), a in 1.0f32..4.0, b in 1.0f32..4.0, token in 0usize..200,
    ) {
        let token = (token % logits.len()) as u32;
        let probability = |repetition_penalty| {
            let settings = SamplerSettings { repetition_penalty, ..plain() };
            distribution(settings, &logits, &[token, token])[token as usize].probability
        };
        let (weak, strong) = (a.min(b), a.max(b));
        prop_assert!(probability(strong) <= probability(weak) + 1e-12);
    }

    #[test]
    fn colder_is_more_certain(logits in logits(), a in 0.05f32..3.0, b in 0.05f32..3.0) {
        let most = |temperature| {
            let settings = SamplerSettings { temperature, ..plain() };
            distribution(settings, &logits, &[]).iter().map(|c| c.probability).fold(0.0, f64::max)
        };
        prop_assert!(most(a.min(b)) >= most(a.max(b)) - 1e-9);
    }

    #[test]
    fn a_resumed_sampler_draws_the_same_numbers(logits in logits(), seed: u64, before in 0usize..40) {
        let mut straight = sampler(SamplerSettings { seed, ..plain() });
        for _ in 0..before {
            straight.sample(&logits, &[]).unwrap();
        }
        let json = serde_json::to_string(&straight.state()).unwrap();
        let mut resumed = Sampler::resume(serde_json::from_str(&json).unwrap()).unwrap();
        for _ in 0..20 {
            prop_assert_eq!(
                straight.sample(&logits, &[]).unwrap(),
                resumed.sample(&logits, &[]).unwrap()
            );
        }
    }
}

#[test]
fn draws_follow_the_probabilities() {
    let logits = [0.0f32, 1.0, 2.0, -1.0];
    let expected = distribution(plain(), &logits, &[]);
    let mut sampler = sampler(plain());
    let mut counts = [0usize; 4];
    let rounds = 40_000;
    for _ in 0..rounds {
        counts[sampler.sample(&logits, &[]).unwrap() as usize] += 1;
    }
    for (candidate, count) in expected.iter().zip(counts) {
        let share = count as f64 / rounds as f64;
        assert!((share - candidate.probability).abs() < 0.01, "{share} {candidate:?}");
    }
}

#[test]
fn of_equals_the_first_is_greedy() {
    assert_eq!(sampler(SamplerSettings::greedy()).sample(&[1.0, 3.0, 3.0], &[]).unwrap(), 1);
    let two = distribution(SamplerSettings { top_k: 2, ..plain() }, &[2.0; 5], &[]);
    assert_eq!(two.iter().map(|c| c.id).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn extreme_logits_and_temperatures_stay_finite() {
    for temperature in [f32::MIN_POSITIVE, 1e-45, 1e30] {
        let settings = SamplerSettings { temperature, ..plain() };
        let kept = distribution(settings, &[3e38, -3e38, 0.0, 3e38], &[0]);
        assert!(kept.iter().all(|candidate| candidate.probability.is_finite()));
    }
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let check = |settings: SamplerSettings, message: &str| {
        assert_eq!(Sampler::new(settings).err().unwrap().to_string(), message);
    };
    let one = SamplerSettings::default();
    check(
        SamplerSettings { temperature: -0.5, ..one },
        "the temperature is -0.5, but must be 0 (greedy) or more",
    );
    check(
        SamplerSettings { temperature: f32::NAN, ..one },
        "the temperature is NaN, but must be 0 (greedy) or more",
    );
    check(
        SamplerSettings { top_p: 0.0, ..one },
        "the top-p is 0, but must be more than 0 and at most 1",
    );
    check(SamplerSettings { min_p: 1.5, ..one }, "the min-p is 1.5, but must be from 0 to 1");
    check(
        SamplerSettings { repetition_penalty: f32::INFINITY, ..one },
        "the repetition penalty is inf, but must be more than 0 (1 for none)",
    );
}

#[test]
fn logits_that_are_no_numbers_are_refused() {
    let error = sampler(plain()).sample(&[0.0, f32::NAN], &[]).unwrap_err();
    assert!(error.to_string().starts_with("the model gives NaN for the token 1"), "{error}");
    assert_eq!(sampler(plain()).sample(&[], &[]), Err(SamplerError::Empty));
}

#[test]
fn what_is_minus_infinity_is_not_drawn_where_that_excludes_it() {
    const NEVER: f32 = f32::NEG_INFINITY;
    let logits = [NEVER, 1.0, NEVER, 0.0];
    let mut hot = sampler(SamplerSettings { temperature: 100.0, ..plain() });
    let drawn: Vec<u32> = (0..200).map(|_| hot.sample_finite(&logits, &[0, 1]).unwrap()).collect();
    assert!(drawn.iter().all(|id| [1, 3].contains(id)) && drawn.contains(&1) && drawn.contains(&3));
    let of = |logits: &[f32]| sampler(plain()).sample_finite(logits, &[]);
    assert_eq!(of(&[NEVER; 3]), Err(SamplerError::Empty));
    let refused = |drawn: Result<u32, SamplerError>| {
        matches!(drawn, Err(SamplerError::NotFinite { id: 1, .. }))
    };
    assert!(refused(of(&[0.0, f32::NAN])) && refused(of(&[0.0, f32::INFINITY])));
    assert!(refused(sampler(plain()).sample(&[0.0, NEVER], &[])));
}

#[test]
fn a_sampler_goes_on_where_another_one_stopped() {
    let logits: Vec<f32> = (0..50).map(|id| id as f32 / 10.0).collect();
    let settings = SamplerSettings { seed: 3, ..plain() };
    let (mut straight, mut other) = (sampler(settings), sampler(plain()));
    for _ in 0..20 {
        let state = straight.state();
        let expected = straight.sample(&logits, &[]).unwrap();
        other.sample(&logits, &[]).unwrap();
        other.go_on(state).unwrap();
        assert_eq!(other.sample(&logits, &[]).unwrap(), expected);
    }
}
