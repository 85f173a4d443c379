//! `longhand predict`: a label for each line.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use longhand_tasks::Classifier;
use longhand_tasks::classify::Prediction;
use serde::Serialize;

use crate::folder;
use crate::reading::Threads;

/// Names the label of each line of stdin: one line in, one line out.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand finetune --preset stacked-lstm-classifier --task \
                        classify --data train.tsv --out model\n  echo 'Who wrote it ?' | longhand \
                        predict model --json")]
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

/// What `--json` prints for a line.
#[derive(Serialize)]
struct Answer<'a> {
    label: &'a str,
    probabilities: BTreeMap<&'a str, f32>,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let tokenizer = folder::tokenizer(&self.model)?;
        let mut classifier = Classifier::load(&self.model, tokenizer, self.threads.cpu())?;
        let mut input = BufReader::new(std::io::stdin().lock());
        let mut out = BufWriter::new(std::io::stdout().lock());
        let mut lines = Vec::new();
        let mut before = 0;
        while self.read(&mut input, before, &mut lines)? {
            let answers = classifier.predict(&lines, "the standard input", before + 1)?;
            for answer in &answers {
                self.print(&mut out, classifier.labels(), answer)?;
            }
            // Whoever writes line by line gets each answer before the next line.
            out.flush()?;
            before += lines.len();
        }
        Ok(())
    }

    /// Waits for a line, and takes the lines that have come with it. False at the end.
    fn read(
        &self,
        input: &mut BufReader<impl std::io::Read>,
        before: usize,
        lines: &mut Vec<String>,
    ) -> Result<bool> {
        lines.clear();
        let mut line = Vec::new();
        while lines.is_empty() || (lines.len() < LINES && input.buffer().contains(&b'\n')) {
            line.clear();
            if input.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            lines.push(match std::str::from_utf8(line) {
                Ok(line) => line.to_owned(),
                Err(_) if self.lossy => String::from_utf8_lossy(line).into_owned(),
                Err(error) => bail!(
                    "line {} of the standard input is not valid UTF-8 at its byte {}: convert it, \
                     or pass --lossy to replace invalid bytes",
                    before + lines.len() + 1,
                    error.valid_up_to()
                ),
            });
        }
        Ok(!lines.is_empty())
    }

    fn print(&self, out: &mut impl Write, labels: &[String], answer: &Prediction) -> Result<()> {
        let label = &labels[answer.label as usize];
        if !self.json {
            return Ok(writeln!(out, "{label}")?);
        }
        let shares = answer.probabilities.iter().copied();
        let probabilities = labels.iter().map(String::as_str).zip(shares).collect();
        serde_json::to_writer(&mut *out, &Answer { label, probabilities })?;
        Ok(writeln!(out)?)
    }
}
