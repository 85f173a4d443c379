//! How a failure reaches a person: one sentence on stderr and an exit code.

use std::fmt;
use std::io;
use std::process::ExitCode;

use longhand_run::RunError;

use crate::hint::hint;
use crate::talk::say;

/// Arguments that are each well-formed but make no sense together: exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Where the product of a verb goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    /// On stdout, line by line.
    Printed,
    /// In a folder, at the end.
    Saved,
}

/// Prints what went wrong and gives the exit code for it.
pub(crate) fn report(error: &anyhow::Error, product: Product) -> ExitCode {
    // A reader that closes its end early, as `head` does, has what it wanted.
    if product == Product::Printed && nobody_reads(error) {
        return ExitCode::SUCCESS;
    }
    say!("error: {}", sentence(error));
    ExitCode::from(if is_usage(error) { 2 } else { 1 })
}

/// Whether the arguments make no sense together.
fn is_usage(error: &anyhow::Error) -> bool {
    let no_table = matches!(error.downcast_ref(), Some(RunError::NoTable { .. }));
    no_table || error.is::<Usage>()
}

/// Whether something could not be written because its reader is gone.
fn nobody_reads(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let error = cause.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// A number within its range, by the flag's name.
pub(crate) fn within(
    flag: &str,
    value: usize,
    range: std::ops::RangeInclusive<usize>,
) -> Result<usize, Usage> {
    if range.contains(&value) {
        return Ok(value);
    }
    let (least, most) = range.into_inner();
    Err(Usage(format!("{flag} is {value}, but must be at least {least} and at most {most}")))
}

/// The error, its causes, and what to do about it.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    if is_of_stdout(error) {
        sentence.push_str("the standard output cannot be written");
    }
    for cause in error.chain().map(ToString::to_string) {
        // An error may tell its cause, in the same words.
        if sentence.contains(&cause) {
            continue;
        }
        if !sentence.is_empty() {
            sentence.push_str(": ");
        }
        sentence.push_str(&cause);
    }
    if let Some(hint) = hint(error) {
        sentence.push_str(": ");
        sentence.push_str(&hint);
    }
    if error.chain().any(is_full) {
        sentence.push_str(
            ": free some space and give the command again, `train` and `finetune` with --resume",
        );
    }
    sentence
}

/// Whether the standard output refused: every file's error names the file, and is
/// not the system's own.
fn is_of_stdout(error: &anyhow::Error) -> bool {
    // An error with a context says itself what it is of.
    let Some(outermost) = error.chain().next() else { return false };
    let system = outermost.downcast_ref::<io::Error>();
    let json = outermost.downcast_ref::<serde_json::Error>();
    system.is_some_and(|error| error.raw_os_error().is_some())
        || json.is_some_and(serde_json::Error::is_io)
}

/// Whether a disk, or what a user may fill of it, has no room left.
fn is_full(cause: &(dyn std::error::Error + 'static)) -> bool {
    let error = cause.downcast_ref::<io::Error>();
    error.is_some_and(|error| {
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_was_told_is_not_told_again() {
        let cause = || anyhow::anyhow!("in use (os error 98)");
        let told = cause().context("the port is taken (in use (os error 98)): name another");
        assert_eq!(sentence(&told), "the port is taken (in use (os error 98)): name another");
        let new = cause().context("the port is taken");
        assert_eq!(sentence(&new), "the port is taken: in use (os error 98)");
    }
}
