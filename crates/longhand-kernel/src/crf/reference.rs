//! The plain form, generic over the number type: every sum over tags in logarithms.

use super::{Gradient, Legal, Scores};
use crate::loss::IGNORE;
use crate::real::Real;
use crate::sequence::Sequence;

/// The sums over the paths of one sequence of n positions.
struct Sums<R> {
    /// α: ln of the sum over all beginnings that end in a tag, with its emission, `[n][K]`.
    alpha: Vec<Vec<R>>,
    /// β: ln of the sum over all rests behind a tag, `[n][K]`.
    beta: Vec<Vec<R>>,
    /// ln Z, over the paths that count.
    all: R,
}

impl<R: Real> Sums<R> {
    /// Those of sequence `b`, which has at least one real position. A score of −∞ leaves paths out.
    fn of(sequence: Sequence, scores: Scores<R>, b: usize) -> Self {
        let (k, n) = (scores.start.len(), sequence.real(b));
        let emission = |t: usize, tag: usize| scores.emissions[(t * sequence.batch + b) * k + tag];
        let transition = |i: usize, j: usize| scores.transitions[i * k + j];

        // α[t, j] = emission[t, j] + ln Σ_i e^(α[t−1, i] + transition[i, j])
        let mut alpha = vec![vec![R::zero(); k]; n];
        for t in 0..n {
            for j in 0..k {
                let before = if t == 0 {
                    scores.start[j]
                } else {
                    log_sum((0..k).map(|i| alpha[t - 1][i] + transition(i, j)).collect())
                };
                alpha[t][j] = before + emission(t, j);
            }
        }
        // β[t, i] = ln Σ_j e^(transition[i, j] + emission[t+1, j] + β[t+1, j]), β[n−1, i] = end[i]
        let mut beta = vec![scores.end.to_vec(); n];
        for t in (0..n - 1).rev() {
            for i in 0..k {
                let next = |j: usize| transition(i, j) + emission(t + 1, j) + beta[t + 1][j];
                beta[t][i] = log_sum((0..k).map(next).collect());
            }
        }
        let all = log_sum((0..k).map(|j| alpha[n - 1][j] + beta[n - 1][j]).collect());
        Self { alpha, beta, all }
    }
}

/// Transitions, starts and ends with the score −∞ where they are not legal.
fn within<R: Real>(scores: Scores<R>, legal: Legal) -> [Vec<R>; 3] {
    let allowed = |scores: &[R], legal: &[bool]| -> Vec<R> {
        let nothing = R::from_f64(f64::NEG_INFINITY);
        let each = scores.iter().zip(legal);
        each.map(|(&score, &legal)| if legal { score } else { nothing }).collect()
    };
    [
        allowed(scores.transitions, legal.transitions),
        allowed(scores.start, legal.start),
        allowed(scores.end, legal.end),
    ]
}

/// Whether tags are a path of legal starts, steps and ends.
fn is_legal(legal: Legal, path: &[usize]) -> bool {
    let k = legal.start.len();
    path.windows(2).all(|pair| legal.transitions[pair[0] * k + pair[1]])
        && path.first().is_none_or(|&first| legal.start[first])
        && path.last().is_none_or(|&last| legal.end[last])
}

/// The sum of the losses; with a gradient, that of the sum times its scale is added. With `legal`,
/// starts, steps and ends that are not legal have the score −∞, unless the targets have one of them.
pub fn negative_log_likelihood<R: Real>(
    sequence: Sequence,
    scores: Scores<R>,
    targets: &[u32],
    legal: Option<Legal>,
    mut gradient: Option<Gradient<R>>,
) -> R {
    let (k, all_scores) = (scores.start.len(), scores);
    let legal = legal.map(|legal| (legal, within(scores, legal)));
    let mut sum = R::zero();
    for b in 0..sequence.batch {
        let n = sequence.real(b);
        if n == 0 || targets[b] == IGNORE {
            continue;
        }
        let row = |t: usize| (t * sequence.batch + b) * k;
        let target = |t: usize| targets[t * sequence.batch + b] as usize;
        let own: Vec<usize> = (0..n).map(target).collect();
        let scores = match &legal {
            Some((legal, [transitions, start, end])) if is_legal(*legal, &own) => {
                Scores { transitions, start, end, ..all_scores }
            }
            _ => all_scores,
        };
        let emission = |t: usize, tag: usize| scores.emissions[row(t) + tag];
        let transition = |i: usize, j: usize| scores.transitions[i * k + j];
        let Sums { alpha, beta, all } = Sums::of(sequence, scores, b);

        let mut path = scores.start[target(0)] + scores.end[target(n - 1)];
        path += (0..n).map(|t| emission(t, target(t))).sum();
        path += (1..n).map(|t| transition(target(t - 1), target(t))).sum();
        sum += all - path;

        let Some(Gradient { scale, emissions, transitions, start, end }) = &mut gradient else {
            continue;
        };
        let one_if = |is: bool| if is { R::one() } else { R::zero() };
        for t in 0..n {
            for j in 0..k {
                let marginal = (alpha[t][j] + beta[t][j] - all).exp();
                let slope = *scale * (marginal - one_if(j == target(t)));
                add(emissions, row(t) + j, slope);
                if t == 0 {
                    add(start, j, slope);
                }
                if t == n - 1 {
                    add(end, j, slope);
                }
                for i in (0..k).filter(|_| t > 0) {
                    let through = alpha[t - 1][i] + transition(i, j) + emission(t, j) + beta[t][j];
                    let count = one_if(i == target(t - 1) && j == target(t));
                    add(transitions, i * k + j, *scale * ((through - all).exp() - count));
                }
            }
        }
    }
    sum
}

/// The probability of each tag at each position, into `out`: e^(α[t, j] + β[t, j]) / Z. With `legal`,
/// starts, steps and ends that are not legal have the score −∞, unless no path is left then.
pub fn marginals<R: Real>(
    sequence: Sequence,
    scores: Scores<R>,
    legal: Option<Legal>,
    out: &mut [R],
) {
    let (k, nothing) = (scores.start.len(), R::from_f64(f64::NEG_INFINITY));
    let legal = legal.map(|legal| within(scores, legal));
    out.fill(R::zero());
    for b in (0..sequence.batch).filter(|&b| sequence.real(b) > 0) {
        let mut sums = Sums::of(sequence, scores, b);
        if let Some([transitions, start, end]) = &legal {
            let within = Sums::of(sequence, Scores { transitions, start, end, ..scores }, b);
            if within.all > nothing {
                sums = within;
            }
        }
        for t in 0..sequence.real(b) {
            for j in 0..k {
                let through = sums.alpha[t][j] + sums.beta[t][j];
                out[(t * sequence.batch + b) * k + j] = (through - sums.all).exp();
            }
        }
    }
}

fn add<R: Real>(into: &mut Option<&mut [R]>, place: usize, value: R) {
    if let Some(into) = into {
        into[place] += value;
    }
}

/// ln Σ eˣ of all values; −∞ where all of them are.
fn log_sum<R: Real>(values: Vec<R>) -> R {
    let largest = values.iter().copied().reduce(R::max).unwrap_or_default();
    if largest == R::from_f64(f64::NEG_INFINITY) {
        return largest;
    }
    largest + values.iter().map(|&x| (x - largest).exp()).sum::<R>().ln()
}
