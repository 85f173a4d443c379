//! What a search runs: a model on a tape, or a reader of an engine.

use std::ops::Range;

use longhand_model::{
    Input, Mode, Model, ModelError, Sequence, Source, SourceInput, State, Tape, Var,
};

use crate::datastore::Neighbours;
use crate::engine::Reader;
use crate::error::EngineError;

/// Runs passes, and gives logits of the last one.
pub(super) trait Network {
    /// The empty state of `batch` streams.
    fn state(&self, batch: usize) -> State;

    /// V: tokens that it knows.
    fn vocab_size(&self) -> usize;

    /// Tokens that its encoder knows; none without an encoder.
    fn source_vocab_size(&self) -> Option<usize>;

    /// Reads sources, `ids [T·S]` time-major.
    fn read_source(&mut self, ids: &[u32], sequence: &Sequence) -> Result<Source, EngineError>;

    /// One pass, which advances the state. It reads the source of a model with an encoder.
    fn pass(
        &mut self,
        ids: &[u32],
        sequence: &Sequence,
        source: Option<&Source>,
        state: &mut State,
    ) -> Result<(), EngineError>;

    /// How much each row of the last pass read of each position of its source, `[R, T]`.
    fn source_weights(&mut self, source: &Source, out: &mut Vec<f32>) -> Result<(), EngineError>;

    /// Logits of some rows of the last pass.
    fn logits(&mut self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<(), EngineError>;

    /// The tape, for its processor and its profile.
    fn tape(&mut self) -> &mut Tape;

    /// Counts the time since the last operation as spent on `what`, if time is taken.
    fn lap(&mut self, what: &str) {
        if let Some(profile) = self.tape().profile() {
            profile.lap(what);
        }
    }
}

/// A model that is no engine's.
pub(super) struct Bare<'a> {
    pub(super) model: &'a Model,
    pub(super) tape: &'a mut Tape,
    /// What its probabilities are mixed with.
    neighbours: Option<&'a mut Neighbours>,
    /// The output of the last pass.
    last: Option<Var>,
}

impl<'a> Bare<'a> {
    pub(super) fn new(
        model: &'a Model,
        tape: &'a mut Tape,
        neighbours: Option<&'a mut Neighbours>,
    ) -> Self {
        Self { model, tape, neighbours, last: None }
    }
}

impl Network for Bare<'_> {
    fn state(&self, batch: usize) -> State {
        self.model.state(batch)
    }

    fn vocab_size(&self) -> usize {
        self.model.config().vocab_size
    }

    fn source_vocab_size(&self) -> Option<usize> {
        let config = self.model.config();
        let encoder = config.encoder.as_ref()?;
        Some(encoder.vocab_size.unwrap_or(config.vocab_size))
    }

    fn read_source(&mut self, ids: &[u32], sequence: &Sequence) -> Result<Source, EngineError> {
        Ok(self.model.read_source(self.tape, ids, sequence)?)
    }

    fn pass(
        &mut self,
        ids: &[u32],
        sequence: &Sequence,
        source: Option<&Source>,
        state: &mut State,
    ) -> Result<(), EngineError> {
        let mut pass = self.tape.pass(Mode::Read);
        let input = Input { ids, source: source.map(SourceInput::Kept), ..Input::default() };
        self.last = Some(self.model.forward_input(&mut pass, input, sequence, state)?);
        Ok(())
    }

    fn source_weights(&mut self, source: &Source, out: &mut Vec<f32>) -> Result<(), EngineError> {
        Ok(self.model.source_weights(self.tape, source, out)?)
    }

    fn logits(&mut self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<(), EngineError> {
        out.clear();
        let Some(x) = self.last else { return Ok(()) };
        self.model.logits(self.tape, x, rows.clone(), out);
        if let Some(neighbours) = &mut self.neighbours {
            let width = self.tape.width(x);
            let hidden = &self.tape.data(x)[rows.start * width..rows.end * width];
            neighbours.mix_logits(self.tape.cpu(), hidden, out)?;
        }
        Ok(())
    }

    fn tape(&mut self) -> &mut Tape {
        self.tape
    }
}

impl Network for Reader {
    fn state(&self, batch: usize) -> State {
        self.engine().model().state(batch)
    }

    fn vocab_size(&self) -> usize {
        self.engine().model().vocab_size()
    }

    fn source_vocab_size(&self) -> Option<usize> {
        // An engine has no model with an encoder.
        None
    }

    fn read_source(&mut self, _: &[u32], _: &Sequence) -> Result<Source, EngineError> {
        Err(ModelError::NoEncoder.into())
    }

    fn pass(
        &mut self,
        ids: &[u32],
        sequence: &Sequence,
        _: Option<&Source>,
        state: &mut State,
    ) -> Result<(), EngineError> {
        Reader::pass(self, ids, sequence, state)
    }

    fn source_weights(&mut self, _: &Source, _: &mut Vec<f32>) -> Result<(), EngineError> {
        Err(ModelError::NoEncoder.into())
    }

    fn logits(&mut self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<(), EngineError> {
        Reader::logits(self, rows, out)
    }

    fn tape(&mut self) -> &mut Tape {
        Reader::tape(self)
    }
}
