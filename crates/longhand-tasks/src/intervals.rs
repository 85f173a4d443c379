//! How sure a measure is: intervals by resampling, and whether two models differ.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::score::{Evaluation, PERPLEXITY, TokenLosses};
use crate::task::{Scored, Task};

/// Samples of the examples that intervals are drawn from, by default.
pub const SAMPLES: usize = 1000;

/// A range that holds 95 % of the measures of resampled examples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower bound: the 2.5th percentile.
    pub low: f64,
    /// Upper bound: the 97.5th percentile.
    pub high: f64,
}

/// A metric of one model less that of another, on the same examples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The difference on all examples.
    pub value: f64,
    /// The differences on resampled examples.
    pub interval: Interval,
    /// Two-sided p value of the paired bootstrap: twice the smaller share of samples in which the
    /// difference is at least, or at most, zero.
    pub p: f64,
}

/// McNemar's exact test (1947) of two models that are right or wrong on the same examples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct McNemar {
    /// Examples that the first model alone has right.
    pub only_first: u64,
    /// Examples that the second model alone has right.
    pub only_second: u64,
    /// Two-sided p value under the binomial distribution of `only_first` with chance 1/2.
    pub p: f64,
}

/// The interval of each metric, and of the perplexity where right texts have one (Efron 1979):
/// `samples` times, as many examples as there are are drawn with replacement and measured. The same
/// seed draws the same examples.
pub fn bootstrap<T: Task>(
    evaluation: &Evaluation<'_, T>,
    samples: usize,
    seed: u64,
) -> BTreeMap<String, Interval> {
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let scored = evaluation.scored();
    let mut draw = Draw::new(scored.len(), seed);
    let sampler = Sampler::new(evaluation.task, &scored, evaluation.token_losses.as_ref());
    for _ in 0..samples {
        let places: Vec<usize> = draw.places().collect();
        for (name, value) in sampler.measure(&places) {
            values.entry(name).or_default().push(value);
        }
    }
    values.into_iter().map(|(name, values)| (name, interval(values))).collect()
}

/// The difference of each metric of two models that answered the same examples in the same order; of the
/// perplexity too, where both are of the same tokens.
pub fn differences<T: Task>(
    first: &Evaluation<'_, T>,
    second: &Evaluation<'_, T>,
    samples: usize,
    seed: u64,
) -> BTreeMap<String, Difference> {
    let (first_scored, second_scored) = (first.scored(), second.scored());
    let count = first_scored.len().min(second_scored.len());
    let losses = first.token_losses.as_ref().zip(second.token_losses.as_ref());
    let losses = losses.filter(|(first, second)| first.are_alike(second)).unzip();
    let first = Sampler::new(first.task, &first_scored, losses.0);
    let second = Sampler::new(second.task, &second_scored, losses.1);
    let both = |places: &[usize]| {
        let second = second.measure(places);
        let first = first.measure(places);
        let pairs = first.into_iter().filter_map(move |(name, value)| {
            let other = *second.get(&name)?;
            Some((name, value - other))
        });
        pairs.collect::<BTreeMap<_, _>>()
    };
    let mut draw = Draw::new(count, seed);
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for _ in 0..samples {
        for (name, value) in both(&draw.places().collect::<Vec<_>>()) {
            values.entry(name).or_default().push(value);
        }
    }
    let all = both(&(0..count).collect::<Vec<_>>());
    let difference = |(name, value): (String, f64)| {
        let values = values.remove(&name).unwrap_or_default();
        let share = |holds: fn(f64) -> bool| {
            values.iter().filter(|&&value| holds(value)).count() as f64 / values.len().max(1) as f64
        };
        let p = (2.0 * share(|x| x <= 0.0).min(share(|x| x >= 0.0))).min(1.0);
        (name, Difference { value, interval: interval(values), p })
    };
    all.into_iter().map(difference).collect()
}

