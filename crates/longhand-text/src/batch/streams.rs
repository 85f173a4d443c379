//! Contiguous streams for truncated back-propagation through time.

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::chunk::Batch;
use crate::error::TextError;
use crate::tokens::Tokens;

/// The place of a [`Streams`] among its chunks: all that a resumed run needs beside the seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamsPosition {
    /// Passes over the tokens that are done.
    pub epoch: u64,
    /// Chunks of this pass that are done.
    pub chunk: u64,
}

/// B parallel streams over the tokens, handed out in chunks of T, epoch after epoch.
///
/// The N − 1 pairs of a token and its successor are seen as a ring. Each epoch turns the ring by an
/// offset drawn from the seed and the epoch's number, and cuts it into B streams of equal length, a
/// multiple of T. The up to B·T − 1 pairs left over differ from epoch to epoch. A stream's state is
/// reset where it begins, where a document begins, and so also where the ring is closed.
#[derive(Clone, Debug)]
pub struct Streams {
    tokens: Arc<Tokens>,
    batch: usize,
    time: usize,
    seed: u64,
    position: StreamsPosition,
    /// Offset of the current epoch and the epoch for which it was drawn.
    offset: (u64, u64),
    lane: Vec<u32>,
}

impl Streams {
    /// Streams from the beginning of the first epoch.
    ///
    /// # Errors
    /// [`TextError::Setting`] for a batch or chunk of size 0, [`TextError::TooShort`] below two
    /// tokens, and [`TextError::ShorterThanBatch`] if one batch needs
    /// more tokens (see [`Streams::fit`]).
    pub fn new(
        tokens: Arc<Tokens>,
        batch: usize,
        time: usize,
        seed: u64,
    ) -> Result<Self, TextError> {
        for (what, value) in [("the batch size", batch), ("the chunk length", time)] {
            if value == 0 {
                return Err(TextError::Setting { what, value: "0".into(), allowed: "at least 1" });
            }
        }
        let count = tokens.len();
        if count < 2 {
            return Err(TextError::TooShort { tokens: count });
        }
        let needed = (batch as u64).saturating_mul(time as u64).saturating_add(1);
        if count < needed {
            return Err(TextError::ShorterThanBatch { tokens: count, needed, batch, time });
        }
        let position = StreamsPosition::default();
        let offset = (draw_offset(seed, 0, count - 1), 0);
        Ok(Self { tokens, batch, time, seed, position, offset, lane: Vec::new() })
    }

    /// The sizes B and T, no larger than the given ones, that a text of `tokens` tokens can fill:
    /// first fewer streams, then shorter chunks. None below two tokens.
    pub fn fit(tokens: u64, batch: usize, time: usize) -> Option<(usize, usize)> {
        let pairs = usize::try_from(tokens.checked_sub(1)?).unwrap_or(usize::MAX);
        if pairs == 0 || batch == 0 || time == 0 {
            return None;
        }
        let time = time.min(pairs);
        Some((batch.min(pairs / time), time))
    }

    /// The number of streams B.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The tokens of a chunk T.
    pub fn time(&self) -> usize {
        self.time
    }

    /// Chunks of an epoch.
    pub fn chunks_per_epoch(&self) -> u64 {
        (self.tokens.len() - 1) / (self.batch as u64 * self.time as u64)
    }

    /// The place of the next chunk.
    pub fn position(&self) -> StreamsPosition {
        self.position
    }

    /// Goes on from a saved position: with the same tokens, sizes and seed, the same chunks come.
    ///
    /// # Errors
    /// [`TextError::Position`] where the position is beyond an epoch's end.
    pub fn seek(&mut self, position: StreamsPosition) -> Result<(), TextError> {
        let chunks = self.chunks_per_epoch();
        if position.chunk >= chunks {
            return Err(TextError::Position {
                position: format!("epoch {}, chunk {}", position.epoch, position.chunk),
                reason: format!(
                    "an epoch has {chunks} chunks; resume with the same text and sizes"
                ),
            });
        }
        self.position = position;
        self.draw();
        Ok(())
    }

    /// Fills in the next chunk and moves on. `resets` is true for all streams at the first
    /// token of an epoch.
    ///
    /// # Errors
    /// [`TextError::Io`] or [`TextError::Shard`] for an unreadable shard.
    pub fn next(&mut self, chunk: &mut Batch) -> Result<(), TextError> {
        let (batch, time) = (self.batch, self.time);
        chunk.resize(batch, time);
        let pairs = self.tokens.len() - 1;
        let length = self.chunks_per_epoch() * time as u64;
        for stream in 0..batch {
            let first = self.position.chunk * time as u64;
            let start = (self.offset.0 + stream as u64 * length + first) % pairs;
            self.fill(chunk, stream, start, pairs)?;
            if first == 0 {
                chunk.resets[stream] = true;
            }
        }
        self.position.chunk += 1;
        if self.position.chunk == self.chunks_per_epoch() {
            self.position = StreamsPosition { epoch: self.position.epoch + 1, chunk: 0 };
            self.draw();
        }
        Ok(())
    }

    /// Fills one stream's column with pairs from `start` on, around the ring's end if need be.
    fn fill(
        &mut self,
        chunk: &mut Batch,
        stream: usize,
        start: u64,
        pairs: u64,
    ) -> Result<(), TextError> {
        let time = self.time;
        let mut done = 0;
        let mut start = start;
        while done < time {
            let count = ((time - done) as u64).min(pairs - start) as usize;
            let span = start..start + count as u64;
            chunk.place(&self.tokens, span, stream, done, &mut self.lane)?;
            done += count;
            start = 0;
        }
        Ok(())
    }

    fn draw(&mut self) {
        if self.offset.1 != self.position.epoch {
            let offset = draw_offset(self.seed, self.position.epoch, self.tokens.len() - 1);
            self.offset = (offset, self.position.epoch);
        }
    }
}

/// The turn of the ring in an epoch.
fn draw_offset(seed: u64, epoch: u64, pairs: u64) -> u64 {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(epoch);
    random.random_range(0..pairs)
}
