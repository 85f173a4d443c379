//! What an engine runs: a network, or an n-gram model.

use std::ops::Range;
use std::sync::Arc;

use longhand_model::{
    Cpu, LossOptions, Mode, Model, ModelError, Sequence, State, StateLayout, Tape, Targets, Var,
};
use longhand_ngram::{Ngram, Readings};

use crate::error::EngineError;

/// A model that gives logits of the next token after each token of a stream. The stream's state
/// has a constant size.
pub enum LanguageModel {
    /// A network with a language-model head.
    Network(Box<Model>),
    /// An n-gram model.
    Ngram(Box<Ngram>),
}

impl LanguageModel {
    /// V: tokens that it knows.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Network(model) => model.config().vocab_size,
            Self::Ngram(model) => model.vocabulary(),
        }
    }

    /// Numbers in the model.
    pub fn parameters(&self) -> usize {
        match self {
            Self::Network(model) => model.weights.count(),
            Self::Ngram(model) => model.parameters(),
        }
    }

    /// The empty state of `batch` streams.
    pub fn state(&self, batch: usize) -> State {
        State::new(&self.state_layout(), batch)
    }

    /// The tensors that each of its states has.
    pub fn state_layout(&self) -> Arc<StateLayout> {
        match self {
            Self::Network(model) => model.state_layout().clone(),
            Self::Ngram(model) => model.state_layout(),
        }
    }

    /// The hash of all that decides on its logits.
    pub fn hash(&self) -> String {
        match self {
            Self::Network(model) => model.hash(),
            Self::Ngram(model) => model.hash(),
        }
    }

    /// The network, for what looks into one.
    ///
    /// # Errors
    /// [`EngineError::NotNetwork`] for an n-gram model.
    pub fn network(&self) -> Result<&Model, EngineError> {
        match self {
            Self::Network(model) => Ok(model),
            Self::Ngram(_) => Err(EngineError::NotNetwork),
        }
    }

    /// The network whose hidden states are the keys of a datastore.
    ///
    /// # Errors
    /// [`EngineError::NoHiddenStates`] for an n-gram model.
    pub fn with_hidden_states(&self) -> Result<&Model, EngineError> {
        self.network().map_err(|_| EngineError::NoHiddenStates)
    }
}

impl From<Model> for LanguageModel {
    fn from(model: Model) -> Self {
        Self::Network(Box::new(model))
    }
}

impl From<Ngram> for LanguageModel {
    fn from(model: Ngram) -> Self {
        Self::Ngram(Box::new(model))
    }
}

/// The scratch memory of one model's passes, which also holds the rows of the last one.
pub(crate) struct Passes {
    pub(crate) tape: Tape,
    pub(crate) mode: Mode,
    /// A network's last output, on the tape.
    last: Option<Var>,
    /// An n-gram model's rows.
    readings: Readings,
}

impl Passes {
    pub(crate) fn new(cpu: &Arc<Cpu>) -> Self {
        let (tape, readings) = (Tape::new(cpu.clone()), Readings::default());
        Self { tape, mode: Mode::Read, last: None, readings }
    }

    /// One pass: see [`Model::forward`] and [`Readings::read`].
    pub(crate) fn read(
        &mut self,
        model: &LanguageModel,
        ids: &[u32],
        sequence: &Sequence,
        state: &mut State,
    ) -> Result<(), ModelError> {
        match model {
            LanguageModel::Network(model) => {
                let mut pass = self.tape.pass(self.mode);
                self.last = Some(model.forward(&mut pass, ids, sequence, state)?);
                Ok(())
            }
            LanguageModel::Ngram(model) => self.readings.read(model, ids, sequence, state),
        }
    }

    /// Logits of some rows of the last pass; none before the first.
    pub(crate) fn logits(&mut self, model: &LanguageModel, rows: Range<usize>, out: &mut Vec<f32>) {
        out.clear();
        match model {
            LanguageModel::Network(model) => {
                if let Some(x) = self.last {
                    model.logits(&mut self.tape, x, rows, out);
                }
            }
            LanguageModel::Ngram(model) => self.readings.logits(model, rows, out),
        }
    }

    /// `[rows, D]`: a network's body's output in the last pass, and D; none before the first.
    pub(crate) fn output(&self) -> Option<(&[f32], usize)> {
        self.last.map(|x| (self.tape.data(x), self.tape.width(x)))
    }

    /// `[R, D]`: the body's output in some rows of the last pass, which the head reads; none of an
    /// n-gram model, and before the first pass.
    pub(crate) fn hidden(&self, rows: Range<usize>) -> Option<&[f32]> {
        let (x, width) = self.output()?;
        x.get(rows.start * width..rows.end * width)
    }

    /// Losses of the rows of the last pass against targets, in nats.
    pub(crate) fn losses(
        &mut self,
        model: &LanguageModel,
        targets: &[u32],
        out: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        out.clear();
        out.resize(targets.len(), 0.0);
        match model {
            LanguageModel::Network(model) => {
                let options = LossOptions { losses: Some(out), ..LossOptions::default() };
                if let Some(x) = self.last {
                    model.loss(&mut self.tape, x, Targets::Tokens(targets), options)?;
                }
                Ok(())
            }
            LanguageModel::Ngram(model) => self.readings.losses(model, targets, out),
        }
    }
}
