//! A model that answers texts.

use std::path::Path;
use std::sync::Arc;

use longhand_kernel::Cpu;
use longhand_model::adapter::{self, AdapterChoice};
use longhand_model::config::{HeadKind, Pooling};
use longhand_model::{Model, Tape};
use longhand_text::Tokenizer;
use longhand_text::batch::LabelledIds;
use longhand_train::{TrainError, Watch};

use crate::baseline::Baseline;
use crate::batches::{in_batches, lengths, padding, rows};
use crate::ensemble::Ensemble;
use crate::error::TaskError;
use crate::explain::Explainer;
use crate::ids::Measured;
use crate::network::Network;
use crate::plain;
use crate::score::{self, Evaluation};
use crate::task::{At, Task};
use crate::task_file::TASK_FILE;
use crate::tasks::{Listed, TaskFile};

/// A model that learnt a task.
#[derive(Clone)]
pub enum Trained {
    /// A network.
    Network(Box<Network>),
    /// A baseline, which reads texts.
    Baseline(Box<Baseline>),
}

/// Reads the task in `folder` and the model that does it, with the adapters that are given: the task
/// is then that of the model or of one of them. A `model` folder that holds an adapter alone is read
/// with the base model that it names.
///
/// # Errors
/// A folder that lacks a file, or whose model learnt no task; an adapter of another model, or one
/// that does not go with another one.
pub fn open(
    folder: &Path,
    model: &Path,
    adapters: &[AdapterChoice],
) -> Result<(TaskFile, Trained), TaskError> {
    let missing = || TaskError::TaskFile {
        path: folder.join(TASK_FILE),
        reason: "it is missing, and names the model's labels".into(),
    };
    if adapters.is_empty()
        && let Some(baseline) = Baseline::load(folder)?
    {
        let file = TaskFile::load(folder)?.ok_or_else(missing)?;
        return Ok((file, Trained::Baseline(Box::new(baseline))));
    }
    let tokenizer = Tokenizer::of_folder(folder)?;
    let model = adapter::load(model, adapters)?;
    if matches!(model.config().head(), None | Some(HeadKind::LanguageModel { .. })) {
        return Err(TaskError::NotATask(folder.into()));
    }
    let file = TaskFile::load(folder)?.ok_or_else(missing)?;
    let ensemble = Ensemble::load(folder)?;
    Ok((file, Trained::Network(Box::new(Network { model, tokenizer, ensemble }))))
}

/// A model that does a task.
pub struct Predictor<T: Task> {
    /// The meaning of its answers.
    pub task: T,
    trained: Trained,
    tape: Tape,
}

impl<T: Task> Predictor<T> {
    /// A predictor made from its parts.
    pub fn new(task: T, model: Model, tokenizer: Tokenizer, cpu: Arc<Cpu>) -> Self {
        let trained = Trained::Network(Box::new(Network { model, tokenizer, ensemble: None }));
        Self { task, trained, tape: Tape::new(cpu) }
    }

    /// Reads a model folder whose task is `T`.
    ///
    /// # Errors
    /// A folder that lacks a file, or whose model does another task.
    pub fn load(folder: &Path, cpu: Arc<Cpu>) -> Result<Self, TaskError>
    where
        T: Listed,
    {
        let (file, trained) = open(folder, folder, &[])?;
        Self::checked(folder, file.try_into()?, trained, cpu)
    }

    /// A predictor of the task and the model that [`open`] read from `folder`.
    ///
    /// # Errors
    /// A model that does another task, or has another tokeniser.
    pub fn checked(
        folder: &Path,
        task: T,
        trained: Trained,
        cpu: Arc<Cpu>,
    ) -> Result<Self, TaskError> {
        let heads = |classes| {
            let pooling = Pooling::Mean;
            [HeadKind::Classifier { classes, pooling }, HeadKind::SentencePair { classes, pooling }]
        };
        let misfit = match &trained {
            Trained::Network(network) => {
                network.model.config().head().and_then(|head| task.misfit(head))
            }
            // A baseline reads single texts and pairs alike.
            Trained::Baseline(baseline) => {
                let [single, pair] = heads(baseline.classes()).map(|head| task.misfit(&head));
                single.filter(|_| pair.is_some())
            }
        };
        if let Some(reason) = misfit {
            return Err(TaskError::TaskFile { path: folder.join(TASK_FILE), reason });
        }
        if let Trained::Network(network) = &trained {
            network.check(folder)?;
        }
        Ok(Self { task, trained, tape: Tape::new(cpu) })
    }

