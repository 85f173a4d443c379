//! The flag that names rules for what is written.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use longhand_engine::Rules;
use longhand_engine::rules::RulesError;

use crate::talk::say;

/// What a text has to match.
#[derive(Args)]
pub(crate) struct RulesArguments {
    /// Write only what matches the rules of a file: a JSON schema (.json; {"type": "object"} is any
    /// object), a regular expression that the whole text matches (.regex), a grammar in llguidance's
    /// variant of Lark (.lark), or words (.toml: forbid = ["never", "New York"], or allow = ["yes",
    /// "no"] for these words and no others, with any signs between them and single spaces; ignore_case
    /// = false; within_words = true)
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Option<PathBuf>,
}

impl RulesArguments {
    /// The rules, if there are any.
    ///
    /// # Errors
    /// A file that cannot be read, or whose rules are refused.
    pub(crate) fn load(&self) -> Result<Option<Arc<Rules>>, RulesError> {
        self.rules.as_deref().map(|path| Rules::load(path).map(Arc::new)).transpose()
    }
}

/// Tells that a text ends before it matches.
pub(crate) fn tell_unfinished(most: usize) {
    say!(
        "the text is cut before it matches the rules: {most} token(s) are the most that are written"
    );
}
