//! How many jobs a host has, and whether it takes more.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::counters::Counters;
use crate::error::JobError;

/// Where jobs come in.
pub(crate) struct Gate {
    limit: usize,
    /// Jobs that run side by side.
    streams: usize,
    inside: Mutex<Inside>,
    /// Told when a job has ended.
    left: Condvar,
    draining: AtomicBool,
    interrupted: AtomicBool,
    counters: Arc<Counters>,
    /// What the worker has: jobs that wait, that read, and streams that write.
    pub(crate) waiting: AtomicUsize,
    pub(crate) reading: AtomicUsize,
    pub(crate) writing: AtomicUsize,
}

struct Inside {
    jobs: usize,
    /// A moving mean of how long a job takes, in seconds.
    mean: f64,
}

/// The place of one job. Dropping it makes room for another.
pub(crate) struct Permit {
    gate: Arc<Gate>,
    /// When the job came; none for one that was refused, whose time says nothing of how long jobs take.
    begun: Option<Instant>,
}

/// Weight of the last job in the mean.
const WEIGHT: f64 = 0.1;
/// Bounds of the time after which a refused client is told to ask again.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(30);

impl Gate {
    pub(crate) fn new(limit: usize, streams: usize, counters: &Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            limit,
            streams,
            inside: Mutex::new(Inside { jobs: 0, mean: 1.0 }),
            left: Condvar::new(),
            draining: AtomicBool::new(false),
            interrupted: AtomicBool::new(false),
            counters: counters.clone(),
            waiting: AtomicUsize::new(0),
            reading: AtomicUsize::new(0),
            writing: AtomicUsize::new(0),
        })
    }

    /// Lets a job in.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Permit, JobError> {
        let mut inside = self.inside();
        if self.draining.load(Ordering::SeqCst) {
            return Err(JobError::Draining);
        }
        if inside.jobs >= self.limit {
            self.counters.refused_busy.add(1);
            return Err(JobError::Busy { wait: self.pause(&inside) });
        }
        inside.jobs += 1;
        self.counters.jobs.change(1);
        Ok(Permit { gate: self.clone(), begun: Some(Instant::now()) })
    }

    /// The time after which one of the streams ends, on the mean.
    fn pause(&self, inside: &Inside) -> Duration {
        let seconds = inside.mean / self.streams as f64;
        let wait = Duration::from_secs_f64(seconds.clamp(0.0, LONGEST.as_secs_f64()));
        wait.clamp(SHORTEST, LONGEST)
    }

    /// Lets no job in any more.
    pub(crate) fn close(&self) {
        // Under the lock, so that whoever entered before is counted.
        let _inside = self.inside();
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Waits until all jobs have ended, and gives how many have not.
    pub(crate) fn wait(&self, within: Duration) -> usize {
        let inside = self.inside();
        let waited = self.left.wait_timeout_while(inside, within, |inside| inside.jobs > 0);
        waited.unwrap_or_else(PoisonError::into_inner).0.jobs
    }

    /// Asks the worker to end all jobs where they are.
    pub(crate) fn interrupt(&self) {
        self.interrupted.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Refuses the job, for whose state there is no memory.
    pub(crate) fn refuse(mut self) -> JobError {
        self.begun = None;
        self.gate.counters.refused_busy.add(1);
        let wait = self.gate.pause(&self.gate.inside());
        JobError::Memory { wait }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut inside = self.gate.inside();
        inside.jobs -= 1;
        if let Some(begun) = self.begun {
            inside.mean += WEIGHT * (begun.elapsed().as_secs_f64() - inside.mean);
        }
        self.gate.counters.jobs.change(-1);
        self.gate.left.notify_all();
    }
}
