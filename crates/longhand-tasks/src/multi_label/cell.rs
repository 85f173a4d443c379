//! The cell of a table that holds the labels of a text.

use std::borrow::Cow;

use serde_json::Value;

/// The labels of a cell, each once and sorted: a JSON list, or names with a separator between them, of
/// which one in quotes may contain it. None for a list in brackets that is no JSON list of names.
pub(super) fn read(cell: &str, separator: &str) -> Option<Vec<String>> {
    let cell = cell.trim();
    let is_list = cell.starts_with('[') && cell.ends_with(']');
    let parts = if is_list { list(cell)? } else { parts(cell, separator) };
    let names = parts.iter().map(|name| name.trim().to_owned());
    let mut names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    Some(names)
}

/// Labels as a cell that [`read`] reads again.
pub(super) fn write(names: &[&str], separator: &str) -> String {
    let parts: Vec<Cow<'_, str>> = names.iter().map(|name| part(name, separator)).collect();
    parts.join(separator)
}

/// A label, in quotes where it would be read as another one.
fn part<'a>(name: &'a str, separator: &str) -> Cow<'a, str> {
    let is_plain = !name.contains(separator) && !name.starts_with(['"', '[']);
    match is_plain || separator.is_empty() {
        true => name.into(),
        false => format!("\"{}\"", name.replace('"', "\"\"")).into(),
    }
}

fn list(cell: &str) -> Option<Vec<String>> {
    let items: Vec<Value> = serde_json::from_str(cell).ok()?;
    let name = |item: Value| match item {
        Value::String(name) => Some(name),
        other @ (Value::Number(_) | Value::Bool(_)) => Some(other.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    items.into_iter().map(name).collect()
}

fn parts(cell: &str, separator: &str) -> Vec<String> {
    if separator.is_empty() {
        return vec![cell.to_owned()];
    }
    let (mut names, mut rest) = (Vec::new(), Some(cell));
    while let Some(text) = rest {
        let plain = || match text.split_once(separator) {
            Some((name, behind)) => (name.to_owned(), Some(behind)),
            None => (text.to_owned(), None),
        };
        let (name, behind) = quoted(text, separator).unwrap_or_else(plain);
        names.push(name);
        rest = behind;
    }
    names
}

/// The label in quotes that a text begins with, and what is behind its separator. None where the text
/// begins without a quote, or neither a separator nor the end is behind the other one.
fn quoted<'a>(text: &'a str, separator: &str) -> Option<(String, Option<&'a str>)> {
    let mut rest = text.trim_start().strip_prefix('"')?;
    let mut name = String::new();
    loop {
        let (part, behind) = rest.split_once('"')?;
        name.push_str(part);
        let Some(more) = behind.strip_prefix('"') else {
            if behind.trim().is_empty() {
                return Some((name, None));
            }
            let next = behind.strip_prefix(separator);
            let next = next.or_else(|| behind.trim_start().strip_prefix(separator))?;
            return Some((name, Some(next)));
        };
        name.push('"');
        rest = more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_with_the_separator_is_in_quotes_or_in_a_list() {
        let labels = |cell: &str| read(cell, ",").map(|names| names.join("|"));
        for (cell, expected) in [
            ("b, a ,b", "a|b"),
            ("\"a, b\", c", "a, b|c"),
            ("c,\"a \"\"x\"\", b\"", "a \"x\", b|c"),
            ("[\"a, b\", 3, true]", "3|a, b|true"),
            ("5\" disk, b", "5\" disk|b"),
            ("\"a\" b, c", "\"a\" b|c"),
            ("[x], b", "[x]|b"),
            (" ", ""),
            ("[]", ""),
        ] {
            assert_eq!(labels(cell).as_deref(), Some(expected), "{cell}");
        }
        for cell in ["['a, b', 'c']", "[a, b]", "[null]", "[[\"a\"]]"] {
            assert_eq!(labels(cell), None, "{cell}");
        }
        assert_eq!(read("\"a b\" c", " ").unwrap(), ["a b", "c"]);
        assert_eq!(read("a, b", "").unwrap(), ["a, b"]);
    }

    #[test]
    fn labels_that_are_written_are_read_again() {
        let names = ["[x]", "\"", "a", "a, b", "c \"d\", e"];
        for separator in [",", ";", " | "] {
            assert_eq!(read(&write(&names, separator), separator).unwrap(), {
                let mut sorted = names;
                sorted.sort_unstable();
                sorted
            });
        }
        assert_eq!(write(&["a", "b"], ","), "a,b");
        assert_eq!(write(&["a", "b, c"], ","), "a,\"b, c\"");
    }
}
