//! Why a network answers as it does: the share of each token, and of each kind of memory.
//!
//! An answer is explained as a whole, or in parts: each entity that a tagger found by itself. With
//! f(x) = ln p(answer | x) and the embedded tokens x, each with its features and characters, the
//! integrated gradients of token t
//! (Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks", 2017, equation 1) are
//!
//! > Σ_d (x_td − r_d) · ∫₀¹ ∂f(r + α(x − r))/∂x_td dα
//!
//! They begin at r, the mean of all embeddings: a token that may be any, without features. (At 0 a norm
//! has no gradient that an integral could follow.) The integral is the mean over the middles of
//! equal steps of α, which are read side by side. Over all tokens they add up to f(x) − f(r)
//! (completeness, proposition 1); the difference is the error of the integral. Where it is
//! large the steps become smaller, and what is left of it is told.
//!
//! Of several networks that answer together, f is the mean of their ln p(answer | x): each is explained
//! by itself, and every number of an explanation is the mean of theirs. What they answer together is
//! that mean, normed over the answers. A baseline beside them is left out.

use std::sync::Arc;

use longhand_kernel::Cpu;
use longhand_model::{Ablation, Gradients, LossOptions, Mode, Model, ModelError, Tape, Targets};
use longhand_text::Tokenizer;
use longhand_text::batch::{LabelledBatch, LabelledIds};
use serde::Serialize;

use crate::batches;
use crate::error::TaskError;
use crate::network::Network;
use crate::task::{Explained, Part, Task};

/// Steps of the integral that are read side by side.
const STEPS: usize = 32;
/// The most steps.
const MOST_STEPS: usize = 16 * STEPS;
/// The error that is accepted: in nats, and as a share of what the tokens change.
const ACCEPTED: [f64; 2] = [0.005, 0.02];

/// Why a network gave an answer, or a part of one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The part of the answer; none where it is the whole.
    #[serde(flatten)]
    pub part: Option<Part>,
    /// The tokens that were read, in order.
    pub tokens: Vec<Token>,
    /// ln p of the answer: of both ends of a span, or of all tags of an entity, each by the score of its
    /// own word before a CRF adds those of its neighbours.
    pub log_probability: f64,
    /// ln p of the answer where every token is the mean of all, without features.
    pub without_tokens: f64,
    /// The sum of the tokens' shares less the difference of the two: 0 but for the
    /// error of the integral.
    pub completeness_error: f64,
    /// How far ln p of the answer falls when every working memory gives zeros.
    pub working_memory: f64,
    /// How far it falls when every long memory gives zeros.
    pub long_memory: f64,
}

/// A token, and what it did for the answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Token {
    /// The token as a person reads it.
    pub text: String,
    /// Its integrated gradient, in nats: above 0 where it speaks for the answer.
    pub share: f64,
}

/// Explains answers of one network, or of several together, one after the other.
pub struct Explainer {
    tokenizer: Tokenizer,
    networks: Vec<ExplainedNetwork>,
}

/// A network whose answers are explained.
struct ExplainedNetwork {
    model: Model,
    /// `[D]`: r, where the shares begin.
    reference: Vec<f32>,
    tape: Tape,
    gradients: Gradients,
}

impl Explainer {
    /// An explainer of the answers of a network, and of those that answer together with it. A
    /// baseline beside them is left out.
    ///
    /// # Errors
    /// If the weights are packed for reading: they have no gradient.
    pub fn new(network: Network, cpu: Arc<Cpu>) -> Result<Self, TaskError> {
        let models = network.models().into_iter().cloned();
        let networks = models.map(|model| ExplainedNetwork::new(model, cpu.clone()));
        let networks = networks.collect::<Result<_, _>>()?;
        Ok(Self { tokenizer: network.tokenizer, networks })
    }

    /// Why the networks gave these answers to the sequences of an example: an explanation of the whole,
    /// or one of each part ([`Task::IN_PARTS`]); none where there was nothing to read.
    ///
    /// # Errors
    /// If the tokeniser refuses a text.
    pub fn explain<T: Task>(
        &mut self,
        task: &T,
        example: &T::Example,
        answers: &[T::Answer],
    ) -> Result<Vec<Explanation>, TaskError> {
        let items = task.encode(&self.tokenizer, example)?.items;
        let parts = task.explained(example, &items, answers).into_iter();
        parts.map(|part| self.explain_part(task, &items, part)).collect()
    }

    /// The mean of the explanations by each network.
    fn explain_part<T: Task>(
        &mut self,
        task: &T,
        items: &[LabelledIds<T::Target>],
        explained: Explained<T::Target>,
    ) -> Result<Explanation, TaskError> {
        let Explained { item, target: label, part } = explained;
        let ids = items.get(item).map(|item| item.ids.clone()).unwrap_or_default();
        let label_of = |id: &u32| self.tokenizer.label(*id);
        let tokens = ids.iter().map(|id| Token { text: label_of(id), share: 0.0 }).collect();
        let mut mean = Explanation {
            part,
            tokens,
            log_probability: 0.0,
            without_tokens: 0.0,
            completeness_error: 0.0,
            working_memory: 0.0,
            long_memory: 0.0,
        };
        let item = LabelledIds { ids, label };
        let count = self.networks.len() as f64;
        for network in &mut self.networks {
            let Figures { shares, numbers } = network.explain(task, &item)?;
            for (token, share) in mean.tokens.iter_mut().zip(shares) {
                token.share += share / count;
            }
            for (sum, number) in mean.numbers().into_iter().zip(numbers) {
                *sum += number / count;
            }
        }
        Ok(mean)
    }
}

