//! `longhand predict`: a model's answers to examples from the standard input.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use longhand_model::Model;
use longhand_tasks::task::{At, Unit};
use longhand_tasks::{Predictor, Task, TaskFile, VisitTask, predictor};
use longhand_text::Tokenizer;

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

/// The most units of text that are read side by side.
const UNITS: usize = 256;
/// The name of the input in messages.
const INPUT: &str = "the standard input";

/// Units of text that came together, and why no more are taken.
#[derive(Default)]
struct Units {
    /// The number of the first line of each, and its text.
    texts: Vec<(usize, String)>,
    /// The input ended, or a line cannot be read.
    end: Option<Result<()>>,
}

/// The standard input, unit by unit.
struct Input<R: Read> {
    reader: BufReader<R>,
    /// The first line of a unit that has not ended, and its text.
    open: Option<(usize, String)>,
    /// Lines that are read.
    lines: usize,
    lossy: bool,
}

/// A folder's task and its model.
struct Predict<'a> {
    arguments: &'a Arguments,
    model: Model,
    tokenizer: Tokenizer,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let tokenizer = Tokenizer::of_folder(model_folder(&self.model)?)?;
        let (file, model) = predictor::open(&self.model)?;
        file.visit(Predict { arguments: &self, model, tokenizer })
    }

    fn print<T: Task>(
        &self,
        out: &mut impl Write,
        task: &T,
        example: &T::Example,
        answers: &[T::Answer],
    ) -> Result<()> {
        if !self.json {
            return Ok(writeln!(out, "{}", task.plain(example, answers))?);
        }
        serde_json::to_writer(&mut *out, &task.fields(example, answers))?;
        Ok(writeln!(out)?)
    }
}

impl VisitTask for Predict<'_> {
    type Output = Result<()>;

    fn visit<T: Task + Into<TaskFile>>(self, task: T) -> Result<()> {
        let Self { arguments, model, tokenizer } = self;
        let cpu = arguments.threads.cpu();
        let mut predictor = Predictor::checked(&arguments.model, task, model, tokenizer, cpu)?;
        let reader = BufReader::new(std::io::stdin().lock());
        let mut input = Input { reader, open: None, lines: 0, lossy: arguments.lossy };
        let mut out = BufWriter::new(std::io::stdout().lock());
        let mut before = 0;
        loop {
            let Units { texts, end } = input.read(T::UNIT);
            let mut examples = Vec::with_capacity(texts.len());
            for (line, text) in texts {
                examples.extend(T::parse(&text, At { name: INPUT, example: line })?);
            }
            let first = At { name: INPUT, example: before + 1 };
            let answers = predictor.predict(&examples, first)?;
            for (example, answers) in examples.iter().zip(&answers) {
                arguments.print(&mut out, &predictor.task, example, answers)?;
            }
            // Whoever writes line by line gets each answer before the next line.
            out.flush()?;
            before += examples.len();
            if let Some(end) = end {
                return end;
            }
        }
    }
}

impl<R: Read> Input<R> {
    /// Waits for a unit, and takes those that have come with it.
    fn read(&mut self, unit: Unit) -> Units {
        let mut units = Units::default();
        while units.texts.is_empty()
            || (units.texts.len() < UNITS && self.reader.buffer().contains(&b'\n'))
        {
            let line = match self.line() {
                Ok(Some(line)) => line,
                Ok(None) => {
                    units.texts.extend(self.open.take());
                    units.end = Some(Ok(()));
                    return units;
                }
                Err(error) => {
                    units.end = Some(Err(error));
                    return units;
                }
            };
            let number = self.lines;
            match unit {
                Unit::Line => units.texts.push((number, line)),
                Unit::Block if line.trim().is_empty() => units.texts.extend(self.open.take()),
                Unit::Block | Unit::Whole => {
                    let (_, text) = self.open.get_or_insert_with(|| (number, String::new()));
                    text.push_str(&line);
                    text.push('\n');
                }
            }
        }
        units
    }

    /// The next line without its end; none where the input ends.
    fn line(&mut self) -> Result<Option<String>> {
        let mut line = Vec::new();
        let read = self.reader.read_until(b'\n', &mut line);
        if read.context("the standard input cannot be read")? == 0 {
            return Ok(None);
        }
        self.lines += 1;
        let number = self.lines;
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // A byte order mark at the beginning of the input is no text.
        let mark = if number == 1 { "\u{feff}".as_bytes() } else { b"" };
        let line = line.strip_prefix(mark).unwrap_or(line);
        match std::str::from_utf8(line) {
            Ok(line) => Ok(Some(line.to_owned())),
            Err(_) if self.lossy => Ok(Some(String::from_utf8_lossy(line).into_owned())),
            Err(error) => bail!(
                "line {number} of the standard input is not valid UTF-8 at its byte {}: convert \
                 it, or pass --lossy to replace invalid bytes",
                error.valid_up_to()
            ),
        }
    }
}
