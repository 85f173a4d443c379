//! Further columns of a table: right texts beside the first, and the beginnings of answers.

use std::path::Path;

use longhand_text::corpus::Column;
use longhand_text::corpus::table::{Header, TableOptions, read_table};

use super::example::{Example, column, format, is_table, table_of_sources};
use super::kind::Kind;
use super::settings::Settings;
use crate::error::TaskError;
use crate::task::Reading;

/// What parts the texts in a cell that is no list.
const BETWEEN: &str = "|||";

/// Adds what the columns hold that the settings name: further right texts to examples that are measured,
/// where a text that is among them already adds nothing, and beginnings to those that are predicted.
///
/// # Errors
/// A file that is no table, or lacks a column.
pub(super) fn add<K: Kind>(
    examples: &mut [Example],
    settings: &Settings,
    file: &Path,
    reading: &Reading,
) -> Result<(), TaskError> {
    let cells = |column: &str| cells::<K>(column, examples.len(), settings, file, reading);
    match (reading.unlabelled, &settings.references_column, &settings.prefix_column) {
        (false, Some(column), _) if !reading.to_learn => {
            let cells = cells(column)?;
            for (example, cell) in examples.iter_mut().zip(cells) {
                for text in texts(&cell) {
                    if !example.targets.contains(&text) {
                        example.targets.push(text);
                    }
                }
            }
        }
        (true, _, Some(column)) => {
            let cells = cells(column)?;
            for (example, cell) in examples.iter_mut().zip(cells) {
                example.beginning = Some(cell.trim().to_owned());
            }
        }
        _ => {}
    }
    Ok(())
}

/// The cells of a column of the table whose rows are the examples.
fn cells<K: Kind>(
    name: &str,
    count: usize,
    settings: &Settings,
    file: &Path,
    reading: &Reading,
) -> Result<Vec<String>, TaskError> {
    let refused =
        || TaskError::NoFurther { name: file.display().to_string(), column: name.to_owned() };
    if reading.targets.contains_key(file) || !is_table::<K>(settings, file, reading) {
        return Err(refused());
    }
    let of_sources = table_of_sources::<K>(settings, reading);
    let text = column(Some(name), None);
    // Whether numbered columns have a row of names is told by the sources, not by this column.
    let is_told = of_sources.header != Header::Auto || matches!(text, Some(Column::Name(_)));
    let options = TableOptions {
        text,
        format: format(file, reading),
        // A list is one cell.
        several: true,
        unlabelled: true,
        header: if is_told { of_sources.header } else { Header::No },
        ..of_sources
    };
    let rows = read_table(file, &options)?.examples;
    let names = usize::from(!is_told && rows.len() == count + 1);
    match rows.len() == count + names {
        true => Ok(rows.into_iter().skip(names).map(|row| row.text).collect()),
        false => Err(refused()),
    }
}

/// The texts of a cell.
fn texts(cell: &str) -> Vec<String> {
    let list: Option<Vec<String>> = serde_json::from_str(cell).ok();
    let all = list.unwrap_or_else(|| cell.split(BETWEEN).map(str::to_owned).collect());
    let trimmed = all.iter().map(|text| text.trim().to_owned());
    trimmed.filter(|text| !text.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_a_list_or_texts_with_bars_between_them() {
        assert_eq!(texts("[\"a b\", \" c \", \"\"]"), ["a b", "c"]);
        assert_eq!(texts("a b ||| c|||"), ["a b", "c"]);
        assert_eq!(texts("[not a list"), ["[not a list"]);
        assert!(texts(" ").is_empty() && texts("[]").is_empty());
    }
}
