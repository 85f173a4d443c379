//! What tests share.

use std::path::PathBuf;

/// A file of the data that tests may use, or none, and a line that says so, where it is absent.
pub(crate) fn data(path: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("LONGHAND_DATA") else {
        eprintln!("skipped: LONGHAND_DATA does not say where {path} lies");
        return None;
    };
    let path = PathBuf::from(folder).join(path);
    if !path.exists() {
        eprintln!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}
