//! The loss over a whole text: every token but the first of a document is predicted exactly once.

use std::sync::Arc;

use longhand_model::{IGNORE, Mode, Model, Tape};
use longhand_text::Tokens;
use longhand_text::batch::{Batch, IGNORED, Windows};

use crate::TrainError;
use crate::language::sequence;
use crate::objective::Part;

/// Streams of the fast form.
pub const STREAMS: usize = 16;
/// Tokens that each stream of the fast form reads before the first token that it scores. With 512
/// the loss differs from the exact form's by a few thousandths, and by far less on the sample:
/// LOG.md, "Evaluation in sixteen streams against one".
pub const WARM_UP: usize = 512;

/// Positions read at once in each stream.
const CHUNK: usize = 128;
/// Rows read at once when windows stand alone.
const ROWS: usize = 4096;
/// Targets of a stream below which warming it up would cost more than it saves.
const LEAST_STREAM: u64 = 2 * WARM_UP as u64;

// The text's mark for a missing target is the model's: batches go from one to the other as they are.
const _: () = assert!(IGNORED == IGNORE);

/// The loss with the state carried over the text. With one stream, exactly as a reader would see
/// it; with more, in as many pieces side by side, each warmed up on the [`WARM_UP`] tokens before
/// it. Short texts take fewer streams.
///
/// # Errors
/// Text shorter than two tokens, or unreadable; a token that the model does not know.
pub fn carried(
    model: &Model,
    tape: &mut Tape,
    tokens: &Tokens,
    streams: usize,
) -> Result<Part, TrainError> {
    let pairs = tokens.len().saturating_sub(1);
    let most = usize::try_from(pairs / LEAST_STREAM).unwrap_or(usize::MAX).max(1);
    let mut pieces = Pieces::new(tokens, streams.clamp(1, most))?;
    let mut state = model.state(pieces.streams);
    let mut total = Part::default();
    let mut chunk = Batch::default();
    while pieces.next(&mut chunk)? {
        let mut pass = tape.pass(Mode::Read);
        let x = model.forward(&mut pass, &chunk.inputs, &sequence(&chunk), &mut state)?;
        if chunk.targets.iter().any(|&target| target != IGNORE) {
            let loss = model.loss(&mut pass, x, &chunk.targets, 0.0, None, None);
            total.nats += loss.nats;
            total.targets += loss.count as u64;
        }
        total.tokens += chunk.inputs.len() as u64;
    }
    Ok(total)
}

/// The loss over windows of `window` tokens that do not overlap, each from an empty state. Of long
/// windows no more is read at once than of short ones together.
///
/// # Errors
/// As [`carried`], and a window of 0.
pub fn windows(
    model: &Model,
    tape: &mut Tape,
    tokens: Arc<Tokens>,
    window: usize,
) -> Result<Part, TrainError> {
    let batch = (ROWS / window.max(1)).max(1);
    let mut windows = Windows::new(tokens, batch, window, ROWS)?;
    let mut state = model.state(windows.batch());
    let mut total = Part::default();
    let mut chunk = Batch::default();
    while windows.next(&mut chunk)? {
        let mut pass = tape.pass(Mode::Read);
        let x = model.forward(&mut pass, &chunk.inputs, &sequence(&chunk), &mut state)?;
        let loss = model.loss(&mut pass, x, &chunk.targets, 0.0, None, None);
        total.nats += loss.nats;
        total.targets += loss.count as u64;
        total.tokens += chunk.inputs.len() as u64;
    }
    Ok(total)
}

/// Pieces of a text side by side, each begun before its first target.
struct Pieces<'a> {
    tokens: &'a Tokens,
    pairs: u64,
    streams: usize,
    /// Targets of a piece; the last one may have fewer.
    size: u64,
    warm_up: u64,
    at: u64,
    lane: Vec<u32>,
}

impl<'a> Pieces<'a> {
    fn new(tokens: &'a Tokens, streams: usize) -> Result<Self, TrainError> {
        if tokens.len() < 2 {
            return Err(longhand_text::TextError::TooShort { tokens: tokens.len() }.into());
        }
        let pairs = tokens.len() - 1;
        let size = pairs.div_ceil(streams as u64);
        let warm_up = if streams > 1 { WARM_UP as u64 } else { 0 };
        Ok(Self { tokens, pairs, streams, size, warm_up, at: 0, lane: Vec::new() })
    }

    /// Fills in the next chunk; false at the end.
    fn next(&mut self, chunk: &mut Batch) -> Result<bool, TrainError> {
        let length = self.warm_up + self.size;
        if self.at >= length {
            return Ok(false);
        }
        let time = (length - self.at).min(CHUNK as u64);
        chunk.resize(self.streams, time as usize);
        for stream in 0..self.streams {
            let first = stream as u64 * self.size;
            // Positions before the text's beginning, and past its end, are left as they are:
            // ignored, and forgotten by the reset at position 0.
            let begin = (first + self.at).saturating_sub(self.warm_up);
            let skip = self.warm_up.saturating_sub(first + self.at).min(time);
            let end = (begin + time - skip).min(self.pairs);
            if begin >= end {
                continue;
            }
            let pairs = begin..end;
            chunk.place(self.tokens, pairs.clone(), stream, skip as usize, &mut self.lane)?;
            // What only warms up is not scored, nor what the next stream scores.
            let scored = first..(first + self.size).min(self.pairs);
            for position in pairs.filter(|position| !scored.contains(position)) {
                let row = (position - begin + skip) as usize * self.streams + stream;
                chunk.targets[row] = IGNORE;
            }
        }
        self.at += time;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_ask_for_each_token_but_the_first_of_a_document_once() {
        for (count, streams) in [(2, 1), (130, 1), (5000, 3), (4001, 2), (100, 7), (20_000, 16)] {
            let ids = (0..count).collect();
            let tokens = Tokens::from_ids(ids, vec![0, count as u64 / 2], count as usize).unwrap();
            let mut pieces = Pieces::new(&tokens, streams).unwrap();
            let mut chunk = Batch::default();
            let mut seen = Vec::new();
            // What each stream has read since it was last emptied.
            let mut read = vec![Vec::new(); streams];
            while pieces.next(&mut chunk).unwrap() {
                for row in 0..chunk.inputs.len() {
                    let read = &mut read[row % streams];
                    if chunk.resets[row] {
                        read.clear();
                    }
                    read.push(chunk.inputs[row]);
                    if chunk.targets[row] != IGNORE {
                        assert_eq!(chunk.targets[row], chunk.inputs[row] + 1);
                        seen.push(chunk.targets[row]);
                        let document = if chunk.inputs[row] >= count / 2 { count / 2 } else { 0 };
                        let known = (chunk.inputs[row] - document + 1) as usize;
                        assert!(read.len() >= known.min(WARM_UP), "warmed up");
                        assert!(read.len() <= known, "nothing from before the text");
                    }
                }
            }
            seen.sort_unstable();
            let mut expected: Vec<u32> = (1..count).collect();
            // A document's first token is not predicted from the one before.
            expected.retain(|&id| id != count / 2);
            assert_eq!(seen, expected, "{count} in {streams}");
        }
    }
}
