//! `longhand predict`: a model's answers to examples from the standard input or from a table.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use longhand_engine::Rules;
use longhand_nbest::{LOG_PROBABILITY, field};
use longhand_tasks::predictor::{self, Trained};
use longhand_tasks::task::{At, Ranked, Reading, Unit};
use longhand_tasks::{Explainer, Explanation, Listed, Predictor, Task, TaskError, VisitTask};
use longhand_text::corpus::WholeTable;
use serde_json::Value;

use super::eval_task::follow;
use super::writing::SearchArguments;
use crate::adapters::AdapterArguments;
use crate::error::Usage;
use crate::explained::{line, write_page};
use crate::neighbours::NeighbourArguments;
use crate::reading::{TextArguments, Threads, model_folder};
use crate::rules::RulesArguments;
use crate::screen::Screen;
use crate::talk::say;
use crate::task_data::{self, FileReading, TableArguments};

mod fasttext;

/// Names the label of each line of stdin: one line in, one line out. A blank line has no label, and
/// a blank line is the answer. A line of a model of pairs is two texts with a tab between them.
/// With --data, a table comes out again with the label and its probability as further columns. A
/// tagger reads and writes CoNLL columns; a model that marks answers reads SQuAD's JSON and writes its
/// form of predictions. A model that writes gives a text for each line; a question may have a text
/// before it, with a tab between them.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand finetune --task classify --data train.tsv\n  \
                        echo 'Who wrote it ?' | longhand predict classifier --json\n  longhand \
                        predict classifier --data new.csv --text-column review > labelled.csv")]
pub(crate) struct Arguments {
    /// The model folder of a task's model
    #[arg(value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    adapters: AdapterArguments,
    /// One JSON object a line: the text, the label, its probability, and the probability of each
    #[arg(long)]
    json: bool,
    /// Print these between tabs instead of the label alone: label, probability, text;
    /// of a model of several labels labels, text; of one that writes translation, summary or answer, and
    /// score, where text is the written text too
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with = "json")]
    columns: Vec<String>,
    /// Print labels as fastText's predict does: __label__NAME, of a model of several labels
    /// with spaces between them
    #[arg(long, conflicts_with_all = ["json", "columns", "explain", "nbest"])]
    fasttext: bool,
    /// Say why: the share of each token (integrated gradients), and of each kind of memory,
    /// in the answer, or in each entity of a tagger; of several networks that answer together
    /// the mean over them
    #[arg(long, conflicts_with = "columns")]
    explain: bool,
    /// Write the explained answers as one HTML page too
    #[arg(long, value_name = "FILE", requires = "explain")]
    html: Option<PathBuf>,
    /// A .csv, .tsv, .jsonl or .parquet table of texts, or fastText's `__label__LABEL text` lines, instead
    /// of stdin; its rows come out with further columns
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// The N best texts of a model that writes, or with --temperature N texts that are drawn: a line
    /// each, `LINE ||| TEXT ||| logprob= LOG-PROBABILITY ||| SCORE`, lines counted from 0; `|||` in a
    /// text becomes `| | |`
    #[arg(long, value_name = "N", conflicts_with = "columns")]
    nbest: Option<NonZeroUsize>,
    /// Begin each written answer with this text
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Begin each answer with the text in this column of the --data table, by name or by number from 0; a
    /// row whose answer cannot begin so is told, and has none
    #[arg(long, value_name = "COLUMN", conflicts_with = "prefix")]
    prefix_column: Option<String>,
    #[command(flatten)]
    search: SearchArguments,
    /// With --temperature, the seed of the random numbers; a text follows from its source, the seed and its
    /// number among those of the source [default: 0]
    #[arg(long, value_name = "N", help_heading = "Writing")]
    seed: Option<u64>,
    #[command(flatten, next_help_heading = "Neighbours in a datastore")]
    neighbours: NeighbourArguments,
    #[command(flatten)]
    rules: RulesArguments,
    #[command(flatten)]
    text: TextArguments,
    #[command(flatten)]
    table: TableArguments,
    #[command(flatten)]
    threads: Threads,
}

