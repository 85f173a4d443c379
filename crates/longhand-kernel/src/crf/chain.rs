//! The passes over one chain, in double precision.

use super::{Gradient, Legal, Scores};
use crate::sequence::Sequence;

/// The smallest sum of scaled exponentials that is trusted. Terms that underflow are below 1e−308,
/// so that they change a larger sum by nothing.
const LEAST_SUM: f64 = 1e-200;
/// The largest power of e that a product of scaled exponentials is scaled back by.
const MOST_SHIFT: f64 = 300.0;

/// The transition scores of a pass, with their exponentials.
pub(super) struct Table {
    /// K: number of tags.
    tags: usize,
    /// `[K, K]`: the scores.
    scores: Vec<f64>,
    /// `[K, K]`: e to the power of each score less the largest.
    exponentials: Vec<f64>,
    /// `[K, K]`: the same, transposed: row j holds the exponentials of steps to tag j.
    transposed: Vec<f64>,
    /// The largest transition score; 0 where no step is legal.
    largest: f64,
}

impl Table {
    /// The table of transition scores; with `legal` `[K, K]`, steps that are not legal have −∞.
    pub(super) fn new(transitions: &[f32], legal: Option<&[bool]>) -> Self {
        let tags = transitions.len().isqrt();
        let score = |(place, &x): (usize, &f32)| {
            allowed(legal.is_none_or(|legal| legal[place]), f64::from(x))
        };
        let scores: Vec<f64> = transitions.iter().enumerate().map(score).collect();
        let largest = largest(&scores);
        let exponentials: Vec<f64> = scores.iter().map(|x| (x - largest).exp()).collect();
        let at = |place: usize| exponentials[place % tags * tags + place / tags];
        let transposed = (0..tags * tags).map(at).collect();
        Self { tags, scores, exponentials, transposed, largest }
    }

    /// `out[j] = ln Σ_i e^(from[i] + scores[i, j])`.
    fn step(&self, from: &[f64], scaled: &mut [f64], out: &mut [f64]) {
        let shift = scale(from, scaled);
        for (j, out) in out.iter_mut().enumerate() {
            let sum = dot(scaled, &self.transposed[j * self.tags..][..self.tags]);
            *out = if sum > LEAST_SUM {
                shift + self.largest + sum.ln()
            } else {
                log_sum(from.iter().enumerate().map(|(i, x)| x + self.scores[i * self.tags + j]))
            };
        }
    }

    /// `out[i] = ln Σ_j e^(scores[i, j] + from[j])`.
    fn step_back(&self, from: &[f64], scaled: &mut [f64], out: &mut [f64]) {
        let shift = scale(from, scaled);
        for (i, out) in out.iter_mut().enumerate() {
            let range = i * self.tags..(i + 1) * self.tags;
            let sum = dot(scaled, &self.exponentials[range.clone()]);
            *out = if sum > LEAST_SUM {
                shift + self.largest + sum.ln()
            } else {
                log_sum(from.iter().zip(&self.scores[range]).map(|(x, score)| x + score))
            };
        }
    }
}

/// The scores of one sequence and the passes over them.
pub(super) struct Chain {
    /// K: number of tags.
    tags: usize,
    /// `[n, K]`: the emissions, with the scores of start and end added to the first and last row; −∞
    /// where these are not legal.
    unary: Vec<f64>,
    /// `[n, K]`: the logarithm of the sum over all beginnings that end in each tag, with the
    /// emission of that tag.
    before: Vec<f64>,
    /// `[n, K]`: the logarithm of the sum over all rests behind each tag.
    after: Vec<f64>,
    /// ln Z, over the paths that are summed; −∞ where none is legal.
    all: f64,
    /// `[K]`: room for scaled exponentials, twice.
    scaled: [Vec<f64>; 2],
    /// `[K]`: room for what is behind a step.
    behind: Vec<f64>,
    /// `[n, K]`: the best tag before each one.
    earlier: Vec<u32>,
}

