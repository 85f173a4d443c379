//! The surprisal of each token of a stream that may never end.

use std::io::{self, BufWriter, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use anyhow::{Context, Result};
use longhand_engine::session::CHUNK;
use longhand_engine::{Reader, Session, TextStream};
use serde_json::json;

use super::Arguments;
use crate::interrupt::{self, STOP};
use crate::reading::{save, session};
use crate::talk::say;

/// Bytes asked of stdin at a time; fewer come where fewer are there.
const BLOCK: usize = 1 << 14;

/// The events that may come while the stream is waited for.
pub(super) enum Event {
    Bytes(Vec<u8>),
    End,
    Failed(io::Error),
    /// The user interrupted with Ctrl-C.
    Stop,
}

impl Arguments {
    /// Scores each token of the standard input.
    pub(super) fn score_tokens(&self) -> Result<()> {
        let (engine, cpu) = self.model.open()?;
        let mut scores = Scores {
            reader: self.neighbours.reader(&engine, &cpu)?,
            session: session(&engine, self.memory.as_deref())?,
            json: self.json,
            sum: 0.0,
            count: 0,
        };
        // However the stream ends, what was read of it is kept.
        let ended = self.pour(&mut scores);
        if scores.count > 0 {
            let mean = scores.sum / scores.count as f64;
            let (count, perplexity) = (scores.count, mean.exp());
            say!("{count} tokens, {mean:.4} nats each, perplexity {perplexity:.3}");
        }
        let saved = match &self.save_memory {
            Some(path) => save(&scores.session, path, self.overwrites()),
            None => Ok(()),
        };
        saved.and(ended)
    }

    /// Scores the standard input to its end, or until Ctrl-C where a memory is to be saved.
    fn pour(&self, scores: &mut Scores) -> Result<()> {
        let (events, received) = sync_channel(1);
        let stop = &STOP;
        if self.save_memory.is_some() {
            let events = events.clone();
            // A process whose stream has ended listens no more.
            interrupt::listen(move || drop(events.send(Event::Stop)))?;
        }
        // Reading waits in a thread of its own, so that Ctrl-C is heard meanwhile.
        std::thread::spawn(move || read(&events));
        let mut stream = TextStream::new(scores.reader.engine().tokenizer().kind(), self.lossy);
        while !stop.load(Ordering::Relaxed) {
            match received.recv().unwrap_or(Event::End) {
                Event::Bytes(bytes) => scores.print(&stream.push(&bytes)?, stop)?,
                Event::End => return scores.print(&stream.finish()?, stop),
                Event::Failed(error) => {
                    return Err(error).context("the standard input cannot be read");
                }
                Event::Stop => break,
            }
        }
        Ok(())
    }
}

/// Sends what comes on the standard input, as long as someone receives it.
pub(super) fn read(events: &SyncSender<Event>) {
    let mut input = io::stdin().lock();
    loop {
        let mut block = vec![0; BLOCK];
        let event = match input.read(&mut block) {
            Ok(0) => Event::End,
            Ok(read) => {
                block.truncate(read);
                Event::Bytes(block)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Event::Failed(error),
        };
        let last = !matches!(event, Event::Bytes(_));
        if events.send(event).is_err() || last {
            return;
        }
    }
}

struct Scores {
    reader: Reader,
    session: Session,
    json: bool,
    sum: f64,
    count: u64,
}

impl Scores {
    /// Prints a line for each token of a text, and sends them on their way. Ends early, between
    /// two passes, once `stop` is set.
    fn print(&mut self, text: &str, stop: &AtomicBool) -> Result<()> {
        let engine = self.reader.engine().clone();
        let ids = engine.tokenizer().encode(text)?;
        let mut out = BufWriter::new(io::stdout().lock());
        for pass in ids.chunks(CHUNK) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let mut position = self.session.position();
            let mut written = Ok(());
            self.session.score(&mut self.reader, pass, |id, surprisal| {
                let token = engine.label(id);
                if written.is_ok() {
                    written = match (self.json, surprisal) {
                        (true, surprisal) => {
                            let line = json!({
                                "position": position, "id": id, "token": token,
                                "surprisal": surprisal,
                            });
                            writeln!(out, "{line}")
                        }
                        (false, Some(nats)) => {
                            writeln!(out, "{position}\t{}\t{nats:.4}", token.escape_debug())
                        }
                        (false, None) => writeln!(out, "{position}\t{}\t-", token.escape_debug()),
                    };
                }
                position += 1;
                self.sum += f64::from(surprisal.unwrap_or(0.0));
                self.count += u64::from(surprisal.is_some());
            })?;
            written?;
            out.flush()?;
        }
        Ok(())
    }
}
