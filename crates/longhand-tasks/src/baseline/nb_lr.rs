//! Naive Bayes logistic regression (Wang and Manning, "Baselines and bigrams", 2012): logistic
//! regression on n-grams, each of which counts as much as its log-count ratio.
//!
//! For a class, p and q count the texts with and without it that hold an n-gram, both with α added.
//! The ratio is r = ln((p/‖p‖₁)/(q/‖q‖₁)), and the features of a text are r for each n-gram that it
//! holds. Several classes are told apart one against the rest.

use std::sync::{Mutex, PoisonError};

use longhand_train::{TrainError, Watch};

use super::error::BaselineError;
use super::grams::{Gram, Grams, Scratch};
use super::index::{Index, Rows};
use super::learning::{Labelled, Learning};
use super::logistic::{Problem, Solution, solve};
use super::settings::NbLrSettings;
use super::tensors::Tensors;

/// A trained model, which reads texts.
#[derive(Clone, Debug, PartialEq)]
pub struct NbLr {
    grams: Grams,
    index: Index,
    /// `[V, P]`: r·w of each n-gram for each of P problems: one for two classes, else one a class.
    weights: Vec<f32>,
    /// `[P]`: the bias of each problem.
    bias: Vec<f32>,
}

/// The values of C that are tried where none is given, from small to large.
const COSTS: [f64; 5] = [0.01, 0.1, 1.0, 10.0, 100.0];

impl NbLr {
    pub(crate) fn fit(
        settings: &NbLrSettings,
        learning: &Learning<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Self, TrainError> {
        let grams = grams(settings);
        let mut index = Index::default();
        let mut found = Finder::default();
        let mut train = Rows::default();
        for example in learning.train {
            let row = found.row(grams, &example.read(), |key| index.add(key).map(Some));
            train.push(row.map_err(objective)?);
        }
        let mut valid = Rows::default();
        for example in learning.valid {
            let row = found.row(grams, &example.read(), |key| Ok(index.get(key)));
            valid.push(row.map_err(objective)?);
        }
        watch.done(0.1)?;
        let problems = Problems::new(settings, learning, &train, index.len());
        let costs = match settings.cost {
            Some(cost) => vec![cost],
            None if learning.valid.is_empty() => vec![1.0],
            None => COSTS.into(),
        };
        let (mut best, mut earlier): (Option<(usize, Vec<Solution>)>, _) = (None, None);
        for (tried, cost) in costs.iter().enumerate() {
            let solutions = problems.solve(*cost, earlier.as_deref());
            let right = learning.right(|place| logits(&scores(&solutions, valid.row(place))));
            if best.as_ref().is_none_or(|(most, _)| right > *most) {
                best = Some((right, solutions.clone()));
            }
            earlier = Some(solutions);
            watch.done(0.1 + 0.9 * (tried + 1) as f64 / costs.len() as f64)?;
        }
        let (_, solutions) = best.unwrap_or_default();
        Ok(problems.model(settings, grams, index, &solutions))
    }

    pub(crate) fn logits(&self, texts: &[&str]) -> Vec<f32> {
        let count = self.bias.len();
        let mut found = Finder::default();
        let mut scores: Vec<f64> = self.bias.iter().map(|&bias| bias.into()).collect();
        // Looking up a key cannot fail.
        let row = found.row(self.grams, texts, |key| Ok(self.index.get(key))).unwrap_or_default();
        for &feature in row {
            let weights = &self.weights[feature as usize * count..][..count];
            scores.iter_mut().zip(weights).for_each(|(score, &weight)| *score += f64::from(weight));
        }
        logits(&scores)
    }

    /// The number of classes.
    pub(crate) fn classes(&self) -> usize {
        self.bias.len().max(2)
    }

    pub(crate) fn write(&self, tensors: &mut Tensors) {
        tensors.add_keys("ngrams", self.index.keys());
        tensors.add("weight", &[self.index.len(), self.bias.len()], self.weights.clone());
        tensors.add("bias", &[self.bias.len()], self.bias.clone());
    }

    pub(crate) fn read(settings: &NbLrSettings, tensors: &Tensors) -> Result<Self, BaselineError> {
        let keys = tensors.keys("ngrams")?;
        let index = Index::of(keys.to_vec())
            .ok_or_else(|| tensors.wrong("`ngrams` has an n-gram twice".into()))?;
        let (_, bias) = tensors.floats("bias", &[None])?;
        let (_, weights) = tensors.floats("weight", &[Some(index.len()), Some(bias.len())])?;
        Ok(Self { grams: grams(settings), index, weights, bias })
    }
}

/// Which n-grams are features.
fn grams(settings: &NbLrSettings) -> Grams {
    Grams {
        words: settings.ngrams.get(),
        characters: None,
        case: settings.case,
        bounds: settings.bounds,
    }
}

fn objective(error: BaselineError) -> TrainError {
    TrainError::Objective(Box::new(error))
}

/// Finds the features of one example after the other.
#[derive(Default)]
struct Finder {
    scratch: Scratch,
    row: Vec<u32>,
}

impl Finder {
    /// The numbers that `number` gives to the n-grams of the texts, in order, each once.
    fn row(
        &mut self,
        grams: Grams,
        texts: &[&str],
        mut number: impl FnMut(u64) -> Result<Option<u32>, BaselineError>,
    ) -> Result<&[u32], BaselineError> {
        let Self { scratch, row } = self;
        row.clear();
        let mut failed = None;
        grams.each_of(texts, scratch, |gram| {
            let (Gram::Word(key) | Gram::Several(key) | Gram::Shared(key)) = gram;
            match number(key) {
                Ok(feature) => row.extend(feature),
                Err(error) => failed = Some(error),
            }
        });
        row.sort_unstable();
        row.dedup();
        match failed {
            Some(error) => Err(error),
            None => Ok(row),
        }
    }
}

/// The problems of one class against the rest.
struct Problems<'a> {
    learning: &'a Learning<'a>,
    rows: &'a Rows,
    /// Whether each example is of the class, and the ratio of each n-gram, for each problem.
    each: Vec<(Vec<bool>, Vec<f32>)>,
}

