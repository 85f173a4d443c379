//! A model that answers texts.

use std::path::Path;
use std::sync::Arc;

use longhand_engine::datastore::Owner;
use longhand_engine::rules::{Constraint, Rules, Vocabulary};
use longhand_engine::{EngineError, Neighbours};
use longhand_kernel::Cpu;
use longhand_model::adapter::{self, AdapterChoice};
use longhand_model::config::{HeadKind, Pooling};
use longhand_model::{Model, Tape};
use longhand_text::Tokenizer;
use longhand_train::{TrainError, Watch};

use crate::baseline::{Baseline, Form};
use crate::batches::tapes;
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
use crate::writing::vocabulary::SOURCE_TOKENIZER_FILE;
use crate::written::Writer;

mod hidden;
mod sequences;

use sequences::Sequences;

/// A model that learnt a task.
#[derive(Clone)]
pub enum Trained {
    /// A network.
    Network(Box<Network>),
    /// A baseline, which reads texts.
    Baseline(Box<Baseline>),
}

impl Trained {
    /// The first network, where there is one.
    pub fn network(&self) -> Option<&Model> {
        match self {
            Self::Network(network) => Some(&network.model),
            Self::Baseline(_) => None,
        }
    }

    /// Lays the first network out for reading. Matrices that are equal to those of `base`, if it is given,
    /// are held once for both, see [`Model::pack_beside`].
    pub fn pack(&mut self, base: Option<&Model>) {
        match (self, base) {
            (Self::Network(network), Some(base)) => network.model.pack_beside(base),
            (Self::Network(network), None) => network.model.pack(),
            (Self::Baseline(_), _) => {}
        }
    }
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
    let members = Ensemble::count(folder)?;
    if members > 1 && !adapters.is_empty() {
        return Err(TaskError::AdapterOfMembers { members, folder: folder.into() });
    }
    let tokenizer = Tokenizer::of_folder(folder)?;
    let model = adapter::load(model, adapters)?;
    let is_language_model =
        matches!(model.config().head(), None | Some(HeadKind::LanguageModel { .. }));
    let file = match TaskFile::load(folder)? {
        Some(file) => file,
        // A task that writes has the head of a language model too.
        None if is_language_model => return Err(TaskError::NotATask(folder.into())),
        None => return Err(missing()),
    };
    let ensemble = Ensemble::load(folder, &model)?;
    Ok((file, Trained::Network(Box::new(Network { model, tokenizer, ensemble }))))
}

/// Refuses a tokeniser of the sources that is another model's.
fn check_sources<T: Task>(folder: &Path, task: &T, network: &Network) -> Result<(), TaskError> {
    let Network { model, tokenizer, .. } = network;
    let known = model.config().source_vocabulary();
    let found = task.body(model.config().clone(), tokenizer).source_vocabulary();
    let (Some(known), Some(found)) = (known, found) else { return Ok(()) };
    if known == found {
        return Ok(());
    }
    let reason = format!(
        "it has {found} tokens, but the model's encoder knows {known}: copy the whole folder"
    );
    Err(TaskError::TaskFile { path: folder.join(SOURCE_TOKENIZER_FILE), reason })
}

/// The heads that a baseline answers in place of. It reads single texts and pairs alike.
fn heads(baseline: &Baseline) -> Vec<HeadKind> {
    let (count, pooling) = (baseline.classes(), Pooling::Mean);
    match baseline.form() {
        Form::Class => vec![
            HeadKind::Classifier { classes: count, pooling },
            HeadKind::SentencePair { classes: count, pooling },
        ],
        Form::Labels => vec![HeadKind::MultiLabel { labels: count, pooling }],
        Form::Tags => vec![HeadKind::Tags { tags: count, crf: false }],
        Form::Text => vec![HeadKind::LanguageModel { tied: true, bias: false }],
    }
}

/// Tokens of examples that were answered; a baseline has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Tokens that the model read: those of each sequence and of its source.
    pub read: u64,
    /// Tokens of the answers that it wrote, of each sequence the best one's.
    pub written: u64,
}

/// A model that does a task.
pub struct Predictor<T: Task> {
    /// The meaning of its answers.
    pub task: T,
    trained: Trained,
    cpu: Arc<Cpu>,
    /// One for each network.
    tapes: Vec<Tape>,
    /// What the probabilities of a network that writes are mixed with.
    neighbours: Option<Neighbours>,
    /// Tokens of [`Predictor::predict`] since they were taken last.
    tokens: Tokens,
}

impl<T: Task> Predictor<T> {
    /// A predictor made from its parts.
    pub fn new(task: T, model: Model, tokenizer: Tokenizer, cpu: Arc<Cpu>) -> Self {
        let trained = Trained::Network(Box::new(Network { model, tokenizer, ensemble: None }));
        Self::of(task, trained, cpu)
    }

