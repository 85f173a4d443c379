//! `longhand memory`: sessions as files.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use longhand_engine::{Engine, Sampler, SamplerSettings, Session, Snapshot};
use serde_json::json;

use crate::reading::{ModelArguments, SamplerArguments, TextArguments, save, session, writable};
use crate::talk::say;

/// Saves what a model remembers of a text, and looks at it.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand memory save model --text story.txt --out \
                        story.safetensors\n  longhand generate model --memory story.safetensors")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Save(Save),
    Load(Load),
    Show(Show),
    Diff(Diff),
}

/// Reads a text and writes the memory of it.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand memory save model --text story.txt --out \
                        story.safetensors")]
struct Save {
    #[command(flatten)]
    model: ModelArguments,
    /// A file or folder to read; - reads stdin; may be given several times
    #[arg(long, value_name = "FILE", required = true)]
    text: Vec<PathBuf>,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Overwrite the file if it exists
    #[arg(long)]
    force: bool,
    /// Print what was saved as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sampler: SamplerArguments,
    #[command(flatten)]
    reading: TextArguments,
}

/// Checks a memory against a model, reads on if there is more text, and says what comes next.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand memory load model story.safetensors --text more.txt \
                        --out longer.safetensors")]
struct Load {
    #[command(flatten)]
    model: ModelArguments,
    /// File of the saved memory
    #[arg(value_name = "FILE")]
    memory: PathBuf,
    /// A file or folder to read on; - reads stdin; may be given several times
    #[arg(long, value_name = "FILE")]
    text: Vec<PathBuf>,
    /// A file to write the memory to afterwards
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Overwrite that file if it exists
    #[arg(long)]
    force: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reading: TextArguments,
}

/// Shows what a memory holds.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand memory show story.safetensors")]
struct Show {
    /// File of the saved memory
    #[arg(value_name = "FILE")]
    memory: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Compares two memories of one model.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand memory diff before.safetensors after.safetensors")]
struct Diff {
    /// File of the first memory
    #[arg(value_name = "FILE")]
    one: PathBuf,
    /// File of the second memory
    #[arg(value_name = "OTHER")]
    other: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        match self.verb {
            Verb::Save(arguments) => arguments.run(),
            Verb::Load(arguments) => arguments.run(),
            Verb::Show(arguments) => arguments.run(),
            Verb::Diff(arguments) => arguments.run(),
        }
    }
}

impl Save {
    fn run(self) -> Result<()> {
        writable(&self.out, self.force)?;
        let (engine, cpu) = self.model.open()?;
        let mut reader = engine.reader(&cpu);
        let mut session = session(&engine, None)?;
        self.sampler.apply(&mut session)?;
        self.reading.read(&self.text, &mut reader, &mut session)?;
        save(&session, &self.out, self.force)?;
        let (position, bytes) = (session.position(), session.state().bytes());
        if self.json {
            let out = self.out.display().to_string();
            let saved = json!({ "out": out, "position": position, "memory_bytes": bytes });
            return Ok(writeln!(std::io::stdout(), "{saved}")?);
        }
        say!(
            "Read {position} tokens; {} holds the memory of them ({bytes} bytes). Next:\n  \
             longhand generate {}{} --memory {}",
            self.out.display(),
            self.model.model.display(),
            self.model.adapters.as_typed(),
            self.out.display()
        );
        Ok(())
    }
}

impl Load {
    fn run(self) -> Result<()> {
        if let Some(out) = &self.out {
            writable(out, self.force)?;
        }
        let (engine, cpu) = self.model.open()?;
        let mut reader = engine.reader(&cpu);
        let mut session = session(&engine, Some(&self.memory))?;
        let before = session.position();
        if !self.text.is_empty() {
            self.reading.read(&self.text, &mut reader, &mut session)?;
        }
        if let Some(out) = &self.out {
            save(&session, out, self.force)?;
        }
        let next = next_tokens(&engine, &session)?;
        let mut out = std::io::stdout().lock();
        if self.json {
            let next = next.iter().map(|(t, p)| json!({ "token": t, "probability": p }));
            let summary = json!({
                "loaded_position": before,
                "position": session.position(),
                "memory_bytes": session.state().bytes(),
                "next": next.collect::<Vec<_>>(),
            });
            return Ok(writeln!(out, "{summary}")?);
        }
        writeln!(out, "belongs to this model and tokeniser")?;
        writeln!(out, "position   {} (loaded at {before})", session.position())?;
        writeln!(out, "memory     {} bytes", session.state().bytes())?;
        for (token, probability) in next {
            writeln!(out, "next       {:6.2} %  {token:?}", 100.0 * probability)?;
        }
        Ok(())
    }
}

