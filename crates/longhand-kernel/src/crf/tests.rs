use super::*;
use crate::testing::{check_gradient, close, values, wide};

/// T, K and the lengths of a batch.
struct Case {
    time: usize,
    tags: usize,
    lengths: Vec<u32>,
    targets: Vec<u32>,
    scores: Vec<f32>,
}

impl Case {
    fn new(tags: usize, lengths: &[u32], size: f32, seed: u64) -> Self {
        let time = lengths.iter().copied().max().unwrap_or(0) as usize;
        let rows = time * lengths.len();
        let target = |row: usize| ((row * row + 2 * row + seed as usize) % tags) as u32;
        let count = rows * tags + tags * tags + 2 * tags;
        let scores = values(count, seed).iter().map(|x| size * x).collect();
        let targets = (0..rows).map(target).collect();
        Self { time, tags, lengths: lengths.to_vec(), targets, scores }
    }

    fn sequence(&self) -> Sequence<'_> {
        Sequence { lengths: Some(&self.lengths), ..Sequence::new(self.time, self.lengths.len()) }
    }

    /// One row after another: emissions, transitions, start, end.
    fn split<'a, R>(&self, all: &'a [R]) -> Scores<'a, R> {
        let tags = self.tags;
        let (emissions, rest) = all.split_at(self.sequence().rows() * tags);
        let (transitions, rest) = rest.split_at(tags * tags);
        let (start, end) = rest.split_at(tags);
        Scores { emissions, transitions, start, end }
    }

    fn gradient<'a, R>(&self, scale: R, all: &'a mut [R]) -> Gradient<'a, R> {
        let tags = self.tags;
        let (emissions, rest) = all.split_at_mut(self.sequence().rows() * tags);
        let (transitions, rest) = rest.split_at_mut(tags * tags);
        let (start, end) = rest.split_at_mut(tags);
        Gradient {
            scale,
            emissions: Some(emissions),
            transitions: Some(transitions),
            start: Some(start),
            end: Some(end),
        }
    }

    /// The score of every path of a sequence, in the order of its tags as digits.
    fn paths(&self, b: usize, scores: Scores<f64>) -> Vec<(Vec<u32>, f64)> {
        let (tags, n) = (self.tags, self.lengths[b] as usize);
        let path = |number: usize| -> Vec<u32> {
            (0..n).map(|t| (number / tags.pow((n - 1 - t) as u32) % tags) as u32).collect()
        };
        let score = |path: &[u32]| {
            let tag = |t: usize| path[t] as usize;
            let emission =
                |t: usize| scores.emissions[(t * self.lengths.len() + b) * tags + tag(t)];
            scores.start[tag(0)]
                + (0..n).map(emission).sum::<f64>()
                + (1..n).map(|t| scores.transitions[tag(t - 1) * tags + tag(t)]).sum::<f64>()
                + scores.end[tag(n - 1)]
        };
        (0..tags.pow(n as u32)).map(path).map(|path| (path.clone(), score(&path))).collect()
    }

    /// Masks that forbid a third of the pairs, of the first and of the last tags;
    /// row-major, one after another.
    fn masks(&self, seed: usize) -> Vec<bool> {
        let count = self.tags * self.tags + 2 * self.tags;
        (0..count).map(|i| !(i * 7 + seed).is_multiple_of(3)).collect()
    }

    fn legal<'a>(&self, masks: &'a [bool]) -> Legal<'a> {
        let (transitions, ends) = masks.split_at(self.tags * self.tags);
        let (start, end) = ends.split_at(self.tags);
        Legal { transitions, start, end }
    }

    /// The legal paths of a sequence with their scores; all of them where none is legal.
    fn legal_paths(
        &self,
        b: usize,
        scores: Scores<f64>,
        legal: Option<Legal>,
    ) -> Vec<(Vec<u32>, f64)> {
        let all = self.paths(b, scores);
        let Some(Legal { transitions, start, end }) = legal else { return all };
        let is_legal = |(path, _): &&(Vec<u32>, f64)| {
            let tag = |t: usize| path[t] as usize;
            let steps = (1..path.len()).all(|t| transitions[tag(t - 1) * self.tags + tag(t)]);
            start[tag(0)] && end[tag(path.len() - 1)] && steps
        };
        let kept: Vec<_> = all.iter().filter(is_legal).cloned().collect();
        if kept.is_empty() { all } else { kept }
    }

    /// Gives each sequence that has a legal path one of them as its targets.
    fn legalize(&mut self, masks: &[bool], seed: usize) {
        let (batch, scores) = (self.lengths.len(), wide(&self.scores));
        for b in (0..batch).filter(|&b| self.lengths[b] > 0) {
            let legal = Some(self.legal(masks));
            let paths = self.legal_paths(b, self.split(&scores), legal);
            let (path, _) = paths[(seed * 5 + b) % paths.len()].clone();
            for (t, tag) in path.into_iter().enumerate() {
                self.targets[t * batch + b] = tag;
            }
        }
    }

    /// −ln of the share that each sequence's own path has of all legal ones, summed; over all paths
    /// where its own is not legal.
    fn listed_loss(&self, scores: Scores<f64>, legal: Option<Legal>) -> f64 {
        let of_sequence = |b: usize| {
            let own = self.path(b);
            let within = self.legal_paths(b, scores, legal);
            let has_own = within.iter().any(|(path, _)| *path == own);
            let paths = if has_own { within } else { self.paths(b, scores) };
            let score = paths.iter().find(|(path, _)| *path == own).unwrap().1;
            paths.iter().map(|(_, other)| (other - score).exp()).sum::<f64>().ln()
        };
        (0..self.lengths.len()).filter(|&b| self.lengths[b] > 0).map(of_sequence).sum()
    }

    /// The targets of a sequence.
    fn path(&self, b: usize) -> Vec<u32> {
        let batch = self.lengths.len();
        (0..self.lengths[b] as usize).map(|t| self.targets[t * batch + b]).collect()
    }
}

