//! A network and a baseline that answer together.
//!
//! Their logits are added, z = a·x + b·y: x are those of the network, y those of the baseline. The
//! probabilities are then a product of experts with exponents a and b (Hinton, "Training products
//! of experts by minimizing contrastive divergence", 2002). An n-gram model and a network err on
//! different texts, and together they are better than either (Mesnil et al., "Ensemble of generative
//! and discriminative techniques for sentiment analysis of movie reviews", 2014).

use std::path::Path;
use std::sync::Arc;

use longhand_kernel::Cpu;
use longhand_model::{Model, Tape};
use longhand_text::Tokenizer;
use longhand_train::TrainError;
use serde::{Deserialize, Serialize};

use crate::baseline::{Baseline, BaselineError, BaselineSettings};
use crate::batches::{in_batches, padding, rows};
use crate::classes::class_of;
use crate::error::TaskError;
use crate::ids::Measured;
use crate::task::Task;

/// The file of a model folder that says how much the baseline counts, and which one it is.
pub const ENSEMBLE_FILE: &str = "ensemble.json";
/// The file of the baseline's weights.
pub const ENSEMBLE_WEIGHTS_FILE: &str = "ensemble.safetensors";

/// What answers beside a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Ensemble {
    baseline: Baseline,
    exponents: Exponents,
}

/// How much each part counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exponents {
    /// a: the factor of the network's logits.
    pub network: f64,
    /// b: the factor of the baseline's logits.
    pub baseline: f64,
}

/// The form of [`ENSEMBLE_FILE`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    exponents: Exponents,
    baseline: BaselineSettings,
}

/// The logits of one example by both parts, and the right class.
struct Votes {
    network: Vec<f32>,
    baseline: Vec<f32>,
    class: usize,
}

impl Ensemble {
    /// Puts a trained network and a trained baseline together. The exponents are those of the lowest
    /// loss on the held-out examples, which must not be empty.
    ///
    /// # Errors
    /// [`BaselineError::Task`] if no baseline does the task.
    pub fn fit<T: Task>(
        task: &T,
        baseline: Baseline,
        (model, tokenizer): (&Model, &Tokenizer),
        held_out: &Measured<T>,
        cpu: &Arc<Cpu>,
    ) -> Result<Self, TrainError> {
        let known = held_out.examples.iter();
        let read = known.flat_map(|known| known.items.iter().map(move |item| (item, known)));
        let (items, known): (Vec<_>, Vec<_>) = read.unzip();
        let (mut tape, mut logits, mut votes) = (Tape::new(cpu.clone()), Vec::new(), Vec::new());
        in_batches(task, (model, &mut tape), &items, padding(tokenizer), |pass, x, batch| {
            let rows = rows(model, pass, x);
            model.logits(pass, x, 0..rows, &mut logits);
            for (row, &place) in logits.chunks(model.outputs()).zip(&batch.examples) {
                votes.push(Votes {
                    network: row.to_vec(),
                    baseline: baseline.logits(&T::texts(&known[place].example)),
                    class: class_of(task, &items[place].label)? as usize,
                });
            }
            Ok::<(), TaskError>(())
        })?;
        Ok(Self { exponents: Exponents::fit(&votes), baseline })
    }

    /// How much each part counts.
    pub fn exponents(&self) -> Exponents {
        self.exponents
    }

    /// The number of classes.
    pub(crate) fn classes(&self) -> usize {
        self.baseline.classes()
    }

    /// `[K]`: turns the network's logits for the texts of one example into those of both.
    pub(crate) fn join(&self, logits: &mut [f32], texts: &[&str]) {
        let Exponents { network: a, baseline: b } = self.exponents;
        for (x, y) in logits.iter_mut().zip(self.baseline.logits(texts)) {
            *x = (a * f64::from(*x) + b * f64::from(y)) as f32;
        }
    }

