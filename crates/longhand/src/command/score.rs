//! `longhand score`: how surprising each token of a stream is.

use std::io::{BufWriter, Read, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use longhand_engine::{Engine, Reader, Session, TextStream};
use serde_json::json;

use crate::reading::{ModelArguments, save, session, writable};

/// Prints the surprisal of each token of stdin, which may never end.
#[derive(Args)]
#[command(
    after_help = "Example:\n  tail -f log.txt | longhand score model\n  longhand score model \
                        --json < book.txt\n\nA line holds the token's position, the token and its \
                        surprisal −ln p in nats (- for the first token, which nothing predicted). \
                        Memory does not grow with the stream."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// A memory to continue from
    #[arg(long, value_name = "FILE")]
    memory: Option<PathBuf>,
    /// A file to keep the memory in at the stream's end
    #[arg(long, value_name = "FILE")]
    save_memory: Option<PathBuf>,
    /// Overwrite that file
    #[arg(long)]
    force: bool,
    /// One JSON object for each token
    #[arg(long)]
    json: bool,
    /// Replace invalid UTF-8 instead of stopping
    #[arg(long)]
    lossy: bool,
}

/// Bytes asked of stdin at a time; fewer come where fewer are there.
const BLOCK: usize = 1 << 14;

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let force = self.force || self.save_memory == self.memory;
        if let Some(path) = &self.save_memory {
            writable(path, force)?;
        }
        let (engine, cpu) = self.model.open()?;
        let mut scores = Scores {
            engine: &engine,
            reader: engine.reader(&cpu),
            session: session(&engine, self.memory.as_deref())?,
            json: self.json,
            sum: 0.0,
            count: 0,
        };
        let mut stream = TextStream::new(engine.tokenizer().kind(), self.lossy);
        let mut input = std::io::stdin().lock();
        let mut block = vec![0; BLOCK];
        loop {
            let read = match input.read(&mut block) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            scores.print(&stream.push(&block[..read])?)?;
        }
        scores.print(&stream.finish()?)?;
        if scores.count > 0 {
            let mean = scores.sum / scores.count as f64;
            let (count, perplexity) = (scores.count, mean.exp());
            eprintln!("{count} tokens, {mean:.4} nats each, perplexity {perplexity:.3}");
        }
        match &self.save_memory {
            Some(path) => save(&engine, &scores.session, path, force),
            None => Ok(()),
        }
    }
}

struct Scores<'e> {
    engine: &'e Engine,
    reader: Reader<'e>,
    session: Session,
    json: bool,
    sum: f64,
    count: u64,
}

impl Scores<'_> {
    /// Prints a line for each token of a text, and sends them on their way.
    fn print(&mut self, text: &str) -> Result<()> {
        let ids = self.engine.tokenizer().encode(text)?;
        let mut position = self.session.position();
        let mut out = BufWriter::new(std::io::stdout().lock());
        let mut written = Ok(());
        self.session.score(&mut self.reader, &ids, |id, surprisal| {
            let token = self.engine.label(id);
            if written.is_ok() {
                written = match (self.json, surprisal) {
                    (true, surprisal) => {
                        let line = json!({
                            "position": position, "id": id, "token": token, "surprisal": surprisal,
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
        Ok(out.flush()?)
    }
}
