//! Lines on stderr, for the person at the terminal.

use std::fmt;
use std::io::{self, Write};

/// Prints a line on stderr, as `eprintln!` does, which panics where nobody reads stderr any more.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::talk::line(format_args!($($words)*))
    };
}
pub(crate) use say;

/// The function behind [`say`], one line at a time.
pub(crate) fn line(words: fmt::Arguments) {
    // Whoever closed stderr wants to hear nothing, and the work goes on.
    let _ = writeln!(io::stderr().lock(), "{words}");
}
