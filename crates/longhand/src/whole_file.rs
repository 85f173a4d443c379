//! Files that appear whole: written beside their place, then renamed.

use std::io::{BufWriter, IntoInnerError, Write};
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

/// Writes a file by `fill`. Until all is written it has a name of its own, which begins with
/// `.longhand-` and ends with `.partial`, and it is gone if `fill` fails.
pub(crate) fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<NamedTempFile>) -> Result<()>,
) -> Result<()> {
    let named = || format!("{} cannot be written", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    builder.prefix(".longhand-").suffix(".partial");
    // As the user's mask allows; a temporary file is its owner's alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let file = builder.tempfile_in(folder.unwrap_or(Path::new("."))).with_context(named)?;
    let mut out = BufWriter::new(file);
    fill(&mut out)?;
    out.flush().with_context(named)?;
    let file = out.into_inner().map_err(IntoInnerError::into_error).with_context(named)?;
    file.persist(path).with_context(named)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let failed = write_whole(&path, |out| {
            out.write_all(b"half")?;
            anyhow::bail!("no more")
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
        write_whole(&path, |out| Ok(out.write_all(b"whole")?)).unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"whole");
        let beside = folder.path().join("b.txt");
        fs_err::write(&beside, "").unwrap();
        let mode = |path: &Path| fs_err::metadata(path).unwrap().permissions();
        assert_eq!(mode(&path), mode(&beside), "who may read it is the user's choice");
        let nowhere = write_whole(&folder.path().join("no/c.txt"), |_| Ok(()));
        assert!(nowhere.unwrap_err().to_string().ends_with("c.txt cannot be written"));
    }
}
