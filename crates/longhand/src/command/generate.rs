//! `longhand generate`: text, as it comes.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::Result;
use clap::Args;
use longhand_engine::rules::Constraint;
use longhand_engine::threads::faster_to_decode;
use longhand_engine::{FinishReason, GenerateOptions, Generation, Reader, Session};
use serde::Serialize;

use self::beam::BeamArguments;
use crate::error::Usage;
use crate::interrupt::{self, STOP};
use crate::neighbours::NeighbourArguments;
use crate::reading::{ModelArguments, SamplerArguments, TextArguments, save, session, writable};
use crate::rules::{self, RulesArguments};
use crate::screen::Screen;
use crate::talk::say;

mod beam;

/// Continues a prompt or a memory; writes the new text alone.
#[derive(Args)]
#[command(
    after_help = "Example:\n  longhand generate model --prompt 'One day' --max-tokens 200\n  \
                        longhand generate model --memory story.safetensors --temperature 0.7\n  \
                        longhand generate model --prompt 'One day' --json\n  \
                        longhand generate model --prompt 'One day' --beam 5 --max-tokens 40\n  \
                        longhand generate model --prompt 'The colour is ' --rules colour.regex"
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
    /// Write the prompt before the new text
    #[arg(long, requires = "prompt")]
    echo: bool,
    /// Print one JSON object: text, token ids, their log-probabilities and why the text ends
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    rules: RulesArguments,
    #[command(flatten)]
    sampler: SamplerArguments,
    #[command(flatten)]
    beam: BeamArguments,
    #[command(flatten, next_help_heading = "Neighbours in a datastore")]
    neighbours: NeighbourArguments,
    /// Replace invalid UTF-8 on stdin instead of stopping
    #[arg(long)]
    lossy: bool,
}

/// The object that `--json` prints.
#[derive(Serialize)]
struct Written {
    /// The new text, behind the prompt with `--echo`.
    text: String,
    /// Ids of the new tokens. A token that a stop text begins within is not among them.
    ids: Vec<u32>,
    /// ln p of each new token by the model itself, whatever the sampler's settings.
    log_probabilities: Vec<Option<f32>>,
    /// `length`, `stop`, `end` (of the document, or of what the rules ask for) or `interrupted`.
    finish: &'static str,
    /// Whether the text matches the rules, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    matches: Option<bool>,
    /// What a beam search orders texts by.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    /// The stop text that came.
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<String>,
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
        let rules = self.rules.load()?;
        let (engine, cpu) = self.model.open()?;
        let mut reader = self.neighbours.reader(&engine, &cpu)?;
        let mut session = session(&engine, self.memory.as_deref())?;
        self.sampler.apply(&mut session)?;
        self.read_prompt(&mut reader, &mut session)?;
        let max_tokens = self.max_tokens.unwrap_or(engine.generation().max_tokens);
        if let Some(mut settings) = self.beam.settings(&engine, max_tokens)? {
            if let Some(rules) = &rules {
                let constraint = Constraint::new(rules, engine.vocabulary()?, &settings.ends)?;
                settings.constraint = Some(constraint);
            }
            let echo = self.prompt.as_deref().filter(|_| self.echo).unwrap_or_default();
            let written = beam::write(&mut reader, &session, &settings, echo, self.json)?;
            return match &self.save_memory {
                Some(path) => {
                    session.read(&mut reader, &written)?;
                    save(&session, path, force)
                }
                None => Ok(()),
            };
        }
        let log_probabilities = self.json.then_some(0);
        let stop = self.stop;
        let default = GenerateOptions::default();
        let options = GenerateOptions { max_tokens, stop, log_probabilities, rules, ..default };
        let mut generation = Generation::new(session, options)?;
        // Ctrl-C ends the writing, so that the memory is saved; without one it ends the process.
        if self.save_memory.is_some() {
            interrupt::listen(|| {})?;
        }
        // A prompt is read by all threads; a small model may write faster with one.
        let measured = self.model.threads.given().is_none() && max_tokens >= WORTH_MEASURING;
        if measured {
            let neighbours = reader.neighbours().cloned();
            reader = engine.reader(&faster_to_decode(&engine, &cpu)?);
            neighbours.map_or(Ok(()), |neighbours| reader.consult(neighbours))?;
        }
        let echo = self.prompt.filter(|_| self.echo).unwrap_or_default();
        let written = if self.json {
            write_json(&mut generation, &mut reader, echo)
        } else {
            write(&mut generation, &mut reader, &echo)
        };
        if written.is_ok() && generation.matches_rules() == Some(false) {
            rules::tell_unfinished(max_tokens);
        }
        // Whoever has read enough of the text may still want its memory.
        let saved = match &self.save_memory {
            Some(path) => save(&generation.into_session(), path, force),
            None => Ok(()),
        };
        saved.and(written)
    }

    /// Prefills the prompt.
    fn read_prompt(&self, reader: &mut Reader, session: &mut Session) -> Result<()> {
        match self.prompt.as_deref() {
            Some("-") if self.echo => {
                let what = "--echo writes a prompt that is given as text: name it with --prompt";
                Err(Usage(what.into()).into())
            }
            Some("-") => TextArguments::plain(self.lossy).read(&["-".into()], reader, session),
            Some(prompt) => {
                let tokenizer = session.engine().tokenizer();
                let ids = tokenizer.encode(prompt)?;
                let unknown = tokenizer.count_unknown(&ids);
                if unknown > 0 {
                    say!("{unknown} of the prompt's {} tokens are unknown to the model", ids.len());
                }
                Ok(session.read(reader, &ids)?)
            }
            None => Ok(()),
        }
    }
}

/// Writes the text as it comes, until it ends or Ctrl-C was pressed.
fn write(generation: &mut Generation, reader: &mut Reader, echo: &str) -> Result<()> {
    let mut out = Screen::stdout();
    out.write_all(echo.as_bytes())?;
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

/// Prints the whole text as one JSON object at its end, or after Ctrl-C.
fn write_json(generation: &mut Generation, reader: &mut Reader, echo: String) -> Result<()> {
    let (ids, log_probabilities) = (Vec::new(), Vec::new());
    let finish = "interrupted";
    let (matches, score, stop) = (None, None, None);
    let mut written = Written { text: echo, ids, log_probabilities, finish, matches, score, stop };
    while !STOP.load(Ordering::Relaxed) {
        let Some(next) = generation.next(reader)? else { break };
        written.text.push_str(&next.text);
        if next.is_read() {
            written.ids.push(next.id);
            written.log_probabilities.push(next.log_probability);
        }
    }
    // The tokens of a stop text were generated, and are not part of the text.
    let kept = written.ids.len().saturating_sub(generation.taken_back());
    written.ids.truncate(kept);
    written.log_probabilities.truncate(kept);
    (written.finish, written.stop) = match generation.finish_reason() {
        None => ("interrupted", None),
        Some(FinishReason::Length) => ("length", None),
        Some(FinishReason::End | FinishReason::Complete) => ("end", None),
        Some(FinishReason::Stop(stop)) => ("stop", Some(stop.clone())),
    };
    written.matches = generation.matches_rules();
    let mut out = Screen::stdout();
    serde_json::to_writer(&mut out, &written)?;
    Ok(writeln!(out)?)
}
