//! `longhand score`: how surprising each token of a stream is, each line, each row of a table, or each
//! hypothesis of n-best lists.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::{Args, ValueEnum};
use longhand_engine::{Frame, TextScore};

use crate::error::Usage;
use crate::neighbours::NeighbourArguments;
use crate::reading::{ModelArguments, writable};
use crate::talk::say;

mod follow;
mod lines;
mod nbest;
mod sessions;
mod split;
mod table;
mod tokens;

/// Says how surprising text is: each token of stdin, which may never end; each line of it or of
/// files, such as logs (--by line); each row of a table (--data); or each hypothesis of n-best lists,
/// which are put into a new order (--nbest).
#[derive(Args)]
#[command(
    after_help = "Examples:\n  tail -f log.txt | longhand score model\n  longhand score model \
                  --by line app.log --reference clean.log --above 0.999\n  longhand score model \
                  --by line --follow app.log --key '^\\S+' --top 20\n  longhand score model --data \
                  docs.parquet --column text --out scored.parquet\n  longhand score model --nbest \
                  dev.nbest --tune dev.ref --save-weights w.json\n\nBy token, a line holds the \
                  token's position, the token and its surprisal −ln p in nats (- for the first \
                  token, which nothing predicted).\nBy line, between tabs: the file if files are \
                  named, the line's number, its tokens, the sum, the mean and the maximum of their \
                  surprisal in nats, the perplexity, the quantile with --reference, the key with \
                  --key, the text. The line break at the end is a token.\nMemory does not grow \
                  with the stream."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Files to score by line, compressed or not; stdin where none is named
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What gets a score: a token or a line
    #[arg(long, value_name = "UNIT", default_value = "token")]
    by: By,
    /// A memory to continue from, by token or with --carry
    #[arg(long, value_name = "FILE")]
    memory: Option<PathBuf>,
    /// A file to keep the memory in at the stream's end, or at Ctrl-C
    #[arg(long, value_name = "FILE")]
    save_memory: Option<PathBuf>,
    /// Overwrite a file that is to be written if it exists
    #[arg(long)]
    force: bool,
    /// One JSON object for each token, line or hypothesis
    #[arg(long)]
    json: bool,
    /// Replace invalid UTF-8 instead of stopping
    #[arg(long)]
    lossy: bool,
    /// The marks around a text, for the model: line breaks, or ends of documents [default:
    /// document for tables, line elsewhere]
    #[arg(long, value_name = "FRAME")]
    frame: Option<FrameName>,
    #[command(flatten, next_help_heading = "Lines")]
    lines: lines::LineArguments,
    #[command(flatten, next_help_heading = "Judged by a reference, lines and tables")]
    judge: JudgeArguments,
    #[command(flatten, next_help_heading = "Tables")]
    table: table::TableArguments,
    #[command(flatten, next_help_heading = "N-best lists")]
    nbest: nbest::NbestArguments,
    #[command(flatten, next_help_heading = "Neighbours in a datastore")]
    neighbours: NeighbourArguments,
}

/// What gets a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Token,
    Line,
}

/// A frame by its name on the command line.
#[derive(Clone, Copy, ValueEnum)]
enum FrameName {
    Line,
    Document,
}

/// By what lines and documents are compared.
#[derive(Args)]
struct JudgeArguments {
    /// A usual text, by whose lines or rows the others are judged: adds the share of them that is
    /// less surprising, the quantile
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// The score that quantiles, --above and --top compare
    #[arg(long, value_name = "SCORE", default_value = "mean")]
    rank: Rank,
}

/// A score that texts are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rank {
    /// Nats for each token
    Mean,
    /// Nats of the most surprising token
    Max,
    /// Nats of the whole text
    Sum,
}

impl Rank {
    /// The value; NaN where no token was predicted.
    fn of(self, score: &TextScore) -> f64 {
        match self {
            _ if score.tokens == 0 => f64::NAN,
            Self::Mean => score.mean().unwrap_or(f64::NAN),
            Self::Max => f64::from(score.max),
            Self::Sum => score.sum,
        }
    }
}

