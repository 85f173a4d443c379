//! The loss over a text, whole or sampled: every scored token is predicted exactly once.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use longhand_model::{IGNORE, LossOptions, Mode, Model, Sequence, State, Tape, Targets};
use longhand_ngram::{Ngram, Readings};
use longhand_text::Tokens;
use longhand_text::batch::{Batch, IGNORED, Windows};

use crate::TrainError;
use crate::objective::{Part, Watch};
use crate::random::draw;

/// Streams of the fast form.
pub const STREAMS: usize = 16;
/// Tokens that each stream of the fast form reads before the first token that it scores. With 512
/// the loss differs from the exact form's by a few thousandths, and by far less on the sample:
/// LOG.md, "Evaluation in sixteen streams against one".
pub const WARM_UP: usize = 512;

/// Positions read at once in each stream.
const CHUNK: usize = 128;
/// Fewest and most targets of a stretch of a sample. Long ones cost less warm-up, short ones are
/// spread wider over the text.
const SHORTEST: u64 = CHUNK as u64;
const LONGEST: u64 = 16 * CHUNK as u64;
/// Keeps the draws of a sample apart from others of the same seed.
const SAMPLE: u64 = 0x7361_6d70_6c65;
/// Rows read at once in windows of their own.
const ROWS: usize = 4096;
/// Targets of a stream below which warming it up would cost more than it saves.
const LEAST_STREAM: u64 = 2 * WARM_UP as u64;

// The text's mark for a missing target is the model's: batches go from one to the other as they are.
const _: () = assert!(IGNORED == IGNORE);

/// A model that reads streams side by side and is asked for its losses.
pub trait Evaluated {
    /// The empty state of `streams` streams.
    fn state(&self, streams: usize) -> State;

    /// Reads a chunk after `state`, which it advances, and gives the sum of the losses of its
    /// targets, in nats. Targets that are `IGNORE` are not scored.
    ///
    /// # Errors
    /// [`TrainError::Model`] for a token that the model does not know, [`TrainError::Beside`] of what
    /// is evaluated beside it.
    fn nats(&mut self, chunk: &Batch, state: &mut State) -> Result<f64, TrainError>;
}

/// A network, and the tape that it is read on.
pub struct OnTape<'a> {
    /// The network, whose head predicts tokens.
    pub model: &'a Model,
    /// The tape, which holds scratch memory.
    pub tape: &'a mut Tape,
}

/// An n-gram model.
pub struct Counted<'a> {
    model: &'a Ngram,
    readings: Readings,
    losses: Vec<f32>,
}

impl Evaluated for OnTape<'_> {
    fn state(&self, streams: usize) -> State {
        self.model.state(streams)
    }

    fn nats(&mut self, chunk: &Batch, state: &mut State) -> Result<f64, TrainError> {
        let mut pass = self.tape.pass(Mode::Read);
        let x = self.model.forward(&mut pass, &chunk.inputs, &sequence(chunk), state)?;
        if chunk.targets.iter().all(|&target| target == IGNORE) {
            return Ok(0.0);
        }
        let targets = Targets::Tokens(&chunk.targets);
        let head = self.model.token_head();
        Ok(head.loss(&self.model.weights, &mut pass, x, targets, LossOptions::default())?.nats)
    }
}

impl<'a> Counted<'a> {
    /// An n-gram model that has read nothing.
    pub fn new(model: &'a Ngram) -> Self {
        Self { model, readings: Readings::default(), losses: Vec::new() }
    }
}

impl Evaluated for Counted<'_> {
    fn state(&self, streams: usize) -> State {
        State::new(&self.model.state_layout(), streams)
    }

    fn nats(&mut self, chunk: &Batch, state: &mut State) -> Result<f64, TrainError> {
        let Self { model, readings, losses } = self;
        readings.read(model, &chunk.inputs, &sequence(chunk), state)?;
        losses.resize(chunk.targets.len(), 0.0);
        readings.losses(model, &chunk.targets, losses)?;
        Ok(losses.iter().map(|&loss| f64::from(loss)).sum())
    }
}

