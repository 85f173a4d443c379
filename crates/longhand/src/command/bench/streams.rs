//! The work of a batch of streams, run as a server runs it: decode steps side by side, and streams
//! that come and go.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use longhand_engine::session::CHUNK;
use longhand_engine::{Continuation, Cpu, Engine, GenerateOptions, SamplerSettings, Slot, Streams};
use longhand_model::{Config, Model, Tape, most_probable};
use longhand_text::{Tokenizer, TokenizerKind};

use super::ids;
use super::profile::Work;

/// Tokens of a served stream's prompt.
pub(crate) const PROMPT: usize = 200;
/// The fewest and the most tokens that a served stream writes: 100 on average.
pub(crate) const WRITTEN: [usize; 2] = [50, 150];
/// Lengths that a seed skips.
const LENGTHS_OF_A_SEED: usize = 4096;

/// Streams of random ids that each write the most probable token, all in one decode pass.
pub(crate) struct Writing {
    streams: Streams,
    cpu: Arc<Cpu>,
    slots: Vec<Slot>,
    next: Vec<u32>,
}

/// A full batch of streams: when one has written all its tokens, another takes its place.
pub(crate) struct Serving {
    streams: Streams,
    running: Vec<Served>,
    prompts: Box<dyn Iterator<Item = u32>>,
    lengths: Box<dyn Iterator<Item = u32>>,
    /// How many streams were admitted.
    admitted: u64,
    /// Seconds between a token and the one before it in its stream.
    pub(crate) between_tokens: Vec<f64>,
    /// Seconds from a stream's admission to its first token.
    pub(crate) to_first_token: Vec<f64>,
}

struct Served {
    slot: Slot,
    continuation: Continuation,
    prompt: Vec<u32>,
    /// How much of the prompt was read.
    read: usize,
    /// The token to read next, once the prompt was read.
    next: Option<u32>,
    /// When it was admitted, or wrote its last token.
    since: Instant,
}

/// An engine with random weights. Its tokeniser knows as many characters as the model has tokens.
pub(crate) fn engine(config: Config) -> Result<Arc<Engine>> {
    let characters = (0x21..=u32::from(char::MAX)).filter_map(char::from_u32);
    // One more token stands for unknown characters.
    let text: String = characters.take(config.vocab_size.saturating_sub(1)).collect();
    let texts = std::iter::once(Ok(text));
    let tokenizer = Tokenizer::train(TokenizerKind::Char, None, texts, &mut |_| {})?;
    Ok(Engine::new(Model::new(config, 1)?, tokenizer)?)
}

impl Writing {
    /// `batch` streams at the given position.
    pub(crate) fn new(
        config: Config,
        cpu: Arc<Cpu>,
        batch: usize,
        position: usize,
    ) -> Result<Self> {
        let engine = engine(config)?;
        let mut source = ids(engine.model().vocab_size());
        let mut streams = Streams::new(&engine, &cpu, batch)?;
        let mut slots = Vec::with_capacity(batch);
        for _ in 0..batch {
            slots.push(streams.admit(engine.session(SamplerSettings::greedy())?)?);
        }
        for start in (0..position).step_by(CHUNK) {
            for &slot in &slots {
                let count = CHUNK.min(position - start);
                let chunk: Vec<u32> = source.by_ref().take(count).collect();
                streams.step(&[(slot, &chunk)])?;
            }
        }
        let next = source.by_ref().take(batch).collect();
        Ok(Self { streams, cpu, slots, next })
    }

    /// The model that the streams run.
    pub(crate) fn model(&self) -> Result<&Model> {
        Ok(self.streams.engine().model().network()?)
    }
}

impl Work for Writing {
    fn tape(&mut self) -> &mut Tape {
        self.streams.tape()
    }

    /// Reads what was most probable after the last step.
    fn step(&mut self) -> Result<u64> {
        let work: Vec<(Slot, &[u32])> =
            self.slots.iter().copied().zip(self.next.chunks(1)).collect();
        let rows = self.streams.step(&work)?;
        let mut next = Vec::with_capacity(work.len());
        for logits in rows.iter() {
            let mut best = [0];
            most_probable(&self.cpu, logits.len(), logits, &mut best);
            next.extend(best);
        }
        self.next = next;
        Ok(self.slots.len() as u64)
    }
}

