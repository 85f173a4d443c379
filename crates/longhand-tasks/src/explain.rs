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

use std::sync::Arc;

use longhand_kernel::Cpu;
use longhand_model::{Ablation, Gradients, LossOptions, Mode, Model, ModelError, Tape, Targets};
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
    /// The sum of the tokens' shares less the difference of the two: 0 but for the error of the
    /// integral.
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

/// Explains answers of one network, one after the other.
pub struct Explainer {
    network: Network,
    /// `[D]`: r, where the shares begin.
    reference: Vec<f32>,
    tape: Tape,
    gradients: Gradients,
}

impl Explainer {
    /// An explainer of a network's answers. What answers beside it is left out.
    ///
    /// # Errors
    /// If the weights are packed for reading: they have no gradient.
    pub fn new(mut network: Network, cpu: Arc<Cpu>) -> Result<Self, TaskError> {
        network.model.check_trainable()?;
        // The tokens' gradient is wanted, and no parameter's.
        network.model.weights.regroup(|parameter| {
            let mut group = parameter.group;
            group.trainable = false;
            group
        });
        let gradients = Gradients::new(cpu.clone(), &network.model.weights);
        let reference = network.model.mean_embedding();
        Ok(Self { network, reference, tape: Tape::new(cpu), gradients })
    }

    /// Why the network gave these answers to the sequences of an example: an explanation of the whole,
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
        let items = task.encode(&self.network.tokenizer, example)?.items;
        let parts = task.explained(example, &items, answers).into_iter();
        parts.map(|part| self.explain_part(task, &items, part)).collect()
    }

    fn explain_part<T: Task>(
        &mut self,
        task: &T,
        items: &[LabelledIds<T::Target>],
        explained: Explained<T::Target>,
    ) -> Result<Explanation, TaskError> {
        let Explained { item, target: label, part } = explained;
        let ids = items.get(item).map(|item| item.ids.clone()).unwrap_or_default();
        let item = LabelledIds { ids, label };
        let whole = self.log_probability(task, &item, 1.0, None)?;
        let nothing = self.log_probability(task, &item, 0.0, None)?;
        let mut without = |memory| self.log_probability(task, &item, 1.0, Some(memory));
        let (working, long) = (without(Ablation::Working)?, without(Ablation::Long)?);
        let mut steps = STEPS;
        let (shares, error) = loop {
            let shares = self.shares(task, &item, steps)?;
            let error = shares.iter().sum::<f64>() - (whole - nothing);
            let accepted = ACCEPTED[0] + ACCEPTED[1] * (whole - nothing).abs();
            if error.abs() <= accepted || steps == MOST_STEPS {
                break (shares, error);
            }
            steps *= 4;
        };
        let label = |id: &u32| self.network.tokenizer.label(*id);
        let tokens = item.ids.iter().map(label).zip(&shares);
        Ok(Explanation {
            part,
            tokens: tokens.map(|(text, &share)| Token { text, share }).collect(),
            log_probability: whole,
            without_tokens: nothing,
            completeness_error: error,
            working_memory: whole - working,
            long_memory: whole - long,
        })
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
        let network = (&self.network.model, &mut self.tape);
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
            let network = (&self.network.model, &mut self.tape);
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

/// Reads a sequence once for each factor, its embedded tokens x moved to r + factor·(x − r). Gives the
/// summed loss, and `[T·B]`: (x − r)·g of each row of the embedded tokens x and their gradient g, where gradients
/// are asked for.
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
