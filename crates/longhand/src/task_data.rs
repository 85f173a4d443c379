//! The files that a trained task's model reads: as in training, where a flag does not say otherwise.

use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use longhand_run::Training;
use longhand_tasks::task::Reading;
use longhand_tasks::{TaskFile, TaskSettings};
use longhand_text::TableFormat;
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

/// How files are read.
pub(crate) struct FileReading {
    /// What holds for all of them. Its format is that of a flag.
    pub(crate) all: Reading,
    /// The format that training was told.
    trained: Option<TableFormat>,
}

impl FileReading {
    /// How a file is read. Where neither a flag nor its name says its format, it is that of training; a
    /// file of sources beside one of targets is no table.
    pub(crate) fn of(&self, path: &Path) -> Reading {
        let says_nothing = self.all.format.is_none()
            && TableFormat::of_path(path).is_none()
            && !self.all.targets.contains_key(path);
        let format = if says_nothing { self.trained } else { self.all.format };
        Reading { format, ..self.all.clone() }
    }
}

/// How a table of examples to predict is read. Where nothing says its format, fastText's marks may.
pub(crate) fn table(path: &Path, reading: &Reading) -> Result<Reading> {
    let format = match reading.format {
        None => TableFormat::of_file(path)?,
        told => told,
    };
    if format.is_none() {
        let name = path.display();
        let text = format!(
            "{name} may be any table: say with --format which one it is (labelled, if each line begins \
             with its label), or give its lines on the standard input"
        );
        return Err(Usage(text).into());
    }
    Ok(Reading { format, ..reading.clone() })
}

/// The settings of a folder's task, and how files are read for it.
pub(crate) fn reading(
    folder: &Path,
    file: &TaskFile,
    text: &TextArguments,
    table: &TableArguments,
) -> Result<(TaskSettings, FileReading)> {
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
    let data = data.unwrap_or_default();
    let all = Reading {
        text_column: text.text_column.clone().or(data.text_column),
        format: text.format,
        header: table.header.unwrap_or(data.header),
        lossy: text.lossy || data.lossy,
        ..Reading::default()
    };
    Ok((task, FileReading { all, trained: data.format }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_file_has_the_format_of_a_flag_of_its_name_or_of_training() {
        let format = |flag, path: &str| {
            let all = Reading { format: flag, ..Reading::default() };
            let reading = FileReading { all, trained: Some(TableFormat::Tsv) };
            reading.of(Path::new(path)).format
        };
        assert_eq!(format(None, "test.txt"), Some(TableFormat::Tsv));
        assert_eq!(format(None, "-"), Some(TableFormat::Tsv));
        // The reader of a file knows what its name says.
        assert_eq!(format(None, "test.csv.gz"), None);
        assert_eq!(format(Some(TableFormat::Trees), "test.txt"), Some(TableFormat::Trees));
        let sources = Path::new("test.de");
        let targets = BTreeMap::from([(sources.to_owned(), Path::new("test.en").to_owned())]);
        let all = Reading { targets, ..Reading::default() };
        let reading = FileReading { all, trained: Some(TableFormat::Tsv) };
        assert_eq!(reading.of(sources).format, None);
    }
}
