//! One pass over all tokens in windows that do not overlap, for evaluation.

use std::sync::Arc;

use super::chunk::Batch;
use crate::error::TextError;
use crate::tokens::Tokens;

/// Windows of T tokens, B at a time, each to be read from an empty state: batches of at most `most`
/// tokens of each, the state carried from batch to batch and reset where windows begin.
/// Every token but the first of a document is a target exactly once.
#[derive(Clone, Debug)]
pub struct Windows {
    tokens: Arc<Tokens>,
    batch: usize,
    window: u64,
    most: u64,
    /// The token with which the first of the windows at hand begins.
    first: u64,
    /// Tokens of each window handed out.
    done: u64,
    lane: Vec<u32>,
}

impl Windows {
    /// Windows over the whole of `tokens`, `most` tokens of each at a time.
    ///
    /// # Errors
    /// [`TextError::Setting`] for a size of 0, [`TextError::TooShort`] below two tokens.
    pub fn new(
        tokens: Arc<Tokens>,
        batch: usize,
        window: usize,
        most: usize,
    ) -> Result<Self, TextError> {
        for (what, value) in
            [("the batch size", batch), ("the window", window), ("the tokens at a time", most)]
        {
            if value == 0 {
                return Err(TextError::Setting { what, value: "0".into(), allowed: "at least 1" });
            }
        }
        if tokens.len() < 2 {
            return Err(TextError::TooShort { tokens: tokens.len() });
        }
        let pairs = tokens.len() - 1;
        let batch = usize::try_from(pairs).map_or(batch, |pairs| batch.min(pairs));
        let (window, most) = ((window as u64).min(pairs), most as u64);
        Ok(Self { tokens, batch, window, most, first: 0, done: 0, lane: Vec::new() })
    }

    /// B: windows side by side.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Fills in the next batch; false at the end. Windows of the last ones may be shorter than T
    /// or missing: those places are [`super::IGNORED`] targets.
    ///
    /// # Errors
    /// [`TextError::Io`] or [`TextError::Shard`] for an unreadable shard.
    pub fn next(&mut self, chunk: &mut Batch) -> Result<bool, TextError> {
        let pairs = self.tokens.len() - 1;
        if self.first >= pairs {
            return Ok(false);
        }
        // The first window is never shorter than another.
        let length = self.window.min(pairs - self.first);
        let time = self.most.min(length - self.done);
        chunk.resize(self.batch, time as usize);
        for stream in 0..self.batch {
            let start = (self.first + stream as u64 * self.window + self.done).min(pairs);
            let end = (start + time).min(pairs);
            chunk.place(&self.tokens, start..end, stream, 0, &mut self.lane)?;
            if self.done == 0 {
                chunk.resets[stream] = true;
            }
        }
        self.done += time;
        if self.done == length {
            self.first += self.batch as u64 * self.window;
            self.done = 0;
        }
        Ok(true)
    }
}
