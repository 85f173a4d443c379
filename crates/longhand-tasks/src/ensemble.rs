//! Networks, and a baseline, that answer together.
//!
//! Networks that differ by their seeds alone are the members of an ensemble (Hansen and Salamon,
//! "Neural network ensembles", 1990). Its logits are the mean of theirs, so that the probabilities of
//! its answers are the geometric mean of theirs, normed: a logarithmic opinion pool (Heskes, "Selecting
//! weighting factors in logarithmic opinion pools", 1998). The score of a path of tags by a CRF is
//! a sum over the logits and the scores of neighbouring tags, and its mean is that of both.
//!
//! The logits of a baseline are added, z = a·x + b·y: x are those of the networks, y those of the
//! baseline. The probabilities are then a product of experts with exponents a and b (Hinton, "Training
//! products of experts by minimizing contrastive divergence", 2002). An n-gram model and a network err
//! on different texts, and together they are better than either (Mesnil et al., "Ensemble of generative
//! and discriminative techniques for sentiment analysis of movie reviews", 2014). Beside taggers y are the
//! baseline's logits for the tags of each word; the networks' scores of neighbouring tags are added to the
//! sums of both.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longhand_kernel::Cpu;
use longhand_model::file::CONFIG_FILE;
use longhand_model::{Model, Targets};
use longhand_text::Tokenizer;
use longhand_text::batch::LabelledIds;
use longhand_train::TrainError;
use serde::{Deserialize, Serialize};

use crate::baseline::{Baseline, BaselineError, BaselineSettings, Form};
use crate::batches::{Taken, in_batches, padding, tapes};
use crate::classes::class_of;
use crate::error::TaskError;
use crate::ids::Measured;
use crate::task::Task;

mod opinions;

use opinions::Opinions;

/// The most networks that answer together.
pub const MOST_MEMBERS: usize = 64;
/// The file of a model folder that says how many networks answer together, how much a baseline counts,
/// and which one it is.
pub const ENSEMBLE_FILE: &str = "ensemble.json";
/// The file of the baseline's weights.
pub const ENSEMBLE_WEIGHTS_FILE: &str = "ensemble.safetensors";

/// What answers together with a network.
#[derive(Clone)]
pub struct Ensemble {
    /// Further networks of its form. In the first of them the scores of neighbouring tags are the mean
    /// of those of all, the network's own included.
    members: Vec<Model>,
    beside: Option<Beside>,
}

/// A baseline that answers beside networks.
#[derive(Clone)]
struct Beside {
    baseline: Baseline,
    exponents: Exponents,
}

/// How much each part counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exponents {
    /// a: the factor of the logits of the network, or of the mean of several.
    pub network: f64,
    /// b: the factor of the baseline's logits.
    pub baseline: f64,
}

/// The form of [`ENSEMBLE_FILE`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// The number of networks.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    members: NonZeroUsize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exponents: Option<Exponents>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    baseline: Option<BaselineSettings>,
}

/// The logits of one example by both parts, and the right class.
struct Votes {
    network: Vec<f32>,
    baseline: Vec<f32>,
    class: usize,
}

/// The folder of a network that answers together with the one of a model folder, by its number from 2.
pub fn member_folder(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("member-{number:02}"))
}

impl Ensemble {
    /// Networks that answer together: one, and further ones of the same configuration; none where
    /// there are no further ones.
    pub fn of_members(model: &Model, mut further: Vec<Model>) -> Option<Self> {
        let (first, others) = further.split_first_mut()?;
        let others: Vec<&Model> = others.iter().chain([model]).collect();
        first.average_tag_scores(&others);
        Some(Self { members: further, beside: None })
    }

    /// Adds a trained baseline to trained networks. The exponents are those of the lowest loss on the
    /// held-out examples, which must not be empty; of taggers the networks' one is 1.
    ///
    /// # Errors
    /// [`BaselineError::Task`] if the baseline's answers are not of the task's form.
    pub fn fit<T: Task>(
        task: &T,
        baseline: Baseline,
        (model, tokenizer, ensemble): (&Model, &Tokenizer, Option<Self>),
        held_out: &Measured<T>,
        cpu: &Arc<Cpu>,
    ) -> Result<Self, TrainError> {
        let opinions = Opinions::of(task, &baseline, held_out.by_examples())?;
        let answering = (model, tokenizer, ensemble.as_ref());
        let exponents = match baseline.form() {
            Form::Tags => Exponents::of_tags(task, answering, held_out, &opinions, cpu)?,
            _ => Exponents::fit(&votes(task, answering, held_out, &opinions, cpu)?),
        };
        let beside = Some(Beside { exponents, baseline });
        Ok(Self { members: ensemble.map_or(Vec::new(), |ensemble| ensemble.members), beside })
    }

