//! `longhand data sample`: the built-in stories as text, and their labels as tables.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum};
use longhand_text::TextError;
use longhand_text::sample::{self, LONGEST_DISTANCE, Table, TableRows};

use crate::error::{Usage, within};
use crate::reading::LanguageName;

/// Writes the built-in sample: short stories in English and Chinese, or a table of their labels.
#[derive(Args)]
#[command(
    after_help = "Example:\n  longhand data sample --bytes 1000000 --out sample.txt\n  longhand \
                        data sample --table sentiment --out train.tsv\n  longhand data sample \
                        --table sentiment --seed 2 --rows 300 --out test.tsv\n  longhand data \
                        sample --table entities --out train.conll"
)]
pub(super) struct Arguments {
    /// The seed of the stories; the same seed gives the same text everywhere
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The least length of the text; it ends with the story that reaches it
    #[arg(long, default_value_t = 1 << 20, conflicts_with = "table")]
    bytes: usize,
    /// A table instead of the text, in TSV unless its description says otherwise
    #[arg(long, value_enum, value_name = "NAME")]
    table: Option<TableName>,
    /// Rows of the table; those of entities are sentences [default: 2000]
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// The language of the table's stories [default: both, four in five English]
    #[arg(long, value_enum)]
    language: Option<LanguageName>,
    /// Characters from a fact to its question's answer [default: 128]
    #[arg(long, value_name = "N")]
    distance: Option<usize>,
    /// A file to write instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Overwrite the file if it exists
    #[arg(long)]
    force: bool,
}

/// A table of the sample, by its name on the command line.
#[derive(Clone, Copy, ValueEnum)]
enum TableName {
    /// text, label: how a story feels
    Sentiment,
    /// text, label: what a story is about
    Topic,
    /// document, summary: a story in one sentence
    Summaries,
    /// source, target: a sentence in English and in Chinese
    Pairs,
    /// text, question, answer, distance: who has what
    Questions,
    /// __label__A __label__B text: what a story is about, how it feels and which things are in it
    Labels,
    /// CoNLL's lines of a word and its tag: people (PER), things (THING) and places (LOC)
    Entities,
    /// SQuAD's questions, answers and their places, in lines of JSON; some have no answer
    Spans,
}

/// The most rows: enough for any experiment, and written in seconds.
const MOST_ROWS: usize = 1_000_000;

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let rows = within("--rows", self.rows.unwrap_or(2000), 1..=MOST_ROWS)?;
        let distance = within("--distance", self.distance.unwrap_or(128), 0..=LONGEST_DISTANCE)?;
        self.check_text()?;
        if self.distance.is_some() && !matches!(self.table, Some(TableName::Questions)) {
            return Err(Usage("--distance is for --table questions".into()).into());
        }
        if self.language.is_some() && matches!(self.table, Some(TableName::Pairs)) {
            return Err(
                Usage("--table pairs is in both languages: leave out --language".into()).into()
            );
        }
        let table = self.table.map(|table| match table {
            TableName::Sentiment => Table::Sentiment,
            TableName::Topic => Table::Topic,
            TableName::Summaries => Table::Summaries,
            TableName::Pairs => Table::Pairs,
            TableName::Questions => Table::Questions { distance },
            TableName::Labels => Table::Labels,
            TableName::Entities => Table::Entities,
            TableName::Spans => Table::Spans,
        });
        let rows =
            TableRows { seed: self.seed, count: rows, language: self.language.map(Into::into) };
        let mut out = BufWriter::new(self.open()?);
        match table {
            Some(table) => sample::write_table(&mut out, table, rows)?,
            None => {
                for part in sample::parts(self.seed, self.bytes) {
                    out.write_all(part.as_bytes())?;
                }
            }
        }
        Ok(out.flush()?)
    }

    /// Refuses flags of tables where the text is written. That --bytes and --table conflict would hide from
    /// the parser that they need a table.
    fn check_text(&self) -> Result<(), Usage> {
        let flags = [
            ("--rows", self.rows.is_some()),
            ("--language", self.language.is_some()),
            ("--distance", self.distance.is_some()),
        ];
        match flags.into_iter().find(|(_, given)| *given && self.table.is_none()) {
            Some((flag, _)) => {
                Err(Usage(format!("{flag} is for tables: name one with --table, or leave it out")))
            }
            None => Ok(()),
        }
    }

    /// The file, or stdout.
    fn open(&self) -> Result<Box<dyn Write>> {
        let Some(path) = &self.out else { return Ok(Box::new(std::io::stdout().lock())) };
        let mut options = fs_err::OpenOptions::new();
        options.write(true).create(true).truncate(true).create_new(!self.force);
        let file = options.open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                anyhow!("{} exists: pass --force to overwrite it", path.display())
            }
            _ => TextError::Io(error).into(),
        })?;
        Ok(Box::new(file))
    }
}
