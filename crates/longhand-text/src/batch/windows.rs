//! One pass over all tokens in windows that do not overlap, for evaluation.

use std::sync::Arc;

use super::Batch;
use crate::{TextError, Tokens};

/// Windows of T tokens, B at a time, each to be read from an empty state. Every token but the
/// first of a document is a target exactly once.
#[derive(Clone, Debug)]
pub struct Windows {
    tokens: Arc<Tokens>,
    batch: usize,
    time: usize,
    /// Batches handed out.
    done: u64,
    lane: Vec<u32>,
}

impl Windows {
    /// Windows over the whole of `tokens`.
    ///
    /// # Errors
    /// A size of 0; [`TextError::TooShort`] below two tokens.
    pub fn new(tokens: Arc<Tokens>, batch: usize, window: usize) -> Result<Self, TextError> {
        for (what, value) in [("the batch size", batch), ("the window", window)] {
            if value == 0 {
                return Err(TextError::Setting { what, value: "0".into(), allowed: "at least 1" });
            }
        }
        if tokens.len() < 2 {
            return Err(TextError::TooShort { tokens: tokens.len() });
        }
        let pairs = tokens.len() - 1;
        let batch = usize::try_from(pairs).map_or(batch, |pairs| batch.min(pairs));
        Ok(Self { tokens, batch, time: window, done: 0, lane: Vec::new() })
    }

    /// Fills in the next batch; false at the end. Windows of the last one may be shorter than T or
    /// missing: those places are [`super::IGNORED`] targets.
    ///
    /// # Errors
    /// A shard that cannot be read.
    pub fn next(&mut self, chunk: &mut Batch) -> Result<bool, TextError> {
        let pairs = self.tokens.len() - 1;
        let time = self.time as u64;
        let first = self.done * self.batch as u64 * time;
        if first >= pairs {
            return Ok(false);
        }
        chunk.resize(self.batch, time.min(pairs - first) as usize);
        for stream in 0..self.batch {
            let start = (first + stream as u64 * time).min(pairs);
            let end = start.saturating_add(time).min(pairs);
            chunk.place(&self.tokens, start..end, stream, 0, &mut self.lane)?;
            chunk.resets[stream] = true;
        }
        self.done += 1;
        Ok(true)
    }
}
