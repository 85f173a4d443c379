//! The folder that a run writes: never overwritten unless asked.

use std::path::Path;

use longhand_engine::GENERATION_FILE;
use longhand_text::TOKENIZER_FILE;

use crate::card::CARD_FILE;
use crate::error::RunError;
use crate::training::TRAINING_FILE;

/// Checkpoints of a run.
pub const CHECKPOINTS_FOLDER: &str = "checkpoints";
/// TensorBoard event files and JSON lines.
pub const LOGS_FOLDER: &str = "logs";
/// Token shards of a text too large for memory.
pub const TOKENS_FOLDER: &str = "tokens";

/// What a run writes after it has written that it lies here: without [`TRAINING_FILE`] these are
/// somebody else's.
const WRITTEN: [&str; 6] = [
    CHECKPOINTS_FOLDER,
    "config.json",
    "model.safetensors",
    GENERATION_FILE,
    CARD_FILE,
    longhand_tasks::TASK_FILE,
];

/// What to do with a folder that holds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Refuse.
    Refuse,
    /// Remove what an earlier run wrote.
    Overwrite,
    /// Go on with it.
    Resume,
}

/// Makes the folder ready. True where a run lies there that is to be gone on with.
pub(crate) fn prepare(folder: &Path, existing: Existing) -> Result<bool, RunError> {
    if folder.exists() && !folder.is_dir() {
        return Err(RunError::OutputIsFile(folder.into()));
    }
    let occupied = folder.is_dir() && fs_err::read_dir(folder)?.next().is_some();
    if occupied && existing == Existing::Refuse {
        return Err(RunError::OutputNotEmpty(folder.into()));
    }
    let holds_run = folder.join(TRAINING_FILE).is_file();
    if !holds_run && let Some(name) = WRITTEN.into_iter().find(|name| folder.join(name).exists()) {
        return Err(RunError::OutputForeign { folder: folder.into(), name });
    }
    fs_err::create_dir_all(folder)?;
    remove_partial(folder)?;
    remove_partial(&folder.join(TOKENS_FOLDER))?;
    // A folder that cannot be written is found out before hours of work.
    tempfile::tempfile_in(folder)
        .map_err(|source| RunError::OutputUnwritable { folder: folder.into(), source })?;
    Ok(existing == Existing::Resume && holds_run)
}

/// Whether two paths lead to one folder.
pub fn is_same(one: &Path, other: &Path) -> bool {
    let folders = fs_err::canonicalize(one).ok().zip(fs_err::canonicalize(other).ok());
    folders.is_some_and(|(one, other)| one == other)
}

/// Removes the run that lies in a folder, if there is one, for another that takes its place. Token
/// shards stay: the new run has looked through them.
pub(crate) fn clear(folder: &Path) -> Result<(), RunError> {
    if !folder.join(TRAINING_FILE).is_file() {
        return Ok(());
    }
    // The file that says that the folder holds a run goes last.
    for name in [LOGS_FOLDER, TOKENIZER_FILE].into_iter().chain(WRITTEN).chain([TRAINING_FILE]) {
        let path = folder.join(name);
        if path.is_dir() {
            fs_err::remove_dir_all(path)?;
        } else if path.is_file() {
            fs_err::remove_file(path)?;
        }
    }
    Ok(())
}

/// Removes what a killed process left half-written.
fn remove_partial(folder: &Path) -> Result<(), RunError> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(".longhand-") && name.ends_with(".partial") {
            fs_err::remove_file(entry.path())?;
        }
    }
    Ok(())
}