impl Serving {
    /// A batch of `capacity` streams, all of which begin with their prompts.
    pub(crate) fn new(config: Config, cpu: &Arc<Cpu>, capacity: usize, seed: u16) -> Result<Self> {
        let engine = engine(config)?;
        let streams = Streams::new(&engine, cpu, capacity)?;
        let prompts = Box::new(ids(engine.model().vocab_size()));
        let (between_tokens, to_first_token) = (Vec::new(), Vec::new());
        let [fewest, most] = WRITTEN;
        let lengths = ids(most - fewest + 1).skip(LENGTHS_OF_A_SEED * usize::from(seed));
        let mut serving = Self {
            streams,
            running: Vec::with_capacity(capacity),
            prompts,
            lengths: Box::new(lengths),
            admitted: 0,
            between_tokens,
            to_first_token,
        };
        while serving.running.len() < capacity {
            serving.admit()?;
        }
        Ok(serving)
    }

    /// The model that the streams run.
    pub(crate) fn model(&self) -> Result<&Model> {
        Ok(self.streams.engine().model().network()?)
    }

    /// Takes a new stream in.
    fn admit(&mut self) -> Result<()> {
        let max_tokens = WRITTEN[0] + self.lengths.next().unwrap_or_default() as usize;
        self.admitted += 1;
        let settings = SamplerSettings { seed: self.admitted, ..SamplerSettings::default() };
        let session = self.streams.engine().session(settings)?;
        let options = GenerateOptions { max_tokens, ..GenerateOptions::default() };
        let continuation = session.continuation(options)?;
        let slot = self.streams.admit(session)?;
        let prompt = self.prompts.by_ref().take(PROMPT).collect();
        let (next, since) = (None, Instant::now());
        self.running.push(Served { slot, continuation, prompt, read: 0, next, since });
        Ok(())
    }
}

impl Work for Serving {
    fn tape(&mut self) -> &mut Tape {
        self.streams.tape()
    }

    /// One decode step of all streams that write, and one piece of one prompt. Returns the
    /// number of tokens written.
    fn step(&mut self) -> Result<u64> {
        let mut prefill = self.running.iter().position(|stream| stream.next.is_none());
        let mut work: Vec<(Slot, &[u32])> = Vec::with_capacity(self.running.len());
        let mut named = Vec::with_capacity(self.running.len());
        for (i, stream) in self.running.iter().enumerate() {
            let ids = match &stream.next {
                Some(next) => std::slice::from_ref(next),
                None if prefill == Some(i) => {
                    prefill = None;
                    let rest = &stream.prompt[stream.read..];
                    &rest[..rest.len().min(CHUNK)]
                }
                None => continue,
            };
            work.push((stream.slot, ids));
            named.push((i, ids.len()));
        }
        let rows = self.streams.step(&work)?;
        let (mut written, mut ended) = (0, Vec::new());
        for ((i, read), logits) in named.into_iter().zip(rows.iter()) {
            let stream = &mut self.running[i];
            if stream.next.is_none() {
                stream.read += read;
                if stream.read < stream.prompt.len() {
                    continue;
                }
            }
            let Some(next) = stream.continuation.next(logits)? else { continue };
            let first = stream.next.replace(next.id).is_none();
            let seconds = stream.since.elapsed().as_secs_f64();
            if first { &mut self.to_first_token } else { &mut self.between_tokens }.push(seconds);
            stream.since = Instant::now();
            written += 1;
            if next.finish.is_some() {
                ended.push(i);
            }
        }
        for i in ended.into_iter().rev() {
            let stream = self.running.swap_remove(i);
            self.streams.release(stream.slot)?;
            self.admit()?;
        }
        Ok(written)
    }
}

/// The value that a share of the others does not exceed.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let at = (share * values.len() as f64).ceil() as usize;
    values.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use longhand_model::Preset;

    #[test]
    fn streams_write_and_are_served() {
        let cpu = Arc::new(Cpu::new(2));
        for preset in [Preset::LonghandNano, Preset::Xlstm, Preset::Lstm] {
            let config = preset.config(33);
            let mut writing = Writing::new(config.clone(), cpu.clone(), 3, 300).unwrap();
            assert_eq!((writing.step().unwrap(), writing.step().unwrap()), (3, 3));
            assert_eq!(writing.streams.position(writing.slots[2]), Ok(302));
            let mut serving = Serving::new(config, &cpu, 4, 1).unwrap();
            let written: u64 = (0..400).map(|_| serving.step().unwrap()).sum();
            let timed = serving.between_tokens.len() + serving.to_first_token.len();
            assert_eq!(written, timed as u64);
            // Streams ended, and others took their places.
            assert!(serving.to_first_token.len() > 8);
            assert_eq!(serving.streams.len(), 4);
        }
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let mut values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(percentile(&mut values, 0.5), 3.0);
        assert_eq!(percentile(&mut values, 0.99), 5.0);
        assert!(percentile(&mut [], 0.5).is_nan());
    }
}
