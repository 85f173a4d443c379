//! The threads of a tokeniser.

use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

/// Runs work on a given number of threads and on no others. Clones share the threads, which start
/// with the first work that needs them.
#[derive(Clone)]
pub(super) struct Workers {
    threads: NonZeroUsize,
    pool: Arc<OnceLock<Option<rayon::ThreadPool>>>,
}

impl Workers {
    /// Workers on `threads` threads; one thread for each core where none is given.
    pub(super) fn new(threads: Option<NonZeroUsize>) -> Self {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self { threads: threads.unwrap_or_else(cores), pool: Arc::default() }
    }

    /// The results of `work` for all items, in the order of the items.
    pub(super) fn map<T: Sync, R: Send>(
        &self,
        items: &[T],
        work: impl Fn(&T) -> R + Sync + Send,
    ) -> Vec<R> {
        if self.threads.get() == 1 || items.len() < 2 {
            return items.iter().map(work).collect();
        }
        self.install(|| items.par_iter().map(&work).collect())
    }

    /// Runs `work` so that the parallel loops of the library within it use these threads.
    pub(super) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let pool = self.pool.get_or_init(|| {
            let builder = rayon::ThreadPoolBuilder::new().num_threads(self.threads.get());
            // Where the system gives no more threads, the work runs all the same.
            builder.thread_name(|number| format!("tokeniser-{number}")).build().ok()
        });
        match pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn work_keeps_its_order_and_its_number_of_threads() {
        let items: Vec<usize> = (0..1000).collect();
        for threads in 1..4 {
            let workers = Workers::new(NonZeroUsize::new(threads));
            let seen = Mutex::new(HashSet::new());
            let squares = workers.map(&items, |item| {
                seen.lock().unwrap().insert(std::thread::current().id());
                item * item
            });
            assert!(squares.iter().enumerate().all(|(item, square)| item * item == *square));
            assert!(seen.lock().unwrap().len() <= threads);
            assert_eq!(workers.install(rayon::current_num_threads), threads);
        }
    }
}
