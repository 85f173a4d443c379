//! The descent that finds the weights: AdaGrad (Duchi et al., "Adaptive subgradient methods", 2011), one
//! chain after the other, in a seeded order and on one thread: the same weights each time.
//!
//! It minimises the sum over the N chains of −ln p of the right path, and ½·λ‖w‖² with the setting `l2` as
//! λ, of which each chain has the part λ/N. A number w with the sum G of its squared gradients moves by
//! −η·g/√G, and then to the minimum of ½·w²·λ/N and the distance from where it is, ½·(w′ − w)²·√G/η: it is
//! divided by 1 + η·λ/(N·√G), the proximal step. A chain touches the rows of its own features alone. While
//! a row is untouched its G stays the same, so that the m proximal steps that it has missed are made as one
//! of m·λ/N when it is needed again.

use longhand_kernel::crf::{self, Gradient, Scores};
use longhand_kernel::sequence::Sequence;
use longhand_train::{TrainError, Watch};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::super::learning::Learning;
use super::super::settings::CrfSettings;
use super::chains::Chains;
use super::{Weights, add_emission};

/// The sum of squared gradients that a number begins with. A gradient is at most 1 for each word, and with
/// 0 in its place the first step would be as long for a tag that is nearly impossible as for the right one.
const FIRST_SUM: f32 = 1.0;
/// Passes without a better one, after which there are no more.
const PATIENCE: usize = 3;
/// Chains between two calls of a watch.
const TOLD: usize = 512;

/// Weights of the lowest loss on the held-out chains, or those of the last pass where there are none.
pub(super) fn train(
    settings: &CrfSettings,
    learning: &Learning<'_>,
    features: usize,
    [train, valid]: [&Chains; 2],
    watch: &mut Watch<'_>,
) -> Result<Weights, TrainError> {
    let rates = Rates {
        learning: settings.learning_rate as f32,
        l2: (settings.l2 / train.len().max(1) as f64) as f32,
    };
    let mut descent = Descent::new(rates, features, learning.classes);
    let mut order: Vec<usize> = (0..train.len()).collect();
    let mut random = ChaCha8Rng::seed_from_u64(learning.seed);
    let epochs = settings.epochs.get();
    let mut best: Option<(f64, usize, Weights)> = None;
    for epoch in 0..epochs {
        order.shuffle(&mut random);
        for (done, &place) in order.iter().enumerate() {
            descent.step(train, place);
            if done % TOLD == 0 {
                let share = done as f64 / order.len() as f64;
                watch.done((epoch as f64 + share) / epochs as f64)?;
            }
        }
        if valid.len() == 0 {
            continue;
        }
        let weights = descent.weights();
        let nats = weights.nats(valid);
        match &best {
            Some((least, found, _)) if nats >= *least => {
                if epoch - found >= PATIENCE {
                    break;
                }
            }
            _ => best = Some((nats, epoch, weights)),
        }
    }
    watch.done(1.0)?;
    Ok(best.map_or_else(|| descent.weights(), |(_, _, weights)| weights))
}

/// The numbers of a matrix in training.
struct Table {
    /// Numbers in a row.
    columns: usize,
    /// `[rows, columns]`: the numbers.
    values: Vec<f32>,
    /// `[rows, columns]`: G, the sum of the squared gradients of each.
    squares: Vec<f32>,
    /// For each row, how many chains were read when it last had its proximal steps.
    seen: Vec<u64>,
}

/// η, and the part of λ that each chain has.
#[derive(Clone, Copy)]
struct Rates {
    learning: f32,
    l2: f32,
}

impl Table {
    fn new(rows: usize, columns: usize) -> Self {
        Self {
            columns,
            values: vec![0.0; rows * columns],
            squares: vec![FIRST_SUM; rows * columns],
            seen: vec![0; rows],
        }
    }

    /// Makes the proximal steps that a row has missed after `now` chains.
    fn shrink(&mut self, row: usize, rates: Rates, now: u64) {
        let missed = (now - self.seen[row]) as f32;
        self.seen[row] = now;
        if missed == 0.0 || rates.l2 == 0.0 {
            return;
        }
        let factor = rates.learning * rates.l2 * missed;
        let own = row * self.columns..(row + 1) * self.columns;
        let both = self.values[own.clone()].iter_mut().zip(&self.squares[own]);
        both.for_each(|(value, square)| *value /= 1.0 + factor / square.sqrt());
    }

    /// Moves a row against its gradient.
    fn step(&mut self, row: usize, gradient: &[f32], rates: Rates) {
        let own = row * self.columns..(row + 1) * self.columns;
        let both = self.values[own.clone()].iter_mut().zip(&mut self.squares[own]);
        for ((value, square), slope) in both.zip(gradient) {
            *square += slope * slope;
            *value -= rates.learning * slope / square.sqrt();
        }
    }

