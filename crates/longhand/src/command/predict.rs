//! `longhand predict`: a label for each line.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use longhand_tasks::Classifier;
use longhand_tasks::classify::Prediction;
use longhand_text::Tokenizer;
use serde::Serialize;

use crate::reading::{Threads, model_folder};

/// Names the label of each line of stdin: one line in, one line out. A blank line has no label, and
/// a blank line is the answer.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand finetune --task classify --data train.tsv\n  \
                        echo 'Who wrote it ?' | longhand predict classifier --json")]
pub(crate) struct Arguments {
    /// The model folder of a classifier
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// One JSON object a line: the label, and the probability of each
    #[arg(long)]
    json: bool,
    /// Replace invalid UTF-8 instead of stopping
    #[arg(long)]
    lossy: bool,
    #[command(flatten)]
    threads: Threads,
}

/// The most lines that are read side by side.
const LINES: usize = 256;

/// What `--json` prints for a line; nulls for one in which there is nothing to read.
#[derive(Serialize)]
struct Answer<'a> {
    label: Option<&'a str>,
    probabilities: Option<BTreeMap<&'a str, f32>>,
}

/// Lines that came together, and why no more are taken.
struct Lines {
    texts: Vec<String>,
    /// The input ended, or a line cannot be read.
    end: Option<Result<()>>,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let tokenizer = Tokenizer::of_folder(model_folder(&self.model)?)?;
        let mut classifier = Classifier::load(&self.model, tokenizer, self.threads.cpu())?;
        let mut input = BufReader::new(std::io::stdin().lock());
        let mut out = BufWriter::new(std::io::stdout().lock());
        let mut before = 0;
        loop {
            let Lines { texts, end } = self.read(&mut input, before);
            let answers = classifier.predict(&texts, "the standard input", before + 1)?;
            for answer in &answers {
                self.print(&mut out, classifier.labels(), answer.as_ref())?;
            }
            // Whoever writes line by line gets each answer before the next line.
            out.flush()?;
            before += texts.len();
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Waits for a line, and takes the lines that have come with it.
    fn read(&self, input: &mut BufReader<impl std::io::Read>, before: usize) -> Lines {
        let mut texts = Vec::new();
        let mut line = Vec::new();
        while texts.is_empty() || (texts.len() < LINES && input.buffer().contains(&b'\n')) {
            line.clear();
            match input.read_until(b'\n', &mut line) {
                Ok(0) => return Lines { texts, end: Some(Ok(())) },
                Ok(_) => {}
                Err(error) => {
                    let end = Err(error).context("the standard input cannot be read");
                    return Lines { texts, end: Some(end) };
                }
            }
            match self.text(&line, before + texts.len() + 1) {
                Ok(text) => texts.push(text),
                Err(error) => return Lines { texts, end: Some(Err(error)) },
            }
        }
        Lines { texts, end: None }
    }

    /// The text of one line, decoded from UTF-8.
    fn text(&self, line: &[u8], number: usize) -> Result<String> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // A byte order mark at the beginning of the input is no text.
        let mark = if number == 1 { "\u{feff}".as_bytes() } else { b"" };
        let line = line.strip_prefix(mark).unwrap_or(line);
        match std::str::from_utf8(line) {
            Ok(line) => Ok(line.to_owned()),
            Err(_) if self.lossy => Ok(String::from_utf8_lossy(line).into_owned()),
            Err(error) => bail!(
                "line {number} of the standard input is not valid UTF-8 at its byte {}: convert \
                 it, or pass --lossy to replace invalid bytes",
                error.valid_up_to()
            ),
        }
    }

    fn print(
        &self,
        out: &mut impl Write,
        labels: &[String],
        answer: Option<&Prediction>,
    ) -> Result<()> {
        let label = answer.map(|answer| labels[answer.label as usize].as_str());
        if !self.json {
            return Ok(writeln!(out, "{}", label.unwrap_or_default())?);
        }
        let probabilities = answer.map(|answer| {
            let shares = answer.probabilities.iter().copied();
            labels.iter().map(String::as_str).zip(shares).collect()
        });
        serde_json::to_writer(&mut *out, &Answer { label, probabilities })?;
        Ok(writeln!(out)?)
    }
}
