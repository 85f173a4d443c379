//! Weights whose best hypotheses measure best: minimum error rate training (Och 2003, section 5).
//!
//! Along a line w + γ·d through the space of weights, the total of each hypothesis is a straight line
//! over γ, and the best hypothesis of a list changes only where the upper envelope of its lines has a
//! corner. Between two corners of all lists together nothing changes, so that the metric is known
//! exactly for every γ: the search takes the middle of the best stretch.

use crate::lists::Lists;
use crate::objective::{Objective, Statistics};
use crate::weights::Weights;

/// How weights are searched for.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// What the best hypotheses are measured by.
    pub objective: Objective,
    /// Names of the features whose weights are searched; the others keep theirs.
    pub features: Vec<String>,
    /// Further searches that begin at weights drawn at random (default: 8).
    pub restarts: usize,
    /// Seed of the random weights and directions (default: 0).
    pub seed: u64,
}

/// The weights that were found.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuned {
    /// The best weights. The weight of the first searched feature is 1 where it is positive, as only
    /// the proportions of weights count.
    pub weights: Weights,
    /// The metric with the weights that the search began with.
    pub before: f64,
    /// The metric with the weights that were found; never worse.
    pub after: f64,
}

/// Directions drawn at random in each round, besides one for each feature.
const RANDOM_DIRECTIONS: usize = 8;
/// The most rounds of one search; each goes along the best of the directions.
const MOST_ROUNDS: usize = 100;
/// Gains below this are none.
const LEAST_GAIN: f64 = 1e-9;
/// What a stretch counts for at most, in units of γ, where equal ones are compared by their width.
const WIDEST: f64 = 1.0;

/// Searches weights for lists whose hypotheses have these counts, in the order of the hypotheses. The
/// references of a list are the same for all of its hypotheses.
pub fn tune(
    lists: &Lists,
    statistics: &[Vec<Statistics>],
    start: &Weights,
    tuning: &Tuning,
) -> Tuned {
    let search = Search { lists, statistics, objective: tuning.objective };
    let places = lists.features().iter().enumerate();
    let searched: Vec<usize> =
        places.filter(|(_, name)| tuning.features.contains(name)).map(|(place, _)| place).collect();
    let mut random = Random(tuning.seed);
    let before = search.gain(start.values());
    let mut best = search.climb(start.values().to_vec(), &searched, &mut random);
    let spread = search.spread(&searched);
    for _ in 0..tuning.restarts {
        let mut weights = start.values().to_vec();
        for (&place, spread) in searched.iter().zip(&spread) {
            // Features of every size have a say.
            weights[place] = random.next() / spread;
        }
        let found = search.climb(weights, &searched, &mut random);
        if found.1 > best.1 + LEAST_GAIN {
            best = found;
        }
    }
    if best.1 <= before + LEAST_GAIN {
        best = (start.values().to_vec(), before);
    }
    let scale = searched.first().map_or(1.0, |&place| best.0[place]);
    let others_fixed = searched.len() < lists.features().len()
        && start.iter().enumerate().any(|(place, (_, w))| w != 0.0 && !searched.contains(&place));
    if scale > 0.0 && !others_fixed {
        best.0.iter_mut().for_each(|weight| *weight /= scale);
    }
    let sum = |weights: &[f64]| search.objective.measure(&search.sum(weights));
    let (before, after) = (sum(start.values()), sum(&best.0));
    Tuned { weights: start.with(best.0), before, after }
}

struct Search<'a> {
    lists: &'a Lists,
    statistics: &'a [Vec<Statistics>],
    objective: Objective,
}

/// A corner of a list's envelope: from here on another hypothesis is the best.
struct Corner {
    at: f64,
    list: usize,
    from: usize,
    to: usize,
}

