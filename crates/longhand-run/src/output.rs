//! The folder that a run writes: never overwritten unless asked.

use std::path::Path;
use std::time::Duration;

use longhand_engine::GENERATION_FILE;
use longhand_model::adapter::{ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE};
use longhand_tasks::ensemble::{MOST_MEMBERS, member_folder};
use longhand_tasks::{BASELINE_FILE, TASK_FILES};
use longhand_text::TOKENIZER_FILE;
use longhand_text::chat::{CHAT_TEMPLATE_FILE, TOKENIZER_CONFIG_FILE};

use crate::card::CARD_FILE;
use crate::error::RunError;
use crate::lock::{FolderLock, LOCK_FILE};
use crate::training::TRAINING_FILE;

/// Checkpoints of a run.
pub const CHECKPOINTS_FOLDER: &str = "checkpoints";
/// TensorBoard event files and JSON lines.
pub const LOGS_FOLDER: &str = "logs";
/// Token shards of a text too large for memory.
pub const TOKENS_FOLDER: &str = "tokens";
/// The pretrained body of a task's model.
pub const PRETRAINED_FOLDER: &str = "pretrained";

/// The files of a model folder that say how text is read and written: a copy of the model
/// needs them all.
pub const TEXT_FILES: [&str; 4] =
    [TOKENIZER_FILE, TOKENIZER_CONFIG_FILE, CHAT_TEMPLATE_FILE, GENERATION_FILE];

/// Files and folders that a run writes after [`TRAINING_FILE`]. Without that file they
/// belong to another program.
const WRITTEN: [&str; 15] = [
    CHECKPOINTS_FOLDER,
    "config.json",
    "model.safetensors",
    ADAPTER_CONFIG_FILE,
    ADAPTER_WEIGHTS_FILE,
    GENERATION_FILE,
    TOKENIZER_CONFIG_FILE,
    CARD_FILE,
    BASELINE_FILE,
    TASK_FILES[0],
    TASK_FILES[1],
    TASK_FILES[2],
    TASK_FILES[3],
    longhand_ngram::NGRAM_FILE,
    longhand_ngram::WEIGHTS_FILE,
];

/// A folder that is ready to be written.
pub(crate) struct Ready {
    /// Whether the folder holds a run to resume.
    pub(crate) begun: bool,
    /// Keeps other processes out of the folder while it is held.
    pub(crate) lock: FolderLock,
}

/// The treatment of a folder that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Refuses the folder with an error.
    Refuse,
    /// Removes the files of the earlier run.
    Overwrite,
    /// Resumes the run in the folder.
    Resume,
}

/// Makes the folder ready, and keeps other processes out of it.
pub(crate) fn prepare(folder: &Path, existing: Existing) -> Result<Ready, RunError> {
    if folder.exists() && !folder.is_dir() {
        return Err(RunError::OutputIsFile(folder.into()));
    }
    if is_occupied(folder)? && existing == Existing::Refuse {
        return Err(RunError::OutputNotEmpty(folder.into()));
    }
    let holds_run = holds_run(folder);
    if !holds_run && let Some(name) = WRITTEN.into_iter().find(|name| folder.join(name).exists()) {
        return Err(RunError::OutputForeign { folder: folder.into(), name });
    }
    fs_err::create_dir_all(folder)?;
    let lock = FolderLock::take(folder)?;
    for folder in [folder, &folder.join(TOKENS_FOLDER), &folder.join(LOGS_FOLDER)] {
        remove_partial(folder, Duration::ZERO)?;
    }
    // A folder that cannot be written is found out before hours of work.
    tempfile::tempfile_in(folder)
        .map_err(|source| RunError::OutputUnwritable { folder: folder.into(), source })?;
    Ok(Ready { begun: existing == Existing::Resume && holds_run, lock })
}

/// Checks a folder whose folders are to hold a run each.
pub(crate) fn prepare_several(folder: &Path, existing: Existing) -> Result<(), RunError> {
    if holds_run(folder) {
        return Err(RunError::OutputIsOneRun(folder.into()));
    }
    if existing == Existing::Refuse && is_occupied(folder)? {
        return Err(RunError::OutputNotEmpty(folder.into()));
    }
    Ok(())
}

/// Whether a folder holds a run of this program.
pub(crate) fn holds_run(folder: &Path) -> bool {
    folder.join(TRAINING_FILE).is_file()
}

/// Whether a folder holds something, besides the lock that a killed process left.
///
/// # Errors
/// If the folder cannot be read.
pub fn is_occupied(folder: &Path) -> std::io::Result<bool> {
    if !folder.is_dir() {
        return Ok(false);
    }
    for entry in fs_err::read_dir(folder)? {
        if entry?.file_name() != LOCK_FILE {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether two paths lead to one folder.
pub fn is_same(one: &Path, other: &Path) -> bool {
    let folders = fs_err::canonicalize(one).ok().zip(fs_err::canonicalize(other).ok());
    folders.is_some_and(|(one, other)| one == other)
}

/// Removes the run in a folder, if there is one, for another that takes its place. Token
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

/// Removes the runs inside the folder of an earlier one: the pretrained body that it began with, and the
/// networks that answered together with its own.
pub(crate) fn clear_inner(folder: &Path) -> Result<(), RunError> {
    let members = (2..=MOST_MEMBERS).map(|number| member_folder(folder, number));
    for folder in [folder.join(PRETRAINED_FOLDER)].into_iter().chain(members) {
        if holds_run(&folder) {
            fs_err::remove_dir_all(folder)?;
        }
    }
    Ok(())
}

/// Removes the half-written files of killed processes. Where other processes may write as well,
/// only files of a certain age are left over.
///
/// # Errors
/// If the folder cannot be read, or a file cannot be removed.
pub fn remove_partial(folder: &Path, age: Duration) -> std::io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let partial = name.starts_with(".longhand-") && name.ends_with(".partial");
        if partial && (age.is_zero() || is_older(&entry, age)) {
            fs_err::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_older(entry: &fs_err::DirEntry, age: Duration) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|elapsed| elapsed >= age))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn old_partial_files_are_removed_and_young_ones_may_be_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let hour = Duration::from_secs(3600);
        for (name, age) in [(".longhand-a.partial", 2 * hour), (".longhand-b.partial", hour / 2)] {
            let file = fs_err::File::create(folder.path().join(name)).unwrap();
            file.file().set_modified(SystemTime::now() - age).unwrap();
        }
        let left = || fs_err::read_dir(folder.path()).unwrap().count();
        remove_partial(folder.path(), hour).unwrap();
        assert_eq!(left(), 1);
        remove_partial(folder.path(), Duration::ZERO).unwrap();
        assert_eq!(left(), 0);
    }
}
