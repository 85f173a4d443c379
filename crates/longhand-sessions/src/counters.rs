//! What an operator watches, counted without locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

/// Durations, counted in classes that each are bounded above.
#[derive(Debug)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// The sum of all durations, in nanoseconds.
    nanoseconds: AtomicU64,
}

/// Upper bounds of a histogram's classes, in seconds.
const BOUNDS: [f64; 16] = [
    0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
];

/// The counters of a store of sessions, and of all hosts that use it.
#[derive(Debug, Default)]
pub struct Counters {
    /// Jobs that a host took: each of them ends, and is counted then too.
    pub accepted: Counter,
    /// Jobs that ended with a result.
    pub finished: Counter,
    /// Jobs that ended with an error that is none of the following.
    pub failed: Counter,
    /// Jobs that were given up by whoever asked for them.
    pub cancelled: Counter,
    /// Jobs that ran out of time.
    pub deadline: Counter,
    /// Jobs refused because too many were waiting, or their states filled the memory.
    pub refused_busy: Counter,
    /// Prompt tokens that a model read.
    pub tokens_read: Counter,
    /// Prompt tokens that were in a state already.
    pub tokens_reused: Counter,
    /// Tokens that a model wrote.
    pub tokens_written: Counter,
    /// Decode steps, each of any number of streams.
    pub steps: Counter,
    /// Streams of all decode steps: divided by [`Counters::steps`], the mean size of a batch.
    pub step_rows: Counter,
    /// Streams that are writing.
    pub streams: Gauge,
    /// Jobs accepted and not ended.
    pub jobs: Gauge,
    /// Prompts whose beginning was in the state cache.
    pub cache_hits: Counter,
    /// Prompts of which nothing was.
    pub cache_misses: Counter,
    /// States that left the cache for others.
    pub cache_evictions: Counter,
    /// Bytes of the states in the cache.
    pub cache_bytes: Gauge,
    /// States of sessions in memory.
    pub sessions_hot: Gauge,
    /// Bytes of those states.
    pub sessions_hot_bytes: Gauge,
    /// Sessions in the store; where other processes share it, those of the last sweep and what this
    /// one has changed since.
    pub sessions_stored: Gauge,
    /// Bytes of the sessions and documents in the store, counted like those.
    pub sessions_stored_bytes: Gauge,
    /// States read from the store, because they were not in memory.
    pub session_loads: Counter,
    /// States written to the store.
    pub session_saves: Counter,
    /// Durable commits of the store; each may hold many saves.
    pub commits: Counter,
    /// Restored states of sessions that were recomputed from their tokens.
    pub verified: Counter,
    /// Those of them that differed in some bit.
    pub verify_failures: Counter,
    /// States of the cache that were recomputed from their tokens.
    pub cache_verified: Counter,
    /// Those of the cache that differed in some bit.
    pub cache_verify_failures: Counter,
    /// Seconds from a job's acceptance to its first token.
    pub first_token: Histogram,
    /// Seconds from one token of a stream to the next.
    pub per_token: Histogram,
}

impl Counters {
    /// Counters that begin at zero.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }
}

impl Counter {
    /// The number so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}

impl Gauge {
    /// The number at this moment.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds a change, and stays at 0 where it would be less.
    pub(crate) fn change(&self, by: i64) {
        let change = |value: u64| Some(value.saturating_add_signed(by));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }
}

impl Histogram {
    /// Upper bounds of the classes, in seconds, rising. One more class has no bound.
    pub fn bounds(&self) -> &'static [f64] {
        &BOUNDS
    }

    /// How many durations each class has, not summed up; one more than there are bounds.
    pub fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// How many durations there are.
    pub fn count(&self) -> u64 {
        self.counts().iter().sum()
    }

    /// The sum of all durations, in seconds.
    pub fn sum(&self) -> f64 {
        self.nanoseconds.load(Ordering::Relaxed) as f64 * 1e-9
    }

    pub(crate) fn record(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let class = BOUNDS.partition_point(|&bound| bound < seconds);
        self.counts[class].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU64::new(0)), nanoseconds: AtomicU64::new(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_class_that_bounds_it() {
        let histogram = Histogram::default();
        for milliseconds in [0, 1, 3, 60_000, 100_000] {
            histogram.record(Duration::from_millis(milliseconds));
        }
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[1], counts[3], counts[15], counts[16]), (1, 1, 1, 1, 1));
        assert_eq!(histogram.count(), 5);
        assert!((histogram.sum() - 160.004).abs() < 1e-6);
        let gauge = Gauge::default();
        gauge.change(3);
        gauge.change(-5);
        assert_eq!(gauge.get(), 0);
    }
}
