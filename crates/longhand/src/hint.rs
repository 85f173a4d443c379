//! What to do about an error, in terms of the command line's flags.

use longhand_run::RunError;

/// The remedy for an error, if flags can help.
pub(crate) fn hint(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| cause.downcast_ref::<RunError>()).and_then(of_run)
}

fn of_run(error: &RunError) -> Option<&'static str> {
    match error {
        RunError::Named { source, .. } => of_run(source),
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