impl Explanation {
    /// Its numbers, in the order of [`Figures::numbers`].
    fn numbers(&mut self) -> [&mut f64; 5] {
        [
            &mut self.log_probability,
            &mut self.without_tokens,
            &mut self.completeness_error,
            &mut self.working_memory,
            &mut self.long_memory,
        ]
    }
}

/// The explanation of an answer by one network.
struct Figures {
    /// The share of each token.
    shares: Vec<f64>,
    /// ln p of the answer, ln p without tokens, the error of the integral, and the two memories.
    numbers: [f64; 5],
}

impl ExplainedNetwork {
    fn new(mut model: Model, cpu: Arc<Cpu>) -> Result<Self, TaskError> {
        model.check_trainable()?;
        // The tokens' gradient is wanted, and no parameter's.
        model.weights.regroup(|parameter| {
            let mut group = parameter.group;
            group.trainable = false;
            group
        });
        let gradients = Gradients::new(cpu.clone(), &model.weights);
        let reference = model.mean_embedding();
        Ok(Self { model, reference, tape: Tape::new(cpu), gradients })
    }

    fn explain<T: Task>(
        &mut self,
        task: &T,
        item: &LabelledIds<T::Target>,
    ) -> Result<Figures, TaskError> {
        let whole = self.log_probability(task, item, 1.0, None)?;
        let nothing = self.log_probability(task, item, 0.0, None)?;
        let mut without = |memory| self.log_probability(task, item, 1.0, Some(memory));
        let (working, long) = (without(Ablation::Working)?, without(Ablation::Long)?);
        let mut steps = STEPS;
        let (shares, error) = loop {
            let shares = self.shares(task, item, steps)?;
            let error = shares.iter().sum::<f64>() - (whole - nothing);
            let accepted = ACCEPTED[0] + ACCEPTED[1] * (whole - nothing).abs();
            if error.abs() <= accepted || steps == MOST_STEPS {
                break (shares, error);
            }
            steps *= 4;
        };
        let numbers = [whole, nothing, error, whole - working, whole - long];
        Ok(Figures { shares, numbers })
    }

    /// f(r + factor·(x − r)), with a kind of memory silenced.
    fn log_probability<T: Task>(
        &mut self,
        task: &T,
        item: &LabelledIds<T::Target>,
        factor: f32,
        ablation: Option<Ablation>,
    ) -> Result<f64, TaskError> {
        self.tape.ablate(ablation);
        let network = (&self.model, &mut self.tape);
        let read = read(task, network, item, (&[factor], &self.reference), None);
        self.tape.ablate(None);
        Ok(-read?.0)
    }

    /// The integrated gradient of each token, from `steps` steps.
    fn shares<T: Task>(
        &mut self,
        task: &T,
        item: &LabelledIds<T::Target>,
        steps: usize,
    ) -> Result<Vec<f64>, TaskError> {
        let mut shares = vec![0.0; item.ids.len()];
        for first in (0..steps).step_by(STEPS) {
            let middle = |step: usize| ((first + step) as f32 + 0.5) / steps as f32;
            let factors: Vec<f32> = (0..STEPS).map(middle).collect();
            let network = (&self.model, &mut self.tape);
            let (_, dots) =
                read(task, network, item, (&factors, &self.reference), Some(&mut self.gradients))?;
            for (row, dot) in dots.iter().enumerate() {
                // The gradient is the loss's, and f is the loss with another sign.
                shares[row / STEPS] -= dot / steps as f64;
            }
        }
        Ok(shares)
    }
}

/// Reads a sequence once for each factor, its embedded tokens x moved to r + factor·(x − r). Gives
/// the summed loss, and `[T·B]`: (x − r)·g of each row of the embedded tokens x and their gradient
/// g, where gradients are asked for.
fn read<T: Task>(
    task: &T,
    (model, tape): (&Model, &mut Tape),
    item: &LabelledIds<T::Target>,
    (factors, reference): (&[f32], &[f32]),
    mut gradients: Option<&mut Gradients>,
) -> Result<(f64, Vec<f64>), ModelError> {
    let (time, copies) = (item.ids.len(), factors.len());
    let batch = LabelledBatch {
        batch: copies,
        time,
        ids: item.ids.iter().flat_map(|&id| std::iter::repeat_n(id, copies)).collect(),
        lengths: vec![time; copies],
        labels: vec![item.label.clone(); copies],
        examples: (0..copies).collect(),
    };
    let mut pass = tape.pass(if gradients.is_some() { Mode::Record } else { Mode::Read });
    pass.watch_scaled_embedding(factors, reference);
    let x = batches::read(task, model, &mut pass, &batch)?;
    let options = LossOptions {
        gradients: gradients.as_deref_mut().map(|gradients| (1.0, gradients)),
        ..LossOptions::default()
    };
    let loss = |targets: Targets<'_>| model.loss(&mut pass, x, targets, options);
    let nats = task.with_explained(&batch, loss)?.nats;
    if let Some(gradients) = gradients {
        pass.backward(&model.weights, gradients)?;
        gradients.clear();
    }
    let dots = pass.watched_embedding().map(|(x, g)| {
        let width = reference.len().max(1);
        let rows = x.chunks(width).zip(g.chunks(width));
        let dot = |(x, g): (&[f32], &[f32])| -> f64 {
            x.iter().zip(g).zip(reference).map(|((x, g), r)| f64::from((x - r) * g)).sum()
        };
        rows.map(dot).collect()
    });
    Ok((nats, dots.unwrap_or_default()))
}

#[cfg(test)]
mod tests;
