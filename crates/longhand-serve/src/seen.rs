//! Whether files are others than those that were read.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Files as they were when they were last read.
pub(crate) struct Seen {
    paths: Vec<PathBuf>,
    last: Mutex<Look>,
}

/// When files were written, and how long they are; none for one that cannot be looked at.
type Look = Vec<Option<(SystemTime, u64)>>;

impl Seen {
    /// Files that are about to be read.
    pub(crate) fn now(paths: &[&Path]) -> Self {
        let paths = paths.iter().map(|path| path.to_path_buf()).collect();
        let seen = Self { paths, last: Mutex::default() };
        seen.note(seen.look());
        seen
    }

    /// The files as they are: to be taken before they are read, so that no change is missed.
    pub(crate) fn look(&self) -> Look {
        let of = |path: &PathBuf| {
            let data = fs_err::metadata(path).ok()?;
            Some((data.modified().ok()?, data.len()))
        };
        self.paths.iter().map(of).collect()
    }

    /// What was looked at has been read, and was usable.
    pub(crate) fn note(&self, look: Look) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = look;
    }

    /// Whether the files are others than those that were read.
    pub(crate) fn has_changed(&self) -> bool {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) != self.look()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_or_goes_away_has_changed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        let seen = Seen::now(&[&path]);
        assert!(!seen.has_changed());
        fs_err::write(&path, "a").unwrap();
        assert!(seen.has_changed());
        seen.note(seen.look());
        assert!(!seen.has_changed());
        fs_err::remove_file(&path).unwrap();
        assert!(seen.has_changed());
    }
}