impl Chain {
    pub(super) fn new(tags: usize) -> Self {
        Self {
            tags,
            unary: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
            all: 0.0,
            scaled: [vec![0.0; tags], vec![0.0; tags]],
            behind: vec![0.0; tags],
            earlier: Vec::new(),
        }
    }

    /// Takes in the scores of sequence `b`, which has at least one real position. With `legal`, its
    /// first and last tags alone are those that are legal there.
    pub(super) fn read(
        &mut self,
        sequence: Sequence,
        scores: Scores,
        legal: Option<Legal>,
        b: usize,
    ) {
        let (tags, length) = (self.tags, sequence.real(b));
        self.unary.clear();
        for t in 0..length {
            let row = &scores.emissions[(t * sequence.batch + b) * tags..][..tags];
            self.unary.extend(row.iter().map(|&x| f64::from(x)));
        }
        let last = (length - 1) * tags;
        for (tag, x) in self.unary[..tags].iter_mut().enumerate() {
            let is_legal = legal.is_none_or(|legal| legal.start[tag]);
            *x = allowed(is_legal, *x + f64::from(scores.start[tag]));
        }
        for (tag, x) in self.unary[last..].iter_mut().enumerate() {
            let is_legal = legal.is_none_or(|legal| legal.end[tag]);
            *x = allowed(is_legal, *x + f64::from(scores.end[tag]));
        }
    }

    /// The forward recursion; gives ln Z.
    pub(super) fn forward(&mut self, table: &Table) -> f64 {
        let Self { tags, unary, before, scaled: [scaled, _], .. } = self;
        let tags = *tags;
        before.clone_from(unary);
        for at in (tags..unary.len()).step_by(tags) {
            let (earlier, rest) = before.split_at_mut(at);
            let row = &mut rest[..tags];
            table.step(&earlier[at - tags..], scaled, row);
            for (x, score) in row.iter_mut().zip(&unary[at..]) {
                *x += score;
            }
        }
        self.all = log_sum(self.before[self.before.len() - tags..].iter().copied());
        self.all
    }

    /// The backward recursion, from the last position.
    pub(super) fn backward(&mut self, table: &Table) {
        let Self { tags, unary, after, scaled: [scaled, _], behind, .. } = self;
        let tags = *tags;
        after.clear();
        after.resize(unary.len(), 0.0);
        for at in (tags..unary.len()).step_by(tags).rev() {
            for (x, place) in behind.iter_mut().zip(at..) {
                *x = unary[place] + after[place];
            }
            table.step_back(behind, scaled, &mut after[at - tags..at]);
        }
    }

    /// The score of a path.
    pub(super) fn score(&self, table: &Table, path: &[usize]) -> f64 {
        let emissions = path.iter().enumerate().map(|(t, tag)| self.unary[t * self.tags + tag]);
        let steps = path.windows(2).map(|pair| table.scores[pair[0] * self.tags + pair[1]]);
        emissions.sum::<f64>() + steps.sum::<f64>()
    }

    /// The probability of each tag at position t, after both recursions.
    pub(super) fn marginals(&self, t: usize, mut take: impl FnMut(usize, f64)) {
        for tag in 0..self.tags {
            let place = t * self.tags + tag;
            // Rounding may leave it a little above 1.
            take(tag, (self.before[place] + self.after[place] - self.all).exp().min(1.0));
        }
    }

    /// Adds the expected counts less those of `path`, after both recursions.
    pub(super) fn add_gradient(
        &mut self,
        table: &Table,
        sequence: Sequence,
        b: usize,
        path: &[usize],
        gradient: &mut Gradient,
    ) {
        let (tags, last, scale) = (self.tags, path.len() - 1, f64::from(gradient.scale));
        for (t, &target) in path.iter().enumerate() {
            self.marginals(t, |tag, probability| {
                let wanted = f64::from(u8::from(tag == target));
                let slope = (scale * (probability - wanted)) as f32;
                if let Some(emissions) = &mut gradient.emissions {
                    emissions[(t * sequence.batch + b) * tags + tag] += slope;
                }
                if let Some(start) = gradient.start.as_mut().filter(|_| t == 0) {
                    start[tag] += slope;
                }
                if let Some(end) = gradient.end.as_mut().filter(|_| t == last) {
                    end[tag] += slope;
                }
            });
        }
        if let Some(transitions) = &mut gradient.transitions {
            for pair in path.windows(2) {
                transitions[pair[0] * tags + pair[1]] -= scale as f32;
            }
            for t in 1..path.len() {
                self.add_pairs(table, t, scale, transitions);
            }
        }
    }