    fn of(task: T, trained: Trained, cpu: Arc<Cpu>) -> Self {
        let networks = match &trained {
            Trained::Network(network) => network.models().len(),
            Trained::Baseline(_) => 0,
        };
        let (tapes, tokens) = (tapes(networks, &cpu), Tokens::default());
        Self { task, trained, tapes, cpu, neighbours: None, tokens }
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
        mut task: T,
        trained: Trained,
        cpu: Arc<Cpu>,
    ) -> Result<Self, TaskError> {
        let misfit = match &trained {
            Trained::Network(network) => {
                network.model.config().head().and_then(|head| task.misfit(head))
            }
            Trained::Baseline(baseline) => {
                let heads = heads(baseline);
                let misfits: Option<Vec<String>> =
                    heads.iter().map(|head| task.misfit(head)).collect();
                misfits.and_then(|misfits| misfits.into_iter().next())
            }
        };
        if let Some(reason) = misfit {
            return Err(TaskError::TaskFile { path: folder.join(TASK_FILE), reason });
        }
        if let Trained::Network(network) = &trained {
            network.check(folder)?;
            task.open(folder)?;
            check_sources(folder, &task, network)?;
        }
        Ok(Self::of(task, trained, cpu))
    }

    /// The model and the tokeniser as a datastore names them; none of a baseline.
    pub fn owner(&self) -> Option<Owner> {
        let Trained::Network(network) = &self.trained else { return None };
        // The hash is of the weights, which the changes of adapters become part of.
        let mut model = network.model.clone();
        model.merge_low_rank();
        Some(Owner { model: model.hash(), tokenizer: network.tokenizer.hash().to_owned() })
    }

    /// The datastore that it consults, if there is one.
    pub fn neighbours(&self) -> Option<&Neighbours> {
        self.neighbours.as_ref()
    }

    /// Mixes the probabilities of the words that [`Predictor::predict`] writes, and of those that
    /// [`Predictor::evaluate`] measures, with those of a datastore from now on.
    ///
    /// # Errors
    /// [`TaskError::Engine`] for the datastore of another model.
    pub fn consult(&mut self, neighbours: Neighbours) -> Result<(), TaskError> {
        if let Some(owner) = self.owner() {
            neighbours.store().check_owner(&owner).map_err(EngineError::from)?;
        }
        self.neighbours = Some(neighbours);
        Ok(())
    }

    /// An explainer of the networks' answers; none where a baseline answers alone.
    ///
    /// # Errors
    /// If the weights are packed for reading.
    pub fn explainer(&self) -> Result<Option<Explainer>, TaskError> {
        match &self.trained {
            Trained::Network(network) => {
                Explainer::new((**network).clone(), self.cpu.clone()).map(Some)
            }
            Trained::Baseline(_) => Ok(None),
        }
    }

    /// Writes only answers that match rules from here on; nothing changes where answers are not
    /// written, as by a classifier or a tagger.
    ///
    /// # Errors
    /// Rules that no token of the model can begin.
    pub fn follow(&mut self, rules: &Arc<Rules>) -> Result<(), TaskError> {
        if let Trained::Network(network) = &self.trained
            && self.task.search().is_some()
        {
            let ends = self.task.ends(&network.tokenizer)?;
            let constraint = Vocabulary::new(&network.tokenizer)
                .and_then(|vocabulary| Constraint::new(rules, &Arc::new(vocabulary), &ends))
                .map_err(EngineError::from)?;
            if let Some(search) = self.task.search_mut() {
                search.constraint = Some(constraint);
            }
        }
        Ok(())
    }

    /// The tokens that [`Predictor::predict`] has read and written since this was asked last.
    pub fn take_tokens(&mut self) -> Tokens {
        std::mem::take(&mut self.tokens)
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
                // A clone searches by itself.
                let beside = &mut self.neighbours.clone();
                let beside = beside.as_mut();
                score::evaluate_beside(&self.task, answering, beside, examples, cpu, watch)
            }
            Trained::Baseline(baseline) => plain::evaluate(&self.task, baseline, examples, watch),
        }
    }

    /// Why an answer cannot begin as an example asks for; none where it can, or another fault is found
    /// first, which [`Predictor::predict`] tells.
    pub fn refused_beginning(&self, example: &T::Example) -> Option<TaskError> {
        let Trained::Network(network) = &self.trained else { return None };
        let error = self.task.encode(&network.tokenizer, example).err()?;
        let of_beginning = matches!(
            error,
            TaskError::LongPrefix { .. }
                | TaskError::UnknownPrefix(_)
                | TaskError::PrefixAgainstRules(_)
        );
        of_beginning.then_some(error)
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
        let Self { task, trained, tapes, neighbours, tokens, .. } = self;
        let task = &*task;
        let network = match trained {
            Trained::Network(network) => &**network,
            Trained::Baseline(baseline) => return plain::predict(task, baseline, examples),
        };
        let Network { model, tokenizer, .. } = network;
        let sequences = Sequences::of(task, tokenizer, examples, first)?;
        tokens.read += sequences.tokens();
        if !T::WRITES {
            return sequences.answered(task, network, tapes);
        }
        let neighbours = neighbours.as_mut();
        let writer = Writer { model, tape: &mut tapes[0], tokenizer, neighbours };
        let (answers, pace) = sequences.written(task, writer)?;
        tokens.written += pace.tokens as u64;
        Ok(answers)
    }
}
