//! Ctrl-C: the first ends the work in order, the second the process.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::talk::say;

/// Set by the first Ctrl-C after [`listen`].
pub(crate) static STOP: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C sets [`STOP`]; `wake` is then called, for work that waits for something else.
/// A second Ctrl-C ends the process at once.
pub(crate) fn listen(wake: impl Fn() + Send + 'static) -> Result<()> {
    ctrlc::set_handler(move || {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(1);
        }
        say!("saving, then stopping; once more to stop at once");
        wake();
    })
    .context("the system refuses a handler for Ctrl-C")
}
