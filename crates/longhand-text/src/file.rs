//! Files that appear whole: written beside their place, brought to the disk, then renamed.

use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::TextError;

/// Writes a file so that no one ever reads half of it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), TextError> {
    let mut file = beside(path)?;
    file.write_all(bytes)?;
    put(file, path)
}

/// A file of a name of its own in the folder of a path, readable by whom the user's mask allows;
/// gone if it is not [`put`].
pub(crate) fn beside(path: &Path) -> Result<NamedTempFile, TextError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".longhand-").suffix(".partial");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    Ok(builder.tempfile_in(folder(path))?)
}

/// Gives a finished file its name.
pub(crate) fn put(file: NamedTempFile, path: &Path) -> Result<(), TextError> {
    file.as_file().sync_all().map_err(|error| named(path, &error))?;
    file.persist(path).map_err(|error| named(path, &error.error))?;
    // Elsewhere a folder cannot be opened as a file, and a renamed file is durable by itself.
    if cfg!(unix) {
        fs_err::File::open(folder(path))?.sync_all()?;
    }
    Ok(())
}

/// An error with the path that it is about.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("failed to write {}: {error}", path.display()))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