    /// Adds the probabilities of the pairs of tags at t − 1 and t times `scale`.
    fn add_pairs(&mut self, table: &Table, t: usize, scale: f64, into: &mut [f32]) {
        let Self { tags, unary, before, after, all, scaled: [left, right], behind, .. } = self;
        let tags = *tags;
        let before = &before[(t - 1) * tags..t * tags];
        for (x, place) in behind.iter_mut().zip(t * tags..) {
            *x = unary[place] + after[place];
        }
        let shift = self::scale(before, left) + self::scale(behind, right) + table.largest - *all;
        // Where the scaled products could underflow, each pair has an exponential of its own.
        let back = (shift <= MOST_SHIFT).then(|| scale * shift.exp());
        for i in 0..tags {
            for j in 0..tags {
                let place = i * tags + j;
                let weighted = match back {
                    Some(back) => back * left[i] * table.exponentials[place] * right[j],
                    None => scale * (before[i] + table.scores[place] + behind[j] - *all).exp(),
                };
                into[place] += weighted as f32;
            }
        }
    }

    /// Writes the tags of the best path into `path`; false if no path is legal.
    pub(super) fn best_path(&mut self, table: &Table, path: &mut Vec<usize>) -> bool {
        let tags = self.tags;
        let length = self.unary.len() / tags;
        let mut best = self.unary[..tags].to_vec();
        let mut next = vec![0.0; tags];
        self.earlier.clear();
        self.earlier.resize(self.unary.len(), 0);
        for t in 1..length {
            for (j, next) in next.iter_mut().enumerate() {
                let step = |i: usize| best[i] + table.scores[i * tags + j];
                let (from, score) = largest_of((0..tags).map(step));
                self.earlier[t * tags + j] = from as u32;
                *next = score + self.unary[t * tags + j];
            }
            std::mem::swap(&mut best, &mut next);
        }
        let (mut tag, score) = largest_of(best.iter().copied());
        path.clear();
        path.resize(length, 0);
        for t in (0..length).rev() {
            path[t] = tag;
            tag = self.earlier[t * tags + tag] as usize;
        }
        score > f64::NEG_INFINITY
    }
}

/// The score of something, or −∞ where it is not legal.
fn allowed(legal: bool, score: f64) -> f64 {
    if legal { score } else { f64::NEG_INFINITY }
}

/// Writes e to the power of each value less the largest; gives the largest, see [`largest`].
fn scale(values: &[f64], scaled: &mut [f64]) -> f64 {
    let largest = largest(values);
    for (scaled, value) in scaled.iter_mut().zip(values) {
        *scaled = (value - largest).exp();
    }
    largest
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// ln Σ eˣ of all values; −∞ where all of them are.
fn log_sum(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = finite(values.clone().fold(f64::NEG_INFINITY, f64::max));
    largest + values.map(|x| (x - largest).exp()).sum::<f64>().ln()
}

/// The largest value; 0 where none is above −∞.
fn largest(values: &[f64]) -> f64 {
    finite(values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}

/// What is taken from other values before they are exponents: 0 in place of −∞, as −∞ − (−∞) is NaN.
fn finite(value: f64) -> f64 {
    if value == f64::NEG_INFINITY { 0.0 } else { value }
}

/// The first of the largest values, with its place.
fn largest_of(values: impl Iterator<Item = f64>) -> (usize, f64) {
    values.enumerate().fold((0, f64::NEG_INFINITY), |best, (place, value)| {
        if value > best.1 { (place, value) } else { best }
    })
}
