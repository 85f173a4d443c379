//! Why rules are refused, or cannot be followed.

use std::path::PathBuf;

/// Rules that cannot be used, or a text that cannot follow them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// The file cannot be read.
    #[error("{what}")]
    Io {
        /// The error, with the file's path.
        what: String,
    },
    /// A file that is no text.
    #[error(
        "{} is not valid UTF-8, but rules are text: convert it, or name another file",
        path.display()
    )]
    Binary {
        /// Path of the refused file.
        path: PathBuf,
    },
    /// A file whose name does not say what it holds.
    #[error(
        "{} may hold any rules: end its name in .json for a JSON schema, .regex for a regular \
         expression, .lark for a grammar, or .toml for lists of words",
        path.display()
    )]
    Kind {
        /// Path of the refused file.
        path: PathBuf,
    },
    /// What a file holds is refused.
    #[error("{}: {fault}", path.display())]
    File {
        /// Path of the refused file.
        path: PathBuf,
        /// Why it is refused.
        fault: Box<RulesError>,
    },
    /// A schema that is no JSON, or no schema.
    #[error("the JSON schema is not usable: {what}: correct it")]
    Json {
        /// What is wrong, with the line and the column.
        what: String,
    },
    /// A schema with something that is not supported, or that no value meets.
    #[error(
        "the JSON schema cannot be followed: {what}: leave out what is not supported, or correct \
         what no value can meet"
    )]
    Schema {
        /// The message of llguidance.
        what: String,
    },
    /// A regular expression that is not supported, or that no text matches.
    #[error(
        "the regular expression cannot be followed: {what}: the whole text has to match it, so \
         leave out ^ and $ within it, \\b, and what looks around or back"
    )]
    Regex {
        /// The message of llguidance.
        what: String,
    },
    /// A grammar that is not supported, or that no text matches.
    #[error(
        "the grammar cannot be followed: {what}: correct it; its form is llguidance's variant of \
         Lark, whose first rule is `start`"
    )]
    Lark {
        /// The message of llguidance.
        what: String,
    },
    /// Rules that no text matches.
    #[error("the {what} matches no text: correct it")]
    Nothing {
        /// Which form of rules.
        what: &'static str,
    },
    /// Lists of words that are not of their form.
    #[error("line {line} of the lists of words is not usable: {what}: correct it")]
    Toml {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A list of words that says nothing, or too much.
    #[error("the lists of words are not usable: {0}")]
    Words(&'static str),
    /// An item of a list that is no word.
    #[error(
        "{list}[{index}] is {phrase:?}, which has no letter, digit or sign: leave it out, or \
         correct it"
    )]
    Phrase {
        /// The key of the list in the file.
        list: &'static str,
        /// Place in the list, from 0.
        index: usize,
        /// The item as it is given.
        phrase: String,
    },
    /// More tokens than a trie of tokens can have.
    #[error("the tokeniser has {0} tokens, but rules can be followed with at most 8000000")]
    Tokens(usize),
    /// No token goes on.
    #[error(
        "no token of the model can go on as the rules ask after {written:?}: change the rules, or \
         use a model whose tokeniser has all bytes (byte, bpe or unigram)"
    )]
    DeadEnd {
        /// The end of what was written.
        written: String,
    },
    /// A token that the rules forbid.
    #[error("the rules forbid the token {id} after {written:?}: begin with another text")]
    Forbidden {
        /// The id of the refused token.
        id: u32,
        /// The end of what was written.
        written: String,
    },
    /// The automaton gave up.
    #[error("the rules are too complex to follow after {written:?}: {what}: make them simpler")]
    Complex {
        /// The message of llguidance.
        what: String,
        /// The end of what was written.
        written: String,
    },
}
