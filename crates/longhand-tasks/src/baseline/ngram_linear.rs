//! fastText's classifier (Joulin et al., "Bag of tricks for efficient text classification", 2016):
//! the mean of the vectors of a text's words and n-grams, and a linear layer with a softmax.
//!
//! Words have a vector each; longer n-grams share those of their bucket. Training is plain SGD, one
//! example after the other, with a learning rate that falls to 0. A step touches the vectors of one
//! text alone, and only buckets that the training texts use have a vector. One thread does it, in a
//! seeded order: the same model each time.

use longhand_train::{TrainError, Watch};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::error::BaselineError;
use super::grams::{Gram, Grams, Scratch};
use super::index::{Index, Rows};
use super::learning::Learning;
use super::settings::NgramLinearSettings;
use super::tensors::Tensors;

/// Numbers that are added side by side.
const LANES: usize = 8;
/// A part of a vector.
type Lanes = [f32; LANES];

/// A trained model, which reads texts.
#[derive(Clone, Debug, PartialEq)]
pub struct NgramLinear {
    features: Features,
    /// The numbers of words and buckets.
    index: Index,
    layers: Layers,
}

/// The learning rates that are tried where none is given: the paper's, and one for few examples.
const RATES: [f64; 4] = [0.1, 0.25, 0.5, 1.0];
/// The learning rate where none is given and nothing is held out.
const RATE: f64 = 0.5;
/// Passes over many examples, as fastText makes them.
const EPOCHS: usize = 5;
/// Passes over any number of examples, at most.
const MOST_EPOCHS: usize = 50;
/// Examples that are read in all where the number of passes is not given, at least.
const READ: usize = 250_000;

impl NgramLinear {
    pub(crate) fn fit(
        settings: &NgramLinearSettings,
        learning: &Learning<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Self, TrainError> {
        let features = Features::of(settings);
        let (mut index, mut scratch, mut row) = (Index::default(), Scratch::default(), Vec::new());
        let mut train = Rows::default();
        for example in learning.train {
            let add = |key| index.add(key).map(Some);
            let found = features.row(&example.read(), &mut scratch, &mut row, add);
            found.map_err(|error| TrainError::Objective(Box::new(error)))?;
            train.push(&row);
        }
        let rates = match settings.learning_rate {
            Some(rate) => vec![rate],
            None if learning.valid.is_empty() => vec![RATE],
            None => RATES.into(),
        };
        let few = READ.div_ceil(learning.train.len().max(1)).clamp(EPOCHS, MOST_EPOCHS);
        let epochs = settings.epochs.map_or(few, |epochs| epochs.get());
        let width = settings.width.get().div_ceil(LANES);
        let mut best: Option<(usize, Self)> = None;
        for (tried, &rate) in rates.iter().enumerate() {
            let layers = Layers::new(index.len(), learning.classes, width, learning.seed);
            let share = |done: f64| (tried as f64 + done) / rates.len() as f64;
            let layers =
                layers.train(learning, &train, (rate, epochs), |done| watch.done(share(done)))?;
            // A single trial needs no comparison.
            if rates.len() == 1 {
                return Ok(Self { features, index, layers });
            }
            let model = Self { features, index: index.clone(), layers };
            let right = learning.right(|place| model.logits(&learning.valid[place].read()));
            if best.as_ref().is_none_or(|(most, _)| right > *most) {
                best = Some((right, model));
            }
        }
        let none = || Layers::new(0, learning.classes, width, learning.seed);
        Ok(best.map_or_else(|| Self { features, index, layers: none() }, |(_, model)| model))
    }

    pub(crate) fn logits(&self, texts: &[&str]) -> Vec<f32> {
        let mut row = Vec::new();
        let known = |key| Ok(self.index.get(key));
        // Looking up a key cannot fail.
        let _ = self.features.row(texts, &mut Scratch::default(), &mut row, known);
        let mut hidden = vec![[0.0; LANES]; self.layers.width];
        self.layers.hidden(&row, &mut hidden);
        let mut logits = vec![0.0; self.classes()];
        self.layers.logits(&hidden, &mut logits);
        logits
    }

    /// The number of classes.
    pub(crate) fn classes(&self) -> usize {
        self.layers.output.len() / self.layers.width
    }

    pub(crate) fn write(&self, tensors: &mut Tensors) {
        let Layers { width, input, output } = &self.layers;
        let flat = |lanes: &[Lanes]| lanes.as_flattened().to_vec();
        tensors.add_keys("features", self.index.keys());
        tensors.add("embedding", &[self.index.len(), width * LANES], flat(input));
        tensors.add("weight", &[self.classes(), width * LANES], flat(output));
    }

    pub(crate) fn read(
        settings: &NgramLinearSettings,
        tensors: &Tensors,
    ) -> Result<Self, BaselineError> {
        let index = Index::of(tensors.keys("features")?.to_vec())
            .ok_or_else(|| tensors.wrong("`features` has a feature twice".into()))?;
        let width = settings.width.get().div_ceil(LANES);
        let columns = Some(width * LANES);
        let (_, input) = tensors.floats("embedding", &[Some(index.len()), columns])?;
        let (_, output) = tensors.floats("weight", &[None, columns])?;
        let lanes = |flat: Vec<f32>| flat.as_chunks().0.to_vec();
        let layers = Layers { width, input: lanes(input), output: lanes(output) };
        Ok(Self { features: Features::of(settings), index, layers })
    }
}

/// The features of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Features {
    grams: Grams,
    buckets: u64,
}