/// The most units of text that are read side by side: of more there are batches of closer lengths, but
/// the first answer comes later.
const UNITS: usize = 1024;
/// The most rows of a table that are read side by side.
const ROWS: usize = 4096;
/// Bytes of text that are taken at once if they have come. With 8 KiB, six film reviews, 1,000 of them
/// took twice as long as from a table.
const BUFFER: usize = 1 << 20;
/// The name of the column for --columns that has the text: the one that is labelled, or written.
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
    rules: Option<Arc<Rules>>,
    trained: Trained,
    reading: FileReading,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let rules = self.rules.load()?;
        let model = model_folder(&self.model)?;
        let folder = self.folder();
        let (file, trained) = predictor::open(folder, model, &self.adapters.chosen)?;
        self.adapters.tell();
        let (mut task, mut reading) = task_data::reading(folder, &file, &self.text, &self.table)?;
        if let Some(column) = &self.prefix_column {
            let set = task.set("prefix_column", column.as_str().into());
            set.map_err(|_| Usage(not_begun("--prefix-column", file.name())))?;
        }
        reading.all.unlabelled = true;
        if self.data.is_none() {
            self.check_lines()?;
        }
        file.visit(&task, Predict { arguments: &self, rules, trained, reading })
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
            ("--prefix-column", self.prefix_column.is_some()),
        ];
        match flags.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => {
                Err(Usage(format!("{flag} is for tables: name one with --data, or leave it out")))
            }
            None => Ok(()),
        }
    }

    /// Refuses flags of networks that write where a baseline does.
    fn check_baseline(&self) -> Result<(), Usage> {
        let own = [
            ("--rules", self.rules.rules.is_some()),
            ("--prefix", self.prefix.is_some()),
            ("--prefix-column", self.prefix_column.is_some()),
            ("--seed", self.seed.is_some()),
        ];
        let own = own.into_iter().find_map(|(flag, given)| given.then_some(flag));
        match own.or(self.search.given()) {
            Some(flag) => Err(Usage(format!(
                "{flag} is for networks that write, and {} holds a baseline: leave it out",
                self.model.display()
            ))),
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
                Err(Usage(format!("--columns {name:?} is none of {known}")))
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
        reasons.cut += usize::from(task.is_cut(answers));
        reasons.note_unfinished(task, answers);
        if let Some([begin, separator, _]) = self.frame::<T>() {
            let before = if place == 0 { begin } else { separator };
            return Ok(write!(out, "{before}\n{}", task.plain(example, answers))?);
        }
        if !self.columns.is_empty() {
            let mut fields = task.fields(example, answers);
            if T::WRITES {
                let best = task.ranked(answers).first().map(|best| best.text.as_str());
                fields.insert(TEXT.to_owned(), best.into());
            }
            let cells = self.columns.iter().map(|name| cell(fields.get(name)));
            return Ok(writeln!(out, "{}", cells.collect::<Vec<_>>().join("\t"))?);
        }
        if self.fasttext {
            return Ok(writeln!(out, "{}", fasttext::line(&task.fields(example, answers)))?);
        }
        if !self.json && self.nbest.is_some() {
            for Ranked { text, log_probability, score, .. } in task.ranked(answers) {
                let (text, name) = (field(text), LOG_PROBABILITY);
                writeln!(out, "{place} ||| {text} ||| {name}= {log_probability} ||| {score}")?;
            }
            return Ok(());
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
        let Self { arguments, rules, trained, reading } = self;
        arguments.check_columns::<T>()?;
        if T::WRITES && matches!(trained, Trained::Baseline(_)) {
            arguments.check_baseline()?;
        }
        let cpu = arguments.threads.cpu();
        let mut predictor = Predictor::checked(arguments.folder(), task, trained, cpu)?;
        if arguments.fasttext {
            fasttext::check(&predictor.task)?;
        }
        arguments.neighbours.consult(&mut predictor)?;
        let seed = arguments.seed.unwrap_or(0);
        arguments.search.apply(&mut predictor.task, arguments.nbest, seed)?;
        arguments.search.check_seed(arguments.seed)?;
        arguments.search.check_direction(&predictor.task)?;
        follow(&mut predictor, rules.as_ref())?;
        if let Some(prefix) = &arguments.prefix
            && !predictor.task.begin_answers(prefix)
        {
            return Err(Usage(not_begun("--prefix", T::NAME)).into());
        }
        let reasons = &mut arguments.reasons(&predictor)?;
        let reading = match &arguments.data {
            None => reading.all,
            Some(path) => reading.of(path),
        };
        match &arguments.data {
            None => {
                let input = Input::new(std::io::stdin().lock(), INPUT, reading.lossy);
                arguments.lines(predictor, input, reasons)?;
            }
            Some(path) if T::has_no_rows(settings, path, &reading) => {
                arguments.file(predictor, (settings, &reading), path, reasons)?;
            }
            Some(path) if predictor.task.unit() == Unit::Line => {
                arguments.table(predictor, (settings, &reading), path, reasons)?;
            }
            Some(path) if T::FRAME.is_some() => {
                arguments.file(predictor, (settings, &reading), path, reasons)?;
            }
            Some(path) => {
                let name = path.display().to_string();
                let input = Input::new(fs_err::File::open(path)?, &name, reading.lossy);
                arguments.lines(predictor, input, reasons)?;
            }
        }
        if reasons.cut > 0 {
            say!(
                "of {} source(s) the first tokens alone were read: they are too long",
                reasons.cut
            );
        }
        if reasons.refused > 0 {
            say!("{} row(s) have no answer: it cannot begin as they ask for", reasons.refused);
        }
        if rules.is_some() && reasons.unfinished > 0 {
            say!(
                "{} answer(s) are cut before they match the rules: raise --max-length",
                reasons.unfinished
            );
        }
        reasons.write()
    }
}

/// Why a flag of beginnings is refused.
fn not_begun(flag: &str, task: &str) -> String {
    format!("{flag} is for the tasks translate, summarize and answer, not for {task}: leave it out")
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
    /// Sources that have tokens which were not read.
    cut: usize,
    /// Examples whose best answer was cut.
    unfinished: usize,
    /// Rows that ask for a beginning that no answer has.
    refused: usize,
}

impl Arguments {
    /// Explains the answers of a predictor, where that is asked for.
    fn reasons<T: Task>(&self, predictor: &Predictor<T>) -> Result<Reasons> {
        if !self.explain {
            return Ok(Reasons::default());
        }
        if T::WRITES {
            let text = "written answers are not explained: leave out --explain";
            return Err(Usage(text.into()).into());
        }
        let Some(explainer) = predictor.explainer()? else {
            let text = "a baseline's answers are not explained: leave out --explain";
            return Err(Usage(text.into()).into());
        };
        let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let page = self.html.clone();
        Ok(Reasons {
            explainer: Some(explainer),
            coloured,
            page,
            told: Vec::new(),
            cut: 0,
            unfinished: 0,
            refused: 0,
        })
    }
}

impl Reasons {
    /// Counts an answer that was cut. One that matches the rules as it stands is whole, even if the
    /// longest length ended it.
    fn note_unfinished<T: Task>(&mut self, task: &T, answers: &[T::Answer]) {
        let ranked = task.ranked(answers);
        let is_cut = |best: &Ranked| !best.matches.unwrap_or(best.is_finished);
        self.unfinished += usize::from(ranked.first().is_some_and(is_cut));
    }

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

/// Tells how often a file was repaired.
fn tell(notes: &BTreeMap<String, usize>) {
    for (note, count) in notes {
        say!("{count} {note}");
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
        // It is read more than once, which a pipe cannot be.
        let found = fs_err::metadata(path);
        let is_pipe = found.is_ok_and(|found| !found.is_file() && !found.is_dir());
        if path == Path::new("-") || is_pipe {
            return Err(
                Usage("a table must be a file: leave out --data to read lines".into()).into()
            );
        }
        let reading = task_data::table(path, reading)?;
        let read = T::read(settings, path, &reading)?;
        tell(&read.notes);
        let examples = read.examples;
        let whole = WholeTable::read(path, &T::table(settings, &reading))?;
        if whole.len() != examples.len() {
            bail!("{} changed while it was read", path.display());
        }
        let mut out = BufWriter::new(Screen::stdout_if(T::WRITES));
        let listed = self.json || self.explain || self.fasttext || self.nbest.is_some();
        let again = !listed && self.columns.is_empty();
        let names: Vec<String> = T::COLUMNS.iter().map(|name| whole.free_name(name)).collect();
        if again {
            whole.write_names(&mut out, &names)?;
        }
        let name = path.display().to_string();
        for (part, examples) in examples.chunks(ROWS).enumerate() {
            let first = part * ROWS;
            let at = At { name: &name, example: first + 1 };
            let answers = self.answered(&mut predictor, examples, at, reasons)?;
            for (place, (example, answers)) in examples.iter().zip(&answers).enumerate() {
                if !again {
                    let example = (first + place, example);
                    self.print(&mut out, &predictor.task, example, answers, reasons)?;
                    continue;
                }
                reasons.cut += usize::from(predictor.task.is_cut(answers));
                reasons.note_unfinished(&predictor.task, answers);
                let mut fields = predictor.task.fields(example, answers);
                let values = T::COLUMNS.iter().map(|name| fields.remove(*name).unwrap_or_default());
                let further: Vec<(String, Value)> = names.iter().cloned().zip(values).collect();
                whole.write_row(&mut out, first + place, &further)?;
            }
        }
        Ok(out.flush()?)
    }

    /// Answers rows of a table. One whose answer cannot begin as its column says is told, and has none.
    fn answered<T: Task>(
        &self,
        predictor: &mut Predictor<T>,
        rows: &[T::Example],
        first: At<'_>,
        reasons: &mut Reasons,
    ) -> Result<Vec<Vec<T::Answer>>> {
        if self.prefix_column.is_none() {
            return Ok(predictor.predict(rows, first)?);
        }
        let mut kept = Vec::with_capacity(rows.len());
        for (place, row) in rows.iter().enumerate() {
            match predictor.refused_beginning(row) {
                None => kept.push(place),
                Some(error) => say!("row {} of {}: {error}", first.example + place, first.name),
            }
        }
        reasons.refused += rows.len() - kept.len();
        let examples: Vec<T::Example> = kept.iter().map(|&place| rows[place].clone()).collect();
        let found = predictor.predict(&examples, first).map_err(|error| match error {
            // It counts the examples that it was given.
            TaskError::NotFinite { name, example } => {
                let place = kept.get(example - first.example).copied().unwrap_or_default();
                TaskError::NotFinite { name, example: first.example + place }
            }
            TaskError::NoAnswer { name, example, fault } => {
                let place = kept.get(example - first.example).copied().unwrap_or_default();
                TaskError::NoAnswer { name, example: first.example + place, fault }
            }
            error => error,
        })?;
        let mut answers = vec![Vec::new(); rows.len()];
        for (place, own) in kept.into_iter().zip(found) {
            answers[place] = own;
        }
        Ok(answers)
    }

    /// Answers the examples of a file that is one document.
    fn file<T: Task>(
        &self,
        mut predictor: Predictor<T>,
        (settings, reading): (&T::Settings, &Reading),
        path: &Path,
        reasons: &mut Reasons,
    ) -> Result<()> {
        let read = T::read(settings, path, reading)?;
        tell(&read.notes);
        let examples = read.examples;
        let name = path.display().to_string();
        let mut out = BufWriter::new(Screen::stdout_if(T::WRITES));
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
        mut input: Input<'_, impl Read>,
        reasons: &mut Reasons,
    ) -> Result<()> {
        let name = input.name;
        let mut out = BufWriter::new(Screen::stdout_if(T::WRITES));
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

impl<'a, R: Read> Input<'a, R> {
    fn new(reader: R, name: &'a str, lossy: bool) -> Self {
        let reader = BufReader::with_capacity(BUFFER, reader);
        Self { reader, open: None, lines: 0, name, lossy }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Of six texts at a time there are no batches of close lengths.
    #[test]
    fn texts_that_have_come_are_read_side_by_side() {
        let text = format!("{}\n", "long ".repeat(100)).repeat(UNITS + 10);
        let mut input = Input::new(text.as_bytes(), INPUT, false);
        assert_eq!(input.read(Unit::Line).texts.len(), UNITS);
        assert_eq!(input.read(Unit::Line).texts.len(), 10);
    }
}
