//! The Jinja environment that templates are written for: that of `transformers`.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, escape_formatter};
use minijinja_contrib::pycompat;

use super::clock::Moment;
use super::json::to_json;

/// Nested blocks, macros and loops that a template may be in at once.
const DEEPEST: usize = 100;

/// What a template said by `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Raised(pub(super) String);

/// An environment without templates. Blocks lose the white space before them and the line break
/// behind them; methods of Python's strings, lists and dictionaries are there; nothing is escaped.
pub(super) fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_recursion_limit(DEEPEST);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(method);
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::None => Ok(out.write_str("None")?),
        ValueKind::Bool => Ok(out.write_str(if value.is_true() { "True" } else { "False" })?),
        _ => escape_formatter(out, state, value),
    });
    environment.remove_global("debug");
    environment.add_filter("tojson", to_json);
    environment.add_filter("trim", trim);
    environment.add_function("raise_exception", |words: String| -> Result<Value, Error> {
        let error = Error::new(ErrorKind::InvalidOperation, "an exception was raised");
        Err(error.with_source(Raised(words)))
    });
    environment.add_function("strftime_now", |format: &str| -> Result<String, Error> {
        Moment::now().format(format).ok_or_else(|| {
            Error::new(ErrorKind::InvalidOperation, format!("the date has no form {format:?}"))
        })
    });
    Ok(environment)
}

/// Methods of Python's values, by those that `minijinja-contrib` has.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let (Some(text), true) = (value.as_str(), args.is_empty()) {
        match name {
            "strip" => return Ok(text.trim_matches(is_space).into()),
            "lstrip" => return Ok(text.trim_start_matches(is_space).into()),
            "rstrip" => return Ok(text.trim_end_matches(is_space).into()),
            "split" => {
                let words = text.split(is_space).filter(|word| !word.is_empty());
                return Ok(words.map(Value::from).collect::<Vec<_>>().into());
            }
            _ => {}
        }
    }
    if let (Some(text), "removeprefix" | "removesuffix") = (value.as_str(), name) {
        let (part,): (&str,) = from_args(args)?;
        let found =
            if name == "removeprefix" { text.strip_prefix(part) } else { text.strip_suffix(part) };
        return Ok(found.unwrap_or(text).into());
    }
    pycompat::unknown_method_callback(state, value, name, args)
}

/// The filter `trim` as Jinja has it.
fn trim(text: &str, characters: Option<&str>) -> String {
    match characters {
        None => text.trim_matches(is_space).to_owned(),
        Some(characters) => text.trim_matches(|c| characters.contains(c)).to_owned(),
    }
}

/// Whether Python, and so a template, counts a character as white space.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}
