//! Threads that run one numeric region at a time, and sleep when there is none.
//!
//! A region starts on every thread at once ([`Cpu::run`]). Inside it threads meet at a barrier
//! ([`Worker::barrier`]), which costs a fraction of a microsecond where they have equal work. A
//! thread that waits, at a barrier or between regions, spins for about fifty microseconds, since
//! the others or the next region usually come at once, and then sleeps. An idle process uses no
//! processor time, and the others do not spin for a thread that has lost its
//! processor to another program.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::barrier::{Apart, Barrier};
use crate::buffer::{Buffer, Buffers};
use crate::gate::Gate;
use crate::level::Level;
use crate::precision::Precision;

/// Zeros that one thread writes at a time.
const ZEROS: usize = 1 << 16;

/// The context of every operation: threads, instruction set, precision of matrix
/// products, and reusable buffers.
pub struct Cpu {
    level: Level,
    precision: Precision,
    shared: Arc<Shared>,
    /// Buffers of the thread that starts a region, locked while a region runs.
    region: Mutex<Buffers>,
    buffers: Mutex<Buffers>,
    threads: Vec<JoinHandle<()>>,
}

/// One thread's view of a running region.
pub struct Worker<'a> {
    /// This thread's number, below [`Worker::threads`].
    pub index: usize,
    /// How many threads run the region.
    pub threads: usize,
    /// The instruction set to use.
    pub level: Level,
    /// The form of the operands of matrix products.
    pub precision: Precision,
    /// Buffers of this thread, kept from region to region.
    pub buffers: &'a mut Buffers,
    barrier: &'a Barrier,
}

impl Cpu {
    /// A processor with `threads` threads (at least one) and the best instruction set it has.
    pub fn new(threads: usize) -> Self {
        Self::with_level(threads, Level::detect())
    }

    /// As [`Cpu::new`] with a chosen instruction set.
    pub fn with_level(threads: usize, level: Level) -> Self {
        Self::with(threads, level, Precision::F32)
    }

    /// As [`Cpu::new`] with operands of matrix products in a chosen form.
    pub fn with_precision(threads: usize, precision: Precision) -> Self {
        Self::with(threads, Level::detect(), precision)
    }

    /// A processor with `threads` threads (at least one, and fewer where the system grants no
    /// more), an instruction set and a form of the operands of matrix products.
    pub fn with(threads: usize, level: Level, precision: Precision) -> Self {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            start: Start { generation: AtomicUsize::new(0), job: JobCell(UnsafeCell::new(None)) },
            remaining: Apart::default(),
            stop: AtomicBool::new(false),
            starting: Gate::default(),
            ending: Gate::default(),
            panic: Mutex::new(None),
            barrier: Barrier::new(threads),
        });
        let [region, buffers] = [(); 2].map(|()| Mutex::new(Buffers::default()));
        let mut cpu = Self { level, precision, shared, region, buffers, threads: Vec::new() };
        for index in 1..threads {
            let shared = cpu.shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("longhand-{index}"))
                .spawn(move || serve(&shared, index, threads, level, precision));
            let Ok(thread) = thread else {
                // Those that have begun wait for this many: they end, and fewer begin.
                let granted = cpu.threads();
                drop(cpu);
                return Self::with(granted, level, precision);
            };
            cpu.threads.push(thread);
        }
        cpu
    }

    /// How many threads run a region.
    pub fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// The instruction set in use.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The form of the operands of matrix products.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The buffers that are used outside of regions and by several of their threads at once:
    /// results, gradients, scratch. To be held for a moment only.
    pub fn buffers(&self) -> MutexGuard<'_, Buffers> {
        lock(&self.buffers)
    }

    /// A buffer of `len` zeros, written by all threads where there are many.
    pub fn zeros(&self, len: usize) -> Buffer {
        let mut buffer = self.buffers().take(len);
        let all = Shards::new(&mut buffer);
        self.for_each(len.div_ceil(ZEROS), |_, i| {
            // SAFETY: each piece is written by one thread.
            unsafe { all.part(i * ZEROS..len.min((i + 1) * ZEROS)) }.fill(0.0);
        });
        buffer
    }

    /// Runs `body` once on every thread and returns when all have ended. A panic in any of them
    /// is raised again here.
    pub fn run(&self, body: impl Fn(&mut Worker) + Sync) {
        let mut buffers = self.enter();
        let threads = self.threads();
        let shared = &*self.shared;
        if threads > 1 {
            let body: &(dyn Fn(&mut Worker) + Sync) = &body;
            // SAFETY: the erased lifetime ends before this function returns, because it waits
            // below until every thread has left the body.
            let job = unsafe { std::mem::transmute::<&(dyn Fn(&mut Worker) + Sync), Job>(body) };
            // SAFETY: no thread reads the job before the generation moves on, and none is left in
            // the region before.
            unsafe { *shared.start.job.0.get() = Some(job) };
            shared.remaining.0.store(threads - 1, Ordering::Relaxed);
            shared.start.generation.fetch_add(1, Ordering::SeqCst);
            shared.starting.open();
        }
        shared.call(0, threads, self.level, self.precision, &mut buffers, &body);
        shared.ending.wait(|| shared.remaining.0.load(Ordering::SeqCst) == 0);
        // Taken before it is raised, so that the processor can be used again.
        let panic = lock(&shared.panic).take();
        if let Some(panic) = panic {
            shared.barrier.reset();
            drop(buffers);
            resume_unwind(panic);
        }
    }

    /// Runs `body(worker, i)` for every `i` below `count`, spread over the threads. Which thread
    /// runs which `i` is not fixed: bodies of different `i` must not depend on each other.
    pub fn for_each(&self, count: usize, body: impl Fn(&mut Worker, usize) + Sync) {
        if count == 1 || self.threads() == 1 {
            let mut buffers = self.enter();
            let barrier = Barrier::new(1);
            let mut worker = Worker {
                index: 0,
                threads: 1,
                level: self.level,
                precision: self.precision,
                buffers: &mut buffers,
                barrier: &barrier,
            };
            (0..count).for_each(|i| body(&mut worker, i));
            return;
        }
        let next = AtomicUsize::new(0);
        self.run(|worker| {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= count {
                    break;
                }
                body(worker, i);
            }
        });
    }

    fn enter(&self) -> MutexGuard<'_, Buffers> {
        lock(&self.region)
    }
}

