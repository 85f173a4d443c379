//! The result of one check.

use serde::Serialize;

/// What was looked at, what was found, and what to do about it.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    /// What was looked at, such as `memory`.
    pub(crate) name: &'static str,
    pub(crate) verdict: Verdict,
    /// What was found, in a few words.
    pub(crate) found: String,
    /// One sentence on what to do, where something can be done.
    pub(crate) advice: Option<String>,
}

/// Whether something must be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// There is nothing to do.
    Well,
    /// Nothing must be done, and something could be better.
    Note,
    /// Something is wrong: the exit code is 1.
    Wrong,
}

impl Verdict {
    /// The word of the table.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Note => "note",
            Self::Wrong => "WRONG",
        }
    }
}

impl Check {
    pub(crate) fn well(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Well, found: found.into(), advice: None }
    }

    pub(crate) fn note(
        name: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let advice = Some(advice.into());
        Self { name, verdict: Verdict::Note, found: found.into(), advice }
    }

    pub(crate) fn wrong(
        name: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Wrong, ..Self::note(name, found, advice) }
    }
}
