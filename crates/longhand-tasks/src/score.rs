//! How well a model does a task: the answers to examples whose right answers are known.

use std::sync::Arc;

use longhand_engine::Neighbours;
use longhand_kernel::Cpu;
use longhand_model::{IGNORE, LossOptions, Model, Tape, Targets, Total, Var};
use longhand_text::Tokenizer;
use longhand_text::batch::LabelledIds;
use longhand_train::{Score, TrainError, Watch};

use crate::batches::{Taken, in_batches, padding, tapes};
use crate::ensemble::Ensemble;
use crate::error::TaskError;
use crate::ids::{Known, Measured};
use crate::search::Pace;
use crate::task::{Report, Scored, Task};
use crate::written::{Writer, write};

/// The key of the perplexity among the metrics.
pub(crate) const PERPLEXITY: &str = "perplexity";

/// A model's answers to examples whose right answers are known.
pub struct Evaluation<'a, T: Task> {
    pub(crate) task: &'a T,
    examples: &'a Measured<T>,
    /// Mean loss of a target, in nats, by the probabilities that answers have.
    pub loss: f64,
    /// The answers to the sequences of each example; none where they are still to be written.
    pub answers: Vec<Vec<T::Answer>>,
    /// How fast the answers were written; none where they were not.
    pub pace: Option<Pace>,
    /// The mean loss by the network alone, where it consults a datastore.
    pub loss_alone: Option<f64>,
    /// Whether the loss was measured: a baseline that writes has no probabilities.
    pub has_loss: bool,
    /// The losses of the tokens of right texts; none of other answers.
    pub token_losses: Option<TokenLosses>,
}

/// The losses of the tokens of right texts, example by example.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenLosses {
    /// The hash of the tokeniser that the tokens are of; empty where it is not known.
    pub tokenizer: String,
    /// Σ −ln p of each example's tokens, in nats, and how many tokens these are.
    pub examples: Vec<(f64, u64)>,
}

impl TokenLosses {
    /// Whether both are of the same tokens, so that their perplexities can be compared.
    pub fn are_alike(&self, other: &Self) -> bool {
        let counts = |losses: &Self| losses.examples.iter().map(|own| own.1).collect::<Vec<_>>();
        self.tokenizer == other.tokenizer && counts(self) == counts(other)
    }

    /// The perplexity of the examples in some places; none where they have no token.
    pub(crate) fn perplexity(&self, places: &[usize]) -> Option<f64> {
        let own = places.iter().filter_map(|&place| self.examples.get(place));
        let (nats, tokens) = own.fold((0.0, 0), |sum, own| (sum.0 + own.0, sum.1 + own.1));
        (tokens > 0).then(|| (nats / tokens as f64).exp())
    }
}

impl<'a, T: Task> Evaluation<'a, T> {
    /// The answers to the sequences of each example, and the mean loss.
    pub(crate) fn new(
        task: &'a T,
        examples: &'a Measured<T>,
        loss: f64,
        answers: Vec<Vec<T::Answer>>,
    ) -> Self {
        Self {
            task,
            examples,
            loss,
            answers,
            pace: None,
            loss_alone: None,
            has_loss: true,
            token_losses: None,
        }
    }
}

impl<T: Task> Evaluation<'_, T> {
    /// Each example with its answers.
    pub fn scored(&self) -> Vec<Scored<'_, T>> {
        let all = self.examples.examples.iter().zip(&self.answers);
        all.map(|(Known { example, items }, answers)| Scored { example, items, answers }).collect()
    }

    /// The loss with the task's metrics beside it.
    pub fn score(&self) -> Score {
        let mut score = Score::of(self.loss);
        let scored = self.scored();
        score.metrics = self.task.measure(&scored);
        score.metrics.extend(self.task.measure_once(&scored));
        if T::WRITES && self.has_loss {
            score.metrics.insert(PERPLEXITY.to_owned(), self.loss.exp());
        }
        score
    }

    /// Results beside the metrics.
    pub fn report(&self) -> Report {
        self.task.report(&self.scored())
    }
}