    /// How much each part counts; none without a baseline.
    pub fn exponents(&self) -> Option<Exponents> {
        self.beside.as_ref().map(|beside| beside.exponents)
    }

    /// The networks beside the first one.
    pub fn members(&self) -> &[Model] {
        &self.members
    }

    /// The number of a baseline's classes; none without a baseline.
    pub(crate) fn classes(&self) -> Option<usize> {
        self.beside.as_ref().map(|beside| beside.baseline.classes())
    }

    /// The form of a baseline's answers; none without a baseline.
    pub(crate) fn form(&self) -> Option<Form> {
        self.beside.as_ref().map(|beside| beside.baseline.form())
    }

    /// The first network, and those that answer together with it.
    pub(crate) fn models<'a>(ensemble: Option<&'a Self>, model: &'a Model) -> Vec<&'a Model> {
        let further = ensemble.map_or(&[][..], Self::members);
        [model].into_iter().chain(further).collect()
    }

    /// The model whose head turns the logits of all into answers.
    pub(crate) fn answering<'a>(ensemble: Option<&'a Self>, model: &'a Model) -> &'a Model {
        ensemble.and_then(|ensemble| ensemble.members.first()).unwrap_or(model)
    }

    /// What a baseline says of the sequences of examples, and how much it counts; none without one.
    ///
    /// # Errors
    /// [`BaselineError::Task`] if the baseline's answers are not of the task's form.
    pub(crate) fn hear<'a, T: Task + 'a>(
        &self,
        task: &T,
        examples: impl IntoIterator<Item = (&'a T::Example, &'a [LabelledIds<T::Target>])>,
    ) -> Result<Option<(Exponents, Opinions)>, TaskError> {
        let Some(Beside { baseline, exponents }) = &self.beside else { return Ok(None) };
        Ok(Some((*exponents, Opinions::of(task, baseline, examples)?)))
    }

    /// Names and contents of its files.
    pub fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let beside = self.beside.as_ref();
        let stored = Stored {
            members: self.members.iter().fold(one(), |count, _| count.saturating_add(1)),
            exponents: self.exponents(),
            baseline: beside.map(|beside| beside.baseline.settings()),
        };
        // Plain data with string keys: serialising it cannot fail.
        let mut json = serde_json::to_vec_pretty(&stored).unwrap_or_default();
        json.push(b'\n');
        let weights = beside.map(|it| (ENSEMBLE_WEIGHTS_FILE, it.baseline.to_bytes()));
        weights.into_iter().chain([(ENSEMBLE_FILE, json)]).collect()
    }

    /// The number of networks that answer together in a model folder; 1 where one does.
    ///
    /// # Errors
    /// A file that cannot be read, or names more networks than [`MOST_MEMBERS`].
    pub fn count(folder: &Path) -> Result<usize, TaskError> {
        Ok(Stored::load(folder)?.map_or(1, |stored| stored.members.get()))
    }

    /// Reads what answers together with the network of a model folder; none where nothing does.
    ///
    /// # Errors
    /// A file that is missing or damaged, or that does not belong to the other ones.
    pub fn load(folder: &Path, model: &Model) -> Result<Option<Self>, TaskError> {
        let Some(Stored { members, exponents, baseline }) = Stored::load(folder)? else {
            return Ok(None);
        };
        let further = (2..=members.get()).map(|number| load_member(folder, number, model));
        let ensemble = Self::of_members(model, further.collect::<Result<_, _>>()?);
        let beside = match (exponents, baseline) {
            (None, None) => return Ok(ensemble),
            (Some(exponents), Some(settings)) => {
                settings.check()?;
                let path = folder.join(ENSEMBLE_WEIGHTS_FILE);
                let baseline = Baseline::from_bytes(&settings, &fs_err::read(&path)?, &path)?;
                Some(Beside { baseline, exponents })
            }
            (exponents, _) => {
                let (has, lacks) = match exponents {
                    Some(_) => ("exponents", "baseline"),
                    None => ("a baseline", "exponents"),
                };
                let reason = format!("it has {has} and no {lacks}");
                return Err(TaskError::TaskFile { path: folder.join(ENSEMBLE_FILE), reason });
            }
        };
        Ok(Some(Self { members: ensemble.map_or(Vec::new(), |it| it.members), beside }))
    }
}

/// Reads a network that answers together with the one of a folder.
fn load_member(folder: &Path, number: usize, model: &Model) -> Result<Model, TaskError> {
    let path = member_folder(folder, number);
    if !path.join(CONFIG_FILE).is_file() {
        return Err(TaskError::NoMember { path, folder: folder.into() });
    }
    let member = Model::load(&path)?;
    match member.config() == model.config() {
        true => Ok(member),
        false => Err(TaskError::OtherMember { path, folder: folder.into() }),
    }
}

