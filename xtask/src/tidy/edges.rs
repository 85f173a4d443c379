//! Which crate of the workspace may use which.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// The allowed edges: a crate, and the crates of the workspace it may use.
///
/// Order is bottom to top; a crate uses only crates above it in this table, and of those only
/// the ones listed. ARCHITECTURE.md gives the reasons.
pub(crate) const ALLOWED: &[(&str, &[&str])] = &[
    ("longhand-text", &[]),
    ("longhand-metrics", &[]),
    ("longhand-nbest", &["longhand-metrics"]),
    ("longhand-kernel", &[]),
    ("longhand-model", &["longhand-kernel"]),
    ("longhand-ngram", &["longhand-text", "longhand-model"]),
    ("longhand-engine", &["longhand-text", "longhand-model", "longhand-ngram"]),
    ("longhand-train", &["longhand-text", "longhand-kernel", "longhand-model", "longhand-ngram"]),
    (
        "longhand-tasks",
        &[
            "longhand-text",
            "longhand-metrics",
            "longhand-kernel",
            "longhand-model",
            "longhand-engine",
            "longhand-train",
        ],
    ),
    (
        "longhand-run",
        &[
            "longhand-text",
            "longhand-model",
            "longhand-ngram",
            "longhand-engine",
            "longhand-train",
            "longhand-tasks",
        ],
    ),
    ("longhand-sessions", &["longhand-text", "longhand-model", "longhand-engine"]),
    (
        "longhand-serve",
        &[
            "longhand-text",
            "longhand-model",
            "longhand-engine",
            "longhand-tasks",
            "longhand-sessions",
        ],
    ),
    (
        "longhand",
        &[
            "longhand-text",
            "longhand-metrics",
            "longhand-nbest",
            "longhand-kernel",
            "longhand-model",
            "longhand-ngram",
            "longhand-engine",
            "longhand-train",
            "longhand-tasks",
            "longhand-run",
            "longhand-sessions",
            "longhand-serve",
        ],
    ),
    ("xtask", &[]),
];

/// A crate of the workspace as `cargo metadata` sees it.
#[derive(Debug)]
pub(crate) struct WorkspaceCrate {
    /// Name of the package.
    pub(crate) name: String,
    /// Its folder, relative to the workspace's root, with forward slashes.
    pub(crate) folder: String,
    /// The crates of this workspace it depends on, in whatever way (normal, build or dev).
    pub(crate) uses: Vec<String>,
}

/// Reads the workspace's crates and the edges between them. Fails if the metadata lacks a field
/// that cargo always writes.
pub(crate) fn workspace_crates(root: &Path, metadata: &Value) -> Result<Vec<WorkspaceCrate>> {
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut crates = Vec::with_capacity(packages.len());
    for package in packages {
        let name = text(&package["name"]).context("a package without a name")?;
        let manifest = text(&package["manifest_path"]).context("a package without a manifest")?;
        let folder = Path::new(&manifest).parent().unwrap_or(root);
        let folder = folder.strip_prefix(root).unwrap_or(folder).to_string_lossy();
        let dependencies = package["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
        // Only crates of this workspace are depended on by path.
        let in_workspace = dependencies.iter().filter(|dependency| dependency["path"].is_string());
        let uses = in_workspace.filter_map(|dependency| text(&dependency["name"])).collect();
        crates.push(WorkspaceCrate { name, folder: folder.replace('\\', "/"), uses });
    }
    Ok(crates)
}

/// Every edge that the table does not allow, and every crate that it does not know.
pub(crate) fn check(crates: &[WorkspaceCrate]) -> Vec<String> {
    let mut breaches = Vec::new();
    for member in crates {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == member.name) else {
            breaches.push(format!(
                "{}: the crate is missing from the table in xtask/src/tidy/edges.rs; add it and \
                 what it may use",
                member.name
            ));
            continue;
        };
        for used in &member.uses {
            if !allowed.contains(&used.as_str()) {
                breaches.push(format!(
                    "{}/Cargo.toml: {} may not use {used}; it may use {}",
                    member.folder,
                    member.name,
                    if allowed.is_empty() { "no other crate".into() } else { allowed.join(", ") },
                ));
            }
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, uses: &[&str]) -> WorkspaceCrate {
        let uses = uses.iter().map(|&name| name.to_owned()).collect();
        WorkspaceCrate { name: name.into(), folder: format!("crates/{name}"), uses }
    }

    #[test]
    fn allowed_edges_pass() {
        let crates = [
            member("longhand-model", &["longhand-kernel"]),
            member("longhand", &["longhand-text", "longhand-tasks"]),
        ];
        assert!(check(&crates).is_empty());
    }

    #[test]
    fn a_forbidden_edge_and_an_unknown_crate_are_named() {
        let crates = [member("longhand-kernel", &["longhand-text"]), member("stranger", &[])];
        let breaches = check(&crates);
        assert_eq!(breaches.len(), 2);
        assert!(breaches[0].contains("longhand-kernel may not use longhand-text"));
        assert!(breaches[1].starts_with("stranger:"));
    }

    #[test]
    fn the_table_has_no_cycle() {
        for (place, (name, uses)) in ALLOWED.iter().enumerate() {
            for used in *uses {
                let above = ALLOWED[..place].iter().any(|(other, _)| other == used);
                assert!(above, "{name} uses {used}, which must stand above it");
            }
        }
    }
}