impl Drop for Cpu {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.starting.open();
        for thread in self.threads.drain(..) {
            // A panic in a region has been raised there already.
            let _ = thread.join();
        }
    }
}

impl Worker<'_> {
    /// Waits until every thread of the region has come here.
    pub fn barrier(&self) {
        self.barrier.wait();
    }

    /// This thread's share of `0..count`: a contiguous range whose bounds are multiples of `block`.
    pub fn share(&self, count: usize, block: usize) -> std::ops::Range<usize> {
        share(count, block, self.index, self.threads)
    }
}

/// Piece `index` of `0..count` cut into `parts`, at multiples of `block`.
pub(crate) fn share(
    count: usize,
    block: usize,
    index: usize,
    parts: usize,
) -> std::ops::Range<usize> {
    let blocks = count.div_ceil(block);
    let bound = |i: usize| (blocks * i / parts * block).min(count);
    bound(index)..bound(index + 1)
}

type Job = &'static (dyn Fn(&mut Worker) + Sync);

struct Shared {
    start: Start,
    /// Threads that have not left the region yet.
    remaining: Apart,
    stop: AtomicBool,
    /// Where threads wait for the next region, or for the stop.
    starting: Gate,
    /// Where the thread that started a region waits for the others to leave it.
    ending: Gate,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    barrier: Barrier,
}

/// The start signal and the job on one cache line: a thread that sees the change has the job.
#[repr(align(64))]
struct Start {
    /// Counts regions; a thread that sees it change takes the job.
    generation: AtomicUsize,
    job: JobCell,
}

/// The job of the running region.
struct JobCell(UnsafeCell<Option<Job>>);

// SAFETY: written by the thread that starts a region, while no other is in one, and read by the
// others after they saw the generation change.
unsafe impl Sync for JobCell {}

impl Shared {
    fn call(
        &self,
        index: usize,
        threads: usize,
        level: Level,
        precision: Precision,
        buffers: &mut Buffers,
        body: &(dyn Fn(&mut Worker) + Sync),
    ) {
        let mut worker =
            Worker { index, threads, level, precision, buffers, barrier: &self.barrier };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(&mut worker))) {
            // Kept before the others hear of it: their panics only follow from this one.
            lock(&self.panic).get_or_insert(panic);
            self.barrier.break_off();
        }
    }
}

