//! Whether the thread of a language model still works. Only a fault of the program, a panic, ends it
//! while its host is there; the host then refuses every job, as one does that is being stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use longhand_engine::Reader;
use longhand_sessions::{Host, JobError};

/// What is known of the thread of one host. A clone knows the same.
#[derive(Clone, Default)]
pub(crate) struct Liveness(Arc<Known>);

#[derive(Default)]
struct Known {
    /// A panic went through a job, or a job was not taken.
    is_doubted: AtomicBool,
    has_ended: AtomicBool,
}

/// Goes with a job to its thread, and raises doubts where a panic drops it.
pub(crate) struct Witness(Liveness);

impl Liveness {
    /// Something points to the end of the thread.
    pub(crate) fn doubt(&self) {
        self.0.is_doubted.store(true, Ordering::Relaxed);
    }

    /// A witness for a job.
    pub(crate) fn witness(&self) -> Witness {
        Witness(self.clone())
    }

    /// Whether the thread of the host has ended. Nothing is asked of the host before there are doubts,
    /// because what is asked counts as a job.
    pub(crate) fn has_ended(&self, host: &Host) -> bool {
        let Known { is_doubted, has_ended } = &*self.0;
        if !is_doubted.load(Ordering::Relaxed) || has_ended.load(Ordering::Relaxed) {
            return has_ended.load(Ordering::Relaxed);
        }
        let refused = host.run(Box::new(|_: &mut Reader| {}));
        let is_closed = matches!(refused, Err(JobError::Draining));
        has_ended.store(is_closed, Ordering::Relaxed);
        is_closed
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.doubt();
        }
    }
}