fn cases() -> Vec<Case> {
    vec![
        Case::new(3, &[4, 1, 3], 2.0, 1),
        Case::new(2, &[4, 2], 9.0, 2),
        Case::new(1, &[3, 1], 2.0, 3),
        Case::new(3, &[0, 2, 4, 4], 0.1, 4),
        Case::new(2, &[1], 5.0, 5),
    ]
}

/// Each case with masks and targets that are legal under them, and some that are not.
fn masked_cases() -> Vec<(Case, Vec<bool>)> {
    let mut all = Vec::new();
    for seed in 0..3 {
        for mut case in cases() {
            let masks = case.masks(seed);
            if seed > 0 {
                case.legalize(&masks, seed);
            }
            all.push((case, masks));
        }
    }
    all
}

#[test]
fn the_reference_sums_over_the_legal_paths() {
    for (case, masks) in masked_cases() {
        let all = wide(&case.scores);
        let (sequence, scores) = (case.sequence(), case.split(&all));
        for legal in [None, Some(case.legal(&masks))] {
            let expected = case.listed_loss(scores, legal);
            let targets = &case.targets;
            let sum = reference::negative_log_likelihood(sequence, scores, targets, legal, None);
            assert!((sum - expected).abs() < 1e-12 * (1.0 + expected), "{sum} {expected}");
        }
    }
}

#[test]
fn the_reference_has_the_gradient_of_its_function() {
    for (case, masks) in masked_cases() {
        let at = wide(&case.scores);
        let (sequence, targets) = (case.sequence(), &case.targets[..]);
        for legal in [None, Some(case.legal(&masks))] {
            let mut gradient = vec![0.0; at.len()];
            let into = Some(case.gradient(0.3, &mut gradient));
            reference::negative_log_likelihood(sequence, case.split(&at), targets, legal, into);
            // The paths are listed anew at each point.
            check_gradient("scores", &at, &gradient, |at| {
                0.3 * case.listed_loss(case.split(at), legal)
            });
        }
    }
}

#[test]
fn losses_and_gradients_follow_the_reference() {
    let mut cases = masked_cases();
    for case in [Case::new(9, &[33, 1, 20, 7], 3.0, 6), Case::new(23, &[5, 17], 40.0, 7)] {
        // Of a long chain the best legal path is one that can be found without listing all.
        let masks = case.masks(1);
        let mut best = vec![0; case.sequence().rows()];
        let legal = Some(case.legal(&masks));
        viterbi(case.sequence(), case.split(&case.scores), legal, &mut best);
        cases.push((Case { targets: best, ..case }, masks));
    }
    for (case, masks) in cases {
        for legal in [None, Some(case.legal(&masks))] {
            let exact_scores = wide(&case.scores);
            let mut exact = vec![1.0; exact_scores.len()];
            let (sequence, targets) = (case.sequence(), &case.targets[..]);
            let into = Some(case.gradient(0.5, &mut exact));
            let scores = case.split(&exact_scores);
            let sum = reference::negative_log_likelihood(sequence, scores, targets, legal, into);

            let (mut losses, mut gradient) = (vec![9.0; sequence.batch], vec![1.0; exact.len()]);
            let into = Some(case.gradient(0.5, &mut gradient));
            let (scores, each) = (case.split(&case.scores), Some(&mut losses[..]));
            let total = negative_log_likelihood(sequence, scores, targets, legal, each, into);
            assert!((total.nats - sum).abs() < 1e-10 * (1.0 + sum), "{} {sum}", total.nats);
            assert_eq!(total.count, case.lengths.iter().sum::<u32>() as usize);
            close("gradient", &gradient, &exact, 1e-5);
            let each: f32 = losses.iter().sum();
            assert!((f64::from(each) - sum).abs() < 1e-4 * (1.0 + sum), "{each} {sum}");
        }
    }
}

