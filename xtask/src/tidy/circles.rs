//! No circle of files inside a crate: whoever reads a file reads the files it uses first, and a
//! circle has no first file.
//!
//! A file uses another if it names something the other defines, in a `use` item or by a whole path;
//! a name that a module re-exports counts as a use of the file that defines it. A submodule may use
//! the module it belongs to: the two are read together. Tests do not count.

use std::collections::{BTreeMap, BTreeSet};

/// The modules of one crate: the file of each module path, as `tape::memory`.
struct Modules<'a> {
    /// Module path to file, and the file's text without its tests.
    files: BTreeMap<Vec<String>, (&'a str, &'a str)>,
}

/// One breach for each circle of files in any crate. `files` holds path and text of sources.
pub(crate) fn check(files: &[(String, String)]) -> Vec<String> {
    let mut crates: BTreeMap<&str, Modules> = BTreeMap::new();
    for (path, text) in files {
        let Some((root, inner)) = path.split_once("/src/") else { continue };
        let Some(module) = module_path(inner) else { continue };
        let modules = crates.entry(root).or_insert_with(|| Modules { files: BTreeMap::new() });
        modules.files.insert(module, (path.as_str(), without_tests(text)));
    }
    crates.values().flat_map(Modules::circles).collect()
}

impl Modules<'_> {
    /// The strongly connected groups of more than one file, each as one sentence.
    fn circles(&self) -> Vec<String> {
        let uses: BTreeMap<_, BTreeSet<_>> =
            self.files.keys().map(|module| (module, self.used_by(module))).collect();
        let reach: BTreeMap<_, _> =
            uses.keys().map(|&from| (from, reachable(from, &uses))).collect();
        let mut told = BTreeSet::new();
        let mut breaches = Vec::new();
        for (&module, reached) in &reach {
            let group: Vec<_> =
                reached.iter().filter(|&other| reach[other].contains(module)).collect();
            if group.len() < 2 || !told.insert(group.clone()) {
                continue;
            }
            let names: Vec<&str> = group.iter().map(|&module| self.files[module].0).collect();
            breaches.push(format!(
                "{}: these files use each other in a circle; move what both need into one of its own",
                names.join(", ")
            ));
        }
        breaches
    }

    /// The modules whose items a module uses, other than itself and those it belongs to.
    fn used_by(&self, module: &[String]) -> BTreeSet<Vec<String>> {
        let text = self.files[module].1;
        let paths = named_paths(text);
        let resolved = paths.iter().filter_map(|path| self.resolve(module, path, 0));
        resolved.filter(|used| !module.starts_with(used)).collect()
    }

    /// The module that defines what a path names, seen from a module.
    fn resolve(&self, from: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
        // Re-exports of re-exports end; a circle of them would not compile.
        if depth > 8 {
            return None;
        }
        let (mut at, mut rest) = match path.first()?.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (from.to_vec(), &path[1..]),
            "super" => (from[..from.len().checked_sub(1)?].to_vec(), &path[1..]),
            first => {
                let mut child = from.to_vec();
                child.push(first.to_owned());
                self.files.contains_key(&child).then_some((child, &path[1..]))?
            }
        };
        while let Some((name, tail)) = rest.split_first() {
            if name == "super" {
                at.pop()?;
            } else {
                at.push(name.clone());
                if !self.files.contains_key(&at) {
                    at.pop();
                    break;
                }
            }
            rest = tail;
        }
        let Some(name) = rest.first() else { return Some(at) };
        // What the module only passes on is defined elsewhere.
        let passed_on = use_paths(self.files.get(&at)?.1)
            .into_iter()
            .find(|path| path.last() == Some(name) && path.len() > 1);
        passed_on.and_then(|path| self.resolve(&at, &path, depth + 1)).or(Some(at))
    }
}