impl Stored {
    /// Reads the file of a model folder; none where there is no such file.
    fn load(folder: &Path) -> Result<Option<Self>, TaskError> {
        let path = folder.join(ENSEMBLE_FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let refused = |source| BaselineError::Settings { path: path.clone(), source };
        let stored: Self = serde_json::from_slice(&fs_err::read(&path)?).map_err(refused)?;
        match stored.members.get() {
            0..=MOST_MEMBERS => Ok(Some(stored)),
            members => {
                let reason = format!("it names {members} networks, more than {MOST_MEMBERS}");
                Err(TaskError::TaskFile { path, reason })
            }
        }
    }
}

fn one() -> NonZeroUsize {
    NonZeroUsize::MIN
}

fn is_one(count: &NonZeroUsize) -> bool {
    *count == NonZeroUsize::MIN
}

/// A network, its tokeniser, and the networks that answer together with it.
type Answering<'a> = (&'a Model, &'a Tokenizer, Option<&'a Ensemble>);

/// The votes of networks and of a baseline on the class of each held-out sequence.
fn votes<T: Task>(
    task: &T,
    (model, tokenizer, ensemble): Answering<'_>,
    held_out: &Measured<T>,
    opinions: &Opinions,
    cpu: &Arc<Cpu>,
) -> Result<Vec<Votes>, TaskError> {
    let items: Vec<_> = held_out.items().collect();
    let models = Ensemble::models(ensemble, model);
    let (mut tapes, mut votes) = (tapes(models.len(), cpu), Vec::new());
    in_batches(task, (&models, &mut tapes), &items, padding(tokenizer), |taken| {
        let Taken { logits, batch, .. } = taken;
        for (row, &place) in logits.chunks(model.outputs()).zip(&batch.examples) {
            votes.push(Votes {
                network: row.to_vec(),
                baseline: opinions.row(place, 0).to_vec(),
                class: class_of(task, &items[place].label)? as usize,
            });
        }
        Ok::<(), TaskError>(())
    })?;
    Ok(votes)
}

/// The largest exponent of a baseline beside taggers.
const MOST: f64 = 4.0;
/// How many exponents the networks' logits are measured with in one reading of the held-out sequences.
const TRIED: usize = 9;
/// Readings of them, each of which leaves a quarter of the range that the exponent is in.
const READINGS: usize = 3;

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

    /// Beside taggers: a = 1 and the b of the lowest summed loss, to which ½·b² is added. The loss of a
    /// path is ln Σ e^s − s of the right one, where all scores s are linear in b, so that the sum is convex
    /// and the minimum lies between the neighbours of the best of some places.
    fn of_tags<T: Task>(
        task: &T,
        answering: Answering<'_>,
        held_out: &Measured<T>,
        opinions: &Opinions,
        cpu: &Arc<Cpu>,
    ) -> Result<Self, TaskError> {
        let (mut low, mut high, mut best) = (0.0, MOST, 0.0);
        for _ in 0..READINGS {
            let step = (high - low) / (TRIED - 1) as f64;
            let tried: Vec<f64> = (0..TRIED).map(|place| low + step * place as f64).collect();
            let nats = nats_of_tags(task, answering, held_out, (opinions, &tried), cpu)?;
            let sums = nats.iter().zip(&tried).map(|(nats, b)| nats + 0.5 * b * b);
            let least = sums.zip(&tried).min_by(|(x, _), (y, _)| x.total_cmp(y));
            best = least.map_or(0.0, |(_, &b)| b);
            (low, high) = ((best - step).max(0.0), (best + step).min(MOST));
        }
        Ok(Self { network: Self::ALONE[0], baseline: best })
    }
}

/// The loss of the tags of the held-out sequences, summed, with each of some exponents of the baseline.
fn nats_of_tags<T: Task>(
    task: &T,
    (model, tokenizer, ensemble): Answering<'_>,
    held_out: &Measured<T>,
    (opinions, tried): (&Opinions, &[f64]),
    cpu: &Arc<Cpu>,
) -> Result<Vec<f64>, TaskError> {
    let items: Vec<_> = held_out.items().collect();
    let models = Ensemble::models(ensemble, model);
    let head = Ensemble::answering(ensemble, model);
    let (mut tapes, mut sums) = (tapes(models.len(), cpu), vec![0.0; tried.len()]);
    let mut joint = Vec::new();
    in_batches(task, (&models, &mut tapes), &items, padding(tokenizer), |taken| {
        let Taken { pass, x, logits, batch } = taken;
        for (sum, &b) in sums.iter_mut().zip(tried) {
            joint.clone_from(logits);
            let exponents = Exponents { network: Exponents::ALONE[0], baseline: b };
            opinions.join(task, exponents, &mut joint, batch);
            let loss = |targets: Targets<'_>| head.loss_of_logits(pass, x, &joint, targets);
            *sum += task.with_targets(batch, loss)?.nats;
        }
        Ok::<(), TaskError>(())
    })?;
    Ok(sums)
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
