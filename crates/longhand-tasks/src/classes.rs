//! The class of an example whose answer is one of a few, and how probable logits make it.

use longhand_kernel::loss::cross_entropy_of_logits;
use longhand_model::Targets;
use longhand_text::batch::LabelledBatch;

use crate::baseline::BaselineError;
use crate::error::TaskError;
use crate::task::Task;

/// The class that is the right answer.
pub(crate) fn class_of<T: Task>(task: &T, target: &T::Target) -> Result<u32, TaskError> {
    let batch = LabelledBatch {
        batch: 1,
        time: 1,
        ids: vec![0],
        lengths: vec![1],
        labels: vec![target.clone()],
        examples: vec![0],
    };
    let class = task.with_targets(&batch, |targets| match targets {
        Targets::Labels(labels) => labels.first().copied(),
        _ => None,
    });
    class.ok_or_else(|| BaselineError::Task(T::NAME).into())
}

/// −ln p of the right answer.
pub(crate) fn nats_of<T: Task>(
    task: &T,
    target: &T::Target,
    logits: &[f32],
) -> Result<f64, TaskError> {
    let class = class_of(task, target)?;
    Ok(cross_entropy_of_logits(logits.len(), logits, &[class]).nats)
}
