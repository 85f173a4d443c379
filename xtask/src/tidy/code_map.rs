//! ARCHITECTURE.md against the workspace: a map that names what is gone is worse than none.

use super::edges::WorkspaceCrate;

/// Folders of the repository that a path in the map can begin with.
const FOLDERS: &[&str] = &["crates/", "xtask", "scripts/", "bench/", "recipes/", "fuzz", ".ci/"];

/// Crates without a heading in the code map, and paths in the map that are not there.
///
/// A crate's heading is a line such as ``### `crates/longhand-text` ``; a path is anything in
/// backquotes that begins with a folder of the repository.
pub(crate) fn check(
    map: &str,
    crates: &[WorkspaceCrate],
    exists: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut breaches = Vec::new();
    for member in crates {
        let heading = format!("### `{}`", member.folder);
        if !map.lines().any(|line| line.starts_with(&heading)) {
            breaches.push(format!(
                "ARCHITECTURE.md: {} has no heading '{heading}' in the code map",
                member.name
            ));
        }
    }
    for (number, line) in map.lines().enumerate() {
        for path in quoted(line).filter(|path| FOLDERS.iter().any(|f| path.starts_with(f))) {
            let is_path = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if is_path && !exists(path) {
                breaches.push(format!("ARCHITECTURE.md:{}: `{path}` is not there", number + 1));
            }
        }
    }
    breaches
}

/// The parts of a line in backquotes.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crates() -> [WorkspaceCrate; 1] {
        let (name, folder) = ("longhand-text".into(), "crates/longhand-text".into());
        [WorkspaceCrate { name, folder, uses: Vec::new() }]
    }

    #[test]
    fn a_missing_heading_is_named() {
        let breaches = check("## Code map\n", &crates(), |_| true);
        assert_eq!(breaches.len(), 1);
        assert!(breaches[0].contains("longhand-text has no heading"));
    }

    #[test]
    fn a_path_that_is_gone_is_named_with_its_line() {
        let map = "### `crates/longhand-text`\nsee `crates/gone/src/lib.rs` and `cargo test`\n";
        let breaches = check(map, &crates(), |path| path == "crates/longhand-text");
        assert_eq!(breaches, ["ARCHITECTURE.md:2: `crates/gone/src/lib.rs` is not there"]);
    }
}
