//! What a load tells: percentiles, rates, and errors.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::load::Run;
use super::sample::{End, Sample};

/// A load in numbers. Times are in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) model: String,
    pub(super) seconds: f64,
    pub(super) requests: usize,
    pub(super) answered: usize,
    /// Requests that ended in another way, by how.
    pub(super) errors: BTreeMap<String, usize>,
    pub(super) not_sent: usize,
    pub(super) requests_per_second: f64,
    pub(super) tokens_per_second: f64,
    pub(super) prompt_tokens: u64,
    pub(super) cached_tokens: u64,
    pub(super) written_tokens: u64,
    /// From when a request was due to its first text.
    pub(super) first_token: Option<Percentiles>,
    /// Between a piece of text and the one before it.
    pub(super) per_token: Option<Percentiles>,
    /// From when a request was due to the end of its answer.
    pub(super) whole: Option<Percentiles>,
}

/// Percentiles of times, in milliseconds.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) most: f64,
}

impl Summary {
    /// Times and tokens are those of requests that were answered.
    pub(super) fn of(run: &Run, model: &str) -> Self {
        let answered: Vec<&Sample> = answered(run).collect();
        let mut errors = BTreeMap::new();
        for sample in run.samples.iter().filter(|it| it.end != End::Answered) {
            *errors.entry(sample.end.to_string()).or_insert(0) += 1;
        }
        let seconds = run.time.as_secs_f64().max(1e-9);
        let sum = |value: fn(&Sample) -> u64| answered.iter().map(|it| value(it)).sum::<u64>();
        let written = sum(|it| it.usage.written);
        let [first_token, per_token, whole] = times(run).map(|times| Percentiles::of(&times));
        Self {
            model: model.to_owned(),
            seconds,
            requests: run.samples.len(),
            answered: answered.len(),
            errors,
            not_sent: run.waiting_too_long,
            requests_per_second: answered.len() as f64 / seconds,
            tokens_per_second: written as f64 / seconds,
            prompt_tokens: sum(|it| it.usage.prompt),
            cached_tokens: sum(|it| it.usage.cached),
            written_tokens: written,
            first_token,
            per_token,
            whole,
        }
    }
}

impl Percentiles {
    /// Of ascending times; none of none.
    fn of(times: &[f64]) -> Option<Self> {
        let most = *times.last()?;
        let at = |share| percentile(times, share);
        Some(Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), most })
    }
}

/// The least of ascending times that at least this share of them does not exceed (nearest rank).
fn percentile(times: &[f64], share: f64) -> f64 {
    let rank = (share * times.len() as f64).ceil() as usize;
    times[rank.clamp(1, times.len()) - 1]
}

fn answered(run: &Run) -> impl Iterator<Item = &Sample> {
    run.samples.iter().filter(|sample| sample.end == End::Answered)
}

/// Ascending milliseconds to the first text, between two pieces of text, and to the end.
fn times(run: &Run) -> [Vec<f64>; 3] {
    let sorted = |times: Vec<Duration>| {
        let mut times: Vec<f64> = times.iter().map(|it| 1e3 * it.as_secs_f64()).collect();
        times.sort_unstable_by(f64::total_cmp);
        times
    };
    [
        sorted(answered(run).filter_map(|it| it.first_token).collect()),
        sorted(answered(run).flat_map(|it| it.between.iter().copied()).collect()),
        sorted(answered(run).map(|it| it.whole).collect()),
    ]
}

/// Each kind of time by percentile, for a plot.
pub(super) fn curves(run: &Run) -> Vec<(&'static str, Vec<(f64, f64)>)> {
    let curve = |times: Vec<f64>| -> Vec<(f64, f64)> {
        let percentiles = (0..=100).map(f64::from).filter(|_| !times.is_empty());
        percentiles.map(|at| (at, percentile(&times, at / 100.0))).collect()
    };
    let names = ["to the first token", "between tokens", "whole answer"];
    let all = names.into_iter().zip(times(run).map(curve));
    all.filter(|(_, points)| !points.is_empty()).collect()
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} of {} requests answered in {:.1} s: {:.1} requests and {:.0} tokens a second",
            self.answered,
            self.requests,
            self.seconds,
            self.requests_per_second,
            self.tokens_per_second
        )?;
        writeln!(
            f,
            "{} tokens of prompts, {} of them reused; {} tokens written",
            self.prompt_tokens, self.cached_tokens, self.written_tokens
        )?;
        let [p50, p90, p99, most] = ["p50", "p90", "p99", "most"];
        writeln!(f, "{:<20} {p50:>10} {p90:>10} {p99:>10} {most:>10}", "milliseconds")?;
        let rows = [
            ("to the first token", &self.first_token),
            ("between tokens", &self.per_token),
            ("whole answer", &self.whole),
        ];
        for (name, times) in rows {
            match times {
                None => writeln!(f, "{name:<20} {:>10} {:>10} {:>10} {:>10}", "-", "-", "-", "-")?,
                Some(Percentiles { p50, p90, p99, most }) => {
                    writeln!(f, "{name:<20} {p50:>10.2} {p90:>10.2} {p99:>10.2} {most:>10.2}")?;
                }
            }
        }
        for (how, count) in &self.errors {
            writeln!(f, "{count} requests ended with: {how}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times: Vec<f64> = (1..=200).map(f64::from).collect();
        let found = Percentiles::of(&times).unwrap();
        assert_eq!(found, Percentiles { p50: 100.0, p90: 180.0, p99: 198.0, most: 200.0 });
        assert_eq!(Percentiles::of(&[7.0]).unwrap().p99, 7.0);
        assert_eq!(Percentiles::of(&[]), None);
    }
}
