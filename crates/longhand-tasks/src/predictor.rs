//! A model that answers texts.

use std::path::Path;
use std::sync::Arc;

use longhand_kernel::Cpu;
use longhand_model::config::HeadKind;
use longhand_model::{Model, Tape, adapter};
use longhand_text::Tokenizer;
use longhand_text::batch::LabelledIds;

use crate::batches::{in_batches, padding, rows};
use crate::error::TaskError;
use crate::task::{At, Task};
use crate::task_file::TASK_FILE;
use crate::tasks::{Listed, TaskFile};

/// Reads a model folder and its task. With a `base`, `folder` holds an adapter of that model; a
/// folder that holds an adapter alone is otherwise read with the base model that it names.
///
/// # Errors
/// A folder that lacks a file, or whose model learnt no task; a base model that is not the adapter's.
pub fn open(folder: &Path, base: Option<&Path>) -> Result<(TaskFile, Model), TaskError> {
    let model = match base {
        Some(base) => adapter::load(base, Some(folder))?,
        None => adapter::load(folder, None)?,
    };
    if matches!(model.config().head(), None | Some(HeadKind::LanguageModel { .. })) {
        return Err(TaskError::NotATask(folder.into()));
    }
    let missing = || TaskError::TaskFile {
        path: folder.join(TASK_FILE),
        reason: "it is missing, and names the model's labels".into(),
    };
    Ok((TaskFile::load(folder)?.ok_or_else(missing)?, model))
}

/// A model that does a task.
pub struct Predictor<T: Task> {
    /// The meaning of its answers.
    pub task: T,
    /// The model, whose first head answers.
    pub model: Model,
    /// The tokeniser that the model was trained with.
    pub tokenizer: Tokenizer,
    tape: Tape,
}

impl<T: Task> Predictor<T> {
    /// A predictor made from its parts.
    pub fn new(task: T, model: Model, tokenizer: Tokenizer, cpu: Arc<Cpu>) -> Self {
        Self { task, model, tokenizer, tape: Tape::new(cpu) }
    }

    /// Reads a model folder whose task is `T`.
    ///
    /// # Errors
    /// A folder that lacks a file, or whose model does another task.
    pub fn load(folder: &Path, tokenizer: Tokenizer, cpu: Arc<Cpu>) -> Result<Self, TaskError>
    where
        T: Listed,
    {
        let (file, model) = open(folder, None)?;
        Self::checked(folder, file.try_into()?, model, tokenizer, cpu)
    }

    /// A predictor of the task and the model that [`open`] read from `folder`.
    ///
    /// # Errors
    /// A model that does another task, or has another tokeniser.
    pub fn checked(
        folder: &Path,
        task: T,
        model: Model,
        tokenizer: Tokenizer,
        cpu: Arc<Cpu>,
    ) -> Result<Self, TaskError> {
        if let Some(reason) = model.config().head().and_then(|head| task.misfit(head)) {
            return Err(TaskError::TaskFile { path: folder.join(TASK_FILE), reason });
        }
        model.check_vocabulary(tokenizer.vocab_size())?;
        Ok(Self::new(task, model, tokenizer, cpu))
    }

    /// Answers examples in batches: for each example the answers to its sequences, or none where
    /// there is nothing to read.
    ///
    /// # Errors
    /// [`TaskError::NotFinite`] for an example whose logits are not finite: `first` says where the
    /// first one is from.
    pub fn predict(
        &mut self,
        examples: &[T::Example],
        first: At<'_>,
    ) -> Result<Vec<Vec<T::Answer>>, TaskError> {
        let mut items = Vec::with_capacity(examples.len());
        // The example of each sequence.
        let mut owners = Vec::with_capacity(examples.len());
        for (place, example) in examples.iter().enumerate() {
            let encoded = self.task.encode(&self.tokenizer, example)?.items;
            owners.resize(owners.len() + encoded.len(), place);
            items.extend(encoded);
        }
        let items: Vec<&LabelledIds<T::Target>> = items.iter().collect();
        let Self { task, model, tokenizer, tape } = self;
        let (task, model) = (&*task, &*model);
        let mut found: Vec<Option<T::Answer>> = vec![None; items.len()];
        let mut logits = Vec::new();
        in_batches(task, (model, tape), &items, padding(tokenizer), |pass, x, batch| {
            let rows = rows(model, pass, x);
            model.logits(pass, x, 0..rows, &mut logits);
            // Row t·B + b, or b where the head pools: both belong to sequence `row % B`.
            let is_finite = |row: usize| {
                let width = model.outputs();
                logits[row * width..(row + 1) * width].iter().all(|x| x.is_finite())
            };
            let is_real = |row: usize| row / batch.batch < batch.lengths[row % batch.batch];
            if let Some(row) = (0..rows).find(|&row| is_real(row) && !is_finite(row)) {
                let example = first.example + owners[batch.examples[row % batch.batch]];
                return Err(TaskError::NotFinite { name: first.name.into(), example });
            }
            let answers = task.answers(model, pass, &logits, batch);
            for (answer, &place) in answers.into_iter().zip(&batch.examples) {
                found[place] = Some(answer);
            }
            Ok(())
        })?;
        let mut answers = vec![Vec::new(); examples.len()];
        for (answer, owner) in found.into_iter().flatten().zip(owners) {
            answers[owner].push(answer);
        }
        Ok(answers)
    }
}
