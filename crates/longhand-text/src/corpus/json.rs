//! Cells of JSON lines.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use serde_json::value::RawValue;

use super::fault::RowFault;
use super::format::{CellOptions, Column};
use crate::quote::listed;

/// An object's values by key, as they are written.
type Object = BTreeMap<String, Box<RawValue>>;

/// Why a line has no cells.
pub(super) enum JsonFault {
    /// The row itself is wrong.
    Row(RowFault),
    /// The object lacks a column.
    Column {
        /// The column that was asked for.
        column: String,
        /// The keys of the object.
        found: String,
    },
}

/// The asked-for cells of an object on one line.
pub(super) fn cells(
    line: &str,
    columns: &[Column],
    options: CellOptions,
) -> Result<Vec<String>, JsonFault> {
    let object = object(line, options.lossy).map_err(JsonFault::Row)?;
    columns.iter().map(|column| cell(&object, column, options)).collect()
}

/// The keys of an object on one line.
pub(super) fn keys(line: &str, lossy: bool) -> Result<BTreeSet<String>, RowFault> {
    Ok(object(line, lossy)?.into_keys().collect())
}

/// The object of a line. `NaN` and `Infinity`, which some programs write, count as null.
fn object(line: &str, lossy: bool) -> Result<Object, RowFault> {
    let error = match serde_json::from_str(line) {
        Ok(object) => return Ok(object),
        Err(error) => error,
    };
    let mended = mended(line, lossy);
    if mended != line
        && let Ok(object) = serde_json::from_str(&mended)
    {
        return Ok(object);
    }
    if !line.trim_start().starts_with('{') {
        return Err(RowFault::NotAnObject);
    }
    Err(fault(&error))
}

fn fault(error: &serde_json::Error) -> RowFault {
    let words = error.to_string();
    if words.contains("surrogate") || words.contains("unexpected end of hex escape") {
        return RowFault::LoneSurrogate;
    }
    // Every row is line 1 to the JSON reader.
    let reason = words.split(" at line ").next().unwrap_or_default().to_owned();
    RowFault::Json { reason, column: error.column() }
}

fn cell(object: &Object, column: &Column, options: CellOptions) -> Result<String, JsonFault> {
    let Column::Name(name) = column else { return Err(missing(object, column)) };
    let mut inner;
    let mut found = object.get(name);
    if found.is_none()
        && let Some((first, rest)) = name.split_once('.')
        && let Some(outer) = object.get(first)
    {
        inner = outer.clone();
        for key in rest.split('.') {
            let within: Option<Object> = serde_json::from_str(inner.get()).ok();
            match within.and_then(|mut within| within.remove(key)) {
                Some(value) => inner = value,
                None => return Err(missing(object, column)),
            }
        }
        found = Some(&inner);
    }
    let raw = found.ok_or_else(|| missing(object, column))?.get();
    match raw.as_bytes().first() {
        Some(b'"') => text(raw, options.lossy).map_err(JsonFault::Row),
        Some(b'n') => Ok(String::new()),
        Some(b'[') if options.lists => {
            let items: Option<Vec<Box<RawValue>>> = serde_json::from_str(raw).ok();
            let items =
                items.ok_or_else(|| JsonFault::Row(RowFault::NotText(column.to_string())))?;
            let item = |item: Box<RawValue>| match item.get().as_bytes().first() {
                Some(b'"') => text(item.get(), options.lossy).map_err(JsonFault::Row),
                Some(b'{' | b'[' | b'n') | None => {
                    Err(JsonFault::Row(RowFault::NotText(column.to_string())))
                }
                Some(_) => Ok(item.get().to_owned()),
            };
            let items = items.into_iter().map(item).collect::<Result<Vec<String>, _>>()?;
            Ok(Value::from(items).to_string())
        }
        Some(b'{' | b'[') | None => Err(JsonFault::Row(RowFault::NotText(column.to_string()))),
        // A number keeps all its digits.
        Some(_) => Ok(raw.to_owned()),
    }
}

fn missing(object: &Object, column: &Column) -> JsonFault {
    let found = listed(object.keys().map(String::as_str));
    JsonFault::Column { column: column.to_string(), found }
}

/// The text of a JSON string.
fn text(raw: &str, lossy: bool) -> Result<String, RowFault> {
    serde_json::from_str(raw).or_else(|error| {
        let mended = if lossy { mended(raw, true) } else { String::new() };
        serde_json::from_str(&mended).map_err(|_| fault(&error))
    })
}