#[test]
fn what_is_not_legal_has_no_probability_and_no_gradient() {
    // Tags O, B and I: I follows B and I alone, and no sequence begins with it.
    let transitions = [true, true, false, true, true, true, true, true, true];
    let (start, end) = ([true, true, false], [true; 3]);
    let legal = Legal { transitions: &transitions, start: &start, end: &end };
    for length in [1, 2, 5] {
        let mut case = Case::new(3, &[length], 3.0, 15);
        case.targets = [1, 2, 2, 0, 1][..length as usize].to_vec();
        let loss = |case: &Case, legal: Option<Legal>| {
            let mut gradient = vec![0.0; case.scores.len()];
            let into = Some(case.gradient(1.0, &mut gradient));
            let (sequence, scores) = (case.sequence(), case.split(&case.scores));
            let total = negative_log_likelihood(sequence, scores, &case.targets, legal, None, into);
            (total.nats, gradient)
        };
        let (nats, gradient) = loss(&case, Some(legal));
        let parts = case.split(&gradient);
        assert!(nats.is_finite() && gradient.iter().all(|d| d.is_finite()));
        assert!(nats < loss(&case, None).0, "illegal paths take a part of the probability");
        assert_eq!((parts.transitions[2], parts.start[2], parts.emissions[2]), (0.0, 0.0, 0.0));
        // The scores of what is not legal do not matter, however high they are.
        let (at, first) = (case.scores.len() - 6, case.scores.len() - 15);
        (case.scores[first + 2], case.scores[at + 2]) = (1e4, 1e4);
        let raised = loss(&case, Some(legal));
        assert!((raised.0 - nats).abs() < 1e-9, "{} {nats}", raised.0);
        // Targets that are no legal path are measured over all paths.
        case.targets[0] = 2;
        assert_eq!(loss(&case, Some(legal)), loss(&case, None));
        assert!(loss(&case, Some(legal)).0.is_finite());
    }
}

#[test]
fn a_gradient_may_be_wanted_in_part() {
    let case = Case::new(3, &[4, 2], 2.0, 8);
    let mut all = vec![0.0; case.scores.len()];
    let (sequence, scores) = (case.sequence(), case.split(&case.scores));
    let whole = Some(case.gradient(1.0, &mut all));
    negative_log_likelihood(sequence, scores, &case.targets, None, None, whole);
    let expected = case.split(&all);
    let (mut transitions, mut end) = ([0.0; 9], [0.0; 3]);
    let part = Gradient {
        scale: 1.0,
        emissions: None,
        transitions: Some(&mut transitions),
        start: None,
        end: Some(&mut end),
    };
    negative_log_likelihood(sequence, scores, &case.targets, None, None, Some(part));
    assert_eq!((&transitions[..], &end[..]), (expected.transitions, expected.end));
}

#[test]
fn a_sequence_is_the_same_alone_and_in_a_batch() {
    let case = Case::new(4, &[6, 3, 1, 5], 3.0, 9);
    let (batch, tags) = (case.lengths.len(), case.tags);
    let run = |case: &Case| {
        let (sequence, scores) = (case.sequence(), case.split(&case.scores));
        let (mut losses, mut gradient) = (vec![0.0; sequence.batch], vec![0.0; case.scores.len()]);
        let into = Some(case.gradient(1.0, &mut gradient));
        let each = Some(&mut losses[..]);
        negative_log_likelihood(sequence, scores, &case.targets, None, each, into);
        let mut path = vec![7; sequence.rows()];
        viterbi(sequence, scores, None, &mut path);
        let mut probabilities = vec![7.0; sequence.rows() * case.tags];
        let masks = case.masks(1);
        marginals(sequence, scores, Some(case.legal(&masks)), &mut probabilities);
        (losses, gradient, path, probabilities)
    };
    let (losses, gradient, path, probabilities) = run(&case);
    for b in 0..batch {
        let time = case.lengths[b] as usize;
        let rows = || (0..time).map(|t| t * batch + b);
        let of = |all: &[f32]| -> Vec<f32> {
            rows().flat_map(|row| all[row * tags..][..tags].to_vec()).collect()
        };
        let shared = case.scores[case.sequence().rows() * tags..].iter().copied();
        let alone = Case {
            time,
            tags,
            lengths: vec![case.lengths[b]],
            targets: rows().map(|row| case.targets[row]).collect(),
            scores: of(&case.scores).into_iter().chain(shared).collect(),
        };
        let (own_losses, own_gradient, own_path, own_probabilities) = run(&alone);
        assert_eq!(own_losses[0], losses[b]);
        assert_eq!(own_gradient[..time * tags], of(&gradient)[..]);
        assert_eq!(own_path, rows().map(|row| path[row]).collect::<Vec<_>>());
        assert_eq!(own_probabilities, of(&probabilities));
    }
    for row in
        (0..case.sequence().rows()).filter(|row| row / batch >= case.lengths[row % batch] as usize)
    {
        assert_eq!(path[row], 0);
        assert!(probabilities[row * tags..][..tags].iter().all(|&p| p == 0.0));
        assert!(gradient[row * tags..][..tags].iter().all(|&d| d == 0.0));
    }
}