/// The loss with the state carried over the text. With one stream, exactly as a reader would see
/// it; with more, in as many pieces side by side, each warmed up on the [`WARM_UP`] tokens before
/// it. Short texts take fewer streams.
///
/// # Errors
/// [`TrainError::Text`] for a text that is unreadable or shorter than two tokens,
/// [`TrainError::Model`] for a token that the model does not know.
pub fn carried(
    model: &mut impl Evaluated,
    tokens: &Tokens,
    streams: usize,
) -> Result<Part, TrainError> {
    let never = AtomicBool::new(false);
    let mut unheard = |_| Ok(());
    let watch = &mut Watch::new(&never, &mut unheard);
    stretches(model, tokens, &Stretches::whole(tokens, streams), watch)
}

/// The loss over some stretches of a text, [`STREAMS`] of them side by side. Calls
/// `watch` after each chunk.
///
/// # Errors
/// As [`carried`], and [`TrainError::Stopped`] of `watch`.
pub fn stretches(
    model: &mut impl Evaluated,
    tokens: &Tokens,
    stretches: &Stretches,
    watch: &mut Watch<'_>,
) -> Result<Part, TrainError> {
    let all = stretches.tokens().max(1) as f64;
    let mut total = Part::default();
    let mut chunk = Batch::default();
    for firsts in stretches.firsts.chunks(STREAMS) {
        let mut pieces = Pieces::new(tokens, firsts, stretches)?;
        let mut state = model.state(firsts.len());
        while pieces.next(&mut chunk)? {
            add(&mut total, model.nats(&chunk, &mut state)?, &chunk);
            watch.done((total.tokens as f64 / all).min(1.0))?;
        }
    }
    Ok(total)
}

/// The parts of a text that an evaluation scores: stretches of equal length that do not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretches {
    /// The first target of each, rising; target t is the token at t + 1.
    firsts: Vec<u64>,
    /// Targets of a stretch; the last one of a text may have fewer.
    size: u64,
    /// Tokens that a stretch reads before its first target.
    warm_up: u64,
}

impl Stretches {
    /// The whole text in at most `streams` pieces side by side. Short texts take fewer.
    pub fn whole(tokens: &Tokens, streams: usize) -> Self {
        let pairs = tokens.len().saturating_sub(1);
        let most = usize::try_from(pairs / LEAST_STREAM).unwrap_or(usize::MAX).max(1);
        let streams = streams.clamp(1, most);
        let size = pairs.div_ceil(streams as u64).max(1);
        let warm_up = if streams > 1 { WARM_UP as u64 } else { 0 };
        Self { firsts: (0..streams as u64).map(|stream| stream * size).collect(), size, warm_up }
    }

    /// A sample drawn from `seed` that reads about `tokens` tokens, warm-up included: the whole
    /// text where that reads no more, and never less than one short stretch for each stream.
    pub fn sample(text: &Tokens, tokens: u64, seed: u64) -> Self {
        let whole = Self::whole(text, STREAMS);
        let streams = STREAMS as u64;
        let warm_up = WARM_UP as u64;
        let size = (tokens / streams).saturating_sub(warm_up).clamp(SHORTEST, LONGEST);
        let count = (tokens / (size + warm_up)).max(streams);
        let places = text.len().saturating_sub(1) / size;
        if tokens >= whole.tokens() || count >= places {
            return whole;
        }
        // Each place in turn is taken with the chance that leaves `count` in the end (Knuth, "The
        // Art of Computer Programming", volume 2, algorithm S).
        let mut firsts = Vec::new();
        for place in 0..places {
            let (wanted, left) = (count - firsts.len() as u64, places - place);
            if draw([seed, SAMPLE, place]) % left < wanted {
                firsts.push(place * size);
            }
        }
        Self { firsts, size, warm_up }
    }

    /// Tokens that are read: the stretches and what warms them up.
    pub fn tokens(&self) -> u64 {
        self.firsts.len() as u64 * (self.warm_up + self.size)
    }
}

/// The loss over windows of `window` tokens that do not overlap, each from an empty state. Of long
/// windows no more is read at once than of short ones together.
///
/// # Errors
/// [`TrainError::Text`] for a window of 0, and the errors of [`carried`].
pub fn windows(
    model: &mut impl Evaluated,
    tokens: Arc<Tokens>,
    window: usize,
) -> Result<Part, TrainError> {
    let batch = (ROWS / window.max(1)).max(1);
    let mut windows = Windows::new(tokens, batch, window, ROWS)?;
    let mut state = model.state(windows.batch());
    let mut total = Part::default();
    let mut chunk = Batch::default();
    while windows.next(&mut chunk)? {
        add(&mut total, model.nats(&chunk, &mut state)?, &chunk);
    }
    Ok(total)
}