impl<'a> Problems<'a> {
    fn new(
        settings: &NbLrSettings,
        learning: &'a Learning<'a>,
        rows: &'a Rows,
        features: usize,
    ) -> Self {
        // Two classes are one problem: the second one against the first.
        let classes = if learning.classes == 2 { 1..2 } else { 0..learning.classes };
        let one = |class: usize| {
            let is_it = |example: &Labelled<'_>| example.class() as usize == class;
            let targets: Vec<bool> = learning.train.iter().map(is_it).collect();
            let ratios = ratios(rows, &targets, features, settings.smoothing);
            (targets, ratios)
        };
        Self { learning, rows, each: classes.map(one).collect() }
    }

    /// A solution of each problem, on all threads.
    fn solve(&self, cost: f64, earlier: Option<&[Solution]>) -> Vec<Solution> {
        let solved: Vec<_> = self.each.iter().map(|_| Mutex::new(None)).collect();
        self.learning.cpu.for_each(self.each.len(), |_, i| {
            let (targets, scales) = &self.each[i];
            let problem = Problem { rows: self.rows, targets, scales };
            let earlier = earlier.and_then(|solutions| solutions.get(i));
            let solution = solve(problem, cost, self.learning.seed, earlier);
            *solved[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(solution);
        });
        let taken = |slot: Mutex<Option<Solution>>| {
            slot.into_inner().unwrap_or_else(PoisonError::into_inner)
        };
        solved.into_iter().filter_map(taken).collect()
    }

    /// The model of these solutions, interpolated with Naive Bayes as the settings say.
    fn model(
        &self,
        settings: &NbLrSettings,
        grams: Grams,
        index: Index,
        solutions: &[Solution],
    ) -> NbLr {
        let mut weights = vec![0.0; index.len() * solutions.len()];
        for (problem, (solution, (_, ratios))) in solutions.iter().zip(&self.each).enumerate() {
            let column = interpolated(solution, ratios, settings.interpolation);
            for (feature, weight) in column.into_iter().enumerate() {
                weights[feature * solutions.len() + problem] = weight;
            }
        }
        let bias = solutions.iter().map(|solution| solution.bias).collect();
        NbLr { grams, index, weights, bias }
    }
}

/// r·((1 − β)·w̄ + β·w) for each n-gram, with the mean magnitude w̄ of the weights
/// (the paper's equation 4).
fn interpolated(solution: &Solution, ratios: &[f32], share: f64) -> Vec<f32> {
    if share == 1.0 {
        return solution.weights.clone();
    }
    let magnitude = |(weight, ratio): (&f32, &f32)| match *ratio == 0.0 {
        true => 0.0,
        false => f64::from((weight / ratio).abs()),
    };
    let all = solution.weights.iter().zip(ratios);
    let mean = all.clone().map(magnitude).sum::<f64>() / ratios.len().max(1) as f64;
    let mixed = |(weight, ratio): (&f32, &f32)| {
        (share * f64::from(*weight) + (1.0 - share) * mean * f64::from(*ratio)) as f32
    };
    all.map(mixed).collect()
}

/// The log-count ratio of each n-gram.
fn ratios(rows: &Rows, targets: &[bool], features: usize, smoothing: f64) -> Vec<f32> {
    let mut counts = vec![[smoothing; 2]; features];
    for (row, &target) in rows.iter().zip(targets) {
        for &feature in row {
            counts[feature as usize][usize::from(target)] += 1.0;
        }
    }
    let mut sums = [0.0; 2];
    for count in &counts {
        sums[0] += count[0];
        sums[1] += count[1];
    }
    let base = (sums[1] / sums[0]).ln();
    counts.iter().map(|[without, with]| ((with / without).ln() - base) as f32).collect()
}

fn scores(solutions: &[Solution], row: &[u32]) -> Vec<f64> {
    let score = |solution: &Solution| {
        let weights = row.iter().map(|&feature| f64::from(solution.weights[feature as usize]));
        f64::from(solution.bias) + weights.sum::<f64>()
    };
    solutions.iter().map(score).collect()
}

/// Logits whose softmax gives the probabilities: σ(s) and its rest for two classes, else each
/// σ(s) divided by their sum, as LIBLINEAR has it.
fn logits(scores: &[f64]) -> Vec<f32> {
    match scores {
        [score] => vec![0.0, *score as f32],
        // ln σ(s) = min(s, 0) − ln(1 + exp(−|s|)).
        scores => scores.iter().map(|s| (s.min(0.0) - (-s.abs()).exp().ln_1p()) as f32).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked by hand with α = 1: "good" is in 2 of the positive and 0 of the negative texts.
    #[test]
    fn the_ratios_are_those_of_the_counts() {
        let mut rows = Rows::default();
        // 0 good, 1 bad, 2 film; the first two texts are positive.
        for row in [&[0, 2][..], &[0], &[1, 2]] {
            rows.push(row);
        }
        let found = ratios(&rows, &[true, true, false], 3, 1.0);
        // p = (3, 1, 2), q = (1, 2, 2): both sums are counted by hand, 6 and 5.
        let expected =
            [(3.0 / 6.0) / (1.0 / 5.0), (1.0 / 6.0) / (2.0 / 5.0), (2.0 / 6.0) / (2.0 / 5.0)];
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - f64::ln(expected)).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn a_share_of_zero_leaves_naive_bayes() {
        let (mut rows, targets) = (Rows::default(), [true, false]);
        rows.push(&[0]);
        rows.push(&[1]);
        let ratios = ratios(&rows, &targets, 2, 1.0);
        let problem = Problem { rows: &rows, targets: &targets, scales: &ratios };
        let solution = solve(problem, 1.0, 1, None);
        let whole = interpolated(&solution, &ratios, 1.0);
        let none = interpolated(&solution, &ratios, 0.0);
        let mean = (whole[0] / ratios[0]).abs() / 2.0 + (whole[1] / ratios[1]).abs() / 2.0;
        for (weight, ratio) in none.iter().zip(&ratios) {
            assert!((weight - mean * ratio).abs() < 1e-6);
        }
        let half = interpolated(&solution, &ratios, 0.5);
        assert!((half[0] - (whole[0] + none[0]) / 2.0).abs() < 1e-6);
    }
}