#[test]
fn an_ignored_sequence_counts_for_nothing() {
    let mut case = Case::new(3, &[4, 2], 2.0, 10);
    case.targets[1] = IGNORE;
    let (mut losses, mut gradient) = (vec![9.0; 2], vec![0.0; case.scores.len()]);
    let (sequence, scores) = (case.sequence(), case.split(&case.scores));
    let into = Some(case.gradient(1.0, &mut gradient));
    let each = Some(&mut losses[..]);
    let total = negative_log_likelihood(sequence, scores, &case.targets, None, each, into);
    assert_eq!((total.count, losses[1]), (4, 0.0));
    assert_eq!(total.nats as f32, losses[0]);
    assert!((0..4).all(|t| gradient[(2 * t + 1) * 3..][..3] == [0.0; 3]));
}

#[test]
fn the_best_path_is_the_best_of_all_legal_ones() {
    for (seed, case) in cases().into_iter().enumerate() {
        let batch = case.lengths.len();
        let all = wide(&case.scores);
        let exact = case.split(&all);
        let masks = case.masks(seed);
        let legal = case.legal(&masks);
        for constraint in [None, Some(legal)] {
            let mut found = vec![7; case.sequence().rows()];
            viterbi(case.sequence(), case.split(&case.scores), constraint, &mut found);
            for b in (0..batch).filter(|&b| case.lengths[b] > 0) {
                let own: Vec<u32> =
                    (0..case.lengths[b] as usize).map(|t| found[t * batch + b]).collect();
                let paths = case.legal_paths(b, exact, constraint);
                let best = paths.iter().map(|(_, score)| *score).fold(f64::MIN, f64::max);
                let (_, score) = paths.iter().find(|(path, _)| *path == own).unwrap();
                assert!((score - best).abs() < 1e-9, "{own:?}: {score} instead of {best}");
            }
        }
    }
}

#[test]
fn marginals_are_sums_over_legal_paths() {
    for (seed, case) in cases().into_iter().enumerate() {
        let all = wide(&case.scores);
        let (sequence, masks) = (case.sequence(), case.masks(seed));
        for legal in [None, Some(case.legal(&masks))] {
            let mut expected = vec![0.0; sequence.rows() * case.tags];
            for b in (0..case.lengths.len()).filter(|&b| case.lengths[b] > 0) {
                let paths = case.legal_paths(b, case.split(&all), legal);
                let z: f64 = paths.iter().map(|(_, score)| score.exp()).sum();
                for (path, score) in paths {
                    for (t, &tag) in path.iter().enumerate() {
                        let row = t * case.lengths.len() + b;
                        expected[row * case.tags + tag as usize] += score.exp() / z;
                    }
                }
            }
            let mut exact = vec![7.0; expected.len()];
            reference::marginals(sequence, case.split(&all), legal, &mut exact);
            for (found, expected) in exact.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-12, "{found} {expected}");
            }
            let mut found = vec![7.0; expected.len()];
            marginals(sequence, case.split(&case.scores), legal, &mut found);
            close("marginals", &found, &expected, 1e-6);
        }
    }
}

/// Longer chains than those whose paths can be listed.
#[test]
fn marginals_follow_the_reference() {
    for case in [Case::new(9, &[33, 1, 20, 0], 3.0, 6), Case::new(23, &[5, 17], 40.0, 7)] {
        let (sequence, all) = (case.sequence(), wide(&case.scores));
        let masks = case.masks(1);
        for legal in [None, Some(case.legal(&masks))] {
            let mut exact = vec![7.0; sequence.rows() * case.tags];
            reference::marginals(sequence, case.split(&all), legal, &mut exact);
            let mut found = vec![7.0; exact.len()];
            marginals(sequence, case.split(&case.scores), legal, &mut found);
            close("marginals", &found, &exact, 1e-5);
        }
    }
}

