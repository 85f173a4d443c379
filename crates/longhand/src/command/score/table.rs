//! The perplexity of each text of a table, as further columns of the same table.

use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use longhand_engine::{Frame, Quantiles, TextScore, TextScorer};
use longhand_text::corpus::{
    AppendOptions, Column, FurtherCells, FurtherColumn, NumberKind, append_columns,
};
use longhand_text::{Corpus, CorpusOptions, TableFormat};

use super::lines::quantiles;
use super::split::{WINDOW, each_line};
use super::{Arguments, Total};
use crate::error::Usage;
use crate::reading::writable;
use crate::whole_file::write_whole;

/// A table, and where it goes.
#[derive(Args)]
pub(super) struct TableArguments {
    /// A .jsonl, .csv, .tsv or .parquet table; its rows come out in the same format with further
    /// columns: tokens, sum, mean, max, perplexity, and quantile with --reference
    #[arg(long, value_name = "FILE")]
    pub(super) data: Option<PathBuf>,
    /// The column of the text, by name or by its place from 0 [default: text]
    #[arg(long, value_name = "NAME", alias = "text-column")]
    pub(super) column: Option<String>,
    /// The format, where the file's name does not tell: jsonl, csv, tsv or parquet
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Option<TableFormat>,
    /// Put this before the names of the further columns
    #[arg(long, value_name = "TEXT", requires = "data", default_value = "")]
    prefix: String,
    /// The file to write; stdout where none is named
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

/// The further columns; the last one only with a reference.
const COLUMNS: [(&str, NumberKind); 6] = [
    ("tokens", NumberKind::Whole),
    ("sum", NumberKind::Real),
    ("mean", NumberKind::Real),
    ("max", NumberKind::Real),
    ("perplexity", NumberKind::Real),
    ("quantile", NumberKind::Real),
];

impl Arguments {
    /// Scores each row of a table.
    pub(super) fn score_table(&self) -> Result<()> {
        let Some(path) = &self.table.data else { return Ok(()) };
        self.check_table(path)?;
        if let Some(out) = &self.table.out {
            writable(out, self.force)?;
        }
        let (engine, cpu) = self.model.open()?;
        let mut scorer =
            TextScorer::new(self.neighbours.reader(&engine, &cpu)?, self.frame(Frame::Document))?;
        let judge = self.judge_rows(&mut scorer)?;
        let begun = Instant::now();
        let mut total = Total::default();
        match &self.table.out {
            None => {
                let mut out = BufWriter::new(std::io::stdout());
                self.append(path, &mut scorer, judge.as_ref(), &mut out, &mut total)?;
                out.flush()?;
            }
            Some(to) => write_whole(to, |out| {
                self.append(path, &mut scorer, judge.as_ref(), out, &mut total)
            })?,
        }
        total.tell("texts", begun);
        Ok(())
    }

    fn check_table(&self, path: &Path) -> Result<(), Usage> {
        let format = self.table.format.or_else(|| TableFormat::of_path(path));
        let name = path.display();
        if path == Path::new("-") {
            return Err(Usage("a table must be a file: name one with --data".into()));
        }
        if format.is_none() {
            return Err(Usage(format!(
                "{name} may be any table: say with --format which one it is"
            )));
        }
        let to_terminal = self.table.out.is_none() && std::io::stdout().is_terminal();
        if format == Some(TableFormat::Parquet) && to_terminal {
            return Err(Usage("a Parquet table is no text: name a file with --out".into()));
        }
        let extension = self.table.out.as_deref().and_then(Path::extension);
        if let Some(extension) = extension.filter(|name| *name == "gz" || *name == "zst") {
            let extension = extension.display();
            return Err(Usage(format!(
                "the table is written as it is, not compressed: leave out .{extension} of --out"
            )));
        }
        Ok(())
    }

    fn column(&self) -> Column {
        let column = self.table.column.as_deref().unwrap_or("text");
        column.parse().unwrap_or_else(|never: std::convert::Infallible| match never {})
    }

    fn append(
        &self,
        path: &Path,
        scorer: &mut TextScorer,
        judge: Option<&Quantiles>,
        out: &mut (dyn Write + Send),
        total: &mut Total,
    ) -> Result<()> {
        let (format, text) = (self.table.format, self.column());
        let options = AppendOptions { format, text, lossy: self.lossy };
        let count = COLUMNS.len() - usize::from(judge.is_none());
        let columns = COLUMNS[..count].iter().map(|&(name, kind)| FurtherColumn {
            name: format!("{}{name}", self.table.prefix),
            kind,
        });
        let columns: Vec<FurtherColumn> = columns.collect();
        let rank = self.judge.rank;
        append_columns(path, &options, &columns, out, &mut |texts| {
            let scores = scorer.score(texts)?;
            let cells = scores.iter().map(|score| {
                total.add(score);
                let quantile = judge.map(|judge| {
                    let value = rank.of(score);
                    (!value.is_nan()).then(|| judge.below(value))
                });
                further(score).into_iter().chain(quantile).collect()
            });
            Ok::<Vec<FurtherCells>, anyhow::Error>(cells.collect())
        })
    }

    /// The quantiles of the rows of the reference, or of its lines where it is no table.
    fn judge_rows(&self, scorer: &mut TextScorer) -> Result<Option<Quantiles>> {
        let Some(path) = &self.judge.reference else { return Ok(None) };
        let (mut values, rank) = (Vec::new(), self.judge.rank);
        if TableFormat::of_path(path).is_none() {
            each_line(path, self.lossy, &mut |lines| {
                let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
                values.extend(scorer.score(&texts)?.iter().map(|score| rank.of(score)));
                Ok(())
            })?;
            return quantiles(values, path).map(Some);
        }
        let text_column = self.table.column.clone();
        let options = CorpusOptions { text_column, format: None, lossy: self.lossy };
        let corpus = Corpus::open(std::slice::from_ref(path), options)?;
        let mut texts = corpus.texts();
        loop {
            let some: Vec<String> = texts.by_ref().take(WINDOW).collect::<Result<_, _>>()?;
            if some.is_empty() {
                return quantiles(values, path).map(Some);
            }
            values.extend(scorer.score(&some)?.iter().map(|score| rank.of(score)));
        }
    }
}

/// The cells of a score, without the quantile; empty where no token was predicted.
fn further(score: &TextScore) -> FurtherCells {
    let max = (score.tokens > 0).then_some(f64::from(score.max));
    vec![Some(score.tokens as f64), Some(score.sum), score.mean(), max, score.perplexity()]
}
