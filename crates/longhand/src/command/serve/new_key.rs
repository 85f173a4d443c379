//! The file of API keys, as `serve --new-key` writes it.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::{Result, bail};
use longhand_serve::sessions::Owner;
use longhand_serve::{Keys, new_key};

use crate::error::Usage;
use crate::talk::say;

/// Makes a key, and adds its hash to the file.
pub(super) fn make_key(name: &str, path: &Path) -> Result<()> {
    // Whether the name can be an owner's, and the file be read, is found out before it is changed.
    Owner::new(name).map_err(|error| Usage(error.to_string()))?;
    if path.exists() && Keys::of_file(path)?.has(name) {
        bail!(
            "{} has a key of the name `{name}`: to replace it, erase its [[key]] table there and give \
             the command again; to let both hold for a while, make the key in another file and copy \
             its table to this one",
            path.display()
        );
    }
    let (key, lines) = new_key(name);
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    let mut file = fs_err::OpenOptions::from_options(options).open(path)?;
    file.write_all(lines.as_bytes())?;
    say!("the hash of the key is in {}; the key itself is kept nowhere", path.display());
    let mut out = std::io::stdout().lock();
    Ok(writeln!(out, "{key}")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_key_is_known_by_its_file() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("keys.toml");
        make_key("alice", &path).unwrap();
        make_key("bob", &path).unwrap();
        assert!(Keys::of_file(&path).unwrap().is_needed());
        assert!(make_key("not a name", &path).is_err());
        let empty = make_key("", &path).unwrap_err();
        assert!(empty.is::<Usage>(), "{empty}");
        let before = fs_err::read_to_string(&path).unwrap();
        let again = make_key("alice", &path).unwrap_err().to_string();
        assert!(again.contains("`alice`") && again.contains("replace"), "{again}");
        assert_eq!(fs_err::read_to_string(&path).unwrap(), before);
    }
}