/// A window that is cut within an entity has emissions for its inside, with which no legal path begins.
#[test]
fn a_sequence_without_a_legal_path_has_the_marginals_of_all() {
    let case = Case::new(3, &[4, 1], 2.0, 14);
    let (sequence, scores) = (case.sequence(), case.split(&case.scores));
    let of = |legal: Option<Legal>| {
        let mut found = vec![7.0; sequence.rows() * 3];
        marginals(sequence, scores, legal, &mut found);
        found
    };
    let (free, yes, no) = (of(None), [true; 9], [false; 9]);
    for [transitions, start, end] in [[&yes, &no, &yes], [&yes, &yes, &no], [&no, &no, &no]] {
        let legal = Legal { transitions, start: &start[..3], end: &end[..3] };
        assert_eq!(of(Some(legal)), free);
    }
    // The first sequence has no legal step, and the second needs none.
    let alone = of(Some(Legal { transitions: &no, start: &yes[..3], end: &[true, true, false] }));
    let mut first = (0..4).flat_map(|t| 6 * t..6 * t + 3);
    assert!(first.all(|place| alone[place] == free[place]));
    assert_eq!(alone[5], 0.0);
    assert!((alone[3] + alone[4] - 1.0).abs() < 1e-6);
}

#[test]
fn saturated_scores_stay_finite_and_exact() {
    for seed in 0..4 {
        let mut case = Case::new(3, &[12, 7, 1], 1.0, seed);
        // ±1e4 and zeros, so that whole rows and columns of exponentials underflow.
        for (place, x) in case.scores.iter_mut().enumerate() {
            *x = [1e4, -1e4, 0.0, -1e4, 37.5][(place * 31 + seed as usize * 7) % 5] * x.signum();
        }
        let exact_scores = wide(&case.scores);
        let masks = case.masks(1);
        let (sequence, mut targets) = (case.sequence(), vec![0; case.sequence().rows()]);
        let mut probabilities = vec![0.0; sequence.rows() * case.tags];
        for legal in [None, Some(case.legal(&masks))] {
            // The likeliest path of the negated scores is the least likely one.
            let negated: Vec<f32> = case.scores.iter().map(|x| -x).collect();
            viterbi(sequence, case.split(&negated), legal, &mut targets);
            let mut exact = vec![0.0; exact_scores.len()];
            let into = Some(case.gradient(1.0, &mut exact));
            let scores = case.split(&exact_scores);
            let sum = reference::negative_log_likelihood(sequence, scores, &targets, legal, into);
            let mut gradient = vec![0.0; exact.len()];
            let into = Some(case.gradient(1.0, &mut gradient));
            let scores = case.split(&case.scores);
            let total = negative_log_likelihood(sequence, scores, &targets, legal, None, into);
            assert!(total.nats.is_finite() && (total.nats - sum).abs() < 1e-9 * (1.0 + sum));
            close("gradient", &gradient, &exact, 1e-6);
            marginals(sequence, scores, legal, &mut probabilities);
            for row in sequence.real_rows() {
                let sum: f32 = probabilities[row * case.tags..][..case.tags].iter().sum();
                assert!((sum - 1.0).abs() < 1e-5, "row {row}: {sum}");
            }
        }
    }
}

#[test]
fn the_targets_of_the_best_path_are_correct() {
    let case = Case::new(3, &[5, 2], 3.0, 12);
    let (sequence, scores) = (case.sequence(), case.split(&case.scores));
    let mut best = vec![0; sequence.rows()];
    viterbi(sequence, scores, None, &mut best);
    let total = negative_log_likelihood(sequence, scores, &best, None, None, None);
    assert_eq!((total.count, total.correct), (7, 7));
    let other: Vec<u32> = best.iter().map(|tag| (tag + 1) % 3).collect();
    let total = negative_log_likelihood(sequence, scores, &other, None, None, None);
    assert_eq!((total.count, total.correct), (7, 0));
}

#[test]
fn what_is_no_number_is_told() {
    let mut case = Case::new(2, &[3], 1.0, 13);
    case.scores[2] = f32::NAN;
    let total = negative_log_likelihood(
        case.sequence(),
        case.split(&case.scores),
        &case.targets,
        None,
        None,
        None,
    );
    assert!(total.nats.is_nan());
}
