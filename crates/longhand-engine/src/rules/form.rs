//! The forms of rules, and the files that hold them.

use std::io::ErrorKind;
use std::path::Path;

use super::fault::RulesError;
use super::grammar::{Grammar, Schema};
use super::words::Words;

/// Rules, parsed and checked: each is known to match at least one text.
#[derive(Clone, Debug, PartialEq)]
pub enum Rules {
    /// JSON that a schema describes.
    Schema(Schema),
    /// Texts that a regular expression matches as a whole.
    Regex(Grammar),
    /// Texts of a context-free grammar.
    Lark(Grammar),
    /// Texts with certain words alone, or without certain words.
    Words(Words),
}

impl Rules {
    /// Reads rules from a file. Its name says what it holds: `.json` a JSON schema, `.regex` a regular
    /// expression, `.lark` a grammar, `.toml` lists of words.
    ///
    /// # Errors
    /// [`RulesError::Io`], [`RulesError::Binary`] or [`RulesError::Kind`] for a file that cannot be read,
    /// is no text or has another name, [`RulesError::File`] for rules that are refused.
    pub fn load(path: &Path) -> Result<Self, RulesError> {
        let text = fs_err::read_to_string(path);
        let text = text.map_err(|error| match error.kind() {
            ErrorKind::InvalidData => RulesError::Binary { path: path.into() },
            _ => RulesError::Io { what: error.to_string() },
        })?;
        Self::of_file(path, &text)
    }

    /// Rules from the text of a file, whose name says what it holds.
    ///
    /// # Errors
    /// The errors of [`Rules::load`], but for files that cannot be read.
    pub fn of_file(path: &Path, text: &str) -> Result<Self, RulesError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let extension = path.extension().and_then(|extension| extension.to_str());
        let rules = match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("json") => Self::json_schema(text),
            Some("regex") => {
                let line = text.strip_suffix('\n').unwrap_or(text);
                Self::regex(line.strip_suffix('\r').unwrap_or(line))
            }
            Some("lark") => Self::lark(text),
            Some("toml") => Self::words(text),
            _ => return Err(RulesError::Kind { path: path.into() }),
        };
        rules.map_err(|fault| RulesError::File { path: path.into(), fault: Box::new(fault) })
    }

    /// Any JSON object, with any keys and values.
    ///
    /// # Errors
    /// None that is expected: the schema is fixed.
    pub fn json_object() -> Result<Self, RulesError> {
        Self::json_schema(r#"{"type": "object"}"#)
    }

    /// JSON that a schema describes. Between its parts there is at most one space, or a line break with
    /// up to 32 spaces behind it; the key `x-guidance` of the schema sets this and more, as llguidance
    /// documents it. A number that the schema does not bound may have any exponent, as JSON has it: a
    /// reader of 64-bit floats may refuse 1e999.
    ///
    /// # Errors
    /// [`RulesError::Json`] for a text that is no JSON, [`RulesError::Schema`] for a schema that
    /// is not supported or cannot be met.
    pub fn json_schema(schema: &str) -> Result<Self, RulesError> {
        Schema::new(schema).map(Self::Schema)
    }

    /// Texts that a regular expression matches as a whole. Its syntax is that of Rust's `regex`
    /// without word boundaries; `^` and `$` at its ends change nothing.
    ///
    /// # Errors
    /// [`RulesError::Regex`] for an expression that is not supported or matches nothing.
    pub fn regex(expression: &str) -> Result<Self, RulesError> {
        Grammar::regex(expression).map(Self::Regex)
    }

    /// Texts of a grammar in llguidance's variant of Lark.
    ///
    /// # Errors
    /// [`RulesError::Lark`] for a grammar that is not supported or matches nothing.
    pub fn lark(grammar: &str) -> Result<Self, RulesError> {
        Grammar::lark(grammar).map(Self::Lark)
    }

    /// Texts by lists of words, in TOML: see [`Words`].
    ///
    /// # Errors
    /// [`RulesError::Toml`], [`RulesError::Words`] or [`RulesError::Phrase`] for lists
    /// that have another form.
    pub fn words(lists: &str) -> Result<Self, RulesError> {
        Words::new(lists).map(Self::Words)
    }
}
