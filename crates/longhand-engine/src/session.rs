//! One stream of text: its state, its last logits, its sampler.

use std::collections::VecDeque;
use std::sync::Arc;

use longhand_model::{IGNORE, Sequence, State};

use crate::continuation::{Continuation, GenerateOptions};
use crate::engine::{Engine, Reader};
use crate::error::EngineError;
pub use crate::recent::RECENT;
use crate::recent::push_recent;
use crate::sampler::{Sampler, SamplerError, SamplerSettings, SamplerState};

/// Tokens of one prefill pass. A longer text is read in several passes, so that scratch memory
/// does not grow with it, and so that streams which write beside it do not wait for long: with 256 the
/// longest pauses between their tokens were 3.8 times the median (LOG.md, 2026-12-01).
pub const CHUNK: usize = 128;

/// One stream of text, constant in size however long the text grows. It belongs to one engine;
/// every reader of another model refuses it. A clone is a branch: each of the two continues alone.
#[derive(Clone)]
pub struct Session {
    pub(crate) engine: Arc<Engine>,
    pub(crate) state: State,
    pub(crate) end: StreamEnd,
}

/// The end of a stream: all that a session keeps beside the model's state.
#[derive(Clone)]
pub(crate) struct StreamEnd {
    /// `[V]` logits of the next token; empty until something was read.
    pub(crate) logits: Vec<f32>,
    /// The last [`RECENT`] tokens, oldest first.
    pub(crate) recent: VecDeque<u32>,
    pub(crate) sampler: Sampler,
}

impl Engine {
    /// A session that has read nothing.
    ///
    /// # Errors
    /// [`SamplerError::Setting`] for a setting out of range.
    pub fn session(self: &Arc<Self>, settings: SamplerSettings) -> Result<Session, SamplerError> {
        Session::new(self, settings)
    }
}

impl Session {
    /// A session that has read nothing.
    ///
    /// # Errors
    /// [`SamplerError::Setting`] for a setting out of range.
    pub fn new(engine: &Arc<Engine>, settings: SamplerSettings) -> Result<Self, SamplerError> {
        let end = StreamEnd {
            logits: Vec::new(),
            recent: VecDeque::with_capacity(RECENT),
            sampler: Sampler::new(settings)?,
        };
        Ok(Self { engine: engine.clone(), state: engine.model().state(1), end })
    }

    /// The engine that it belongs to.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// How many tokens were read.
    pub fn position(&self) -> u64 {
        self.state.positions()[0]
    }

    /// The model's state after the last token.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// `[V]` logits of the next token; empty until something was read.
    pub fn logits(&self) -> &[f32] {
        &self.end.logits
    }

    /// The last tokens read, at most [`RECENT`], oldest first.
    pub fn recent(&self) -> impl ExactSizeIterator<Item = u32> {
        self.end.recent.iter().copied()
    }

    /// Settings and position of the sampler.
    pub fn sampler(&self) -> SamplerState {
        self.end.sampler.state()
    }

    /// Continues with other sampler settings. Another seed begins at its first random number; the
    /// same seed goes on where it is.
    ///
    /// # Errors
    /// [`SamplerError::Setting`] for a setting out of range.
    pub fn set_sampler(&mut self, settings: SamplerSettings) -> Result<(), SamplerError> {
        let old = self.sampler();
        let draws = if settings.seed == old.settings.seed { old.draws } else { 0 };
        self.resume_sampler(SamplerState { settings, draws })
    }

    /// Continues with the sampler of a [`Continuation`], which drew for this session.
    ///
    /// # Errors
    /// [`SamplerError::Setting`] for a setting out of range.
    pub fn resume_sampler(&mut self, state: SamplerState) -> Result<(), SamplerError> {
        self.end.sampler = Sampler::resume(state)?;
        Ok(())
    }

