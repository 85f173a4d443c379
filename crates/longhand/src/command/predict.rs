//! `longhand predict`: a model's answers to examples from the standard input or from a table.

use std::io::{BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use longhand_tasks::predictor::{self, Trained};
use longhand_tasks::task::{At, Reading, Unit};
use longhand_tasks::{Explainer, Explanation, Listed, Predictor, Task, VisitTask};
use longhand_text::TableFormat;
use longhand_text::corpus::WholeTable;
use serde_json::Value;

use crate::adapters::AdapterArguments;
use crate::error::Usage;
use crate::explained::{line, write_page};
use crate::reading::{TextArguments, Threads, model_folder};
use crate::task_data::{self, TableArguments};

/// Names the label of each line of stdin: one line in, one line out. A blank line has no label, and
/// a blank line is the answer. A line of a model of pairs is two texts with a tab between them.
/// With --data, a table comes out again with the label and its probability as further columns. A
/// tagger reads and writes CoNLL columns; a model that answers questions reads SQuAD's JSON and
/// writes its form of predictions.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand finetune --task classify --data train.tsv\n  \
                        echo 'Who wrote it ?' | longhand predict classifier --json\n  longhand \
                        predict classifier --data new.csv --text-column review > labelled.csv")]
pub(crate) struct Arguments {
    /// The model folder of a classifier
    #[arg(value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    adapters: AdapterArguments,
    /// One JSON object a line: the text, the label, its probability, and the probability of each
    #[arg(long)]
    json: bool,
    /// Print these between tabs instead of the label alone: label, probability, text;
    /// of a model of several labels labels, text
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with = "json")]
    columns: Vec<String>,
    /// Say why: the share of each token (integrated gradients), and of each kind of memory, in the
    /// answer, or in each entity of a tagger
    #[arg(long, conflicts_with = "columns")]
    explain: bool,
    /// Write the explained answers as one HTML page too
    #[arg(long, value_name = "FILE", requires = "explain")]
    html: Option<PathBuf>,
    /// A .csv, .tsv, .jsonl or .parquet table of texts instead of stdin; its rows come
    /// out with further columns
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    #[command(flatten)]
    text: TextArguments,
    #[command(flatten)]
    table: TableArguments,
    #[command(flatten)]
    threads: Threads,
}

/// The most units of text that are read side by side.
const UNITS: usize = 256;
/// The most rows of a table that are read side by side.
const ROWS: usize = 4096;
/// The name of the text's column for --columns.
const TEXT: &str = "text";
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

/// Text, unit by unit.
struct Input<'a, R: Read> {
    reader: BufReader<R>,
    /// The first line of a unit that has not ended, and its text.
    open: Option<(usize, String)>,
    /// Lines that are read.
    lines: usize,
    /// The input's name in messages.
    name: &'a str,
    lossy: bool,
}