impl Features {
    fn of(settings: &NgramLinearSettings) -> Self {
        let characters = settings.characters.map(|(short, long)| (short.get(), long.get()));
        let NgramLinearSettings { ngrams, case, bounds, .. } = *settings;
        let grams = Grams { words: ngrams.get(), characters, case, bounds };
        Self { grams, buckets: settings.buckets.get() as u64 }
    }

    /// Writes the numbers of the features of an example's texts into `row`: words by their hash, all
    /// others by their bucket.
    fn row(
        &self,
        texts: &[&str],
        scratch: &mut Scratch,
        row: &mut Vec<u32>,
        mut number: impl FnMut(u64) -> Result<Option<u32>, BaselineError>,
    ) -> Result<(), BaselineError> {
        row.clear();
        let mut failed = None;
        self.grams.each_of(texts, scratch, |gram| {
            let key = match gram {
                // No bucket has so large a number.
                Gram::Word(hash) => hash | 1 << 63,
                Gram::Several(hash) => hash % self.buckets,
                // Buckets of their own, which a model of single texts lacks.
                Gram::Shared(hash) => (hash % self.buckets) | (1 << 62),
            };
            match number(key) {
                Ok(feature) => row.extend(feature),
                Err(error) => failed = Some(error),
            }
        });
        failed.map_or(Ok(()), Err)
    }
}

/// The two matrices of the model.
#[derive(Clone, Debug, PartialEq)]
struct Layers {
    /// Lanes of a vector.
    width: usize,
    /// `[V, width]`: the vector of each feature.
    input: Vec<Lanes>,
    /// `[K, width]`: the vector of each class.
    output: Vec<Lanes>,
}

impl Layers {
    /// Vectors drawn from ±1/width, and an output layer of zeros.
    fn new(features: usize, classes: usize, width: usize, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let bound = 1.0 / (width * LANES) as f32;
        let mut draw = || random.random_range(-bound..bound);
        let input = (0..features * width).map(|_| std::array::from_fn(|_| draw())).collect();
        Self { width, input, output: vec![[0.0; LANES]; classes * width] }
    }

    /// Makes `epochs` passes over the rows from the learning rate `rate` down to 0, and says after
    /// each which share is done.
    fn train(
        mut self,
        learning: &Learning<'_>,
        rows: &Rows,
        (rate, epochs): (f64, usize),
        mut done: impl FnMut(f64) -> Result<(), TrainError>,
    ) -> Result<Self, TrainError> {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        let mut random = ChaCha8Rng::seed_from_u64(learning.seed);
        let mut step = Step::new(self.width, learning.classes);
        // The rate falls with the features that are read, as fastText's with the words.
        let all = (epochs * rows.entries()).max(1) as f64;
        let mut read = 0;
        for epoch in 1..=epochs {
            order.shuffle(&mut random);
            for &place in &order {
                let row = rows.row(place);
                let now = rate * (1.0 - read as f64 / all);
                step.make(&mut self, row, learning.train[place].class() as usize, now as f32);
                read += row.len();
            }
            done(epoch as f64 / epochs as f64)?;
        }
        Ok(self)
    }

    /// The mean of the vectors of a row; zeros for an empty one.
    fn hidden(&self, row: &[u32], hidden: &mut [Lanes]) {
        hidden.fill([0.0; LANES]);
        for &feature in row {
            let vector = &self.input[feature as usize * self.width..][..self.width];
            for (sum, lanes) in hidden.iter_mut().zip(vector) {
                (0..LANES).for_each(|i| sum[i] += lanes[i]);
            }
        }
        let scale = 1.0 / row.len().max(1) as f32;
        hidden.as_flattened_mut().iter_mut().for_each(|x| *x *= scale);
    }

