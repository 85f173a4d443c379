//! The folder that a run writes: never overwritten unless asked.

use std::path::Path;

use anyhow::{Context, Result, bail};
use longhand_engine::GENERATION_FILE;
use longhand_text::TOKENIZER_FILE;

use crate::card::CARD_FILE;
use crate::training::TRAINING_FILE;

/// Checkpoints of a run.
pub(crate) const CHECKPOINTS_FOLDER: &str = "checkpoints";
/// TensorBoard event files and JSON lines.
pub(crate) const LOGS_FOLDER: &str = "logs";
/// Token shards of a text too large for memory.
pub(crate) const TOKENS_FOLDER: &str = "tokens";

/// What to do with a folder that holds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// Refuse.
    Refuse,
    /// Remove what an earlier run wrote.
    Overwrite,
    /// Go on with it.
    Resume,
}

/// Makes the folder ready. True where a run lies there that is to be gone on with.
pub(crate) fn prepare(folder: &Path, existing: Existing) -> Result<bool> {
    if folder.exists() && !folder.is_dir() {
        bail!("{} is a file: name a folder with --out", folder.display());
    }
    let occupied = folder.is_dir() && fs_err::read_dir(folder)?.next().is_some();
    match existing {
        Existing::Refuse if occupied => bail!(
            "the folder {} is not empty: pass --force to overwrite it, --resume to go on with its \
             run, or another --out",
            folder.display()
        ),
        Existing::Overwrite if occupied => clear(folder)?,
        _ => {}
    }
    fs_err::create_dir_all(folder)?;
    // A folder that cannot be written is found out before hours of work.
    tempfile::tempfile_in(folder)
        .with_context(|| format!("the folder {} cannot be written", folder.display()))?;
    Ok(existing == Existing::Resume && folder.join(TRAINING_FILE).is_file())
}

/// Removes what runs write, and nothing else.
fn clear(folder: &Path) -> Result<()> {
    for name in [CHECKPOINTS_FOLDER, LOGS_FOLDER, TOKENS_FOLDER] {
        if folder.join(name).is_dir() {
            fs_err::remove_dir_all(folder.join(name))?;
        }
    }
    let files = ["config.json", "model.safetensors", GENERATION_FILE, TOKENIZER_FILE];
    for name in files.into_iter().chain([TRAINING_FILE, CARD_FILE, longhand_tasks::TASK_FILE]) {
        if folder.join(name).is_file() {
            fs_err::remove_file(folder.join(name))?;
        }
    }
    Ok(())
}