/// Answers examples whose right answers are known, by a network and what answers together with it.
///
/// # Errors
/// If an id or a target is none of the model's; [`TrainError::Stopped`] of `watch`.
pub fn evaluate<'a, T: Task>(
    task: &'a T,
    answering: (&Model, &Tokenizer, Option<&Ensemble>),
    examples: &'a Measured<T>,
    cpu: &Arc<Cpu>,
    watch: &mut Watch<'_>,
) -> Result<Evaluation<'a, T>, TrainError> {
    evaluate_beside(task, answering, None, examples, cpu, watch)
}

/// As [`evaluate`], where the probabilities of a network that writes are mixed with those of a datastore.
pub(crate) fn evaluate_beside<'a, T: Task>(
    task: &'a T,
    (model, tokenizer, ensemble): (&Model, &Tokenizer, Option<&Ensemble>),
    mut neighbours: Option<&mut Neighbours>,
    examples: &'a Measured<T>,
    cpu: &Arc<Cpu>,
    watch: &mut Watch<'_>,
) -> Result<Evaluation<'a, T>, TrainError> {
    let mut tapes = tapes(Ensemble::models(ensemble, model).len(), cpu);
    let answering = (model, &mut tapes[..], ensemble);
    let mut evaluation =
        score(task, answering, neighbours.as_deref_mut(), examples, padding(tokenizer), watch)?;
    if let Some(losses) = &mut evaluation.token_losses {
        losses.tokenizer = tokenizer.hash().to_owned();
    }
    if T::WRITES {
        let items: Vec<&LabelledIds<T::Target>> = examples.items().collect();
        let told = |share| watch.done(share);
        let writer = Writer { model, tape: &mut tapes[0], tokenizer, neighbours };
        let (answers, pace) = write(task, writer, &items, told)?;
        evaluation.answers = of_examples(examples, answers);
        evaluation.pace = Some(pace);
    }
    Ok(evaluation)
}

/// The answers to the sequences of each example, from those to all sequences.
fn of_examples<T: Task>(examples: &Measured<T>, answers: Vec<T::Answer>) -> Vec<Vec<T::Answer>> {
    let mut answers = answers.into_iter();
    let of_example = |known: &Known<T>| answers.by_ref().take(known.items.len()).collect();
    examples.examples.iter().map(of_example).collect()
}

/// As [`evaluate`], on tapes that exist, one for each network. Answers are not written: it is the
/// loss alone that is measured where a search would give them.
pub(crate) fn score<'a, T: Task>(
    task: &'a T,
    (model, tapes, ensemble): (&Model, &mut [Tape], Option<&Ensemble>),
    mut neighbours: Option<&mut Neighbours>,
    examples: &'a Measured<T>,
    padding: u32,
    watch: &mut Watch<'_>,
) -> Result<Evaluation<'a, T>, TrainError> {
    let items: Vec<&LabelledIds<T::Target>> = examples.items().collect();
    let mut answers: Vec<Option<T::Answer>> = vec![None; items.len()];
    let mut sums = TokenSums { of_items: vec![(0.0, 0); items.len()], alone: 0.0 };
    let (mut nats, mut targets, mut done) = (0.0, 0, 0);
    let models = Ensemble::models(ensemble, model);
    let answering = Ensemble::answering(ensemble, model);
    let temperature = task.temperature();
    let joint = ensemble.map(|ensemble| ensemble.hear(task, examples.by_examples())).transpose()?;
    let joint = joint.flatten();
    in_batches(task, (&models, tapes), &items, padding, |taken| {
        let Taken { pass, x, logits, batch } = taken;
        if let Some((exponents, opinions)) = &joint {
            opinions.join(task, *exponents, logits, batch);
        }
        let total = match ensemble {
            None if temperature == 1.0 => {
                task.with_targets(batch, |targets: Targets<'_>| -> Result<_, TrainError> {
                    let Targets::Tokens(ids) = targets else {
                        let loss = model.loss(pass, x, targets, LossOptions::default());
                        return Ok(loss.map_err(TaskError::from)?);
                    };
                    let beside = neighbours.as_deref_mut();
                    sums.add(model, (&mut **pass, x), ids, &batch.examples, beside)
                })
            }
            _ => {
                let logits: Vec<f32> = logits.iter().map(|logit| logit / temperature).collect();
                let loss =
                    |targets: Targets<'_>| answering.loss_of_logits(pass, x, &logits, targets);
                Ok(task.with_targets(batch, loss).map_err(TaskError::from)?)
            }
        }?;
        nats += total.nats;
        targets += total.count;
        let found = task.answers(answering, pass, logits, batch);
        for (answer, &place) in found.into_iter().zip(&batch.examples) {
            answers[place] = Some(answer);
        }
        done += batch.batch;
        watch.done(done as f64 / items.len() as f64)
    })?;
    let loss = nats / targets.max(1) as f64;
    let answers = of_examples(examples, answers.into_iter().flatten().collect());
    let loss_alone = neighbours.map(|_| sums.alone / targets.max(1) as f64);
    let is_of_tokens = T::WRITES && ensemble.is_none();
    let token_losses = is_of_tokens.then(|| sums.of_examples(examples));
    let evaluation = Evaluation::new(task, examples, loss, answers);
    Ok(Evaluation { loss_alone, token_losses, ..evaluation })
}

