//! Waiting for another thread: first spinning, then asleep.
//!
//! Threads with equal work meet within microseconds, and a system call would cost more than the
//! wait. A thread that waits longer has probably lost its partner's processor to another program.
//! It then sleeps, which leaves its own processor to the partner. Yielding instead would hand the
//! processor to the other program for a whole time slice at every meeting.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// Rounds of the spinning wait before a thread sleeps: about fifty microseconds.
const SPINS: usize = 2_000;

/// A place where threads wait for a condition that other threads make true.
#[derive(Default)]
pub(crate) struct Gate {
    /// Threads that sleep, or are about to.
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Gate {
    /// Waits until `passed()` holds. It is evaluated many times, and must read
    /// its atomics with [`Ordering::SeqCst`].
    pub(crate) fn wait(&self, passed: impl Fn() -> bool) {
        for _ in 0..SPINS {
            if passed() {
                return;
            }
            std::hint::spin_loop();
        }
        let mut asleep = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // Either this thread sees below that the condition holds, or `open` sees that it sleeps:
        // both orders are sequentially consistent.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while !passed() {
            asleep = self.wake.wait(asleep).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes the waiting threads. Before the call, a store with [`Ordering::SeqCst`] must
    /// make their condition true.
    pub(crate) fn open(&self) {
        // Waking is a system call: left out while the threads still spin.
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// The waiter is asleep before the condition becomes true.
    #[test]
    fn a_sleeping_thread_is_woken() {
        let (gate, open) = (Gate::default(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| gate.wait(|| open.load(Ordering::SeqCst)));
            while gate.sleepers.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            assert!(!waiter.is_finished());
            open.store(true, Ordering::SeqCst);
            gate.open();
            waiter.join().unwrap();
        });
        assert_eq!(gate.sleepers.load(Ordering::SeqCst), 0);
    }

    /// Two threads take turns, so that either of them must find every change of the other.
    #[test]
    fn no_change_is_missed_over_many_turns() {
        let (gates, turn) = ([Gate::default(), Gate::default()], AtomicUsize::new(0));
        let play = |own: usize| {
            for round in 0..20_000 {
                let mine = 2 * round + own;
                gates[own].wait(|| turn.load(Ordering::SeqCst) == mine);
                turn.store(mine + 1, Ordering::SeqCst);
                gates[1 - own].open();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| play(0));
            play(1);
        });
        assert_eq!(turn.load(Ordering::SeqCst), 40_000);
    }
}
