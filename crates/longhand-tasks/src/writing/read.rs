//! The examples of a file, with what its further columns hold, checked.

use std::collections::BTreeMap;
use std::path::Path;

use super::example::{Example, examples};
use super::further;
use super::kind::Kind;
use super::settings::Settings;
use crate::error::TaskError;
use crate::task::{Read, Reading};

/// What is told of pairs that are not learnt from.
const EMPTY: &str = "pair(s) lack a text on one side and are left out";

/// Reads the examples of a file, see [`crate::Task::read`].
pub(super) fn read<K: Kind>(
    settings: &Settings,
    file: &Path,
    reading: &Reading,
) -> Result<Read<Example>, TaskError> {
    let mut found = examples::<K>(settings, file, reading)?;
    further::add::<K>(&mut found, settings, file, reading)?;
    let prepared = |example: Example| example.prepared(settings.lowercase, settings.spelled);
    let mut examples: Vec<Example> = found.into_iter().map(prepared).collect();
    let mut notes = BTreeMap::new();
    if reading.unlabelled {
        return Ok(Read { examples, notes });
    }
    let name = || file.display().to_string();
    if reading.to_learn {
        let before = examples.len();
        examples.retain(|example| example.empty_side().is_none());
        let dropped = before - examples.len();
        if dropped > 0 {
            notes.insert(EMPTY.to_owned(), dropped);
        }
    }
    let mut sides = examples.iter().map(Example::empty_side).zip(1..);
    if let Some((Some(side), example)) = sides.find(|(side, _)| side.is_some()) {
        return Err(TaskError::EmptySide { name: name(), example, side });
    }
    match examples.is_empty() {
        true => Err(TaskError::NoPairs(name())),
        false => Ok(Read { examples, notes }),
    }
}
