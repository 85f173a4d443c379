//! How well a model does a task: the answers to examples whose right answers are known.

use std::sync::Arc;

use longhand_kernel::Cpu;
use longhand_model::{LossOptions, Model, Tape, Targets};
use longhand_text::Tokenizer;
use longhand_text::batch::LabelledIds;
use longhand_train::{Score, TrainError, Watch};

use crate::batches::{in_batches, padding, rows};
use crate::classes::nats_of;
use crate::ensemble::Ensemble;
use crate::error::TaskError;
use crate::ids::{Known, Measured};
use crate::task::{Report, Scored, Task};

/// A model's answers to examples whose right answers are known.
pub struct Evaluation<'a, T: Task> {
    task: &'a T,
    examples: &'a Measured<T>,
    /// Mean loss of a target, in nats.
    pub loss: f64,
    /// The answers to the sequences of each example.
    pub answers: Vec<Vec<T::Answer>>,
}

impl<'a, T: Task> Evaluation<'a, T> {
    /// The answers to the sequences of each example, and the mean loss.
    pub(crate) fn new(
        task: &'a T,
        examples: &'a Measured<T>,
        loss: f64,
        answers: Vec<Vec<T::Answer>>,
    ) -> Self {
        Self { task, examples, loss, answers }
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
        score
    }

    /// Results beside the metrics.
    pub fn report(&self) -> Report {
        self.task.report(&self.scored())
    }
}

/// Answers examples whose right answers are known, by a network and what answers beside it.
///
/// # Errors
/// If an id or a target is none of the model's; [`TrainError::Stopped`] of `watch`.
pub fn evaluate<'a, T: Task>(
    task: &'a T,
    (model, tokenizer, ensemble): (&Model, &Tokenizer, Option<&Ensemble>),
    examples: &'a Measured<T>,
    cpu: &Arc<Cpu>,
    watch: &mut Watch<'_>,
) -> Result<Evaluation<'a, T>, TrainError> {
    let mut tape = Tape::new(cpu.clone());
    score(task, (model, &mut tape, ensemble), examples, padding(tokenizer), watch)
}

/// As [`evaluate`], on a tape that exists.
pub(crate) fn score<'a, T: Task>(
    task: &'a T,
    (model, tape, ensemble): (&Model, &mut Tape, Option<&Ensemble>),
    examples: &'a Measured<T>,
    padding: u32,
    watch: &mut Watch<'_>,
) -> Result<Evaluation<'a, T>, TrainError> {
    let items: Vec<&LabelledIds<T::Target>> = examples.items().collect();
    let texts =
        || examples.examples.iter().flat_map(|known| known.items.iter().map(|_| &known.example));
    let owners: Vec<&T::Example> = ensemble.iter().flat_map(|_| texts()).collect();
    let mut answers: Vec<Option<T::Answer>> = vec![None; items.len()];
    let (mut nats, mut targets, mut done) = (0.0, 0, 0);
    let mut logits = Vec::new();
    in_batches(task, (model, tape), &items, padding, |pass, x, batch| {
        let rows = rows(model, pass, x);
        model.logits(pass, x, 0..rows, &mut logits);
        if let Some(ensemble) = ensemble {
            let each = logits.chunks_mut(model.outputs()).zip(&batch.examples).zip(&batch.labels);
            for ((logits, &place), label) in each {
                ensemble.join(logits, &T::texts(owners[place]));
                nats += nats_of(task, label, logits)?;
                targets += 1;
            }
        } else {
            let loss = |targets: Targets<'_>| model.loss(pass, x, targets, LossOptions::default());
            let total = task.with_targets(batch, loss).map_err(TaskError::from)?;
            nats += total.nats;
            targets += total.count;
        }
        let found = task.answers(model, pass, &logits, batch);
        for (answer, &place) in found.into_iter().zip(&batch.examples) {
            answers[place] = Some(answer);
        }
        done += batch.batch;
        watch.done(done as f64 / items.len() as f64)
    })?;
    let loss = nats / targets.max(1) as f64;
    let mut answers = answers.into_iter().flatten();
    let of_example = |known: &Known<T>| answers.by_ref().take(known.items.len()).collect();
    let answers = examples.examples.iter().map(of_example).collect();
    Ok(Evaluation::new(task, examples, loss, answers))
}