    /// Reads tokens: a prefill in passes of [`CHUNK`] tokens. The logits do not depend on how the
    /// tokens were divided among calls, up to rounding (1e-4 relative).
    ///
    /// # Errors
    /// [`EngineError::OtherModel`] for a reader of another model, [`EngineError::Model`] for a
    /// token id out of range. No token was read then.
    pub fn read(&mut self, reader: &mut Reader, ids: &[u32]) -> Result<(), EngineError> {
        self.check(reader, ids)?;
        ids.chunks(CHUNK).try_for_each(|chunk| self.advance(reader, chunk, None))
    }

    /// Reads the tokens of a text, as [`Session::read`].
    ///
    /// # Errors
    /// [`EngineError::Text`] for a text that the tokeniser cannot express, and
    /// the errors of [`Session::read`].
    pub fn read_text(&mut self, reader: &mut Reader, text: &str) -> Result<(), EngineError> {
        let ids = self.engine.tokenizer().encode(text)?;
        self.read(reader, &ids)
    }

    /// Reads one token: a decode step. Equal states and tokens give equal bits, whatever other
    /// streams are in the batch ([`Streams`](crate::Streams)).
    ///
    /// # Errors
    /// The errors of [`Session::read`]: another engine's reader or an id out of range.
    pub fn step(&mut self, reader: &mut Reader, id: u32) -> Result<(), EngineError> {
        self.check(reader, &[id])?;
        self.advance(reader, &[id], None)
    }

    /// Draws the next token, without reading it.
    ///
    /// # Errors
    /// [`EngineError::NothingRead`] before the first token, [`EngineError::Sampler`] for a logit
    /// that is not finite.
    pub fn sample(&mut self) -> Result<u32, EngineError> {
        let StreamEnd { logits, recent, sampler } = &mut self.end;
        if logits.is_empty() {
            return Err(EngineError::NothingRead);
        }
        Ok(sampler.sample(logits, recent.make_contiguous())?)
    }

    /// Turns this session's logits into ids and text from here on, wherever the session is read:
    /// by a reader or among [`Streams`](crate::Streams).
    ///
    /// # Errors
    /// The errors of [`Continuation::new`] for the options.
    pub fn continuation(&self, options: GenerateOptions) -> Result<Continuation, EngineError> {
        let (tokenizer, sampler) = (self.engine.tokenizer(), self.end.sampler.clone());
        let vocabulary = || self.engine.vocabulary().cloned();
        let mut continuation =
            Continuation::with_vocabulary(tokenizer, sampler, options, vocabulary)?;
        continuation.observe(self.recent())?;
        Ok(continuation)
    }

    /// One pass over at most [`CHUNK`] checked tokens. `losses` receives, for each token but the
    /// first, the loss of its prediction by the token before it.
    pub(crate) fn advance(
        &mut self,
        reader: &mut Reader,
        ids: &[u32],
        losses: Option<&mut Vec<f32>>,
    ) -> Result<(), EngineError> {
        let sequence = Sequence::new(ids.len(), 1);
        reader.pass(ids, &sequence, &mut self.state)?;
        if let Some(losses) = losses {
            let mut targets = ids[1..].to_vec();
            targets.push(IGNORE);
            reader.losses(&targets, losses)?;
            losses.truncate(ids.len() - 1);
        }
        reader.logits(ids.len() - 1..ids.len(), &mut self.end.logits)?;
        self.end.extend(ids);
        Ok(())
    }

    /// Refuses a reader of another model, and ids that the model does not know.
    pub(crate) fn check(&self, reader: &Reader, ids: &[u32]) -> Result<(), EngineError> {
        reader.engine().check_same(&self.engine)?;
        self.engine.check_ids(ids)
    }
}

impl StreamEnd {
    /// Takes note of tokens that were read.
    pub(crate) fn extend(&mut self, ids: &[u32]) {
        push_recent(&mut self.recent, ids);
    }
}

#[cfg(test)]
mod tests;
