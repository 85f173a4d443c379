//! Rules for single files: length, raw memory, and names that belong to one machine.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The longest a source file may be, its tests aside: what is read in one sitting.
const MOST_LINES: usize = 700;

/// The crate that alone may touch raw memory.
const RAW_MEMORY_CRATE: &str = "crates/longhand-kernel/";

// Written in two halves, so that this file does not break its own rules.
const RAW_MEMORY_KEYWORD: &str = concat!("un", "safe");
const MACHINE_PATHS: &[&str] =
    &[concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];
const REGISTRY_HOSTS: &[&str] =
    &[concat!("crates", ".io"), concat!("py", "pi.org"), concat!("python", "hosted.org")];

/// The files that git tracks or would track, relative to `root`. Fails if git cannot be asked.
pub(crate) fn tracked_files(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root)
        .output()
        .context("cannot start git")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let names = String::from_utf8_lossy(&output.stdout);
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// Every breach in one file; `path` is relative to the root, with forward slashes.
pub(crate) fn check(path: &str, text: &str) -> Vec<String> {
    let mut breaches = names(path, text);
    if path.ends_with(".rs") {
        breaches.extend(length(path, text));
        breaches.extend(raw_memory(path, text));
    }
    breaches
}

/// Paths of one machine and hosts of package registries, which a clone elsewhere cannot use.
fn names(path: &str, text: &str) -> Vec<String> {
    // Lock files name the registry in a form of cargo's own.
    if path.ends_with("Cargo.lock") {
        return Vec::new();
    }
    let mut breaches = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for &name in MACHINE_PATHS {
            // An absolute path has nothing before its first slash that could be a folder's name.
            let absolute = line.match_indices(name).any(|(place, _)| {
                !line[..place].ends_with(|c: char| c.is_alphanumeric() || "._-~}".contains(c))
            });
            if absolute {
                breaches.push(format!("{path}:{}: a path of one machine ({name})", number + 1));
            }
        }
        for &host in REGISTRY_HOSTS.iter().filter(|host| line.contains(**host)) {
            breaches.push(format!("{path}:{}: a package registry's host ({host})", number + 1));
        }
    }
    breaches
}

fn length(path: &str, text: &str) -> Option<String> {
    let is_tests = path.ends_with("/tests.rs") || path.split('/').any(|part| part == "tests");
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().count();
    (!is_tests && lines > MOST_LINES)
        .then(|| format!("{path}: {lines} lines, more than {MOST_LINES}; split it by concept"))
}

fn raw_memory(path: &str, text: &str) -> Vec<String> {
    if path.starts_with(RAW_MEMORY_CRATE) {
        return Vec::new();
    }
    let mut breaches = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let mut words = code.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        if words.any(|word| word == RAW_MEMORY_KEYWORD) {
            let place = number + 1;
            breaches
                .push(format!("{path}:{place}: `{RAW_MEMORY_KEYWORD}` outside longhand-kernel"));
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_named_and_tests_do_not_count() {
        let long = "let x = 1;\n".repeat(MOST_LINES + 1);
        assert_eq!(check("crates/a/src/lib.rs", &long).len(), 1);
        assert!(check("crates/a/src/part/tests.rs", &long).is_empty());
        let tested = format!("fn main() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert!(check("crates/a/src/lib.rs", &tested).is_empty());
    }

    #[test]
    fn raw_memory_belongs_to_the_kernel() {
        let code = format!("{RAW_MEMORY_KEYWORD} {{ go() }}\n// {RAW_MEMORY_KEYWORD} in words\n");
        assert!(check("crates/longhand-kernel/src/lib.rs", &code).is_empty());
        assert_eq!(check("crates/longhand-text/src/lib.rs", &code).len(), 1);
        let lint = format!("#![deny({RAW_MEMORY_KEYWORD}_code)]\n");
        assert!(check("crates/longhand-text/src/lib.rs", &lint).is_empty());
    }

    #[test]
    fn machine_paths_and_hosts_are_named() {
        for name in MACHINE_PATHS {
            assert_eq!(check("a.md", &format!("see {name}x")).len(), 1);
            assert!(check("a.md", &format!("see folder{name}x")).is_empty());
        }
        for host in REGISTRY_HOSTS {
            assert_eq!(check("a.sh", &format!("fetch {host}/x")).len(), 1);
            assert!(check("Cargo.lock", &format!("registry {host}")).is_empty());
        }
    }
}