impl From<FrameName> for Frame {
    fn from(name: FrameName) -> Self {
        match name {
            FrameName::Line => Self::Line,
            FrameName::Document => Self::Document,
        }
    }
}

/// What is scored, one of four.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Tokens,
    Lines,
    Table,
    Lists,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        self.check()?;
        if let Some(path) = &self.save_memory {
            writable(path, self.overwrites())?;
        }
        match self.work() {
            Work::Tokens => self.score_tokens(),
            Work::Lines => self.score_lines(),
            Work::Table => self.score_table(),
            Work::Lists => self.score_lists(),
        }
    }

    fn work(&self) -> Work {
        match (self.nbest.is_asked(), self.table.data.is_some(), self.by) {
            (true, ..) => Work::Lists,
            (_, true, _) => Work::Table,
            (.., By::Line) => Work::Lines,
            (.., By::Token) => Work::Tokens,
        }
    }

    /// Refuses flags that mean nothing for what is scored.
    fn check(&self) -> Result<(), Usage> {
        let work = self.work();
        if work == Work::Lists && (self.by == By::Line || self.table.data.is_some()) {
            let other = if self.by == By::Line { "--by line" } else { "--data" };
            return Err(Usage(format!("--nbest does not go with {other}: leave out one of them")));
        }
        let (by_line, tables) = (work == Work::Lines, work == Work::Table);
        let memory = work == Work::Tokens || (by_line && self.lines.carries());
        let lists = work == Work::Lists;
        let line_flags =
            self.lines.given().map(|(flag, given)| (flag, given, by_line, "--by line"));
        let list_flags = self.nbest.given().map(|(flag, given)| (flag, given, lists, "--nbest"));
        let by_frame = work != Work::Tokens;
        let others = [
            ("FILE", !self.files.is_empty(), by_line, "--by line"),
            ("--memory", self.memory.is_some(), memory, "--by token or --carry"),
            ("--save-memory", self.save_memory.is_some(), memory, "--by token or --carry"),
            (
                "--reference",
                self.judge.reference.is_some(),
                by_line || tables,
                "--by line or --data",
            ),
            ("--frame", self.frame.is_some(), by_frame, "--by line, --data or --nbest"),
            ("--column", self.table.column.is_some(), tables, "--data"),
            ("--format", self.table.format.is_some(), tables, "--data"),
            ("--out", self.table.out.is_some(), tables, "--data"),
            ("--knn", self.neighbours.is_given(), !lists, "--by or --data"),
        ];
        let mut flags = line_flags.into_iter().chain(list_flags).chain(others);
        match flags.find(|(_, given, fits, _)| *given && !fits) {
            Some((flag, _, _, needed)) => {
                Err(Usage(format!("{flag} goes with {needed}: add it, or leave out {flag}")))
            }
            None => Ok(()),
        }
    }

    fn frame(&self, default: Frame) -> Frame {
        self.frame.map_or(default, Frame::from)
    }

    /// Whether the memory's file may be overwritten.
    fn overwrites(&self) -> bool {
        self.force || self.save_memory == self.memory
    }
}

/// What was scored in all.
#[derive(Default)]
struct Total {
    texts: u64,
    tokens: u64,
    sum: f64,
}

impl Total {
    fn add(&mut self, score: &TextScore) {
        self.texts += 1;
        self.tokens += score.tokens as u64;
        self.sum += score.sum;
    }

    /// Tells it, and how fast it went since `begun`; nothing where no token was predicted.
    fn tell(&self, unit: &str, begun: Instant) {
        let Self { texts, tokens, sum } = self;
        if *tokens == 0 {
            return;
        }
        let seconds = begun.elapsed().as_secs_f64().max(1e-9);
        let (mean, speed) = (sum / *tokens as f64, *tokens as f64 / seconds);
        let perplexity = mean.exp();
        say!(
            "{texts} {unit} of {tokens} tokens, {mean:.4} nats a token, perplexity {perplexity:.3}, \
             {speed:.0} tokens/s"
        );
    }
}
