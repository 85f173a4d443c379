//! One pass over all tokens, for evaluation.

use std::sync::Arc;

use super::Batch;
use crate::{TextError, Tokens};

/// Every token but the first is a target exactly once, in one of two ways of scoring: contiguous
/// streams whose state is carried, or non-overlapping windows that each begin from nothing.
#[derive(Clone, Debug)]
pub struct Sweep {
    tokens: Arc<Tokens>,
    batch: usize,
    time: usize,
    windows: bool,
    chunk: u64,
    lane: Vec<u32>,
}

impl Sweep {
    /// B contiguous streams in chunks of T, carried from chunk to chunk. With B = 1 the text is
    /// read as a reader does; more streams start in the middle from a zero state.
    ///
    /// # Errors
    /// A size of 0; [`TextError::TooShort`] below two tokens.
    pub fn carried(tokens: Arc<Tokens>, batch: usize, time: usize) -> Result<Self, TextError> {
        Self::new(tokens, batch, time, false)
    }

    /// Windows of T tokens, B at a time, each from an empty state.
    ///
    /// # Errors
    /// As [`Sweep::carried`].
    pub fn windows(tokens: Arc<Tokens>, batch: usize, window: usize) -> Result<Self, TextError> {
        Self::new(tokens, batch, window, true)
    }

    fn new(
        tokens: Arc<Tokens>,
        batch: usize,
        time: usize,
        windows: bool,
    ) -> Result<Self, TextError> {
        for (what, value) in [("the batch size", batch), ("the window", time)] {
            if value == 0 {
                return Err(TextError::Setting { what, value: "0".into(), allowed: "at least 1" });
            }
        }
        if tokens.len() < 2 {
            return Err(TextError::TooShort { tokens: tokens.len() });
        }
        let pairs = tokens.len() - 1;
        let batch = usize::try_from(pairs).map_or(batch, |pairs| batch.min(pairs));
        Ok(Self { tokens, batch, time, windows, chunk: 0, lane: Vec::new() })
    }

    /// Chunks of the whole pass.
    pub fn chunks(&self) -> u64 {
        let time = self.time as u64;
        if self.windows {
            self.pairs().div_ceil(time).div_ceil(self.batch as u64)
        } else {
            self.stream_length().div_ceil(time)
        }
    }

    /// Targets of the whole pass.
    pub fn pairs(&self) -> u64 {
        self.tokens.len() - 1
    }

    /// Fills in the next chunk; false at the end. The last chunk may be shorter than T, and its
    /// missing places are [`super::IGNORED`] targets.
    ///
    /// # Errors
    /// A shard that cannot be read.
    pub fn next(&mut self, chunk: &mut Batch) -> Result<bool, TextError> {
        if self.chunk >= self.chunks() {
            return Ok(false);
        }
        let (batch, pairs) = (self.batch, self.pairs());
        let time = self.time as u64;
        let first = self.chunk * time;
        let length = self.stream_length();
        let span = |stream: u64| {
            let (start, end) = if self.windows {
                let start = (self.chunk * batch as u64 + stream) * time;
                (start, start.saturating_add(time))
            } else {
                let start = stream * length + first;
                (start, start.saturating_add(time).min((stream + 1) * length))
            };
            (start.min(pairs), end.min(pairs))
        };
        let longest = (0..batch as u64).map(|stream| span(stream).1 - span(stream).0).max();
        let spans: Vec<(u64, u64)> = (0..batch as u64).map(span).collect();
        chunk.resize(batch, longest.unwrap_or(0) as usize);
        for (stream, (start, end)) in spans.into_iter().enumerate() {
            if start == end {
                continue;
            }
            self.lane.resize((end - start) as usize + 1, 0);
            self.tokens.copy(start, &mut self.lane)?;
            for (step, pair) in self.lane.windows(2).enumerate() {
                chunk.inputs[step * batch + stream] = pair[0];
                chunk.targets[step * batch + stream] = pair[1];
            }
            let documents = self.tokens.documents();
            let from = documents.partition_point(|&document| document < start);
            for &document in documents[from..].iter().take_while(|&&document| document < end) {
                chunk.resets[(document - start) as usize * batch + stream] = true;
            }
            if self.windows || self.chunk == 0 {
                chunk.resets[stream] = true;
            }
        }
        self.chunk += 1;
        Ok(true)
    }

    /// Pairs of each carried stream, the last one excepted, which may be shorter.
    fn stream_length(&self) -> u64 {
        self.pairs().div_ceil(self.batch as u64)
    }
}
