//! `longhand generate`: text, as it comes.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::Result;
use clap::Args;
use longhand_engine::threads::faster_to_decode;
use longhand_engine::{GenerateOptions, Generation, Reader};

use crate::error::Usage;
use crate::interrupt::{self, STOP};
use crate::reading::{ModelArguments, SamplerArguments, TextArguments, save, session, writable};
use crate::talk::say;

/// Continues a prompt or a memory; writes the new text alone.
#[derive(Args)]
#[command(
    after_help = "Example:\n  longhand generate model --prompt 'One day' --max-tokens 200\n  \
                        longhand generate model --memory story.safetensors --temperature 0.7"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// The text to continue; - reads it from stdin
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// A memory to continue from, as `longhand memory save` writes it
    #[arg(long, value_name = "FILE")]
    memory: Option<PathBuf>,
    /// The most tokens to write [default: the model's generation_config.json, or 256]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// A text that ends the writing and is left out; may be given several times. A shell gives a
    /// line break as $'\n'
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// A file to keep the memory in afterwards, at Ctrl-C too; a stop text is not part of it
    #[arg(long, value_name = "FILE")]
    save_memory: Option<PathBuf>,
    /// Overwrite that file if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    sampler: SamplerArguments,
    /// Replace invalid UTF-8 on stdin instead of stopping
    #[arg(long)]
    lossy: bool,
}

/// With fewer tokens to write, the number of threads is not measured.
const WORTH_MEASURING: usize = 64;

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        if self.prompt.is_none() && self.memory.is_none() {
            let what = "there is nothing to continue: give --prompt or --memory";
            return Err(Usage(what.into()).into());
        }
        // A memory may be continued in its own file.
        let force = self.force || self.save_memory == self.memory;
        if let Some(path) = &self.save_memory {
            writable(path, force)?;
        }
        let (engine, cpu) = self.model.open()?;
        let mut reader = engine.reader(&cpu);
        let mut session = session(&engine, self.memory.as_deref())?;
        self.sampler.apply(&mut session)?;
        match self.prompt.as_deref() {
            Some("-") => {
                TextArguments::plain(self.lossy).read(&["-".into()], &mut reader, &mut session)?;
            }
            Some(prompt) => {
                let ids = engine.tokenizer().encode(prompt)?;
                let unknown = engine.tokenizer().count_unknown(&ids);
                if unknown > 0 {
                    say!("{unknown} of the prompt's {} tokens are unknown to the model", ids.len());
                }
                session.read(&mut reader, &ids)?;
            }
            None => {}
        }
        let max_tokens = self.max_tokens.unwrap_or(engine.generation().max_tokens);
        let options = GenerateOptions { max_tokens, stop: self.stop, ..Default::default() };
        let mut generation = Generation::new(session, options)?;
        // Ctrl-C ends the writing, so that the memory is saved; without one it ends the process.
        if self.save_memory.is_some() {
            interrupt::listen(|| {})?;
        }
        // A prompt is read by all threads; a small model may write faster with one.
        let measured = self.model.threads.given().is_none() && max_tokens >= WORTH_MEASURING;
        if measured {
            reader = engine.reader(&faster_to_decode(&engine, &cpu)?);
        }
        let written = write(&mut generation, &mut reader);
        // Whoever has read enough of the text may still want its memory.
        let saved = match &self.save_memory {
            Some(path) => save(&generation.into_session(), path, force),
            None => Ok(()),
        };
        saved.and(written)
    }
}

/// Writes the text as it comes, until it ends or Ctrl-C was pressed.
fn write(generation: &mut Generation, reader: &mut Reader) -> Result<()> {
    let mut out = std::io::stdout().lock();
    while !STOP.load(Ordering::Relaxed) {
        let Some(next) = generation.next(reader)? else { break };
        if !next.text.is_empty() {
            out.write_all(next.text.as_bytes())?;
            out.flush()?;
        }
    }
    if out.is_terminal() {
        writeln!(out)?;
    }
    Ok(())
}
