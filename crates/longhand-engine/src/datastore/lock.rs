//! Which process builds a datastore in a folder, and the removal of what killed processes left.
//!
//! Whoever locks the file in such a folder first owns it: the process that made the folder, to build
//! there, or another one, to remove it. So a folder without a lock belongs to nobody, even in the moment
//! between its making and its locking: its maker then finds that it is lost, and makes another.

use std::fs::TryLockError;
use std::path::Path;

use fs_err::File;

/// What the name of a folder that is being built begins and ends with.
pub(super) const PREFIX: &str = ".longhand-";
pub(super) const SUFFIX: &str = ".building";
/// The file that is locked in it while a process builds.
pub(super) const LOCK_FILE: &str = "building.lock";

/// What became of a folder that was to be locked.
pub(super) enum Locked {
    /// It is locked until the file is closed or the process ends, however it ends.
    Held(File),
    /// Another process has it, or has removed it.
    Lost,
    /// The system has no locks: nobody removes such a folder then.
    Unknown,
}

/// Locks a folder that is being built.
pub(super) fn lock(building: &Path) -> Locked {
    let path = building.join(LOCK_FILE);
    let mut options = fs_err::OpenOptions::new();
    let options = options.create(true).read(true).write(true).truncate(false);
    let Ok(file) = options.open(&path) else {
        return if building.is_dir() { Locked::Unknown } else { Locked::Lost };
    };
    match file.file().try_lock() {
        // Its owner may have removed the folder between the two calls.
        Ok(()) if path.is_file() => Locked::Held(file),
        Ok(()) | Err(TryLockError::WouldBlock) => Locked::Lost,
        Err(TryLockError::Error(_)) => Locked::Unknown,
    }
}

/// Removes the folders that killed processes left while they built them: nobody has their locks. What
/// cannot be removed stays, and hinders nobody.
pub(super) fn remove_abandoned(beside: &Path) {
    let Ok(entries) = fs_err::read_dir(beside) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_building =
            name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        let (path, Some(name)) = (entry.path(), name.to_str()) else { continue };
        if is_building && let Locked::Held(_file) = lock(&path) {
            // Under another name first: its maker, if that still lives, finds none to lock.
            let aside = beside.join(format!("{name}{SUFFIX}"));
            if fs_err::rename(&path, &aside).is_ok() {
                let _ = fs_err::remove_dir_all(aside);
            }
        }
    }
}