/// A line with `NaN` and `Infinity` outside of strings as null and, where `lossy`, every escape of
/// a lone surrogate as U+FFFD.
fn mended(line: &str, lossy: bool) -> String {
    let mut mended = String::with_capacity(line.len());
    let mut rest = line;
    let mut in_string = false;
    while let Some(character) = rest.chars().next() {
        if in_string && character == '\\' {
            let (escape, length) = escape(rest, lossy);
            mended.push_str(escape);
            rest = &rest[length..];
            continue;
        }
        let word = ["NaN", "Infinity", "-Infinity"].into_iter().find(|word| rest.starts_with(word));
        if let Some(word) = word.filter(|_| !in_string) {
            mended.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        in_string ^= character == '"';
        mended.push(character);
        rest = &rest[character.len_utf8()..];
    }
    mended
}

/// The escape that a text begins with, as it is to be written, and its length.
fn escape(text: &str, lossy: bool) -> (&str, usize) {
    let code = |text: &str| {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        u32::from_str_radix(digits, 16).ok()
    };
    match (code(text), text.get(6..).and_then(code)) {
        (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (&text[..12], 12),
        (Some(0xd800..=0xdfff), _) if lossy => ("\u{fffd}", 6),
        _ => {
            let length = text.chars().take(2).map(char::len_utf8).sum();
            (&text[..length], length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, column: &str, lossy: bool) -> String {
        let options = CellOptions { lossy, lists: false };
        match cells(line, &[Column::Name(column.into())], options) {
            Ok(cells) => cells.concat(),
            Err(JsonFault::Row(fault)) => format!("row: {fault}"),
            Err(JsonFault::Column { column, found }) => format!("no {column} in {found}"),
        }
    }

    #[test]
    fn numbers_keep_their_digits() {
        for number in ["12345678901234567890123", "1.50", "-0.0", "1E5", "true"] {
            assert_eq!(read(&format!("{{\"text\": {number} }}"), "text", false), number);
        }
        assert_eq!(read("{\"a\":{\"b\":{\"c\":1.0}}}", "a.b.c", false), "1.0");
        assert_eq!(read("{\"a.b\":2,\"a\":{\"b\":3}}", "a.b", false), "2");
        assert_eq!(read("{\"text\":null}", "text", false), "");
    }

    #[test]
    fn what_is_no_number_counts_as_none() {
        for word in ["NaN", "Infinity", "-Infinity"] {
            let line = format!("{{\"text\":\"a NaN \\\" NaN\",\"score\":{word}}}");
            assert_eq!(read(&line, "text", false), "a NaN \" NaN");
            assert_eq!(read(&line, "score", false), "");
        }
    }

    #[test]
    fn half_a_character_is_replaced_where_asked_for() {
        let line = r#"{"text":"\ud83d a \ude00 \ud83d\ude00 \\ud83d"}"#;
        assert!(read(line, "text", false).contains("lone surrogate"));
        assert_eq!(read(line, "text", true), "\u{fffd} a \u{fffd} 😀 \\ud83d");
        assert_eq!(read(r#"{"text":"a","b":"\ud83d"}"#, "text", true), "a");
    }

    #[test]
    fn a_list_is_an_array_of_texts_where_asked_for() {
        let read = |line: &str| {
            let options = CellOptions { lossy: false, lists: true };
            cells(line, &[Column::Name("a".into())], options).ok().map(|cells| cells.concat())
        };
        let list = read(r#"{"a": ["x, \u00e9", 1.50, true]}"#);
        assert_eq!(list.as_deref(), Some(r#"["x, é","1.50","true"]"#));
        assert_eq!(read(r#"{"a": []}"#).as_deref(), Some("[]"));
        assert_eq!(read(r#"{"a": "x"}"#).as_deref(), Some("x"));
        for bad in [r#"{"a": [null]}"#, r#"{"a": [[1]]}"#, r#"{"a": {"b": 1}}"#] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_a_line() {
        let told = read("{\"text\": }", "text", false);
        assert_eq!(told, "row: expected value at its column 10");
        assert!(read("[1]", "text", false).starts_with("row: it is not a JSON object"));
        assert!(read("{\"text\": []}", "text", false).contains("\"text\" is neither text"));
        let long = format!("{{\"{}\": 1}}", "k".repeat(100_000));
        assert!(read(&long, "text", false).len() < 200);
    }
}
