//! What happened to one request.

use std::fmt;
use std::time::Duration;

/// One request and how it went.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// From when it was due to its first text; none where none came, or the answer came whole.
    pub(super) first_token: Option<Duration>,
    /// Between a piece of text and the one before it.
    pub(super) between: Vec<Duration>,
    /// From when it was due to its end.
    pub(super) whole: Duration,
    pub(super) end: End,
    pub(super) usage: Usage,
    /// The server's sentence, where it refused.
    pub(super) refusal: Option<String>,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// With a whole answer.
    Answered,
    /// With this status instead of 200.
    Status(u16),
    /// No connection could be had.
    Unreachable,
    /// No end within the time.
    TimedOut,
    /// The stream ended before its end, or with an error.
    Broken,
}

/// Tokens, as the server counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Tokens of the prompt.
    pub(super) prompt: u64,
    /// Of those, how many the server did not compute again.
    pub(super) cached: u64,
    /// Tokens of the answer.
    pub(super) written: u64,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered => f.write_str("200"),
            Self::Status(status) => write!(f, "{status}"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Broken => f.write_str("broken off"),
        }
    }
}