/// Adds a chunk with the sum of its losses.
fn add(total: &mut Part, nats: f64, chunk: &Batch) {
    total.nats += nats;
    total.targets += chunk.targets.iter().filter(|&&target| target != IGNORE).count() as u64;
    total.tokens += chunk.inputs.len() as u64;
}

/// A chunk's sizes and resets. Chunks without a reset take the shorter way.
pub fn sequence(chunk: &Batch) -> Sequence<'_> {
    let resets = chunk.resets.contains(&true).then_some(&chunk.resets[..]);
    Sequence { resets, ..Sequence::new(chunk.time, chunk.batch) }
}

/// Stretches of a text side by side, each read from before its first target.
struct Pieces<'a> {
    tokens: &'a Tokens,
    pairs: u64,
    /// The first target of each stream.
    firsts: &'a [u64],
    size: u64,
    warm_up: u64,
    /// Positions read in each stream.
    at: u64,
    lane: Vec<u32>,
}

impl<'a> Pieces<'a> {
    fn new(
        tokens: &'a Tokens,
        firsts: &'a [u64],
        stretches: &Stretches,
    ) -> Result<Self, TrainError> {
        if tokens.len() < 2 {
            return Err(longhand_text::TextError::TooShort { tokens: tokens.len() }.into());
        }
        let (pairs, lane) = (tokens.len() - 1, Vec::new());
        let &Stretches { size, warm_up, .. } = stretches;
        Ok(Self { tokens, pairs, firsts, size, warm_up, at: 0, lane })
    }

    /// Fills in the next chunk; false at the end.
    fn next(&mut self, chunk: &mut Batch) -> Result<bool, TrainError> {
        let length = self.warm_up + self.size;
        if self.at >= length {
            return Ok(false);
        }
        let time = (length - self.at).min(CHUNK as u64);
        let streams = self.firsts.len();
        chunk.resize(streams, time as usize);
        for (stream, &first) in self.firsts.iter().enumerate() {
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
                let row = (position - begin + skip) as usize * streams + stream;
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
    fn a_sample_is_spread_over_the_text_and_as_large_as_asked() {
        let text = Tokens::from_ids(vec![1; 1_000_000], vec![0], 2).unwrap();
        for wanted in [1, 5_000, 40_000, 100_000, 300_000] {
            let sample = Stretches::sample(&text, wanted, 3);
            assert_eq!(sample, Stretches::sample(&text, wanted, 3));
            assert_ne!(sample, Stretches::sample(&text, wanted, 4));
            let least = STREAMS as u64 * (WARM_UP as u64 + SHORTEST);
            assert!(sample.tokens() <= wanted.max(least), "{wanted}: {}", sample.tokens());
            assert!(10 * sample.tokens() > 9 * wanted, "{wanted}: {}", sample.tokens());
            assert!(sample.firsts.windows(2).all(|pair| pair[0] + sample.size <= pair[1]));
            assert!(sample.firsts.iter().all(|first| first + sample.size < text.len()));
            let mean = sample.firsts.iter().sum::<u64>() / sample.firsts.len() as u64;
            assert!((300_000..700_000).contains(&mean), "{mean}");
        }
        assert_eq!(Stretches::sample(&text, 2_000_000, 3), Stretches::whole(&text, STREAMS));
    }

    #[test]
    fn pieces_ask_for_each_token_but_the_first_of_a_document_once() {
        for (count, streams) in [(2, 1), (130, 1), (5000, 3), (4001, 2), (100, 7), (20_000, 16)] {
            let ids = (0..count).collect();
            let tokens = Tokens::from_ids(ids, vec![0, count as u64 / 2], count as usize).unwrap();
            let size = (count as u64 - 1).div_ceil(streams as u64);
            let firsts: Vec<u64> = (0..streams as u64).map(|stream| stream * size).collect();
            let warm_up = if streams > 1 { WARM_UP as u64 } else { 0 };
            let stretches = Stretches { firsts, size, warm_up };
            let mut pieces = Pieces::new(&tokens, &stretches.firsts, &stretches).unwrap();
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