    /// Names and contents of its files.
    pub fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let stored = Stored { exponents: self.exponents, baseline: self.baseline.settings() };
        // Plain data with string keys: serialising it cannot fail.
        let mut json = serde_json::to_vec_pretty(&stored).unwrap_or_default();
        json.push(b'\n');
        vec![(ENSEMBLE_WEIGHTS_FILE, self.baseline.to_bytes()), (ENSEMBLE_FILE, json)]
    }

    /// Reads what answers beside the network of a model folder; none where nothing does.
    ///
    /// # Errors
    /// A file that is missing or damaged, or that does not belong to the other one.
    pub fn load(folder: &Path) -> Result<Option<Self>, BaselineError> {
        let path = folder.join(ENSEMBLE_FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let refused = |source| BaselineError::Settings { path: path.clone(), source };
        let stored: Stored = serde_json::from_slice(&fs_err::read(&path)?).map_err(refused)?;
        let Stored { exponents, baseline: settings } = stored;
        settings.check()?;
        let path = folder.join(ENSEMBLE_WEIGHTS_FILE);
        let baseline = Baseline::from_bytes(&settings, &fs_err::read(&path)?, &path)?;
        Ok(Some(Self { baseline, exponents }))
    }
}

impl Exponents {
    /// The network alone.
    const ALONE: [f64; 2] = [1.0, 0.0];

    /// The exponents of the lowest summed loss, to which ½·((a − 1)² + b²) is added, so that few
    /// examples do not give extreme ones. The sum is convex, and Newton's method finds its minimum.
    fn fit(votes: &[Votes]) -> Self {
        let mut at = Self::ALONE;
        let mut here = Sum::at(votes, at);
        for _ in 0..100 {
            let step = here.newton_step();
            // Far from the minimum a whole step may go too far.
            let halves = (0..40).map(|halvings| 0.5_f64.powi(halvings));
            let mut tried = halves.map(|part| {
                let place = [at[0] - part * step[0], at[1] - part * step[1]];
                (place, Sum::at(votes, place))
            });
            let Some(next) = tried.find(|(_, sum)| sum.loss < here.loss) else { break };
            (at, here) = next;
        }
        Self { network: at[0], baseline: at[1] }
    }
}

/// The loss of all votes at some exponents, with its first and second derivatives.
struct Sum {
    loss: f64,
    gradient: [f64; 2],
    curvature: [[f64; 2]; 2],
}

impl Sum {
    fn at(votes: &[Votes], exponents: [f64; 2]) -> Self {
        let [a, b] = [0, 1].map(|part| exponents[part] - Exponents::ALONE[part]);
        let mut sum = Self {
            loss: 0.5 * (a * a + b * b),
            gradient: [a, b],
            curvature: [[1.0, 0.0], [0.0, 1.0]],
        };
        votes.iter().for_each(|votes| sum.add(votes, exponents));
        sum
    }

    /// Adds −ln p of the right class. With xₖ = (networkₖ, baselineₖ) its gradient is E\[x\] − x of
    /// the right class, and its curvature the covariance of x.
    fn add(&mut self, votes: &Votes, exponents: [f64; 2]) {
        let pairs = votes.network.iter().zip(&votes.baseline);
        let x: Vec<[f64; 2]> = pairs.map(|(&x, &y)| [x.into(), y.into()]).collect();
        let z = x.iter().map(|x| exponents[0] * x[0] + exponents[1] * x[1]);
        let z: Vec<f64> = z.collect();
        let largest = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = z.iter().map(|z| (z - largest).exp()).sum();
        let share = |z: &f64| (z - largest).exp() / total;
        self.loss += largest + total.ln() - z[votes.class];
        let mean =
            [0, 1].map(|part| z.iter().zip(&x).map(|(z, x)| share(z) * x[part]).sum::<f64>());
        for i in 0..2 {
            self.gradient[i] += mean[i] - x[votes.class][i];
            for j in 0..2 {
                let centred = |x: &[f64; 2]| (x[i] - mean[i]) * (x[j] - mean[j]);
                self.curvature[i][j] +=
                    z.iter().zip(&x).map(|(z, x)| share(z) * centred(x)).sum::<f64>();
            }
        }
    }

    /// H⁻¹·g. The curvature has an inverse: it is the unit matrix and covariances.
    fn newton_step(&self) -> [f64; 2] {
        let [[a, b], [c, d]] = self.curvature;
        let [x, y] = self.gradient;
        let determinant = a * d - b * c;
        [(d * x - b * y) / determinant, (a * y - c * x) / determinant]
    }
}

#[cfg(test)]
mod tests;
