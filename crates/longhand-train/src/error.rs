use std::path::PathBuf;

use longhand_model::file::FileError;
use longhand_model::{ModelError, StateError};
use longhand_text::TextError;

use crate::log::LogError;
use crate::settings::SettingsError;

/// Why a run ended otherwise than it should. Each message is one sentence for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting out of its bounds.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The data.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The model does not fit the data.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A model file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The system refused; the message names the path.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A loss or gradient that is not a number.
    #[error(
        "the {what} is not finite at step {step}: lower the learning rate (now {rate:.1e}) or the \
         gradient clip{}",
        continue_from(checkpoint)
    )]
    NotFinite {
        /// `loss`, `gradient` or `validation loss`.
        what: &'static str,
        /// The step that was to be made, from 1; the last one made where it is what is validated.
        step: u64,
        /// The learning rate of that step.
        rate: f64,
        /// The last checkpoint.
        checkpoint: Option<PathBuf>,
    },
    /// A checkpoint that cannot be used.
    #[error("the checkpoint {} cannot be used: {reason}", folder.display())]
    Checkpoint {
        /// Its folder.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A checkpoint of a run with other settings.
    #[error(
        "the run was begun with `{name}` = {begun}, not {now}: leave it as it was, or start anew \
         in another folder"
    )]
    Changed {
        /// Which setting.
        name: &'static str,
        /// Its value when the run began.
        begun: String,
        /// Its value now.
        now: String,
    },
    /// An evaluation that was asked to stop.
    #[error("stopped before the evaluation was done")]
    Stopped,
    /// The carried memory in a checkpoint.
    #[error("the memory in the checkpoint does not fit: {0}")]
    State(#[from] StateError),
    /// What a task's own objective reports.
    #[error(transparent)]
    Objective(Box<dyn std::error::Error + Send + Sync>),
}

fn continue_from(checkpoint: &Option<PathBuf>) -> String {
    match checkpoint {
        Some(folder) => format!(
            "; the last good checkpoint is {}, continue from it with --resume",
            folder.display()
        ),
        None => "; there is no checkpoint yet, start again".into(),
    }
}
