//! How sources are read.

use super::format::TableFormat;
use super::source::Source;

/// How sources are read.
#[derive(Clone, Debug, Default)]
pub struct CorpusOptions {
    /// The column of tables (JSON lines, CSV, TSV, Parquet) that holds the text.
    /// Default: the column `text`.
    pub text_column: Option<String>,
    /// The table that every source is; where none is given the name of each file tells it, and
    /// any name that [`TableFormat::of_path`] does not know means plain text.
    pub format: Option<TableFormat>,
    /// Replace invalid UTF-8 by U+FFFD instead of stopping.
    pub lossy: bool,
}

impl CorpusOptions {
    pub(super) fn format_of(&self, source: &Source) -> Option<TableFormat> {
        self.format.or_else(|| source.format())
    }
}