/// A folder's task and its model.
struct Predict<'a> {
    arguments: &'a Arguments,
    trained: Trained,
    reading: Reading,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let model = model_folder(&self.model)?;
        let folder = self.folder();
        let (file, trained) = predictor::open(folder, model, &self.adapters.chosen)?;
        self.adapters.tell();
        let (task, reading) = task_data::reading(folder, &file, &self.text, &self.table)?;
        let reading = Reading { unlabelled: true, ..reading };
        if self.data.is_none() {
            self.check_lines()?;
        }
        file.visit(&task, Predict { arguments: &self, trained, reading })
    }

    /// The folder that holds the task.
    fn folder(&self) -> &Path {
        self.adapters.task_folder(&self.model)
    }

    /// Refuses flags of tables where lines are read.
    fn check_lines(&self) -> Result<(), Usage> {
        let flags = [
            ("--text-column", self.text.text_column.is_some()),
            ("--format", self.text.format.is_some()),
            ("--header", self.table.header.is_some()),
            ("--pair-column", self.table.pair_column.is_some()),
        ];
        match flags.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => {
                Err(Usage(format!("{flag} is for tables: name one with --data, or leave it out")))
            }
            None => Ok(()),
        }
    }

    /// Refuses names that no column has.
    fn check_columns<T: Task>(&self) -> Result<(), Usage> {
        let known = || T::COLUMNS.iter().copied().chain([TEXT]);
        match self.columns.iter().find(|name| known().all(|column| column != *name)) {
            Some(name) => {
                let known: Vec<&str> = known().collect();
                let known = known.join(", ");
                Err(Usage(format!("--columns {name} is none of {known}")))
            }
            None => Ok(()),
        }
    }

    /// What the predictions are written between, where they are one document.
    fn frame<T: Task>(&self) -> Option<[&'static str; 3]> {
        T::FRAME.filter(|_| !self.json && !self.explain && self.columns.is_empty())
    }

    /// Ends the document of `count` predictions, and writes out whatever is not yet.
    fn finish<T: Task>(&self, out: &mut impl Write, count: usize) -> Result<()> {
        if let Some([begin, _, end]) = self.frame::<T>() {
            let before = if count == 0 { begin } else { "" };
            writeln!(out, "{before}\n{end}")?;
        }
        Ok(out.flush()?)
    }

    /// Prints the prediction for the example of a place, from 0.
    fn print<T: Task>(
        &self,
        out: &mut impl Write,
        task: &T,
        (place, example): (usize, &T::Example),
        answers: &[T::Answer],
        reasons: &mut Reasons,
    ) -> Result<()> {
        let told = reasons.of(task, example, answers)?;
        if let Some([begin, separator, _]) = self.frame::<T>() {
            let before = if place == 0 { begin } else { separator };
            return Ok(write!(out, "{before}\n{}", task.plain(example, answers))?);
        }
        if !self.columns.is_empty() {
            let fields = task.fields(example, answers);
            let cells = self.columns.iter().map(|name| cell(fields.get(name)));
            return Ok(writeln!(out, "{}", cells.collect::<Vec<_>>().join("\t"))?);
        }
        if !self.json {
            let answer = task.plain(example, answers);
            let mut lines = told.iter().map(|told| line(told, reasons.coloured));
            if T::IN_PARTS {
                // A comment of the block, which a reader of its columns leaves out.
                lines.try_for_each(|line| writeln!(out, "# {line}"))?;
                writeln!(out, "{answer}")?;
            } else {
                match lines.next() {
                    Some(line) => writeln!(out, "{answer}\t{line}")?,
                    None => writeln!(out, "{answer}")?,
                }
            }
            if task.unit() == Unit::Block {
                // An empty line ends a block.
                writeln!(out)?;
            }
            return Ok(());
        }
        let mut fields = task.fields(example, answers);
        let told = match T::IN_PARTS && self.explain {
            true => Some(serde_json::to_value(&told)?),
            false => told.first().map(serde_json::to_value).transpose()?,
        };
        fields.extend(told.map(|told| ("explanation".to_owned(), told)));
        if let Some(names) = self.adapters.names() {
            fields.insert("adapters".to_owned(), names.into());
        }
        serde_json::to_writer(&mut *out, &fields)?;
        Ok(writeln!(out)?)
    }
}

impl VisitTask for Predict<'_> {
    type Output = Result<()>;

    fn visit<T: Listed>(self, task: T, settings: &T::Settings) -> Result<()> {
        let Self { arguments, trained, reading } = self;
        arguments.check_columns::<T>()?;
        let cpu = arguments.threads.cpu();
        let predictor = Predictor::checked(arguments.folder(), task, trained, cpu)?;
        let reasons = &mut arguments.reasons(&predictor)?;
        match &arguments.data {
            None => arguments.lines(predictor, std::io::stdin().lock(), INPUT, reasons)?,
            Some(path) if predictor.task.unit() == Unit::Line => {
                arguments.table(predictor, (settings, &reading), path, reasons)?;
            }
            Some(path) if T::FRAME.is_some() => {
                arguments.file(predictor, (settings, &reading), path, reasons)?;
            }
            Some(path) => {
                let name = path.display().to_string();
                arguments.lines(predictor, fs_err::File::open(path)?, &name, reasons)?;
            }
        }
        reasons.write()
    }
}

/// The explanations of answers.
#[derive(Default)]
struct Reasons {
    explainer: Option<Explainer>,
    /// Whether a line has colours.
    coloured: bool,
    /// The page to write, if one is asked for.
    page: Option<PathBuf>,
    told: Vec<(String, Explanation)>,
}

impl Arguments {
    /// Explains the answers of a predictor, where that is asked for.
    fn reasons<T: Task>(&self, predictor: &Predictor<T>) -> Result<Reasons> {
        if !self.explain {
            return Ok(Reasons::default());
        }
        let Some(explainer) = predictor.explainer()? else {
            let text = "a baseline's answers are not explained: leave out --explain";
            return Err(Usage(text.into()).into());
        };
        let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let page = self.html.clone();
        Ok(Reasons { explainer: Some(explainer), coloured, page, told: Vec::new() })
    }
}

impl Reasons {
    /// Why the answers were given: for the whole, or for each part; nothing where that is not asked
    /// for, or there was nothing to read.
    fn of<T: Task>(
        &mut self,
        task: &T,
        example: &T::Example,
        answers: &[T::Answer],
    ) -> Result<Vec<Explanation>> {
        let Some(explainer) = &mut self.explainer else { return Ok(Vec::new()) };
        let found = explainer.explain(task, example, answers)?;
        if self.page.is_some() {
            let title = |found: &Explanation| match &found.part {
                Some(part) => format!("{}: {}", part.kind, part.text),
                None => task.plain(example, answers),
            };
            self.told.extend(found.iter().map(|found| (title(found), found.clone())));
        }
        Ok(found)
    }

