//! The right answers that baselines learn, their logits, and how probable these make what is right.

use std::borrow::Cow;

use longhand_kernel::loss::{binary, cross_entropy_of_logits, ordinal};
use longhand_model::{Targets, Total};
use longhand_text::batch::LabelledBatch;

use crate::baseline::{Baseline, BaselineError, Right};
use crate::error::TaskError;
use crate::task::Task;

/// The right answer as a class, as labels or as tags.
///
/// # Errors
/// [`BaselineError::Task`] where it has another form.
pub(crate) fn right_of<T: Task>(task: &T, target: &T::Target) -> Result<Right<'static>, TaskError> {
    let right = task.with_targets(&alone::<T>(target), |targets| match targets {
        Targets::Labels(labels) | Targets::Ordered(labels) => {
            labels.first().copied().map(Right::Class)
        }
        Targets::Flags(flags, _) => {
            let on = (0..).zip(flags).filter(|&(_, &flag)| flag > 0.5);
            Some(Right::Labels(on.map(|(label, _)| label).collect()))
        }
        Targets::Tags(tags, _) => Some(Right::Tags(tags.to_vec())),
        Targets::Tokens(_) | Targets::TagsApart(_) | Targets::Spans(_) => None,
    });
    right.ok_or_else(|| BaselineError::Task(T::NAME).into())
}

/// The class that is the right answer.
pub(crate) fn class_of<T: Task>(task: &T, target: &T::Target) -> Result<u32, TaskError> {
    match right_of(task, target)? {
        Right::Class(class) => Ok(class),
        _ => Err(BaselineError::Task(T::NAME).into()),
    }
}

/// A baseline's logits for an example: `[K]` of the classes or labels, or `[n, K]` of the tags of the n
/// texts of [`Task::plain_texts`].
pub(crate) fn logits_of<T: Task>(task: &T, baseline: &Baseline, example: &T::Example) -> Vec<f32> {
    let chains = match baseline.reads_chains() {
        true => task.plain_chains(example),
        false => vec![task.plain_texts(example)],
    };
    let of_chain = |texts: &Vec<Cow<'_, str>>| {
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        baseline.logits(&texts)
    };
    chains.iter().flat_map(of_chain).collect()
}

/// −ln p of the right answer by a baseline's logits for K classes, labels or tags, summed: of a class,
/// of the thresholds between ordered classes, of each label that is on or off, or of each tag.
pub(crate) fn loss_of<T: Task>(
    task: &T,
    target: &T::Target,
    count: usize,
    logits: &[f32],
) -> Result<Total, TaskError> {
    let total = task.with_targets(&alone::<T>(target), |targets| match targets {
        Targets::Labels(ids) | Targets::Tags(ids, _) => {
            Some(cross_entropy_of_logits(count, logits, ids))
        }
        Targets::Ordered(ids) => Some(ordinal::cross_entropy(count, logits, ids, 0.0, None, None)),
        Targets::Flags(flags, weights) => {
            Some(binary::cross_entropy(count, logits, flags, weights, 0.0, None, None))
        }
        Targets::Tokens(_) | Targets::TagsApart(_) | Targets::Spans(_) => None,
    });
    total.ok_or_else(|| BaselineError::Task(T::NAME).into())
}

/// A batch of one example that nothing is read of.
fn alone<T: Task>(target: &T::Target) -> LabelledBatch<T::Target> {
    LabelledBatch {
        batch: 1,
        time: 1,
        ids: vec![0],
        lengths: vec![1],
        labels: vec![target.clone()],
        examples: vec![0],
    }
}
