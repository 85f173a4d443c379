//! What a parser says of settings that it refuses, in the words that people use for them.

/// The beginnings of a parser's sentences on a name that it does not know.
const KEY: &str = "unknown field `";
const NAME: &str = "unknown variant `";

/// A parser's message about settings: which keys or names are known, and values without the names of
/// types. A message of another kind stays as it is.
pub fn plain(message: &str) -> String {
    let told = unknown(message, KEY).map(|Unknown { before, name, known, after }| {
        let known = match known.is_empty() {
            true => "there are none".to_owned(),
            false => format!("the keys are {}", known.join(", ")),
        };
        format!("{before}there is no key `{name}`: {known}{after}")
    });
    let told = told.or_else(|| {
        let Unknown { before, name, known, after } = unknown(message, NAME)?;
        Some(format!("{before}`{name}` is none of {}{after}", known.join(", ")))
    });
    told.or_else(|| quoted(message, "missing field `", "the key `", "` is missing"))
        .or_else(|| quoted(message, "duplicate field `", "the key `", "` is given twice"))
        .or_else(|| value(message))
        .unwrap_or_else(|| message.to_owned())
}

/// The keys that a parser knows, where its message refuses `key`.
pub(crate) fn known_keys<'a>(message: &'a str, key: &str) -> Option<Vec<&'a str>> {
    unknown(message, KEY).filter(|unknown| unknown.name == key).map(|unknown| unknown.known)
}

/// A name that a parser does not know, those that it knows, and the text around.
struct Unknown<'a> {
    before: &'a str,
    name: &'a str,
    known: Vec<&'a str>,
    after: &'a str,
}

/// Reads `unknown field `a`, expected one of `b`, `c``.
fn unknown<'a>(message: &'a str, begins: &str) -> Option<Unknown<'a>> {
    let (before, rest) = message.split_once(begins)?;
    let (name, rest) = rest.split_once('`')?;
    if let Some(after) = rest.strip_prefix(", there are no ") {
        let after = after.trim_start_matches(char::is_alphabetic);
        return Some(Unknown { before, name, known: Vec::new(), after });
    }
    let mut rest = rest.strip_prefix(", expected ")?;
    rest = rest.strip_prefix("one of ").unwrap_or(rest);
    let mut known = Vec::new();
    while let Some((one, behind)) = rest.strip_prefix('`').and_then(|rest| rest.split_once('`')) {
        known.push(one);
        rest = behind;
        let next = [", ", " or "].into_iter().find_map(|between| behind.strip_prefix(between));
        match next.filter(|next| next.starts_with('`')) {
            Some(next) => rest = next,
            None => break,
        }
    }
    Some(Unknown { before, name, known, after: rest })
}

/// Replaces the words around a name in backticks.
fn quoted(message: &str, begins: &str, before: &str, after: &str) -> Option<String> {
    let (start, rest) = message.split_once(begins)?;
    let (name, rest) = rest.split_once('`')?;
    Some(format!("{start}{before}{name}{after}{rest}"))
}

/// Reads `invalid type: string "few", expected usize`.
fn value(message: &str) -> Option<String> {
    let begins = ["invalid type: ", "invalid value: ", "invalid length "];
    let (before, rest) = begins.into_iter().find_map(|begin| message.split_once(begin))?;
    let (got, wanted) = rest.rsplit_once(", expected ")?;
    // The place comes last, where there is one.
    let (wanted, after) = match wanted.find(" at line ") {
        Some(at) => wanted.split_at(at),
        None => (wanted, ""),
    };
    let (got, wanted) = (value_of(got), wanted_value(wanted));
    Some(format!("{before}{got} is given, but it must be {wanted}{after}"))
}

/// A value as it was typed, or its kind.
fn value_of(got: &str) -> &str {
    for kind in ["string ", "integer ", "floating point ", "boolean ", "character "] {
        if let Some(value) = got.strip_prefix(kind) {
            return value.trim_matches('`');
        }
    }
    match got {
        "map" => "a table",
        "sequence" => "a list",
        "null" | "unit value" => "nothing",
        other => other,
    }
}

/// What must be there, without the name of a type.
fn wanted_value(wanted: &str) -> &str {
    match wanted {
        "usize" | "u64" | "u32" | "u16" | "u8" => "a whole number that is not negative",
        "a nonzero usize" | "a nonzero u64" | "a nonzero u32" => "a whole number, 1 or more",
        "i64" | "i32" => "a whole number",
        "f64" | "f32" => "a number",
        "a boolean" => "true or false",
        "a string" => "a text",
        "a map" => "a table",
        "a sequence" => "a list",
        _ if wanted.starts_with("struct ") => "a table",
        _ if wanted.contains("enum ") => "a name or a table",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    #[allow(dead_code)]
    struct Several {
        count: std::num::NonZeroUsize,
        #[serde(default)]
        part: Option<One>,
        #[serde(default)]
        kind: Option<Kind>,
        #[serde(default)]
        share: f32,
        #[serde(default)]
        on: bool,
        #[serde(default)]
        names: Vec<String>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct One {
        size: Option<u32>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        Left,
        Right,
    }

    #[test]
    fn parsers_are_quoted_in_plain_words() {
        for (text, words) in [
            (
                r#"{"count": 1, "depth": 2}"#,
                "there is no key `depth`: the keys are count, part, kind, share, on, names",
            ),
            (r#"{"count": 1, "part": {"width": 2}}"#, "there is no key `width`: the keys are size"),
            (r#"{"count": 1, "kind": "up"}"#, "`up` is none of left, right"),
            (r#"{"on": true}"#, "the key `count` is missing"),
            (r#"{"count": 0}"#, "0 is given, but it must be a whole number, 1 or more"),
            (r#"{"count": "a"}"#, "\"a\" is given, but it must be a whole number, 1 or more"),
            (r#"{"count": 1, "share": "a"}"#, "\"a\" is given, but it must be a number"),
            (r#"{"count": 1, "on": 1}"#, "1 is given, but it must be true or false"),
            (r#"{"count": 1, "names": "a"}"#, "\"a\" is given, but it must be a list"),
            (r#"{"count": 1, "part": 7}"#, "7 is given, but it must be a table"),
            (
                r#"{"count": 1, "part": {"size": -1}}"#,
                "-1 is given, but it must be a whole number that is",
            ),
        ] {
            let error = serde_json::from_str::<Several>(text).err().unwrap().to_string();
            let told = plain(&error);
            assert!(told.starts_with(words) && told.contains(" at line 1"), "{told} of {error}");
        }
        assert_eq!(plain("something else"), "something else");
        assert_eq!(known_keys("unknown field `a`, expected `b` or `c`", "a"), Some(vec!["b", "c"]));
        assert_eq!(known_keys("unknown field `a`, expected `b` or `c`", "d"), None);
    }
}