    fn rows(&self) -> usize {
        self.seen.len()
    }
}

/// The weights in training, and the buffers of a step.
struct Descent {
    rates: Rates,
    /// K: number of tags.
    tags: usize,
    /// Chains that were read.
    read: u64,
    features: Table,
    transitions: Table,
    start: Table,
    end: Table,
    emissions: Vec<f32>,
    /// The gradients by the emissions and by the scores of neighbours, first and last tags.
    slopes: [Vec<f32>; 4],
}

impl Descent {
    fn new(rates: Rates, features: usize, tags: usize) -> Self {
        Self {
            rates,
            tags,
            read: 0,
            features: Table::new(features, tags),
            transitions: Table::new(tags, tags),
            start: Table::new(1, tags),
            end: Table::new(1, tags),
            emissions: Vec::new(),
            slopes: Default::default(),
        }
    }

    /// A step on one chain. A feature that several of its words have makes one for each of them.
    fn step(&mut self, chains: &Chains, place: usize) {
        let (rows, right) = chains.chain(place);
        let (rates, now) = (self.rates, self.read);
        for &feature in rows.clone().flatten() {
            self.features.shrink(feature as usize, rates, now);
        }
        self.shrink_dense();
        self.emissions.clear();
        for row in rows.clone() {
            add_emission(&self.features.values, self.tags, row, &mut self.emissions);
        }
        self.find_slopes(right);
        self.read += 1;
        let [of_words, of_pairs, of_first, of_last] = &self.slopes;
        for (row, slopes) in rows.zip(of_words.chunks_exact(self.tags)) {
            for &feature in row {
                self.features.step(feature as usize, slopes, rates);
            }
        }
        for (tag, slopes) in of_pairs.chunks_exact(self.tags).enumerate() {
            self.transitions.step(tag, slopes, rates);
        }
        self.start.step(0, of_first, rates);
        self.end.step(0, of_last, rates);
    }

    /// Finds the gradients of −ln p of the right path by the scores.
    fn find_slopes(&mut self, right: &[u32]) {
        let scores = Scores {
            emissions: &self.emissions,
            transitions: &self.transitions.values,
            start: &self.start.values,
            end: &self.end.values,
        };
        let sizes =
            [scores.emissions, scores.transitions, scores.start, scores.end].map(<[f32]>::len);
        for (slopes, size) in self.slopes.iter_mut().zip(sizes) {
            slopes.clear();
            slopes.resize(size, 0.0);
        }
        let [emissions, transitions, start, end] = &mut self.slopes;
        let gradient = Gradient {
            scale: 1.0,
            emissions: Some(emissions),
            transitions: Some(transitions),
            start: Some(start),
            end: Some(end),
        };
        let sequence = Sequence::new(right.len(), 1);
        crf::negative_log_likelihood(sequence, scores, right, None, None, Some(gradient));
    }

    /// Makes the proximal steps of the scores that every chain touches.
    fn shrink_dense(&mut self) {
        let (rates, now) = (self.rates, self.read);
        (0..self.tags).for_each(|tag| self.transitions.shrink(tag, rates, now));
        self.start.shrink(0, rates, now);
        self.end.shrink(0, rates, now);
    }

    /// The weights after all proximal steps.
    fn weights(&mut self) -> Weights {
        let (rates, now) = (self.rates, self.read);
        (0..self.features.rows()).for_each(|row| self.features.shrink(row, rates, now));
        self.shrink_dense();
        Weights {
            features: self.features.values.clone(),
            transitions: self.transitions.values.clone(),
            start: self.start.values.clone(),
            end: self.end.values.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The missed steps are made as one of m parts of λ: w′ = w − m·η·λ·w′/√G for each number.
    #[test]
    fn missed_proximal_steps_are_one_of_all_of_them() {
        let rates = Rates { learning: 0.3, l2: 0.02 };
        let mut table = Table::new(2, 2);
        table.step(1, &[-2.0, 0.5], rates);
        let before = table.values.clone();
        let roots = [5.0_f32.sqrt(), 1.25_f32.sqrt()];
        assert!((before[2] - 0.6 / roots[0]).abs() < 1e-6, "{before:?}");
        assert!((before[3] + 0.15 / roots[1]).abs() < 1e-6, "{before:?}");
        table.shrink(1, rates, 7);
        for (place, root) in roots.into_iter().enumerate() {
            let (old, new) = (before[2 + place], table.values[2 + place]);
            assert!(new.abs() < old.abs());
            assert!((new - (old - 0.3 * 0.02 * 7.0 * new / root)).abs() < 1e-6, "{old} {new}");
        }
        // They are made once, and the other row has none to make.
        let after = table.values.clone();
        table.shrink(1, rates, 7);
        table.shrink(0, rates, 7);
        assert_eq!(table.values, after);
    }
}
