//! `cargo xtask tidy`: the house rules that neither compiler nor linter knows.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

mod circles;
mod code_map;
mod edges;
mod sources;
mod words;

/// Checks every rule and reports all breaches at once, each in one line: where, what, and what to
/// do. The error counts the breaches.
pub(crate) fn tidy(root: &Path) -> Result<()> {
    let metadata = metadata(root)?;
    let crates = edges::workspace_crates(root, &metadata)?;
    let files = sources::tracked_files(root)?;
    let map = fs_err::read_to_string(root.join("ARCHITECTURE.md"))?;

    let mut breaches = edges::check(&crates);
    breaches.extend(code_map::check(&map, &crates, |path| root.join(path).exists()));
    let mut sources = Vec::new();
    for file in files {
        // A tracked file that is gone is a deletion not yet committed.
        if let Ok(bytes) = fs_err::read(root.join(&file)) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            breaches.extend(sources::check(&file, &text));
            if file.ends_with(".rs") {
                sources.push((file, text));
            }
        }
    }
    breaches.extend(circles::check(&sources));
    breaches.extend(words::check(&sources));
    if breaches.is_empty() {
        return Ok(());
    }
    for breach in &breaches {
        eprintln!("{breach}");
    }
    bail!("{} breach(es) of the house rules", breaches.len())
}

fn metadata(root: &Path) -> Result<Value> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .context("cannot start cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata did not answer with JSON")
}
