//! Logs of a run: TensorBoard event files and JSON lines.

mod json_lines;
mod tensorboard;

pub use json_lines::JsonLines;
pub use tensorboard::EventWriter;

/// Why a line or an event could not be logged.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The folder, file or pipe refused; the message names it where it has a name.
    #[error("cannot write the training log")]
    Write(#[from] std::io::Error),
    /// A value has no form in JSON (a map whose keys are not strings, say).
    #[error("cannot write the training log: the entry has no form in JSON")]
    Json(#[from] serde_json::Error),
    /// A JSON line must be an object, so that every line can be read by its keys.
    #[error("cannot write the training log: `{0}` is not a JSON object")]
    NotAnObject(String),
}