/// The most probable next tokens, and how probable the model itself holds them.
fn next_tokens(engine: &Engine, session: &Session) -> Result<Vec<(String, f64)>> {
    if session.logits().is_empty() {
        return Ok(Vec::new());
    }
    let plain = SamplerSettings { temperature: 1.0, ..SamplerSettings::default() };
    let mut candidates = Sampler::new(plain)?.distribution(session.logits(), &[])?.to_vec();
    candidates.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    candidates.truncate(5);
    Ok(candidates.iter().map(|c| (engine.label(c.id), c.probability)).collect())
}

impl Show {
    fn run(self) -> Result<()> {
        let snapshot = load(&self.memory)?;
        let (header, memories) = (&snapshot.header, snapshot.summary());
        let mut out = std::io::stdout().lock();
        if self.json {
            let bytes = snapshot.memory_bytes();
            let conversation = snapshot.is_conversation();
            let all = json!({
                "header": header, "memory_bytes": bytes, "conversation": conversation,
                "memories": memories,
            });
            return Ok(writeln!(out, "{all}")?);
        }
        let sampler = header.sampler;
        if snapshot.is_conversation() {
            writeln!(out, "holds the turns of a conversation, which `longhand chat` goes on with")?;
        }
        writeln!(out, "version    {}", header.version)?;
        writeln!(out, "model      {}", header.model)?;
        writeln!(out, "tokeniser  {}", header.tokenizer)?;
        writeln!(out, "position   {} ({} in this document)", header.position, header.since_reset)?;
        let (settings, draws) = (sampler.settings, sampler.draws);
        writeln!(
            out,
            "sampler    temperature {}, top-k {}, top-p {}, min-p {}, repetition penalty {}, \
             seed {}, {draws} draws",
            settings.temperature,
            settings.top_k,
            settings.top_p,
            settings.min_p,
            settings.repetition_penalty,
            settings.seed
        )?;
        writeln!(out, "memory     {} bytes\n", snapshot.memory_bytes())?;
        writeln!(
            out,
            "{:<32} {:>14} {:>10} {:>10} {:>10}",
            "memory", "shape", "mean", "rms", "most"
        )?;
        for memory in memories {
            let shape = memory.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
            let (mean, rms, most) = (memory.mean, memory.rms, memory.most);
            writeln!(out, "{:<32} {shape:>14} {mean:>10.4} {rms:>10.4} {most:>10.4}", memory.name)?;
        }
        Ok(())
    }
}

impl Diff {
    fn run(self) -> Result<()> {
        let (one, other) = (load(&self.one)?, load(&self.other)?);
        let memories = one.diff(&other)?;
        let positions = [one.header.position, other.header.position];
        let mut out = std::io::stdout().lock();
        if self.json {
            let all = json!({ "positions": positions, "memories": memories });
            return Ok(writeln!(out, "{all}")?);
        }
        writeln!(out, "positions  {} and {}\n", positions[0], positions[1])?;
        writeln!(out, "{:<32} {:>12} {:>12} {:>8}", "memory", "largest", "mean", "cosine")?;
        for memory in memories {
            let cosine = memory.cosine.map_or("-".into(), |cosine| format!("{cosine:.4}"));
            let (most, mean) = (memory.most, memory.mean);
            writeln!(out, "{:<32} {most:>12.6} {mean:>12.6} {cosine:>8}", memory.name)?;
        }
        Ok(())
    }
}

fn load(path: &Path) -> Result<Snapshot> {
    if !path.exists() {
        bail!("there is no memory {}: `longhand memory save` writes one", path.display());
    }
    Snapshot::load(path).with_context(|| path.display().to_string())
}
