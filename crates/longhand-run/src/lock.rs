//! One process at a time in a folder that is written.

use std::fs::TryLockError;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::error::RunError;

/// The locked file. Its content is the number of the process that holds the lock.
pub(crate) const LOCK_FILE: &str = ".longhand.lock";

/// A folder that no other process writes into until this is dropped.
///
/// The system releases the lock when the process ends, however it ends: the file that a killed
/// process leaves behind keeps nobody out.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    file: fs_err::File,
}

impl FolderLock {
    /// Locks a folder that exists.
    ///
    /// # Errors
    /// [`RunError::OutputLocked`] if another process holds the lock;
    /// [`RunError::OutputUnwritable`] if the folder cannot be written.
    pub fn take(folder: &Path) -> Result<Self, RunError> {
        let unwritable = |source| RunError::OutputUnwritable { folder: folder.into(), source };
        let path = folder.join(LOCK_FILE);
        loop {
            let mut options = fs_err::OpenOptions::new();
            options.create(true).read(true).write(true).truncate(false);
            let mut file = options.open(&path).map_err(unwritable)?;
            match file.file().try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut process = String::new();
                    // Some systems do not let a locked file be read.
                    let _ = file.read_to_string(&mut process);
                    let process = process.trim().parse().ok();
                    return Err(RunError::OutputLocked { folder: folder.into(), process });
                }
                Err(TryLockError::Error(source)) => return Err(unwritable(source)),
            }
            // The holder may have removed the file between the two calls.
            if !is_at(&file, &path) {
                continue;
            }
            file.file().set_len(0).map_err(unwritable)?;
            write!(file, "{}", std::process::id()).map_err(unwritable)?;
            return Ok(Self { path, file });
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // A file that stays does no harm: it is not locked.
        if cfg!(unix) {
            let _ = fs_err::remove_file(&self.path);
        }
        let _ = self.file.file().unlock();
    }
}

/// Whether an open file is the one of this name.
#[cfg(unix)]
fn is_at(file: &fs_err::File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let both = file.metadata().ok().zip(fs_err::metadata(path).ok());
    both.is_some_and(|(file, path)| (file.dev(), file.ino()) == (path.dev(), path.ino()))
}

/// Elsewhere the file is never removed.
#[cfg(not(unix))]
fn is_at(_: &fs_err::File, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_until_its_lock_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let lock = FolderLock::take(folder.path()).unwrap();
        let refusal = FolderLock::take(folder.path()).err().unwrap().to_string();
        let (process, folder_name) = (std::process::id(), folder.path().display());
        assert_eq!(refusal, format!("process {process} is writing into the folder {folder_name}"));
        drop(lock);
        assert!(!folder.path().join(LOCK_FILE).exists());
        // A process that was killed leaves its file.
        fs_err::write(folder.path().join(LOCK_FILE), "1").unwrap();
        let lock = FolderLock::take(folder.path()).unwrap();
        let holder = fs_err::read_to_string(folder.path().join(LOCK_FILE)).unwrap();
        assert_eq!(holder, std::process::id().to_string());
        drop(lock);
    }
}
