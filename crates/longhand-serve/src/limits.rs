//! Bounds on requests, which can change while the server runs.

use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Bounds on what one request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body. Default: 32 MiB.
    pub body: usize,
    /// Bytes of a snapshot that is imported. Default: 256 MiB.
    pub snapshot: usize,
    /// The time within which a body must have come. Default: 30 seconds.
    pub body_time: Duration,
    /// The time after which an answer is broken off. Default: 10 minutes.
    pub request_time: Duration,
    /// How long a session without a time to live of its own is kept after its last use; none for
    /// ever. Default: none.
    pub ttl: Option<Duration>,
    /// How long the session that a `prompt_cache_key` names is kept after its last use. Default: a day.
    pub cache_key_ttl: Duration,
    /// How long a response is kept, and with it its state. Default: 30 days, as OpenAI has it.
    pub response_ttl: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 32 << 20,
            snapshot: 256 << 20,
            body_time: Duration::from_secs(30),
            request_time: Duration::from_secs(600),
            ttl: None,
            cache_key_ttl: DAY,
            response_ttl: 30 * DAY,
        }
    }
}
