//! One stream: its memory, its last logits, its sampler.

use std::collections::VecDeque;

use longhand_model::{IGNORE, ModelError, Sequence, State};

use crate::engine::{Engine, Reader};
use crate::error::EngineError;
use crate::sampler::{Sampler, SamplerError, SamplerSettings, SamplerState};

/// Tokens of one pass while reading: a long text needs no more memory than this many positions.
pub const CHUNK: usize = 256;
/// Tokens at the end of the stream that are kept as they are: the repetition penalty looks at
/// them, and a decoder begins after them.
pub const RECENT: usize = 64;

/// One stream of text, constant in size however long it grows. A clone is a branch: both go on
/// from here, each alone.
#[derive(Clone)]
pub struct Session {
    pub(crate) state: State,
    /// `[V]` what may come next; empty until something was read.
    pub(crate) logits: Vec<f32>,
    /// The last [`RECENT`] tokens.
    pub(crate) recent: VecDeque<u32>,
    pub(crate) sampler: Sampler,
}

impl Session {
    /// An empty memory.
    ///
    /// # Errors
    /// Sampler settings out of range.
    pub fn new(engine: &Engine, settings: SamplerSettings) -> Result<Self, SamplerError> {
        Ok(Self {
            state: engine.model().state(1),
            logits: Vec::new(),
            recent: VecDeque::with_capacity(RECENT),
            sampler: Sampler::new(settings)?,
        })
    }

    /// How many tokens were read.
    pub fn position(&self) -> u64 {
        self.state.positions()[0]
    }

    /// The memories.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// `[V]` logits of the next token; empty until something was read.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// The last tokens read, at most [`RECENT`], oldest first.
    pub fn recent(&self) -> impl ExactSizeIterator<Item = u32> {
        self.recent.iter().copied()
    }

    /// Settings and place of the sampler.
    pub fn sampler(&self) -> SamplerState {
        self.sampler.state()
    }

    /// Continues with other settings: from the beginning of their seed's numbers if the seed is
    /// another one, otherwise where the numbers stand.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn set_sampler(&mut self, settings: SamplerSettings) -> Result<(), SamplerError> {
        let old = self.sampler.state();
        let draws = if settings.seed == old.settings.seed { old.draws } else { 0 };
        self.sampler = Sampler::resume(SamplerState { settings, draws })?;
        Ok(())
    }

    /// Reads tokens, [`CHUNK`] at a time. The logits afterwards do not depend on how the tokens
    /// were divided among calls, up to rounding (1e-4 relative).
    ///
    /// # Errors
    /// A token id out of range; nothing was read then.
    pub fn read(&mut self, reader: &mut Reader, ids: &[u32]) -> Result<(), EngineError> {
        self.check(reader, ids)?;
        ids.chunks(CHUNK).try_for_each(|chunk| self.advance(reader, chunk, None))
    }

    /// Reads one token: the same arithmetic from the same memory each time, bit for bit.
    ///
    /// # Errors
    /// A token id out of range; nothing was read then.
    pub fn step(&mut self, reader: &mut Reader, id: u32) -> Result<(), EngineError> {
        self.check(reader, &[id])?;
        self.advance(reader, &[id], None)
    }

    /// Draws the next token, without reading it.
    ///
    /// # Errors
    /// If nothing was read yet, or the logits are no numbers.
    pub fn sample(&mut self) -> Result<u32, EngineError> {
        if self.logits.is_empty() {
            return Err(EngineError::NothingRead);
        }
        Ok(self.sampler.sample(&self.logits, self.recent.make_contiguous())?)
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
        let x = reader.pass(ids, &sequence, &mut self.state)?;
        if let Some(losses) = losses {
            let mut targets = ids[1..].to_vec();
            targets.push(IGNORE);
            reader.losses(x, &targets, losses);
            losses.truncate(ids.len() - 1);
        }
        reader.logits(x, ids.len() - 1, &mut self.logits);
        let fresh = &ids[ids.len().saturating_sub(RECENT)..];
        let surplus = (self.recent.len() + fresh.len()).saturating_sub(RECENT);
        self.recent.drain(..surplus);
        self.recent.extend(fresh);
        Ok(())
    }

    /// Checks that every id is known to the model.
    pub(crate) fn check(&self, reader: &Reader, ids: &[u32]) -> Result<(), EngineError> {
        let vocab_size = reader.engine().model().config().vocab_size;
        match ids.iter().find(|&&id| id as usize >= vocab_size) {
            Some(&id) => Err(ModelError::Token { id, vocab_size }.into()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
