//! What to do about an error, in terms of the command line's flags.

use longhand_engine::EngineError;
use longhand_run::RunError;
use longhand_tasks::TaskError;
use longhand_text::TextError;
use longhand_text::corpus::RowFault;
use longhand_train::TrainError;

/// The remedy for an error, if flags can help.
pub(crate) fn hint(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        let run = cause.downcast_ref().and_then(of_run);
        let engine = || match cause.downcast_ref()? {
            EngineError::Text(error) => of_text(error),
            _ => None,
        };
        run.or_else(engine).or_else(|| cause.downcast_ref().and_then(of_text))
    })
}

fn of_run(error: &RunError) -> Option<&'static str> {
    match error {
        RunError::Named { source, .. } => of_run(source),
        RunError::Text(error)
        | RunError::Task(TaskError::Text(error))
        | RunError::Train(TrainError::Text(error))
        | RunError::Engine(EngineError::Text(error)) => of_text(error),
        RunError::OutputIsFile(_) => Some("pass it with --out"),
        RunError::OutputNotEmpty(_) => {
            Some("pass --force to overwrite it, --resume to go on with its run, or another --out")
        }
        RunError::OutputLocked { .. } => Some("wait for it or stop it, or name another --out"),
        RunError::OutputForeign { .. } => Some("name another --out"),
        RunError::OutputIsBase(_) => Some("name another --out, so that it stays"),
        RunError::NoTable { .. } => {
            Some("say with --format which one the text is, or leave out --text-column")
        }
        _ => None,
    }
}

fn of_text(error: &TextError) -> Option<&'static str> {
    match error {
        TextError::Binary { .. } => Some("pass --lossy to replace such bytes"),
        TextError::InvalidUtf8 { .. } => {
            Some("convert it, or pass --lossy to replace invalid bytes")
        }
        TextError::Row { fault: RowFault::LoneSurrogate, .. } => {
            Some("correct it, or pass --lossy to replace it")
        }
        TextError::Row { fault: RowFault::NotAnObject, .. } => {
            Some("give one object a line, or say with --format which table it is")
        }
        TextError::Row { fault: RowFault::MaybeHeader(_), .. } => {
            Some("pass --header yes or --header no")
        }
        _ => None,
    }
}