    fn logits(&self, hidden: &[Lanes], logits: &mut [f32]) {
        for (logit, class) in logits.iter_mut().zip(self.output.chunks_exact(self.width)) {
            let mut sums = [0.0; LANES];
            for (x, y) in class.iter().zip(hidden) {
                (0..LANES).for_each(|i| sums[i] += x[i] * y[i]);
            }
            *logit = sums.iter().sum();
        }
    }
}

/// The buffers of a step of SGD.
struct Step {
    hidden: Vec<Lanes>,
    /// The step of the hidden vector.
    change: Vec<Lanes>,
    logits: Vec<f32>,
}

impl Step {
    fn new(width: usize, classes: usize) -> Self {
        let zeros = || vec![[0.0; LANES]; width];
        Self { hidden: zeros(), change: zeros(), logits: vec![0.0; classes] }
    }

    /// One step on one text: −rate times the gradient of its loss, for the vectors that it uses.
    fn make(&mut self, layers: &mut Layers, row: &[u32], class: usize, rate: f32) {
        if row.is_empty() {
            return;
        }
        let Self { hidden, change, logits } = self;
        layers.hidden(row, hidden);
        layers.logits(hidden, logits);
        softmax(logits);
        change.fill([0.0; LANES]);
        let width = layers.width;
        for (k, output) in layers.output.chunks_exact_mut(width).enumerate() {
            let slope = rate * (f32::from(k == class) - logits[k]);
            for ((change, weight), hidden) in change.iter_mut().zip(output).zip(&*hidden) {
                for i in 0..LANES {
                    change[i] += slope * weight[i];
                    weight[i] += slope * hidden[i];
                }
            }
        }
        let scale = 1.0 / row.len() as f32;
        change.as_flattened_mut().iter_mut().for_each(|x| *x *= scale);
        for &feature in row {
            let vector = &mut layers.input[feature as usize * width..][..width];
            for (lanes, change) in vector.iter_mut().zip(&*change) {
                (0..LANES).for_each(|i| lanes[i] += change[i]);
            }
        }
    }
}

/// Logits → probabilities, in place.
fn softmax(logits: &mut [f32]) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for logit in &mut *logits {
        *logit = (*logit - largest).exp();
        sum += *logit;
    }
    logits.iter_mut().for_each(|share| *share /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// −ln p of the class.
    fn loss(layers: &Layers, row: &[u32], class: usize) -> f64 {
        let (mut hidden, mut logits) = (vec![[0.0; LANES]; layers.width], vec![0.0; 3]);
        layers.hidden(row, &mut hidden);
        layers.logits(&hidden, &mut logits);
        softmax(&mut logits);
        -f64::from(logits[class]).ln()
    }

    /// A step of rate 1 is minus the gradient: each number against central differences.
    #[test]
    fn a_step_is_minus_the_gradient() {
        let mut layers = Layers::new(5, 3, 1, 1);
        for (i, lanes) in layers.output.iter_mut().enumerate() {
            *lanes = std::array::from_fn(|j| ((3 * i + j) as f32).sin());
        }
        layers.input.iter_mut().flatten().for_each(|x| *x *= 8.0);
        // A feature that comes twice is moved twice.
        let row = [1, 3, 3, 4];
        let mut moved = layers.clone();
        Step::new(1, 3).make(&mut moved, &row, 2, 1.0);
        let numeric = |change: &dyn Fn(&mut Layers, f32)| {
            let at = |step: f32| {
                let mut layers = layers.clone();
                change(&mut layers, step);
                loss(&layers, &row, 2)
            };
            (at(-5e-3) - at(5e-3)) / 1e-2
        };
        for lane in 0..LANES {
            for feature in 0..5 {
                let found = f64::from(moved.input[feature][lane] - layers.input[feature][lane]);
                let expected = numeric(&|layers, step| layers.input[feature][lane] += step);
                assert!((found - expected).abs() < 1e-3, "{feature}: {found} {expected}");
            }
            for class in 0..3 {
                let found = f64::from(moved.output[class][lane] - layers.output[class][lane]);
                let expected = numeric(&|layers, step| layers.output[class][lane] += step);
                assert!((found - expected).abs() < 1e-3, "{class}: {found} {expected}");
            }
        }
    }
}