fn serve(shared: &Shared, index: usize, threads: usize, level: Level, precision: Precision) {
    let mut buffers = Buffers::default();
    let mut seen = 0;
    loop {
        shared.starting.wait(|| {
            shared.start.generation.load(Ordering::SeqCst) != seen
                || shared.stop.load(Ordering::SeqCst)
        });
        if shared.start.generation.load(Ordering::Acquire) == seen {
            return;
        }
        seen = shared.start.generation.load(Ordering::Acquire);
        // SAFETY: the region that is now running was begun after its job was written, and cannot
        // end before this thread has left it.
        if let Some(job) = unsafe { *shared.start.job.0.get() } {
            shared.call(index, threads, level, precision, &mut buffers, job);
        }
        if shared.remaining.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            shared.ending.open();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held leaves nothing half-written: every use is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A slice that several threads write at once, each its own part.
pub(crate) struct Shards<'a, T> {
    start: *mut T,
    len: usize,
    lifetime: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: parts handed out by `part` are disjoint from each other and from what is read, by the
// contracts of the functions, so threads share an element to read it at most.
unsafe impl<T: Send + Sync> Sync for Shards<'_, T> {}
// SAFETY: as above; the pointer comes from an exclusive borrow.
unsafe impl<T: Send> Send for Shards<'_, T> {}

impl<'a, T> Shards<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), lifetime: std::marker::PhantomData }
    }

    /// The first element, for parts that are no ranges: columns of a matrix.
    pub(crate) fn pointer(&self) -> *mut T {
        self.start
    }

    /// How many elements there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The elements of `range`, to be read; several threads may read the same.
    ///
    /// # Safety
    /// No live part, on any thread, may overlap `range`.
    pub(crate) unsafe fn read(&self, range: std::ops::Range<usize>) -> &'a [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part out of bounds");
        // SAFETY: in bounds by the assertion, and not written by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.start.add(range.start), range.len()) }
    }

    /// All elements, to be read; see [`Shards::read`].
    ///
    /// # Safety
    /// No part may be live on any thread.
    pub(crate) unsafe fn whole(&self) -> &'a [T] {
        // SAFETY: the caller's promise.
        unsafe { self.read(0..self.len) }
    }

    /// The elements of `range`, to be written.
    ///
    /// # Safety
    /// No other live part or read slice, on any thread, may overlap `range`.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn part(&self, range: std::ops::Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part out of bounds");
        // SAFETY: in bounds by the assertion, disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_runs_each_region_and_meets_the_others() {
        for threads in [1, 2, 3, 5] {
            let cpu = Cpu::new(threads);
            let mut totals = vec![0usize; threads];
            for round in 0..200 {
                let arrived = AtomicUsize::new(0);
                let shards = Shards::new(&mut totals);
                cpu.run(|worker| {
                    for step in 1..=5 {
                        arrived.fetch_add(1, Ordering::Relaxed);
                        worker.barrier();
                        assert_eq!(arrived.load(Ordering::Relaxed), step * threads);
                        worker.barrier();
                    }
                    // SAFETY: one element per thread.
                    let own = unsafe { shards.part(worker.index..worker.index + 1) };
                    own[0] += 1;
                });
                assert!(totals.iter().all(|&total| total == round + 1));
            }
        }
    }

    #[test]
    fn for_each_visits_each_index_once() {
        let cpu = Cpu::new(3);
        for count in [0, 1, 2, 7, 100] {
            let mut visits = vec![0u8; count];
            let shards = Shards::new(&mut visits);
            cpu.for_each(count, |_, i| {
                // SAFETY: each index is visited by one thread.
                let own = unsafe { shards.part(i..i + 1) };
                own[0] += 1;
            });
            assert!(visits.iter().all(|&v| v == 1));
        }
    }

    #[test]
    fn a_panic_is_raised_again_and_the_threads_live_on() {
        let cpu = Cpu::new(2);
        for _ in 0..3 {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                cpu.run(|worker| {
                    assert!(worker.index != 1, "asked for");
                    worker.barrier();
                });
            }));
            assert!(caught.is_err());
        }
        let count = AtomicUsize::new(0);
        cpu.run(|worker| {
            worker.barrier();
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn shares_cover_everything_once() {
        for (count, block, parts) in [(0, 1, 2), (1, 6, 2), (100, 16, 3), (7, 1, 9)] {
            let mut next = 0;
            for i in 0..parts {
                let range = share(count, block, i, parts);
                assert_eq!(range.start, next);
                next = range.end;
            }
            assert_eq!(next, count);
        }
    }
}
