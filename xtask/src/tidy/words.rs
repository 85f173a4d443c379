//! Doc comments whose lines say something. A line of three words or fewer is a heading, a doc that
//! repeats a name, or the last word of a paragraph: few of them are left to headings.

use std::collections::BTreeMap;

/// The most words of a short line.
const SHORT: usize = 3;

/// Short lines must be fewer than this percentage of all doc lines.
const LIMIT: usize = 5;

/// Doc lines of one crate, and how many of them are short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    lines: usize,
    short: usize,
}

/// One breach if the workspace has too many short lines. `files` holds path and text of sources.
pub(crate) fn check(files: &[(String, String)]) -> Option<String> {
    let mut crates: BTreeMap<&str, Count> = BTreeMap::new();
    for (path, text) in files {
        let of_crate = crates.entry(crate_of(path)).or_default();
        let Count { lines, short } = count(text);
        of_crate.lines += lines;
        of_crate.short += short;
    }
    let lines: usize = crates.values().map(|count| count.lines).sum();
    let short: usize = crates.values().map(|count| count.short).sum();
    if short == 0 || 100 * short < LIMIT * lines {
        return None;
    }
    // Headings make a large crate have many: what counts is how far it is above the limit.
    let (name, worst) =
        crates.iter().max_by_key(|(_, c)| (100 * c.short).saturating_sub(LIMIT * c.lines))?;
    Some(format!(
        "{:.1} % of the doc lines have {SHORT} words or fewer, at least {LIMIT} %: most of them \
         in {name}, {} of {}; say meaning, unit or shape, or wrap the paragraph anew",
        100.0 * short as f64 / lines as f64,
        worst.short,
        worst.lines
    ))
}

/// The folder of the crate that a source file belongs to.
fn crate_of(path: &str) -> &str {
    let depth = if path.starts_with("crates/") { 1 } else { 0 };
    path.match_indices('/').nth(depth).map_or(path, |(end, _)| &path[..end])
}

/// Counts the doc lines of a file. Code in fences and empty lines do not count.
fn count(text: &str) -> Count {
    let mut count = Count::default();
    let mut code = false;
    for line in text.lines() {
        let line = line.trim_start();
        let Some(doc) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
            code = false;
            continue;
        };
        let words = doc.split_whitespace().count();
        if doc.trim_start().starts_with("```") {
            code = !code;
        } else if !code && words > 0 {
            count.lines += 1;
            count.short += usize::from(words <= SHORT);
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "/// Width of one head.\n";

    fn source(path: &str, text: &str) -> (String, String) {
        (path.to_owned(), text.to_owned())
    }

    #[test]
    fn headings_count_but_code_and_empty_lines_do_not() {
        let text = "//! A whole sentence about it.\n//!\n//! ```\n//! use it;\n//! ```\n\
                    \x20   /// # Errors\n    ///\n    /// The sum.\n    fn sum() {} // a b\n";
        assert_eq!(count(text), Count { lines: 3, short: 2 });
    }

    #[test]
    fn a_fence_ends_with_its_comment() {
        assert_eq!(count("/// ```\nfn f() {}\n/// The sum.\n"), Count { lines: 1, short: 1 });
    }

    #[test]
    fn one_short_line_in_twenty_is_a_breach_and_names_the_crate() {
        let file = |path, lines| source(path, &format!("/// Sum.\n{}", LONG.repeat(lines)));
        let (other, clean) = (source("crates/b/src/lib.rs", LONG), source("xtask/src/a.rs", LONG));
        let breach = check(&[other.clone(), file("crates/a/src/lib.rs", 17), clean.clone()]);
        let breach = breach.expect("1 of 20 lines is at the limit");
        assert!(breach.starts_with("5.0 % of the doc lines"), "{breach}");
        assert!(breach.contains("in crates/a, 1 of 18;"), "{breach}");
        assert_eq!(check(&[other, file("crates/a/src/lib.rs", 18), clean]), None);
        assert_eq!(check(&[]), None);
    }

    #[test]
    fn sources_belong_to_the_crate_of_their_folder() {
        assert_eq!(crate_of("crates/longhand-text/src/corpus/mod.rs"), "crates/longhand-text");
        assert_eq!(crate_of("xtask/src/main.rs"), "xtask");
        assert_eq!(crate_of("build.rs"), "build.rs");
    }
}
