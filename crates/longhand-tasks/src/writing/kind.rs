//! What differs between the tasks whose answers are written.

use std::collections::BTreeMap;
use std::fmt;

use super::measures::Measures;

/// A kind of text that is written from another one.
pub trait Kind: Clone + fmt::Debug + Default + PartialEq + Send + Sync + 'static {
    /// The name, as recipes and `--task` write it.
    const NAME: &'static str;
    /// One line for `--help`.
    const ABOUT: &'static str;
    /// Metrics that are shares, as [`crate::Task::METRICS`] has them.
    const METRICS: &'static [(&'static str, &'static str)];
    /// Metrics that are no shares, as [`crate::Task::NUMBERS`] has them.
    const NUMBERS: &'static [(&'static str, &'static str)];
    /// The columns that a table of predictions gets, the written text first.
    const COLUMNS: &'static [&'static str];
    /// The usual names of the columns of a table.
    const FIELDS: Fields;
    /// The most tokens of a source and of a target where nobody says how many.
    const LONGEST: [usize; 2];
    /// Whether one model can write in both directions (false).
    const HAS_DIRECTIONS: bool = false;
    /// Whether the beginning of a source is a text that others are compared with (false).
    const HAS_LEAD: bool = false;
    /// Whether its texts can be symbols whose error rates are measured (false).
    const HAS_SYMBOLS: bool = false;

    /// What one answer contributes to the metrics.
    type Counts: Clone + fmt::Debug + Send + Sync;

    /// The counts of one answer.
    fn count(measures: &Measures, compared: Compared<'_>) -> Self::Counts;

    /// Every metric by its key, of the answers that have these counts.
    fn score(measures: &Measures, counts: &[&Self::Counts]) -> BTreeMap<&'static str, f64>;

    /// The signature of each metric that has one, for answers with these
    /// references; none by default.
    fn signatures(_: &Measures, _references: &[Vec<&str>]) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Whether an answer with these counts is right; none where answers are better or worse.
    fn is_right(_: &Self::Counts) -> Option<bool> {
        None
    }
}

/// The names of the columns of a table.
#[derive(Clone, Copy, Debug)]
pub struct Fields {
    /// The column of the text that is read.
    pub source: &'static str,
    /// The column of the text that is written.
    pub target: &'static str,
    /// The column of a text that the source is about; none where there is no such text.
    pub context: Option<&'static str>,
}

/// An answer and what it is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Compared<'a> {
    /// The texts that were read.
    pub source: &'a [&'a str],
    /// The text that was written.
    pub output: &'a str,
    /// The right texts, at least one.
    pub references: &'a [&'a str],
}
