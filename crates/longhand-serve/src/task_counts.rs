//! What models of tasks have done, counted as hosts count their jobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use longhand_tasks::predictor::Tokens;

/// The numbers of all models of tasks of one server.
#[derive(Default)]
pub(crate) struct TaskCounts {
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) finished: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) overdue: AtomicU64,
    pub(crate) waiting: AtomicU64,
    pub(crate) read: AtomicU64,
    pub(crate) written: AtomicU64,
}

/// How a request to a model of a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With its answers.
    Finished,
    /// With an error.
    Failed,
    /// Its client left before.
    Cancelled,
    /// Its time was over.
    Overdue,
}

/// A request that waits for the thread of its model, until this is dropped.
pub(crate) struct Waiting(Arc<TaskCounts>);

impl TaskCounts {
    /// A request was taken.
    pub(crate) fn accept(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was not taken, because too many wait.
    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A request that was taken has ended.
    pub(crate) fn end(&self, end: End) {
        let count = match end {
            End::Finished => &self.finished,
            End::Failed => &self.failed,
            End::Cancelled => &self.cancelled,
            End::Overdue => &self.overdue,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Tokens were read and written.
    pub(crate) fn tokens(&self, tokens: Tokens) {
        self.read.fetch_add(tokens.read, Ordering::Relaxed);
        self.written.fetch_add(tokens.written, Ordering::Relaxed);
    }
}

impl Waiting {
    /// One more request waits.
    pub(crate) fn new(counts: &Arc<TaskCounts>) -> Self {
        counts.waiting.fetch_add(1, Ordering::Relaxed);
        Self(counts.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
