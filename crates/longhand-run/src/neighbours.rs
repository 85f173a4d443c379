//! Texts that are read for a datastore: to build it, to tune it, and to measure a model beside it.
//!
//! All three read as an evaluation does ([`longhand_train::evaluate`]), so that each token that a model
//! can be asked for is an entry, or is measured, exactly once.

use longhand_engine::datastore::{DatastoreWriter, Neighbours, Tuner};
use longhand_model::{IGNORE, LossOptions, Mode, Model, ModelError, State, Tape, Targets, Var};
use longhand_text::batch::Batch;
use longhand_train::TrainError;
use longhand_train::evaluate::{Evaluated, sequence};

/// A network on a tape, whose hidden states are looked at.
pub struct Hidden<'a> {
    /// The network, whose head predicts tokens.
    pub model: &'a Model,
    /// The tape, which holds scratch memory.
    pub tape: &'a mut Tape,
}

/// Writes the hidden states of a text into a datastore. It asks for no loss, and gives 0.
pub struct Recorded<'a> {
    /// What reads the text.
    pub hidden: Hidden<'a>,
    /// The datastore that is written.
    pub writer: &'a mut DatastoreWriter,
}

/// Tries mixtures with a datastore on a text. The losses are the model's own.
pub struct Tried<'a> {
    /// What reads the text.
    pub hidden: Hidden<'a>,
    /// The datastore that is tried.
    pub neighbours: &'a mut Neighbours,
    /// Where the losses of the mixtures are summed.
    pub tuner: &'a mut Tuner,
}

/// A model with a datastore beside it.
pub struct Mixed<'a> {
    /// What reads the text.
    pub hidden: Hidden<'a>,
    /// The datastore beside the model.
    pub neighbours: &'a mut Neighbours,
    /// Σ −ln p by the model alone so far, in nats.
    pub alone: f64,
}

impl Hidden<'_> {
    /// Reads a chunk, and gives the body's output; none where no target is scored.
    fn read(&mut self, chunk: &Batch, state: &mut State) -> Result<Option<Var>, ModelError> {
        let mut pass = self.tape.pass(Mode::Read);
        let x = self.model.forward(&mut pass, &chunk.inputs, &sequence(chunk), state)?;
        Ok(chunk.targets.iter().any(|&target| target != IGNORE).then_some(x))
    }

    /// The loss of each row by the model alone, and their sum, in nats.
    fn losses(&mut self, x: Var, chunk: &Batch) -> Result<(Vec<f32>, f64), ModelError> {
        let mut losses = vec![0.0; chunk.targets.len()];
        let options = LossOptions { losses: Some(&mut losses), ..LossOptions::default() };
        let targets = Targets::Tokens(&chunk.targets);
        let head = self.model.token_head();
        let total = head.loss(&self.model.weights, self.tape, x, targets, options)?;
        Ok((losses, total.nats))
    }
}

impl Evaluated for Recorded<'_> {
    fn state(&self, streams: usize) -> State {
        self.hidden.model.state(streams)
    }

    fn nats(&mut self, chunk: &Batch, state: &mut State) -> Result<f64, TrainError> {
        let Self { hidden, writer } = self;
        let Some(x) = hidden.read(chunk, state)? else { return Ok(0.0) };
        let (width, rows) = (hidden.tape.width(x), hidden.tape.data(x));
        for (row, &target) in rows.chunks_exact(width).zip(&chunk.targets) {
            if target != IGNORE {
                writer.push(row, &[target]).map_err(beside)?;
            }
        }
        Ok(0.0)
    }
}

impl Evaluated for Tried<'_> {
    fn state(&self, streams: usize) -> State {
        self.hidden.model.state(streams)
    }

    fn nats(&mut self, chunk: &Batch, state: &mut State) -> Result<f64, TrainError> {
        let Self { hidden, neighbours, tuner } = self;
        let Some(x) = hidden.read(chunk, state)? else { return Ok(0.0) };
        let (losses, nats) = hidden.losses(x, chunk)?;
        let (cpu, rows) = (hidden.tape.cpu(), hidden.tape.data(x));
        tuner.add(cpu, neighbours, rows, &chunk.targets, &losses).map_err(beside)?;
        Ok(nats)
    }
}

impl Evaluated for Mixed<'_> {
    fn state(&self, streams: usize) -> State {
        self.hidden.model.state(streams)
    }

    fn nats(&mut self, chunk: &Batch, state: &mut State) -> Result<f64, TrainError> {
        let Self { hidden, neighbours, alone } = self;
        let Some(x) = hidden.read(chunk, state)? else { return Ok(0.0) };
        let (mut losses, nats) = hidden.losses(x, chunk)?;
        *alone += nats;
        if neighbours.mixture().lambda == 0.0 {
            return Ok(nats);
        }
        let (cpu, rows) = (hidden.tape.cpu(), hidden.tape.data(x));
        neighbours.mix_losses(cpu, rows, &chunk.targets, &mut losses).map_err(beside)?;
        // Targets that are not scored have a loss of 0.
        Ok(losses.iter().map(|&loss| f64::from(loss)).sum())
    }
}

fn beside(error: impl std::error::Error + Send + Sync + 'static) -> TrainError {
    TrainError::Beside(Box::new(error))
}
