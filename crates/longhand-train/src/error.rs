use std::path::PathBuf;

use longhand_model::file::FileError;
use longhand_model::{AdapterError, ModelError, StateError};
use longhand_text::TextError;

use crate::bounds::SettingsError;
use crate::log::LogError;

/// Why a run ended otherwise than it should. Each message is one sentence for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting out of its bounds.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The training data cannot be read.
    #[error(transparent)]
    Text(#[from] TextError),
    /// What is evaluated beside the model failed.
    #[error("{0}")]
    Beside(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The model does not fit the data.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A model file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// An adapter's file cannot be read or written.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// A log cannot be written.
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
        /// Folder of the last checkpoint, if there is one.
        checkpoint: Option<PathBuf>,
    },
    /// A loss that is finite, but far above that of the first step.
    #[error(
        "the run has diverged: the {what} is {loss:.4} at step {step}, after {first:.4} at the first \
         step: lower the learning rate (now {rate:.1e}) or the gradient clip{}",
        best_so_far(best)
    )]
    Diverged {
        /// `mean loss of the last steps` or `validation loss`.
        what: &'static str,
        /// The step after which it was seen.
        step: u64,
        /// The loss, in nats.
        loss: f64,
        /// The mean loss of the first step, in nats.
        first: f64,
        /// The learning rate of that step.
        rate: f64,
        /// The folder of the best weights so far.
        best: Option<PathBuf>,
    },
    /// A checkpoint that cannot be used.
    #[error("the checkpoint {} cannot be used: {reason}", folder.display())]
    Checkpoint {
        /// Folder of the refused checkpoint.
        folder: PathBuf,
        /// The reason, as part of a sentence.
        reason: String,
    },
    /// A pattern of `[[training.groups]]` that names no parameter.
    #[error(
        "`{pattern}` in the training groups matches no parameter of the model: its names look like \
         `{example}`, and `*` matches any characters"
    )]
    NoParameter {
        /// The pattern as it was given.
        pattern: String,
        /// A name that the model has.
        example: String,
    },
    /// Groups that freeze everything.
    #[error("the training groups freeze every parameter: leave one of them trainable")]
    NothingToTrain,
    /// Ranks to be chosen where there are none.
    #[error("no change of low rank has singular values to choose from: tune with `adalora`")]
    NoSingularValues,
    /// A checkpoint of a run with other settings.
    #[error(
        "the run was begun with `{name}` = {begun}, not {now}: leave it as it was, or start anew \
         in another folder"
    )]
    Changed {
        /// Name of the changed setting.
        name: &'static str,
        /// Its value when the run began.
        begun: String,
        /// The value that is given now.
        now: String,
    },
    /// An evaluation that was asked to stop.
    #[error("stopped before the evaluation was done")]
    Stopped,
    /// The carried memory in a checkpoint.
    #[error("the memory in the checkpoint does not fit")]
    State(#[from] StateError),
    /// An error of a task's own objective.
    #[error(transparent)]
    Objective(Box<dyn std::error::Error + Send + Sync>),
}

/// A tensor that a saved state lacks, or has in another size.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum RestoreError {
    /// It is not there.
    #[error("`{name}` is missing")]
    Missing {
        /// Name of the missing buffer.
        name: String,
    },
    /// It has another number of values.
    #[error("`{name}` has {got} values instead of {expected}")]
    Length {
        /// Name of the refused buffer.
        name: String,
        /// Values that it has.
        got: usize,
        /// Values of the model's parameter.
        expected: usize,
    },
}

impl TrainError {
    /// Names the last checkpoint in an error that tells where to go on from.
    pub(crate) fn with_checkpoint(mut self, folder: Option<PathBuf>) -> Self {
        if let Self::NotFinite { checkpoint, .. } = &mut self {
            *checkpoint = folder;
        }
        self
    }
}

fn best_so_far(best: &Option<PathBuf>) -> String {
    let named = |folder: &PathBuf| format!("; the best weights so far are in {}", folder.display());
    best.as_ref().map_or_else(String::new, named)
}

fn continue_from(checkpoint: &Option<PathBuf>) -> String {
    match checkpoint {
        Some(folder) => {
            format!("; the last good checkpoint is {}, resume the run from it", folder.display())
        }
        None => "; there is no checkpoint yet, start again".into(),
    }
}
