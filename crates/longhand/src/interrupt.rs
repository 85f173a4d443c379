//! Ctrl-C: the first ends the work in order, the second the process.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::talk::say;

/// Set by the first Ctrl-C after [`listen`], and in each turn after [`listen_in_turns`].
pub(crate) static STOP: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C sets [`STOP`]; `wake` is then called, for work that waits for something else.
/// A second Ctrl-C ends the process at once.
pub(crate) fn listen(wake: impl Fn() + Send + 'static) -> Result<()> {
    listen_saying("saving, then stopping; once more to stop at once", wake)
}

/// As [`listen`], for work that the first Ctrl-C answers with other `words`.
pub(crate) fn listen_saying(words: &'static str, wake: impl Fn() + Send + 'static) -> Result<()> {
    // A process has one handler: of several runs the first installs it.
    static LISTENS: AtomicBool = AtomicBool::new(false);
    if LISTENS.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    ctrlc::set_handler(move || {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(1);
        }
        say!("{words}");
        wake();
    })
    .context("the system refuses a handler for Ctrl-C")
}

/// Whether an answer is being written.
static IN_TURN: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C during [`during_turn`] sets [`STOP`]; at any other time, and the second time
/// in one turn, it ends the process.
pub(crate) fn listen_in_turns() -> Result<()> {
    ctrlc::set_handler(move || {
        if !IN_TURN.load(Ordering::Relaxed) || STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(1);
        }
    })
    .context("the system refuses a handler for Ctrl-C")
}

/// Does work that a Ctrl-C after [`listen_in_turns`] ends.
pub(crate) fn during_turn<R>(work: impl FnOnce() -> R) -> R {
    STOP.store(false, Ordering::Relaxed);
    IN_TURN.store(true, Ordering::Relaxed);
    let result = work();
    IN_TURN.store(false, Ordering::Relaxed);
    result
}
