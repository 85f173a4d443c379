//! The tokens that a request took, and how many of them a state had read before.

use longhand_sessions::Usage as Counted;
use schemars::JsonSchema;
use serde::Serialize;

/// The tokens of a request, in the form of OpenAI.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Usage {
    /// Tokens of the prompt, those included that a state had read before.
    pub(crate) prompt_tokens: u64,
    /// Tokens that were written.
    pub(crate) completion_tokens: u64,
    /// The sum of both.
    pub(crate) total_tokens: u64,
    /// What of the prompt was read before.
    pub(crate) prompt_tokens_details: PromptTokensDetails,
}

/// What of a prompt was read before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct PromptTokensDetails {
    /// Tokens that a session or the state cache had read before.
    pub(crate) cached_tokens: u64,
    /// Tokens that a kept state holds from now on.
    pub(crate) cache_write_tokens: u64,
}

impl Usage {
    /// The sum with those of another part of the request.
    pub(crate) fn add(&mut self, counted: &Counted) {
        self.prompt_tokens += counted.prompt;
        self.completion_tokens += counted.generated;
        self.total_tokens += counted.prompt + counted.generated;
        self.prompt_tokens_details.cached_tokens += counted.reused;
        self.prompt_tokens_details.cache_write_tokens += counted.cache_written;
    }
}

impl From<&Counted> for Usage {
    fn from(counted: &Counted) -> Self {
        let mut usage = Self::default();
        usage.add(counted);
        usage
    }
}

/// The tokens of a request that writes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct ReadUsage {
    /// Tokens that were read.
    pub(crate) prompt_tokens: u64,
    /// The same number: nothing is written.
    pub(crate) total_tokens: u64,
}

impl ReadUsage {
    pub(crate) fn of(tokens: u64) -> Self {
        Self { prompt_tokens: tokens, total_tokens: tokens }
    }
}