/// McNemar's test of two models; none where answers are not right or wrong.
pub fn mcnemar<T: Task>(
    (first, first_scored): (&T, &[Scored<'_, T>]),
    (second, second_scored): (&T, &[Scored<'_, T>]),
) -> Option<McNemar> {
    let (mut only_first, mut only_second) = (0, 0);
    for (a, b) in first_scored.iter().zip(second_scored) {
        match (first.is_right(a)?, second.is_right(b)?) {
            (true, false) => only_first += 1,
            (false, true) => only_second += 1,
            _ => {}
        }
    }
    Some(McNemar { only_first, only_second, p: sign_test(only_first, only_second) })
}

/// The 95 % interval of the mean of `count` independent values with a standard deviation from n
/// − 1 degrees of freedom: mean ± t·deviation/√n, with t of Student's distribution. A single
/// value has no width.
pub fn interval_of_mean(mean: f64, deviation: f64, count: usize) -> Interval {
    let half = match count {
        0 | 1 => 0.0,
        _ => student_t(count - 1) * deviation / (count as f64).sqrt(),
    };
    Interval { low: mean - half, high: mean + half }
}

/// The 97.5th percentile of Student's t. From 10 degrees of freedom n on it is the normal
/// percentile z with the first terms of its expansion in 1/n (Abramowitz & Stegun 26.7.5), which are
/// right to four digits.
fn student_t(degrees: usize) -> f64 {
    const FIRST: [f64; 9] = [
        12.706204736432095,
        4.302652729911275,
        3.182446305284263,
        2.7764451051977987,
        2.5705818366147395,
        2.4469118511449692,
        2.3646242515927844,
        2.306004135204166,
        2.2621571627409915,
    ];
    if let Some(&t) = degrees.checked_sub(1).and_then(|place| FIRST.get(place)) {
        return t;
    }
    let (z, n) = (1.959963984540054_f64, degrees as f64);
    let power = |exponent| z.powi(exponent);
    z + (power(3) + z) / (4.0 * n)
        + (5.0 * power(5) + 16.0 * power(3) + 3.0 * z) / (96.0 * n * n)
        + (3.0 * power(7) + 19.0 * power(5) + 17.0 * power(3) - 15.0 * z) / (384.0 * n.powi(3))
}

/// min(1, 2·Σₖ C(n, k)/2ⁿ) for k from 0 to the smaller count and n the sum of both. Terms are
/// multiplied up in logarithms, so that a large n does not underflow.
fn sign_test(a: u64, b: u64) -> f64 {
    let n = a + b;
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut sum = 0.0;
    for k in 0..=a.min(b) {
        sum += log_term.exp();
        log_term += ((n - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    (2.0 * sum).min(1.0)
}

/// Measures samples of examples.
struct Sampler<'a, T: Task> {
    task: &'a T,
    scored: &'a [Scored<'a, T>],
    /// What a task counts in each example once, as counting takes longer than adding.
    counts: Option<Vec<Vec<(usize, u64)>>>,
    /// What the perplexity is measured from.
    losses: Option<&'a TokenLosses>,
}

impl<'a, T: Task> Sampler<'a, T> {
    fn new(task: &'a T, scored: &'a [Scored<'a, T>], losses: Option<&'a TokenLosses>) -> Self {
        Self { task, scored, counts: task.tallies(scored), losses }
    }

    /// The metrics of the examples in some places.
    fn measure(&self, places: &[usize]) -> BTreeMap<String, f64> {
        let mut metrics = match &self.counts {
            Some(counts) => {
                let sums = sums(places.iter().map(|&place| &counts[place]));
                self.task.measure_tallies(&sums)
            }
            None => {
                let sample: Vec<_> = places.iter().map(|&place| self.scored[place]).collect();
                self.task.measure(&sample)
            }
        };
        let perplexity = self.losses.and_then(|losses| losses.perplexity(places));
        metrics.extend(perplexity.map(|value| (PERPLEXITY.to_owned(), value)));
        metrics
    }
}

/// The sums of examples' counts, by place.
pub(crate) fn sums<'a>(counts: impl IntoIterator<Item = &'a Vec<(usize, u64)>>) -> Vec<u64> {
    let mut sums: Vec<u64> = Vec::new();
    for &(place, count) in counts.into_iter().flatten() {
        if place >= sums.len() {
            sums.resize(place + 1, 0);
        }
        sums[place] += count;
    }
    sums
}

/// Draws places with replacement.
struct Draw {
    count: usize,
    random: ChaCha8Rng,
}

impl Draw {
    fn new(count: usize, seed: u64) -> Self {
        Self { count, random: ChaCha8Rng::seed_from_u64(seed) }
    }

    fn places(&mut self) -> impl Iterator<Item = usize> {
        (0..self.count).map(|_| self.random.random_range(0..self.count))
    }
}

fn interval(mut values: Vec<f64>) -> Interval {
    values.sort_by(f64::total_cmp);
    Interval { low: percentile(&values, 0.025), high: percentile(&values, 0.975) }
}

/// The value below which a share of sorted values is, between two of them in proportion; 0
/// where there is none.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * sorted.len().saturating_sub(1) as f64;
    let at = |place: f64| sorted.get(place as usize).copied().unwrap_or(0.0);
    at(place.floor()) + (at(place.ceil()) - at(place.floor())) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_test_is_the_binomial_one() {
        // scipy.stats.binomtest(k, n, 0.5).pvalue.
        for (a, b, expected) in
            [(0, 0, 1.0), (0, 5, 0.0625), (1, 9, 0.021484375), (8, 2, 0.109375), (5, 5, 1.0)]
        {
            assert!((sign_test(a, b) - expected).abs() < 1e-12, "{a} {b}: {}", sign_test(a, b));
            assert_eq!(sign_test(a, b), sign_test(b, a));
        }
        assert!(sign_test(5000, 5000) == 1.0 && sign_test(0, 10_000) < 1e-300);
    }

    #[test]
    fn the_percentiles_of_students_t_are_those_of_the_tables() {
        // scipy.stats.t.ppf(0.975, n).
        for (degrees, expected) in [
            (1, 12.706204736432095),
            (9, 2.2621571627409915),
            (10, 2.2281388519649385),
            (19, 2.093024054408263),
            (100, 1.9839715184496334),
        ] {
            let got = student_t(degrees);
            assert!((got - expected).abs() < 2e-4, "{degrees}: {got}");
        }
        let Interval { low, high } = interval_of_mean(0.5, 0.1, 10);
        assert!((high - low - 2.0 * 2.2621571627409915 * 0.1 / 10_f64.sqrt()).abs() < 1e-12);
        assert_eq!(interval_of_mean(0.5, 0.0, 1), Interval { low: 0.5, high: 0.5 });
    }

    #[test]
    fn percentiles_lie_between_values() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(percentile(&values, 0.5), 3.0);
        assert!((percentile(&values, 0.025) - 1.1).abs() < 1e-12);
        assert_eq!((percentile(&[7.0], 0.9), percentile(&[], 0.9)), (7.0, 0.0));
    }
}
