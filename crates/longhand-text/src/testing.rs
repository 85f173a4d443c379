//! Helpers that the tests of this crate share.

use std::path::PathBuf;

/// A file of the data that tests may use, or none, and a line that says so, where it is absent.
pub(crate) fn data(path: &str) -> Option<PathBuf> {
    // Beside the project where the environment does not say otherwise.
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let folder = std::env::var_os("LONGHAND_DATA").unwrap_or_else(|| beside.into());
    let path = PathBuf::from(folder).join(path);
    if !path.exists() {
        eprintln!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}