    /// Writes the page, if one is asked for.
    fn write(&self) -> Result<()> {
        match &self.page {
            Some(path) => write_page(path, &self.told),
            None => Ok(()),
        }
    }
}

/// A value as a cell between tabs.
fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => return String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    text.replace(['\t', '\n', '\r'], " ")
}

impl Arguments {
    /// Answers the rows of a table.
    fn table<T: Task>(
        &self,
        mut predictor: Predictor<T>,
        (settings, reading): (&T::Settings, &Reading),
        path: &Path,
        reasons: &mut Reasons,
    ) -> Result<()> {
        if path == Path::new("-") {
            return Err(
                Usage("a table must be a file: leave out --data to read lines".into()).into()
            );
        }
        let format = reading.format.or_else(|| TableFormat::of_path(path));
        let Some(format) = format else {
            let name = path.display();
            let text = format!("{name} may be any table: say with --format which one it is");
            return Err(Usage(text).into());
        };
        let reading = Reading { format: Some(format), ..reading.clone() };
        let examples = T::read(settings, path, &reading)?.examples;
        let whole = WholeTable::read(path, &reading.table())?;
        if whole.len() != examples.len() {
            bail!("{} changed while it was read", path.display());
        }
        let mut out = BufWriter::new(std::io::stdout().lock());
        let again = !self.json && !self.explain && self.columns.is_empty();
        let names: Vec<String> = T::COLUMNS.iter().map(|name| whole.free_name(name)).collect();
        if again {
            whole.write_names(&mut out, &names)?;
        }
        let name = path.display().to_string();
        for (part, examples) in examples.chunks(ROWS).enumerate() {
            let first = part * ROWS;
            let answers = predictor.predict(examples, At { name: &name, example: first + 1 })?;
            for (place, (example, answers)) in examples.iter().zip(&answers).enumerate() {
                if !again {
                    let example = (first + place, example);
                    self.print(&mut out, &predictor.task, example, answers, reasons)?;
                    continue;
                }
                let mut fields = predictor.task.fields(example, answers);
                let values = T::COLUMNS.iter().map(|name| fields.remove(*name).unwrap_or_default());
                let further: Vec<(String, Value)> = names.iter().cloned().zip(values).collect();
                whole.write_row(&mut out, first + place, &further)?;
            }
        }
        Ok(out.flush()?)
    }

    /// Answers the examples of a file that is one document.
    fn file<T: Task>(
        &self,
        mut predictor: Predictor<T>,
        (settings, reading): (&T::Settings, &Reading),
        path: &Path,
        reasons: &mut Reasons,
    ) -> Result<()> {
        let examples = T::read(settings, path, reading)?.examples;
        let name = path.display().to_string();
        let mut out = BufWriter::new(std::io::stdout().lock());
        for (part, some) in examples.chunks(ROWS).enumerate() {
            let first = part * ROWS;
            let answers = predictor.predict(some, At { name: &name, example: first + 1 })?;
            for (place, (example, answers)) in some.iter().zip(&answers).enumerate() {
                let example = (first + place, example);
                self.print(&mut out, &predictor.task, example, answers, reasons)?;
            }
        }
        self.finish::<T>(&mut out, examples.len())
    }

    /// Answers units of text as they come.
    fn lines<T: Task>(
        &self,
        mut predictor: Predictor<T>,
        reader: impl Read,
        name: &str,
        reasons: &mut Reasons,
    ) -> Result<()> {
        let reader = BufReader::new(reader);
        let mut input = Input { reader, open: None, lines: 0, name, lossy: self.text.lossy };
        let mut out = BufWriter::new(std::io::stdout().lock());
        let mut before = 0;
        loop {
            let Units { texts, end } = input.read(predictor.task.unit());
            let mut examples = Vec::with_capacity(texts.len());
            for (line, text) in texts {
                examples.extend(predictor.task.parse(&text, At { name, example: line })?);
            }
            let first = At { name, example: before + 1 };
            let answers = predictor.predict(&examples, first)?;
            for (place, (example, answers)) in examples.iter().zip(&answers).enumerate() {
                let example = (before + place, example);
                self.print(&mut out, &predictor.task, example, answers, reasons)?;
            }
            // Whoever writes line by line gets each answer before the next line.
            out.flush()?;
            before += examples.len();
            if let Some(end) = end {
                end?;
                return self.finish::<T>(&mut out, before);
            }
        }
    }
}

impl<R: Read> Input<'_, R> {
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
        if read.with_context(|| format!("{} cannot be read", self.name))? == 0 {
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
                "line {number} of {} is not valid UTF-8 at its byte {}: convert it, or pass \
                 --lossy to replace invalid bytes",
                self.name,
                error.valid_up_to()
            ),
        }
    }
}