/// Every module that can be reached, over one edge or more.
fn reachable(
    from: &[String],
    uses: &BTreeMap<&Vec<String>, BTreeSet<Vec<String>>>,
) -> BTreeSet<Vec<String>> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from.to_vec()];
    while let Some(module) = open.pop() {
        for next in uses.get(&module).into_iter().flatten() {
            if reached.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    reached
}

/// The module of a file below `src`: `tape::memory` of `tape/memory.rs`; none for tests.
fn module_path(inner: &str) -> Option<Vec<String>> {
    let stem = inner.strip_suffix(".rs")?;
    let mut path: Vec<String> = stem.split('/').map(str::to_owned).collect();
    match path.last().map(String::as_str) {
        Some("tests") => return None,
        Some("mod" | "lib" | "main") => drop(path.pop()),
        _ => {}
    }
    Some(path)
}

/// The text before its tests.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

/// The paths that a file names, one for each name, without `as` names: those of its `use` items,
/// and those that code begins with `crate` or `super`.
fn named_paths(text: &str) -> Vec<Vec<String>> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .fold(String::new(), |code, line| code + line + "\n");
    let mut paths = use_paths(&code);
    for word in ["crate::", "super::"] {
        for (place, _) in code.match_indices(word) {
            let statement = code[..place].rsplit(['\n', ';', '}']).next().unwrap_or_default();
            let within_word =
                statement.ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c));
            if within_word || statement.contains("use ") || statement.contains("pub(in ") {
                continue;
            }
            let rest = &code[place..];
            let end = rest.find(|c: char| !(c.is_alphanumeric() || "_:".contains(c)));
            let names =
                rest[..end.unwrap_or(rest.len())].split("::").filter(|name| !name.is_empty());
            paths.push(names.map(str::to_owned).collect());
        }
    }
    paths
}

/// The paths of the `use` items alone.
fn use_paths(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for (place, _) in code.match_indices("use ") {
        let begins = code[..place].rsplit('\n').next().unwrap_or_default().trim();
        if begins.is_empty() || begins.starts_with("pub") {
            let item = &code[place + 4..];
            let item = &item[..item.find(';').unwrap_or(0)];
            spread(item, &mut Vec::new(), &mut paths);
        }
    }
    paths
}

/// Takes `a::{b, c::d}` apart into `a::b` and `a::c::d`.
fn spread(tree: &str, prefix: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let depth = prefix.len();
    let (head, group) = match tree.split_once('{') {
        Some((head, group)) => (head, group.strip_suffix('}')),
        None => (tree, None),
    };
    let names = head.split("::").map(str::trim).filter(|name| !name.is_empty());
    prefix
        .extend(names.map(|name| name.split(" as ").next().unwrap_or_default().trim().to_owned()));
    match group {
        Some(group) => {
            let mut nesting = 0;
            let parts = group.split(|c: char| {
                nesting += i32::from(c == '{') - i32::from(c == '}');
                c == ',' && nesting == 0
            });
            for part in parts.filter(|part| !part.trim().is_empty()) {
                spread(part, prefix, paths);
            }
        }
        None => {
            // `use a::{self}` names the module itself.
            let itself = prefix.len() > 1 && prefix.last().is_some_and(|name| name == "self");
            paths.push(prefix[..prefix.len() - usize::from(itself)].to_vec());
        }
    }
    prefix.truncate(depth);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(files: &[(&str, &str)]) -> Vec<String> {
        let own =
            |(path, text): &(&str, &str)| (format!("crates/a/src/{path}"), (*text).to_owned());
        check(&files.iter().map(own).collect::<Vec<_>>())
    }

    #[test]
    fn a_circle_is_named_once_and_a_chain_is_none() {
        let circle = breaches(&[
            ("one.rs", "use crate::two::Two;\n"),
            ("two.rs", "use std::fmt;\nfn f() -> crate::three::Three {}\n"),
            ("three.rs", "use super::{one::{self, One, Other as Renamed}};\n"),
            ("four.rs", "use crate::one::One;\n"),
        ]);
        assert_eq!(circle.len(), 1, "{circle:?}");
        assert!(["one.rs", "two.rs", "three.rs"].iter().all(|name| circle[0].contains(name)));
        assert!(!circle[0].contains("four.rs"));
        let chain = [("one.rs", "use crate::two::Two;\n"), ("two.rs", "// use crate::one::One;\n")];
        assert!(breaches(&chain).is_empty());
    }

    #[test]
    fn a_name_that_is_passed_on_counts_where_it_is_defined() {
        let files = [
            ("lib.rs", "mod one;\nmod two;\npub use two::Two;\n"),
            ("one.rs", "use crate::Two;\n"),
            ("two.rs", "use crate::one::One;\n"),
        ];
        assert_eq!(breaches(&files).len(), 1);
    }

    #[test]
    fn a_submodule_may_use_its_module_and_tests_may_use_anything() {
        let files = [
            ("tape/mod.rs", "mod dense;\nuse dense::Dense;\n"),
            ("tape/dense.rs", "use super::Tape;\n"),
            ("model.rs", "use crate::tape::Tape;\n"),
            ("tape/tests.rs", "use crate::model::Model;\n"),
        ];
        assert!(breaches(&files).is_empty());
        let tested = "mod x;\n\n#[cfg(test)]\nmod tests {\n    use crate::model::Model;\n}\n";
        assert!(
            breaches(&[("tape/mod.rs", tested), ("model.rs", "use crate::tape::T;\n")]).is_empty()
        );
    }
}