/// Sums of the losses of tokens, in nats.
struct TokenSums {
    /// Σ −ln p of each sequence's tokens, and how many tokens these are.
    of_items: Vec<(f64, u64)>,
    /// Σ −ln p of all tokens by the network alone.
    alone: f64,
}

impl TokenSums {
    /// Measures the tokens of a batch, whose body's output is `x`, by the mixture with a datastore if
    /// there is one. `places` are those of its sequences.
    fn add(
        &mut self,
        model: &Model,
        (tape, x): (&mut Tape, Var),
        ids: &[u32],
        places: &[usize],
        neighbours: Option<&mut Neighbours>,
    ) -> Result<Total, TrainError> {
        let (mut losses, mut total) = own_losses(model, (&mut *tape, x), ids)?;
        self.alone += total.nats;
        if let Some(neighbours) = neighbours {
            let mixed = neighbours.mix_losses(tape.cpu(), tape.data(x), ids, &mut losses);
            mixed.map_err(|error| TrainError::Beside(Box::new(error)))?;
            total.nats = losses.iter().map(|&loss| f64::from(loss)).sum();
        }
        // Row t·B + b is of sequence b.
        let rows = losses.iter().zip(ids).zip(places.iter().cycle());
        for ((&loss, _), &place) in rows.filter(|((_, id), _)| **id != IGNORE) {
            let (nats, tokens) = &mut self.of_items[place];
            *nats += f64::from(loss);
            *tokens += 1;
        }
        Ok(total)
    }

    /// The sums of each example.
    fn of_examples<T: Task>(&self, examples: &Measured<T>) -> TokenLosses {
        let mut of_items = self.of_items.iter();
        let of_example = |known: &Known<T>| {
            let own = of_items.by_ref().take(known.items.len());
            own.fold((0.0, 0), |sum, own| (sum.0 + own.0, sum.1 + own.1))
        };
        let examples = examples.examples.iter().map(of_example).collect();
        TokenLosses { tokenizer: String::new(), examples }
    }
}

/// The loss of each position's token by the network alone, in nats, 0 where nothing is
/// scored; and their sum.
pub(crate) fn own_losses(
    model: &Model,
    (tape, x): (&mut Tape, Var),
    ids: &[u32],
) -> Result<(Vec<f32>, Total), TaskError> {
    let mut losses = vec![0.0; ids.len()];
    let options = LossOptions { losses: Some(&mut losses), ..LossOptions::default() };
    let total = model.loss(tape, x, Targets::Tokens(ids), options)?;
    Ok((losses, total))
}
