//! The meeting point of the threads of a region.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::gate::Gate;

/// A counter on a cache line of its own, so that threads that watch one do not disturb another.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Apart(pub(crate) AtomicUsize);

/// A barrier that counts its rounds.
pub(crate) struct Barrier {
    arrived: Apart,
    round: Apart,
    /// A thread of the region has panicked and will not arrive.
    broken: AtomicBool,
    gate: Gate,
    /// Threads that meet here.
    threads: usize,
}

impl Barrier {
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            arrived: Apart::default(),
            round: Apart::default(),
            broken: AtomicBool::new(false),
            gate: Gate::default(),
            threads,
        }
    }

    /// Waits until every thread has arrived. Panics if another thread has broken the barrier, since
    /// that thread will not arrive.
    pub(crate) fn wait(&self) {
        if self.threads == 1 {
            return;
        }
        let round = self.round.0.load(Ordering::Acquire);
        if self.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.arrived.0.store(0, Ordering::Relaxed);
            self.round.0.store(round.wrapping_add(1), Ordering::SeqCst);
            self.gate.open();
            return;
        }
        let met = || self.round.0.load(Ordering::SeqCst) != round;
        self.gate.wait(|| met() || self.broken.load(Ordering::SeqCst));
        assert!(met(), "another thread of this region panicked");
    }

    /// Tells the waiting threads that this one will not arrive.
    pub(crate) fn break_off(&self) {
        self.broken.store(true, Ordering::SeqCst);
        self.gate.open();
    }

    /// Makes a broken barrier ready for the next region, after all threads have left this one.
    pub(crate) fn reset(&self) {
        self.arrived.0.store(0, Ordering::Release);
        self.broken.store(false, Ordering::Release);
    }
}
