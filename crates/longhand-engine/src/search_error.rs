//! Why a search refuses its prompts, or finds nothing for one.

use crate::rules::RulesError;

/// A prompt that no search can begin with, or that none finds a hypothesis for. Prompts are counted
/// from 0.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SearchError {
    /// A prompt without a token that the first prediction could follow.
    #[error("prompt {0} is empty: give at least one token to write after")]
    Empty(usize),
    /// More forced tokens than may be written.
    #[error(
        "{forced} tokens are forced on prompt {prompt}, but at most {maximum} are written: force \
         fewer, or raise the maximum"
    )]
    Forced {
        /// Which prompt is refused.
        prompt: usize,
        /// How many tokens it forces.
        forced: usize,
        /// The most tokens that are written for it.
        maximum: usize,
    },
    /// A source for a model that reads none.
    #[error("prompt {0} has a source, but the model has no encoder to read it: leave it out")]
    Source(usize),
    /// No source for a model that reads one.
    #[error(
        "prompt {0} has no source, or an empty one, but the model writes from a source: give it"
    )]
    NoSource(usize),
    /// No hypothesis could go on as the rules ask, and none had ended before.
    #[error("prompt {prompt} has no hypothesis that follows the rules: {fault}")]
    Rules {
        /// Which prompt nothing is found for.
        prompt: usize,
        /// Why the last hypothesis could not go on: [`RulesError::DeadEnd`] where no token of the
        /// model could.
        fault: RulesError,
    },
}
