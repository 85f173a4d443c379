//! Time of day that does not jump.
//!
//! Within a process, time goes on by the monotonic clock from the time of day at its start, so that a
//! clock that is set forward or back while a server runs makes no session expire and none live
//! longer. Across restarts the time of day counts, but never less than the newest time that the store
//! knows: a clock that was set back makes nothing expire either, and the order of uses stays. Time
//! that passes while no process runs counts as far as the clock shows it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, never less than before.
pub(crate) struct Clock {
    begun: Instant,
    /// The time at `begun`.
    base: u64,
    /// Milliseconds that tests let pass.
    ahead: AtomicU64,
}

impl Clock {
    /// A clock that begins now, or at the newest time that is known, whichever is later.
    pub(crate) fn new(newest: u64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::at(milliseconds(now), newest)
    }

    /// A clock that begins at the time of a store that several processes share.
    pub(crate) fn of_store(now: u64) -> Self {
        Self::at(now, 0)
    }

    fn at(now: u64, newest: u64) -> Self {
        Self { begun: Instant::now(), base: now.max(newest), ahead: AtomicU64::new(0) }
    }

    pub(crate) fn now(&self) -> u64 {
        self.base + milliseconds(self.begun.elapsed()) + self.ahead.load(Ordering::Relaxed)
    }

    /// Lets time pass in a test.
    #[cfg(test)]
    pub(crate) fn pass(&self, time: Duration) {
        self.ahead.fetch_add(milliseconds(time), Ordering::Relaxed);
    }
}

/// A duration in milliseconds, as long as counts allow.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_goes_on_from_the_newest_time() {
        let clock = Clock::at(1_000, 5_000);
        assert!((5_000..6_000).contains(&clock.now()));
        clock.pass(Duration::from_secs(2));
        assert!((7_000..8_000).contains(&clock.now()));
        assert!((9_000..10_000).contains(&Clock::at(9_000, 5_000).now()));
    }
}
