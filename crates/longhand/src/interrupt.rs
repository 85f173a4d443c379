//! Ctrl-C: the first ends the work in order, the second the process.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::talk::say;

/// A flag that Ctrl-C sets; `wake` is then called, for work that waits for something else. A
/// second Ctrl-C ends the process at once.
pub(crate) fn stop_flag(wake: impl Fn() + Send + 'static) -> Result<&'static AtomicBool> {
    static STOP: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(1);
        }
        say!("saving, then stopping; once more to stop at once");
        wake();
    })
    .context("the system refuses a handler for Ctrl-C")?;
    Ok(&STOP)
}
