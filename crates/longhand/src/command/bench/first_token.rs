//! `longhand bench first-token`: from the start of a process to its first token.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use longhand_model::{Cpu, Mode, Model, Sequence, Tape, most_probable};
use longhand_text::{TOKENIZER_FILE, Tokenizer};
use serde_json::json;

use super::measure::peak_resident_mib;
use crate::reading::{Threads, model_folder};

/// Measures how long a new process takes to its first token.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand bench first-token model\n\nEach run is a process of \
                        its own that reads the model (and its tokeniser, if the folder has one), \
                        steps once and prints a token. The files are read once before, so that \
                        they lie in the system's cache.")]
pub(crate) struct Arguments {
    /// Folder of the trained model
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// Processes to start; the median counts
    #[arg(long, value_name = "N", default_value_t = 11,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    #[command(flatten)]
    threads: Threads,
    /// Be the process that is measured
    #[arg(long, hide = true)]
    cold: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        model_folder(&self.model)?;
        if self.cold { self.first_token() } else { self.measure() }
    }

    fn measure(&self) -> Result<()> {
        let mut milliseconds = Vec::new();
        let mut last = serde_json::Value::Null;
        for run in 0..=self.runs {
            let (elapsed, line) = self.start()?;
            // The first one brings the files into the cache.
            if run > 0 {
                milliseconds.push(elapsed);
                last = line;
            }
        }
        milliseconds.sort_by(f64::total_cmp);
        let rounded = |x: f64| (x * 100.0).round() / 100.0;
        let line = json!({
            "bench": "first token",
            "model": self.model,
            "threads": self.threads.count(),
            "first_token_ms": {
                "median": rounded(milliseconds[milliseconds.len() / 2]),
                "min": rounded(milliseconds[0]),
                "max": rounded(milliseconds[milliseconds.len() - 1]),
                "runs": milliseconds.len(),
            },
            "of_these_reading_ms": last["reading_ms"],
            "peak_rss_mib": last["peak_rss_mib"],
        });
        Ok(writeln!(std::io::stdout().lock(), "{line}")?)
    }

    /// Starts a process; milliseconds until it printed its token, and what it printed.
    fn start(&self) -> Result<(f64, serde_json::Value)> {
        let program = std::env::current_exe().context("the program's own file is not found")?;
        let mut command = Command::new(program);
        command.args(["bench", "first-token", "--cold", "--threads"]);
        command.arg(self.threads.count().to_string()).arg(&self.model);
        let began = Instant::now();
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let elapsed = began.elapsed().as_secs_f64() * 1e3;
        if !process.wait()?.success() {
            bail!("the process that was measured failed");
        }
        Ok((elapsed, serde_json::from_str(&line)?))
    }

    fn first_token(&self) -> Result<()> {
        let began = Instant::now();
        // Threads start while the files are read.
        let cpu: Arc<Cpu> = self.threads.cpu();
        let mut model = Model::load(&self.model)?;
        model.pack();
        if !model.config().is_language_model() {
            bail!("the model in {} does not predict text", self.model.display());
        }
        let path = self.model.join(TOKENIZER_FILE);
        let tokenizer = path.is_file().then(|| Tokenizer::load(&path)).transpose()?;
        let reading = began.elapsed().as_secs_f64() * 1e3;
        let mut tape = Tape::new(cpu);
        let (mut pass, mut state) = (tape.pass(Mode::Read), model.state(1));
        let x = model.forward(&mut pass, &[0], &Sequence::new(1, 1), &mut state)?;
        let mut logits = Vec::new();
        model.logits(&mut pass, x, 0..1, &mut logits);
        let mut token = [0];
        most_probable(tape.cpu(), model.outputs(), &logits, &mut token);
        let text = tokenizer.map(|tokenizer| tokenizer.decode(&token)).transpose()?;
        let line = json!({
            "token": token[0], "text": text, "reading_ms": (reading * 100.0).round() / 100.0,
            "peak_rss_mib": peak_resident_mib().map(|x| (x * 100.0).round() / 100.0),
        });
        Ok(writeln!(std::io::stdout().lock(), "{line}")?)
    }
}
