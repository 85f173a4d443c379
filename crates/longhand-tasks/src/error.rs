use std::path::PathBuf;

use longhand_engine::{EngineError, RulesError};
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
    /// A search cannot be run.
    #[error(transparent)]
    Engine(#[from] EngineError),
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
        "every example of {name} that is learnt from has the label {label:?}: at least two labels are \
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
    /// A cell in brackets that is no list of labels.
    #[error(
        "example {example} of {name} has the labels {cell}, which are no JSON list: write one, as in \
         [\"a, b\", \"c\"], or the labels without brackets"
    )]
    LabelList {
        /// The path of the table.
        name: String,
        /// The example, counted from 1.
        example: usize,
        /// The beginning of the cell.
        cell: String,
    },
    /// Nothing is held out to calibrate the answers on.
    #[error("nothing is held out to calibrate on: hold out a part, or name a file to validate on")]
    NothingHeldOut,
    /// A tokeniser without a token that parts two texts.
    #[error(
        "the {0} tokeniser has no token that parts two texts: train the model with another one"
    )]
    NoSeparator(TokenizerKind),
    /// A tokeniser without a token that ends a text.
    #[error("the {0} tokeniser has no token that ends a text: train the model with another one")]
    NoEnd(TokenizerKind),
    /// A tokeniser without the token of a language.
    #[error(
        "the {kind} tokeniser has no token {token}, which says what to write: train the model from \
         nothing, or in one direction"
    )]
    NoLanguageToken {
        /// The name of the token.
        token: String,
        /// The tokeniser's kind.
        kind: TokenizerKind,
    },
    /// Answers that are no texts were to be written.
    #[error("the answers of the task {0} are not written")]
    NotWritten(&'static str),
    /// A file without a byte.
    #[error("{0} is empty: name a file of examples")]
    EmptyFile(String),
    /// A file without the texts to write.
    #[error(
        "{0} has no texts to write: name the file of its targets, or give a table with a column of \
         sources and one of targets"
    )]
    NoTargets(String),
    /// A file that cannot have a further column.
    #[error(
        "{name} is no table whose rows have a column {column}: give such a table, or do not name the \
         column"
    )]
    NoFurther {
        /// The path of the file.
        name: String,
        /// The column that was asked for.
        column: String,
    },
    /// Unknown words were to be replaced by a model that attends to no source.
    #[error(
        "unknown words are replaced by what the model attends to in its source, and it has no encoder \
         that reads one: leave out --replace-unknown, or train with --form encoder-decoder"
    )]
    NoAlignment,
    /// Unknown words were to be replaced by a model that attends to sentences.
    #[error(
        "unknown words are replaced by the word that the model attends to, and this model attends to \
         whole sentences: leave out --replace-unknown"
    )]
    SentencesAligned,
    /// Unknown words were to be replaced, but the tokeniser has no token for them.
    #[error(
        "the {0} tokeniser writes every word in parts, so that none is unknown: leave out \
         --replace-unknown"
    )]
    NoUnknown(TokenizerKind),
    /// An answer was to begin with as many tokens as it may have.
    #[error(
        "an answer is to begin with {tokens} tokens, but has at most {maximum}: give a shorter \
         beginning, or a larger --max-length"
    )]
    LongPrefix {
        /// Tokens of the beginning.
        tokens: usize,
        /// The most tokens of an answer.
        maximum: usize,
    },
    /// An answer was to begin with words that the tokeniser does not know.
    #[error(
        "an answer is to begin with {0:?}, which has words or characters that the model's tokeniser \
         does not know: give another beginning"
    )]
    UnknownPrefix(String),
    /// An answer was to begin with a text that no text of the rules begins with.
    #[error(
        "an answer is to begin with {0:?}, but no text that matches the rules begins so: change the \
         beginning or the rules"
    )]
    PrefixAgainstRules(String),
    /// Files of targets for a task that takes none.
    #[error("the task {task} has no file of targets, but {name} is one: leave it out")]
    NeedlessTargets {
        /// The name of the task.
        task: &'static str,
        /// The file of targets.
        name: String,
    },
    /// A file of which no pair is left.
    #[error("{0} has no pair of texts in which neither side is empty")]
    NoPairs(String),
    /// A pair of texts without one of them.
    #[error("example {example} of {name} has an empty {side}: give it a text, or remove the pair")]
    EmptySide {
        /// The path of the file.
        name: String,
        /// The example, counted from 1.
        example: usize,
        /// The side without text: `source` or `target`.
        side: &'static str,
    },
    /// An example of a single text where two are needed.
    #[error("an example has one text, but the model compares two: name the column of the second")]
    NoSecondText,
    /// A line that is not two texts.
    #[error(
        "line {line} of {name} is not two texts with a tab between them: it has {tabs} tab(s), but must \
         have one"
    )]
    NotAPair {
        /// Where the line came from.
        name: String,
        /// The line, counted from 1.
        line: usize,
        /// How many tabs it has.
        tabs: usize,
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
    /// No answer could be written that follows the rules.
    #[error("example {example} of {name} has no answer that follows the rules: {fault}")]
    NoAnswer {
        /// Where the text came from.
        name: String,
        /// The example, counted from 1.
        example: usize,
        /// Why no further token could be written.
        fault: RulesError,
    },
    /// Too few examples to hold some out.
    #[error(
        "{name} has {examples} examples, of which {fraction} are to be held out to {aim} on, which \
         leaves none on one of the sides: give more examples, or a file to {aim} on"
    )]
    TooFew {
        /// The path of the table.
        name: String,
        /// How many there are.
        examples: usize,
        /// The share to be held out.
        fraction: f64,
        /// What is to be done on it: test or validate.
        aim: &'static str,
    },
    /// Files of which nothing is left to measure on.
    #[error(
        "every text of {0} is among those that are learnt from: leave out --distinct, or measure on \
         other texts"
    )]
    AllLearnt(String),
    /// A held-out part whose labels no training example has.
    #[error(
        "every example that is held out of {0} has a label that no training example has: give more \
         examples of each label, or files to validate and to test on"
    )]
    AllUnseen(String),
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
        "{name} has {examples} {what}{}, but each of the {folds} folds needs one of them",
        if label.is_empty() { String::new() } else { format!(" of the label {label:?}") }
    )]
    TooFewForFolds {
        /// The paths of the tables.
        name: String,
        /// The label that has too few; empty where examples are not parted by their labels.
        label: String,
        /// Its examples.
        examples: usize,
        /// What is counted: examples, or groups of them.
        what: &'static str,
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
    /// A setting that a task lacks.
    #[error("the task {task} has no setting `{key}`: its settings are {known}")]
    NoSetting {
        /// The name of the task.
        task: &'static str,
        /// The name of the setting.
        key: String,
        /// The settings that the task has.
        known: String,
    },
    /// A value that a setting cannot have.
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
    /// A network that answers together with others is not there.
    #[error(
        "{} is missing, a network that answers together with the one of {}: copy the whole folder",
        path.display(), folder.display()
    )]
    NoMember {
        /// The folder of the network.
        path: PathBuf,
        /// The folder of the first one.
        folder: PathBuf,
    },
    /// Networks that are to answer together differ by more than their weights.
    #[error(
        "{} holds a network of another configuration than {}, so the two cannot answer together: copy \
         the whole folder again",
        path.display(), folder.display()
    )]
    OtherMember {
        /// The folder of the network.
        path: PathBuf,
        /// The folder of the first one.
        folder: PathBuf,
    },
    /// An adapter for networks that answer together.
    #[error(
        "an adapter changes one network, and {} of {} answer together: apply it to another folder",
        members, folder.display()
    )]
    AdapterOfMembers {
        /// The number of networks.
        members: usize,
        /// The model folder.
        folder: PathBuf,
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
