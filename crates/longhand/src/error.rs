//! How a failure reaches a person: one sentence on stderr and an exit code.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use longhand_engine::EngineError;
use longhand_model::AdapterError;
use longhand_run::{RecipeError, RunError, TuningError};
use longhand_tasks::{BaselineError, TaskError};
use longhand_train::TrainError;

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

impl Error for Usage {}

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

/// Whether the arguments make no sense together, which may be found out once the files are read.
fn is_usage(error: &anyhow::Error) -> bool {
    error.is::<Usage>()
        || error.downcast_ref().is_some_and(is_usage_of_run)
        || error.downcast_ref().is_some_and(is_usage_of_training)
        || error.downcast_ref().is_some_and(is_usage_of_task)
        || error.downcast_ref().is_some_and(is_usage_of_engine)
        || error.downcast_ref().is_some_and(is_usage_of_adapters)
}

fn is_usage_of_run(error: &RunError) -> bool {
    match error {
        RunError::Named { source, .. } => is_usage_of_run(source),
        RunError::Task(error) => is_usage_of_task(error),
        RunError::Train(error) => is_usage_of_training(error),
        RunError::Tuning(error) => matches!(
            error,
            TuningError::NoBase(_)
                | TuningError::Groups(_)
                | TuningError::Unused { .. }
                | TuningError::Unfreeze
                | TuningError::Epochs
        ),
        RunError::Recipe(RecipeError::Unfit { .. })
        | RunError::NoTable { .. }
        | RunError::NoExamples
        | RunError::Members(_)
        | RunError::SelfTraining(_)
        | RunError::Folds(_)
        | RunError::NothingToRehearse
        | RunError::FrozenRehearsal
        | RunError::SmoothedCrf
        | RunError::VectorsOfWords(_)
        | RunError::VectorsWithBase
        | RunError::NgramTask
        | RunError::NoEncoder
        | RunError::Encoder
        | RunError::MembersWrite(_) => true,
        _ => false,
    }
}

fn is_usage_of_training(error: &TrainError) -> bool {
    match error {
        TrainError::Objective(error) => error.downcast_ref().is_some_and(is_usage_of_task),
        _ => false,
    }
}

fn is_usage_of_engine(error: &EngineError) -> bool {
    matches!(error, EngineError::Adapter(error) if is_usage_of_adapters(error))
}

fn is_usage_of_adapters(error: &AdapterError) -> bool {
    matches!(error, AdapterError::SameName(_))
}

fn is_usage_of_task(error: &TaskError) -> bool {
    match error {
        TaskError::Adapter(error) => is_usage_of_adapters(error),
        TaskError::Engine(error) => is_usage_of_engine(error),
        TaskError::Baseline(error) => matches!(
            error,
            BaselineError::Setting { .. }
                | BaselineError::NoSetting { .. }
                | BaselineError::Task(_)
                | BaselineError::Label { .. }
                | BaselineError::Tags { .. }
                | BaselineError::Writes { .. }
                | BaselineError::Measured { .. }
                | BaselineError::Alone(_)
                | BaselineError::Unused { .. }
        ),
        TaskError::Setting { .. }
        | TaskError::NoSetting { .. }
        | TaskError::NeedlessTargets { .. }
        | TaskError::NothingHeldOut
        | TaskError::NoAlignment
        | TaskError::SentencesAligned
        | TaskError::NoUnknown(_) => true,
        _ => false,
    }
}

/// Whether the standard output could not be written because its reader is gone. The error of a file, which
/// may be a pipe too, holds one that names it.
fn nobody_reads(error: &anyhow::Error) -> bool {
    let found = error.chain().find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return Some((error.kind(), error.get_ref().is_some()));
        }
        // It does not name the error of the system as its cause, but that of a file.
        let error = cause.downcast_ref::<serde_json::Error>()?;
        Some((error.io_error_kind()?, error.source().is_some()))
    });
    found == Some((io::ErrorKind::BrokenPipe, false))
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
fn is_full(cause: &(dyn Error + 'static)) -> bool {
    let error = cause.downcast_ref::<io::Error>();
    error.is_some_and(|error| {
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_make_no_sense_together_are_usage_however_late_they_are_found() {
        let late = RunError::Task(BaselineError::Task("chat").into()).into();
        assert!(is_usage(&late) && is_usage(&RunError::SmoothedCrf.into()));
        assert!(is_usage(&TaskError::NothingHeldOut.into()));
        let twice = || AdapterError::SameName("tone".into());
        assert!(is_usage(&EngineError::Adapter(twice()).into()) && is_usage(&twice().into()));
        assert!(is_usage(&TaskError::Adapter(twice()).into()));
        assert!(!is_usage(&EngineError::Adapter(AdapterError::NoFolder("a".into())).into()));
        let measured = TrainError::from(TaskError::NoAlignment);
        assert!(is_usage(&measured.into()));
        let of_data = TaskError::EmptyFile("a.tsv".into());
        assert!(!is_usage(&RunError::Task(of_data).into()) && !is_usage(&anyhow::anyhow!("a")));
    }

    #[test]
    fn a_reader_that_is_gone_is_known_in_json_too() {
        struct Gone;
        impl io::Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(nobody_reads(&io::Error::from(io::ErrorKind::BrokenPipe).into()));
        assert!(nobody_reads(&serde_json::to_writer(Gone, &1).unwrap_err().into()));
        assert!(!nobody_reads(&io::Error::from(io::ErrorKind::StorageFull).into()));
        // The reader of a file that is a pipe is another matter.
        let gone = io::Error::from(io::ErrorKind::BrokenPipe);
        let named = io::Error::new(gone.kind(), anyhow::Error::from(gone).context("page.html"));
        assert!(!nobody_reads(&named.into()));
    }

    #[test]
    fn a_cause_that_was_told_is_not_told_again() {
        let cause = || anyhow::anyhow!("in use (os error 98)");
        let told = cause().context("the port is taken (in use (os error 98)): name another");
        assert_eq!(sentence(&told), "the port is taken (in use (os error 98)): name another");
        let new = cause().context("the port is taken");
        assert_eq!(sentence(&new), "the port is taken: in use (os error 98)");
    }
}
