use std::path::PathBuf;

use longhand_model::file::FileError;
use longhand_model::{AdapterError, ConfigError, ModelError};
use longhand_text::{TextError, TokenizerKind};
use longhand_train::TrainError;

use crate::baseline::BaselineError;

/// Why a task cannot be learnt or done. Each message is one sentence for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The tables or the tokeniser.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A model folder cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// An adapter cannot be read or applied.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// A baseline cannot be trained or read.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    /// A configuration that cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The model refuses its input.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The system refused; the message names the path.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Nothing to tell apart.
    #[error(
        "every example of {name} has the label {label:?}: to classify, at least two labels are \
         needed"
    )]
    OneLabel {
        /// The path of the table.
        name: String,
        /// The only label of all examples.
        label: String,
    },
    /// A label that is no number, where labels are ordered.
    #[error("{name} has the label {label:?}, but ordered labels must be numbers")]
    NotANumber {
        /// The paths of the tables.
        name: String,
        /// The label.
        label: String,
    },
    /// A label that training does not have.
    #[error(
        "example {example} of {name} has the label {label:?}, which the training examples lack: \
         theirs are {known}"
    )]
    UnknownLabel {
        /// The path of the table.
        name: String,
        /// The example, counted from 1.
        example: usize,
        /// The label of that example.
        label: String,
        /// The labels of training.
        known: String,
    },
    /// No example has a label.
    #[error(
        "no example of {name} has a label: name the column of the labels, or write __label__NAME \
         before each text"
    )]
    NoLabels {
        /// The paths of the tables.
        name: String,
    },
    /// Nothing is held out to calibrate the answers on.
    #[error("nothing is held out to calibrate on: hold out a part, or name a file to validate on")]
    NothingHeldOut,
    /// A tokeniser without a token that parts two texts.
    #[error(
        "the {0} tokeniser has no token that parts two texts: train the model with another one"
    )]
    NoSeparator(TokenizerKind),
    /// An example of a single text where two are needed.
    #[error("an example has one text, but the model compares two: name the column of the second")]
    NoSecondText,
    /// A line that is not two texts.
    #[error("line {line} of {name} is not two texts with a tab between them")]
    NotAPair {
        /// Where the line came from.
        name: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// An example without text.
    #[error("example {example} of {name} has no text: remove it, or name the column of the text")]
    NoText {
        /// The path of the table.
        name: String,
        /// The example, counted from 1.
        example: usize,
    },
    /// An answer that is no number.
    #[error(
        "the model's answer for example {example} of {name} is not finite: its weights are \
         damaged or its training diverged"
    )]
    NotFinite {
        /// Where the text came from.
        name: String,
        /// The example, counted from 1.
        example: usize,
    },
    /// Too few examples to hold some out.
    #[error(
        "{name} has {examples} examples, of which {fraction} are to be held out, which leaves \
         none on one of the sides: give more examples, or a table to validate on"
    )]
    TooFew {
        /// The path of the table.
        name: String,
        /// How many there are.
        examples: usize,
        /// The share to be held out.
        fraction: f64,
    },
    /// Files of which nothing is left to measure on.
    #[error(
        "every text of {0} is among those that are learnt from: leave out --distinct, or measure on \
         other texts"
    )]
    AllLearnt(String),
    /// Fewer examples of a label than are to be learnt from.
    #[error(
        "{name} has {examples} examples of the label {label:?} to learn from, but {shots} of each \
         label are asked for"
    )]
    TooFewShots {
        /// The paths of the tables.
        name: String,
        /// The label that has too few.
        label: String,
        /// Its examples, without those held out.
        examples: usize,
        /// Examples of each label that are asked for.
        shots: usize,
    },
    /// Fewer examples, of a label or of all, than folds.
    #[error(
        "{name} has {examples} examples{}, but each of the {folds} folds needs one of them",
        if label.is_empty() { String::new() } else { format!(" of the label {label:?}") }
    )]
    TooFewForFolds {
        /// The paths of the tables.
        name: String,
        /// The label that has too few; empty where examples are not parted by their labels.
        label: String,
        /// Its examples.
        examples: usize,
        /// The number of folds.
        folds: usize,
    },
    /// A model that learnt no task.
    #[error("{} is a language model, not a classifier or another task's model", .0.display())]
    NotATask(PathBuf),
    /// A model that learnt another task.
    #[error("the model's task is {got}, not {expected}")]
    OtherTask {
        /// The task that is needed.
        expected: &'static str,
        /// The task of the model.
        got: &'static str,
    },
    /// A setting that a task lacks, or a value that the setting cannot have.
    #[error("the task {task} cannot have {key} = {value}: {reason}")]
    Setting {
        /// The name of the task.
        task: &'static str,
        /// The name of the setting.
        key: String,
        /// The value that is refused.
        value: String,
        /// Why it is refused.
        reason: String,
    },
    /// Questions without any answer to learn from or to compare with.
    #[error("no question of {0} has an answer: give a file with answers, or predict them")]
    NoAnswers(String),
    /// Entities were asked for in tags that mark none.
    #[error(
        "the tags of {name} mark no entities, as the scheme {wanted} does: leave the scheme out"
    )]
    NoScheme {
        /// The file.
        name: String,
        /// The scheme.
        wanted: &'static str,
    },
    /// The task's file and the model do not belong together.
    #[error("{} is not usable: {reason}", path.display())]
    TaskFile {
        /// The path of the file.
        path: PathBuf,
        /// Why it cannot be used.
        reason: String,
    },
}

impl From<TaskError> for TrainError {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Text(error) => Self::Text(error),
            TaskError::Model(error) => Self::Model(error),
            TaskError::File(error) => Self::File(error),
            other => Self::Objective(Box::new(other)),
        }
    }
}
