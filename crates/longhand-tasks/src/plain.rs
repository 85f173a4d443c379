//! A baseline in the place of a task's model: the task's examples and answers without ids.

use longhand_text::batch::LabelledIds;
use longhand_train::{TrainError, Watch};

use crate::baseline::{Baseline, BaselineError, BaselineSettings, Labelled, Right};
use crate::classes::{logits_of, loss_of, right_of};
use crate::error::TaskError;
use crate::ids::{Known, Measured};
use crate::score::Evaluation;
use crate::task::Task;

/// The texts and the right answers that a baseline learns from. An example without text is left out, and
/// one of several chains is several, where the baseline reads chains.
///
/// # Errors
/// [`BaselineError::Label`], [`BaselineError::Tags`], [`BaselineError::Writes`] or
/// [`BaselineError::Measured`] if this baseline does not do the task.
pub fn labelled<'a, T: Task>(
    task: &T,
    settings: &BaselineSettings,
    examples: &'a [T::Example],
) -> Result<Vec<Labelled<'a>>, TaskError> {
    let refused = || why_refused::<T>(settings);
    if settings.writes() != T::WRITES {
        return Err(refused().into());
    }
    let (mut found, mut is_done) = (Vec::with_capacity(examples.len()), examples.is_empty());
    for example in examples {
        if let Some(target) = task.plain_target(example)? {
            let right = match T::WRITES {
                true => Right::Text(T::truth(example)),
                false => right_of(task, &target)?,
            };
            if !settings.gives(right.form()) {
                return Err(refused().into());
            }
            is_done = true;
            match right {
                Right::Tags(tags) if settings.reads_chains() => {
                    let mut tags = tags.into_iter();
                    for texts in task.plain_chains(example) {
                        let right = Right::Tags(tags.by_ref().take(texts.len()).collect());
                        found.push(Labelled { texts, right });
                    }
                }
                right => found.push(Labelled { texts: task.plain_texts(example), right }),
            }
        }
    }
    // Every example to learn from has a text. A sentence without a predicate has no chain.
    match is_done {
        true => Ok(found),
        false => Err(refused().into()),
    }
}

/// What the keys of metrics begin with that a task's own baseline reaches.
const OWN: &str = "baseline_";

/// Why a baseline does not do a task.
fn why_refused<T: Task>(settings: &BaselineSettings) -> BaselineError {
    let (baseline, task) = (settings.name(), T::NAME);
    match T::METRICS.iter().find(|(key, _)| key.starts_with(OWN)) {
        Some(&(metric, words)) => BaselineError::Measured { baseline, task, metric, words },
        None if settings.writes() => BaselineError::Writes { baseline, task },
        None if settings.reads_chains() => BaselineError::Tags { baseline, task },
        None => BaselineError::Label { baseline, task },
    }
}

/// The examples that a baseline is measured on; their sequences have no ids.
///
/// # Errors
/// If an example has another answer than the task knows.
pub fn measured<T: Task>(task: &T, examples: Vec<T::Example>) -> Result<Measured<T>, TaskError> {
    let known = |example: T::Example| {
        let target = task.plain_target(&example)?;
        let item = target.map(|label| LabelledIds { ids: Vec::new(), label });
        Ok(Known { example, items: item.into_iter().collect() })
    };
    let examples = examples.into_iter().map(known).collect::<Result<_, TaskError>>()?;
    Ok(Measured { examples, cut: 0 })
}

/// Answers examples whose right answers are known. The loss is the mean of −ln p of the right class, of
/// each label that is on or off, or of each tag; a baseline that writes has none, which counts as 0.
///
/// # Errors
/// [`TrainError::Stopped`] of `watch`; [`BaselineError::Task`] if no baseline does the task.
pub fn evaluate<'a, T: Task>(
    task: &'a T,
    baseline: &Baseline,
    examples: &'a Measured<T>,
    watch: &mut Watch<'_>,
) -> Result<Evaluation<'a, T>, TrainError> {
    let (mut nats, mut count) = (0.0, 0_u64);
    let mut answers = Vec::with_capacity(examples.len());
    for (place, Known { example, items }) in examples.examples.iter().enumerate() {
        let mut found = Vec::new();
        if let Some(item) = items.first() {
            match baseline.text(&T::texts(example)) {
                Some(text) => found.push(written(task, text)?),
                None => {
                    let logits = logits_of(task, baseline, example);
                    let total = loss_of(task, &item.label, baseline.classes(), &logits)?;
                    nats += total.nats;
                    count += total.count as u64;
                    found.push(answer(task, &logits)?);
                }
            }
        }
        answers.push(found);
        if place % TOLD == 0 {
            watch.done(place as f64 / examples.len() as f64)?;
        }
    }
    let loss = nats / count.max(1) as f64;
    let mut evaluation = Evaluation::new(task, examples, loss, answers);
    evaluation.has_loss = count > 0;
    Ok(evaluation)
}

/// A baseline's answers to examples, or none where there is nothing to read.
///
/// # Errors
/// [`BaselineError::Task`] if no baseline does the task.
pub(crate) fn predict<T: Task>(
    task: &T,
    baseline: &Baseline,
    examples: &[T::Example],
) -> Result<Vec<Vec<T::Answer>>, TaskError> {
    let answers = |example| match task.plain_target(example)? {
        None => Ok(Vec::new()),
        Some(_) => Ok(vec![match baseline.text(&T::texts(example)) {
            Some(text) => written(task, text)?,
            None => answer(task, &logits_of(task, baseline, example))?,
        }]),
    };
    examples.iter().map(answers).collect()
}

/// Examples between two calls of a watch.
const TOLD: usize = 256;

fn answer<T: Task>(task: &T, logits: &[f32]) -> Result<T::Answer, TaskError> {
    task.plain_answer(logits).ok_or_else(|| BaselineError::Task(T::NAME).into())
}

fn written<T: Task>(task: &T, text: &str) -> Result<T::Answer, TaskError> {
    let refused = || BaselineError::Writes { baseline: BaselineSettings::NAMES[4], task: T::NAME };
    task.plain_text(text).ok_or_else(|| refused().into())
}
