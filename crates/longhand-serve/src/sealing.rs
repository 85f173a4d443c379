//! The file of the keys that seal states: lines of an id and 64 hexadecimal digits. The first key
//! seals, all of them open. It is read again while the server runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use longhand_sessions::{SealError, Sealer, SealingKey};

use crate::auth::hex;
use crate::seen::Seen;

/// Why keys for sealing cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealingError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file has another form.
    #[error("{}: {what}: write an id and 64 hexadecimal digits", path.display())]
    Form {
        /// The file that is refused.
        path: PathBuf,
        /// What is wrong in it; never a line, which may hold a secret.
        what: String,
    },
    /// Ids that are none, or that two keys have.
    #[error("{}: {fault}", path.display())]
    Keys {
        /// The file that is refused.
        path: PathBuf,
        /// What is wrong with the keys.
        fault: Box<SealError>,
    },
}

/// The file, and what seals with its keys.
pub struct SealingFile {
    path: PathBuf,
    seen: Seen,
    sealer: Arc<Sealer>,
}

impl SealingFile {
    /// Reads the keys of a file.
    ///
    /// # Errors
    /// [`SealingError`] names the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self, SealingError> {
        let seen = Seen::now(&[path]);
        let (active, older) = read(path)?;
        let sealer = Sealer::new(active, older)
            .map_err(|fault| SealingError::Keys { path: path.into(), fault: fault.into() })?;
        Ok(Self { path: path.into(), seen, sealer })
    }

    /// What seals and opens with the keys, also after they are read again.
    pub fn sealer(&self) -> &Arc<Sealer> {
        &self.sealer
    }

    /// Whether the file is another than the one that was read.
    pub(crate) fn has_changed(&self) -> bool {
        self.seen.has_changed()
    }

    /// Reads the file again. States sealed with a key that is no longer in it are refused from now on.
    /// On an error the old keys stay.
    pub(crate) fn reload(&self) -> Result<(), SealingError> {
        let now = self.seen.look();
        let (active, older) = read(&self.path)?;
        self.sealer
            .rotate(active, older)
            .map_err(|fault| SealingError::Keys { path: self.path.clone(), fault: fault.into() })?;
        self.seen.note(now);
        Ok(())
    }
}

/// The active key of a file, and the others.
fn read(path: &Path) -> Result<(SealingKey, Vec<SealingKey>), SealingError> {
    let form = |what: String| SealingError::Form { path: path.into(), what };
    let text = String::from_utf8(fs_err::read(path)?)
        .map_err(|_| form("it is no text in UTF-8".into()))?;
    let mut keys = Vec::new();
    for (place, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = line.split_once(char::is_whitespace).and_then(|(id, digits)| {
            Some(SealingKey { id: id.to_owned(), key: hex(digits.trim())? })
        });
        keys.push(key.ok_or_else(|| form(format!("line {} is no key", place + 1)))?);
    }
    let mut keys = keys.into_iter();
    let active = keys.next().ok_or_else(|| form("it has no key".into()))?;
    Ok((active, keys.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_again_and_a_file_that_is_not_usable_changes_nothing() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("sealing.keys");
        let line = |id: &str, digit: &str| format!("{id} {}\n", digit.repeat(64));
        fs_err::write(&path, format!("# the first one seals\n{}", line("one", "a"))).unwrap();
        let file = SealingFile::open(&path).unwrap();
        assert!(!file.has_changed());
        let secret = "b".repeat(63);
        for (text, words) in [
            (String::new(), "it has no key"),
            (format!("two {secret}"), "line 1 is no key"),
            (line("one", "a") + &line("one", "b"), "two keys have the id"),
            (line("no name!", "a"), "line 1 is no key"),
        ] {
            fs_err::write(&path, text).unwrap();
            let error = file.reload().unwrap_err().to_string();
            assert!(error.contains("sealing.keys") && error.contains(words), "{error}");
            assert!(!error.contains(&secret) && error.lines().count() == 1, "{error}");
            assert!(file.has_changed(), "it is looked at again");
        }
        fs_err::write(&path, line("two", "b") + &line("one", "a")).unwrap();
        assert!(file.has_changed());
        file.reload().unwrap();
        assert!(!file.has_changed());
    }
}