    /// An explainer of the network's answers; none where a baseline answers.
    ///
    /// # Errors
    /// If the weights are packed for reading.
    pub fn explainer(&self) -> Result<Option<Explainer>, TaskError> {
        match &self.trained {
            Trained::Network(network) => {
                Explainer::new((**network).clone(), self.tape.cpu().clone()).map(Some)
            }
            Trained::Baseline(_) => Ok(None),
        }
    }

    /// Examples in the form that this model is measured on.
    ///
    /// # Errors
    /// If the tokeniser refuses a text, or the task an answer.
    pub fn measured(&self, examples: Vec<T::Example>) -> Result<Measured<T>, TaskError> {
        match &self.trained {
            Trained::Network(network) => Measured::encode(&self.task, examples, &network.tokenizer),
            Trained::Baseline(_) => plain::measured(&self.task, examples),
        }
    }

    /// Answers examples whose right answers are known.
    ///
    /// # Errors
    /// If an id or a target is none of the model's; [`TrainError::Stopped`] of `watch`.
    pub fn evaluate<'a>(
        &'a self,
        examples: &'a Measured<T>,
        cpu: &Arc<Cpu>,
        watch: &mut Watch<'_>,
    ) -> Result<Evaluation<'a, T>, TrainError> {
        match &self.trained {
            Trained::Network(network) => {
                let Network { model, tokenizer, ensemble } = &**network;
                let answering = (model, tokenizer, ensemble.as_ref());
                score::evaluate(&self.task, answering, examples, cpu, watch)
            }
            Trained::Baseline(baseline) => plain::evaluate(&self.task, baseline, examples, watch),
        }
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
        let Self { task, trained, tape } = self;
        let task = &*task;
        let Network { model, tokenizer, ensemble } = match trained {
            Trained::Network(network) => &**network,
            Trained::Baseline(baseline) => return plain::predict(task, baseline, examples),
        };
        let mut items = Vec::with_capacity(examples.len());
        // The example of each sequence.
        let mut owners = Vec::with_capacity(examples.len());
        for (place, example) in examples.iter().enumerate() {
            let encoded = task.encode(tokenizer, example)?.items;
            owners.resize(owners.len() + encoded.len(), place);
            items.extend(encoded);
        }
        let items: Vec<&LabelledIds<T::Target>> = items.iter().collect();
        let mut found: Vec<Option<T::Answer>> = vec![None; items.len()];
        let mut logits = Vec::new();
        in_batches(task, (model, tape), &items, padding(tokenizer), |pass, x, batch| {
            let rows = rows(model, pass, x);
            model.logits(pass, x, 0..rows, &mut logits);
            // Row t·B + b of a token or a word, or b where the head pools: all belong to sequence
            // `row % B`.
            let is_finite = |row: usize| {
                let width = model.outputs();
                logits[row * width..(row + 1) * width].iter().all(|x| x.is_finite())
            };
            let words = task.words(batch).map(|words| words.lengths);
            let lengths = words.unwrap_or_else(|| lengths(batch));
            let is_real = |row: usize| row / batch.batch < lengths[row % batch.batch] as usize;
            if let Some(row) = (0..rows).find(|&row| is_real(row) && !is_finite(row)) {
                let example = first.example + owners[batch.examples[row % batch.batch]];
                return Err(TaskError::NotFinite { name: first.name.into(), example });
            }
            if let Some(ensemble) = ensemble {
                for (logits, &place) in logits.chunks_mut(model.outputs()).zip(&batch.examples) {
                    ensemble.join(logits, &T::texts(&examples[owners[place]]));
                }
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
