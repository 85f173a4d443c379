//! Rules that llguidance follows: schemas, regular expressions and grammars.

use std::sync::OnceLock;

use llguidance::api::{StopReason, TopLevelGrammar};
use llguidance::{Matcher, TokenParser};
use serde_json::{Value, json};

use super::fault::RulesError;
use super::vocabulary::{Trie, Vocabulary};

/// White space between the parts of JSON: a space, or a line break with an indent. A small model
/// would go on with unbounded white space forever.
const WHITE_SPACE: &str = r"\x20|\n\x20{0,32}";
/// Characters of a message of llguidance that are shown.
const SHOWN: usize = 400;
/// The deepest brackets of a grammar, whose reader calls itself for each.
const MOST_DEPTH: usize = 200;
/// The key of a schema with settings for llguidance.
const SETTINGS: &str = "x-guidance";

/// A JSON schema that can be followed.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema(Value);

/// A regular expression or a grammar that can be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grammar {
    source: String,
    is_regex: bool,
}

impl Schema {
    pub(super) fn new(text: &str) -> Result<Self, RulesError> {
        let json = |what: String| RulesError::Json { what };
        let mut schema: Value =
            serde_json::from_str(text).map_err(|error| json(error.to_string()))?;
        match &mut schema {
            Value::Bool(_) => {}
            Value::Object(keys) => {
                keys.entry(SETTINGS)
                    .or_insert_with(|| json!({ "whitespace_pattern": WHITE_SPACE }));
            }
            _ => return Err(json("a schema is an object, true or false".into())),
        }
        let schema = Self(schema);
        check(schema.compiled(), "JSON schema", |what| RulesError::Schema { what })?;
        Ok(schema)
    }

    /// The schema, with llguidance's settings in it.
    pub fn value(&self) -> &Value {
        &self.0
    }

    pub(super) fn compiled(&self) -> TopLevelGrammar {
        TopLevelGrammar::from_json_schema(self.0.clone())
    }
}

impl Grammar {
    pub(super) fn regex(expression: &str) -> Result<Self, RulesError> {
        let grammar = Self { source: expression.to_owned(), is_regex: true };
        check(grammar.compiled(), "regular expression", |what| RulesError::Regex { what })?;
        Ok(grammar)
    }

    pub(super) fn lark(source: &str) -> Result<Self, RulesError> {
        if source.contains("allow_invalid_utf8") {
            let what = "allow_invalid_utf8 would let it write what is no text".into();
            return Err(RulesError::Lark { what });
        }
        if depth(source) > MOST_DEPTH {
            let what = format!("its brackets are more than {MOST_DEPTH} deep");
            return Err(RulesError::Lark { what });
        }
        let grammar = Self { source: source.to_owned(), is_regex: false };
        check(grammar.compiled(), "grammar", |what| RulesError::Lark { what })?;
        Ok(grammar)
    }

    /// The expression or the grammar as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn compiled(&self) -> TopLevelGrammar {
        match self.is_regex {
            true => TopLevelGrammar::from_regex(&self.source),
            false => TopLevelGrammar::from_lark(self.source.clone()),
        }
    }
}

/// How deep the brackets of a grammar are, those in its texts and expressions left out.
fn depth(source: &str) -> usize {
    let (mut depth, mut most) = (0_usize, 0);
    let mut within = None;
    let mut characters = source.chars();
    while let Some(character) = characters.next() {
        match (character, within) {
            ('\\', Some(_)) => {
                characters.next();
            }
            ('"' | '/', None) => within = Some(character),
            // Neither goes on in the next line.
            ('\n', _) => within = None,
            (end, Some(begin)) if end == begin => within = None,
            ('(' | '[' | '{', None) => {
                depth += 1;
                most = most.max(depth);
            }
            (')' | ']' | '}', None) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// Refuses a grammar that cannot be followed byte by byte, or cannot begin.
fn check(
    grammar: TopLevelGrammar,
    name: &'static str,
    fault: impl Fn(String) -> RulesError,
) -> Result<(), RulesError> {
    static BYTES: OnceLock<Result<Trie, RulesError>> = OnceLock::new();
    let trie =
        BYTES.get_or_init(|| Vocabulary::bytes().map(|bytes| bytes.trie().clone())).clone()?;
    let mut matcher = matcher(&trie, grammar).map_err(&fault)?;
    if matcher.is_accepting().map_err(|error| fault(sentence(&error)))? {
        return Ok(());
    }
    match matcher.compute_mask() {
        Ok(_) => Ok(()),
        Err(error) if is_stuck(&error) => Err(RulesError::Nothing { what: name }),
        Err(error) => Err(fault(sentence(&error))),
    }
}

/// A matcher at the beginning of a text.
pub(super) fn matcher(trie: &Trie, grammar: TopLevelGrammar) -> Result<Matcher, String> {
    let parser: Result<TokenParser, _> = trie.create_parser(grammar);
    match parser {
        Ok(parser) => Ok(Matcher::new(Ok(parser))),
        Err(error) => Err(match sentence(&error) {
            // What llguidance says of a name in angle brackets where no token has one.
            told if told.contains("missing special token prefix") => {
                "it names a token in angle brackets, but rules are about text alone".into()
            }
            told => told,
        }),
    }
}

/// Whether the reason for an error is that no token can come next.
pub(super) fn is_stuck(error: &dyn std::fmt::Display) -> bool {
    sentence(error) == StopReason::NoExtensionBias.to_string()
}

/// A message of llguidance in one line, without what it tells of its own state.
pub(super) fn sentence(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let end = text.find("\n<").unwrap_or(text.len());
    let lines = text[..end].lines().map(str::trim).filter(|line| !line.is_empty());
    // A message of the crate regex shows the whole expression before it says what is wrong.
    let told = lines.clone().find_map(|line| line.strip_prefix("error: ")).map(str::to_owned);
    let told = told.unwrap_or_else(|| lines.collect::<Vec<_>>().join("; "));
    let told: String = told.chars().take(SHOWN).collect();
    told.trim_end_matches(['.', ':']).to_owned()
}