impl Search<'_> {
    /// The counts of the best hypotheses together.
    fn sum(&self, weights: &[f64]) -> Statistics {
        let best = self
            .lists
            .lists()
            .iter()
            .zip(self.statistics)
            .map(|(list, counts)| counts[list.best(|values| dot(weights, values))]);
        best.fold(Statistics::default(), |sum, one| sum.plus(&one))
    }

    fn gain(&self, weights: &[f64]) -> f64 {
        self.objective.gain(&self.sum(weights))
    }

    /// The mean distance of a list's largest and smallest value of each feature; 1 where it is 0.
    fn spread(&self, searched: &[usize]) -> Vec<f64> {
        let spread = searched.iter().map(|&place| {
            let ranges = self.lists.lists().iter().map(|list| {
                let values = list.hypotheses().iter().map(|one| one.value(place));
                let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |range, it| {
                    (range.0.min(it), range.1.max(it))
                });
                most - least
            });
            let mean = ranges.sum::<f64>() / self.lists.lists().len().max(1) as f64;
            if mean > 0.0 { mean } else { 1.0 }
        });
        spread.collect()
    }

    /// Goes along the best direction until none helps.
    fn climb(
        &self,
        mut weights: Vec<f64>,
        searched: &[usize],
        random: &mut Random,
    ) -> (Vec<f64>, f64) {
        let mut gain = self.gain(&weights);
        let spread = self.spread(searched);
        for _ in 0..MOST_ROUNDS {
            let mut best: Option<(Vec<f64>, f64)> = None;
            for direction in 0..searched.len() + RANDOM_DIRECTIONS {
                let mut step = vec![0.0; weights.len()];
                match searched.get(direction) {
                    Some(&place) => step[place] = 1.0 / spread[direction],
                    None => {
                        for (&place, spread) in searched.iter().zip(&spread) {
                            step[place] = random.next() / spread;
                        }
                    }
                }
                let (at, found) = self.line(&weights, &step);
                if found > best.as_ref().map_or(gain, |best| best.1) + LEAST_GAIN {
                    let moved = weights.iter().zip(&step).map(|(w, d)| w + at * d).collect();
                    best = Some((moved, found));
                }
            }
            let Some((moved, _)) = best else { break };
            // Rounding may have moved a tie.
            let found = self.gain(&moved);
            if found <= gain + LEAST_GAIN {
                break;
            }
            (weights, gain) = (moved, found);
        }
        (weights, gain)
    }

    /// The best γ on a line, and the gain there.
    fn line(&self, weights: &[f64], step: &[f64]) -> (f64, f64) {
        let mut corners = Vec::new();
        let mut sum = Statistics::default();
        for (index, list) in self.lists.lists().iter().enumerate() {
            let first = envelope(
                list.hypotheses().iter().map(|one| {
                    let values = one.values();
                    (dot(step, values), dot(weights, values))
                }),
                |at, from, to| corners.push(Corner { at, list: index, from, to }),
            );
            sum = sum.plus(&self.statistics[index][first]);
        }
        corners.sort_by(|a, b| a.at.total_cmp(&b.at).then(a.list.cmp(&b.list)));
        let Some((first, last)) = corners.first().zip(corners.last()).map(|(a, b)| (a.at, b.at))
        else {
            return (0.0, self.objective.gain(&sum));
        };
        let mut best = (first - WIDEST, self.objective.gain(&sum), WIDEST);
        let mut place = 0;
        while place < corners.len() {
            let at = corners[place].at;
            while let Some(corner) = corners.get(place).filter(|corner| corner.at <= at) {
                let counts = &self.statistics[corner.list];
                sum.replace(&counts[corner.from], &counts[corner.to]);
                place += 1;
            }
            let end = corners.get(place).map_or(last + 2.0 * WIDEST, |corner| corner.at);
            let (gain, width) = (self.objective.gain(&sum), (end - at).min(WIDEST));
            let wider = (gain - best.1).abs() <= LEAST_GAIN && width > best.2;
            if gain > best.1 + LEAST_GAIN || wider {
                best = (at + (end - at) / 2.0, gain, width);
            }
        }
        (best.0, best.1)
    }
}

/// The upper envelope of lines slope·γ + value, from γ = −∞ on: gives each corner in order, and
/// returns the place of the first line. Of equal lines the first one counts.
fn envelope(
    lines: impl Iterator<Item = (f64, f64)>,
    mut corner: impl FnMut(f64, usize, usize),
) -> usize {
    let mut lines: Vec<(usize, f64, f64)> =
        lines.enumerate().map(|(place, (slope, value))| (place, slope, value)).collect();
    lines.sort_by(|a, b| a.1.total_cmp(&b.1).then(b.2.total_cmp(&a.2)).then(a.0.cmp(&b.0)));
    lines.dedup_by(|next, kept| next.1 == kept.1);
    // The lines of the envelope so far, and where each one begins.
    let mut hull: Vec<(usize, f64, f64, f64)> = Vec::new();
    for (place, slope, value) in lines {
        let mut begin = f64::NEG_INFINITY;
        while let Some(&(_, last_slope, last_value, last_begin)) = hull.last() {
            begin = (last_value - value) / (slope - last_slope);
            if begin > last_begin {
                break;
            }
            hull.pop();
            begin = f64::NEG_INFINITY;
        }
        hull.push((place, slope, value, begin));
    }
    for pair in hull.windows(2) {
        corner(pair[1].3, pair[0].0, pair[1].0);
    }
    hull.first().map_or(0, |line| line.0)
}

fn dot(weights: &[f64], values: &[f64]) -> f64 {
    weights.iter().zip(values).map(|(weight, value)| weight * value).sum()
}

/// Numbers from −1 to 1 (splitmix64, Steele et al. 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let z = z ^ (z >> 31);
        (z >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

#[cfg(test)]
mod tests;
