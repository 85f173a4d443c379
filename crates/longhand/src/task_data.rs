//! The files that a trained task's model reads: as in training, where a flag does not say otherwise.

use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use longhand_run::Training;
use longhand_tasks::task::Reading;
use longhand_tasks::{TaskFile, TaskSettings};
use longhand_text::corpus::Header;

use crate::error::Usage;
use crate::reading::TextArguments;

/// The columns of a table of examples.
#[derive(Args)]
pub(crate) struct TableArguments {
    /// Whether the first row of a .csv, .tsv or .txt table names the columns: auto, yes or no
    /// [default: as in training]
    #[arg(long, value_name = "WHICH")]
    pub(crate) header: Option<Header>,
    /// The column of the second text of a pair [default: as in training]
    #[arg(long, value_name = "COLUMN")]
    pub(crate) pair_column: Option<String>,
}

/// How the files of a folder's task are read.
pub(crate) fn reading(
    folder: &Path,
    file: &TaskFile,
    text: &TextArguments,
    table: &TableArguments,
) -> Result<(TaskSettings, Reading)> {
    let trained = Training::origin(folder)?
        .map(|training| training.recipe)
        .filter(|recipe| recipe.task.as_ref().is_some_and(|task| task.name() == file.name()));
    let (task, data) = trained.map(|recipe| (recipe.task, recipe.data)).unzip();
    let task = task.flatten().or_else(|| TaskSettings::named(file.name()));
    let mut task = task.with_context(|| format!("there is no task {}", file.name()))?;
    if let Some(column) = &table.pair_column {
        let set = task.set("pair_column", column.as_str().into());
        set.map_err(|error| Usage(error.to_string()))?;
    }
    let header = data.as_ref().map_or(Header::Auto, |data| data.header);
    let reading = Reading {
        text_column: text.text_column.clone().or(data.and_then(|data| data.text_column)),
        format: text.format,
        header: table.header.unwrap_or(header),
        lossy: text.lossy,
        ..Reading::default()
    };
    Ok((task, reading))
}
