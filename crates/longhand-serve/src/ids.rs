//! Names of answers, and the time.

use std::time::{SystemTime, UNIX_EPOCH};

/// A name that no other answer has: a prefix and 128 random bits.
pub(crate) fn random_id(prefix: &str) -> String {
    format!("{prefix}{:032x}", rand::random::<u128>())
}

/// Seconds since 1970; 0 for a clock that is set before it.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
