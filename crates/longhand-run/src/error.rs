use std::path::PathBuf;

use longhand_engine::EngineError;
use longhand_model::{AdapterError, ConfigError, FileError, ModelError};
use longhand_ngram::NgramError;
use longhand_tasks::TaskError;
use longhand_text::{TextError, TokenizerKind};
use longhand_train::TrainError;
use longhand_train::log::LogError;

use crate::recipe::RecipeError;
use crate::tuning::TuningError;

/// Why a run failed or cannot begin. Each message is one sentence for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The recipe is refused.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The text or the tokeniser cannot be read.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The model configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The model refuses its input.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A model file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// An adapter cannot be read, applied or written.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The model cannot be tuned as the recipe says.
    #[error(transparent)]
    Tuning(#[from] TuningError),
    /// Training ended with an error.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The task cannot be learnt.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The trained model cannot write a sample text.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A log cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The system refused; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file or folder causes another error.
    #[error("{name}")]
    Named {
        /// The file or folder.
        name: String,
        /// The error of the named file.
        source: Box<RunError>,
    },
    /// The output folder is a file.
    #[error("{} is a file: name a folder", .0.display())]
    OutputIsFile(PathBuf),
    /// The output folder is not empty.
    #[error("the folder {} is not empty", .0.display())]
    OutputNotEmpty(PathBuf),
    /// The output folder of folds or rounds holds a single run.
    #[error("the folder {} holds a run without folds or rounds", .0.display())]
    OutputIsOneRun(PathBuf),
    /// A recipe with folds is run as if it were a single run.
    #[error("the recipe has {0} folds, and each is a run of its own: name one as `fold`")]
    SeveralFolds(usize),
    /// A recipe with self-training is run as if it were a single run.
    #[error("the recipe has {0} rounds, and each is a run of its own: name one as `round`")]
    SeveralRounds(usize),
    /// Networks that cannot answer together.
    #[error("{0}")]
    Members(String),
    /// Self-training that cannot be.
    #[error("{0}")]
    SelfTraining(String),
    /// A recipe whose folds cannot be.
    #[error("the folds cannot be: {0}")]
    Folds(String),
    /// The output folder holds files that no run wrote.
    #[error("the folder {} holds {name}, but no run of this program", folder.display())]
    OutputForeign {
        /// Path of the output folder.
        folder: PathBuf,
        /// The first such file.
        name: &'static str,
    },
    /// The output folder cannot be written.
    #[error("the folder {} cannot be written", folder.display())]
    OutputUnwritable {
        /// Path of the output folder.
        folder: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// Another process writes into the output folder.
    #[error("{} is writing into the folder {}", holder(process), folder.display())]
    OutputLocked {
        /// Path of the output folder.
        folder: PathBuf,
        /// The number of that process, where the system lets it be read.
        process: Option<u32>,
    },
    /// The output folder is that of the base model, which the run would overwrite.
    #[error("the folder {} holds the model to begin with", .0.display())]
    OutputIsBase(PathBuf),
    /// The folder of the base model holds an adapter.
    #[error(
        "{} holds an adapter and no whole model: merge it with its base by `longhand adapter merge`",
        .0.display()
    )]
    BaseIsAdapter(PathBuf),
    /// A run that begins from nothing is to rehearse old text.
    #[error("the run begins from nothing and can forget nothing: name a model to begin with")]
    NothingToRehearse,
    /// A base model that never learnt from plain text, or lost the head.
    #[error(
        "the model to begin with has no head that predicts tokens, so no old text can be rehearsed or \
         measured: begin with a model of `longhand train`"
    )]
    NoOldHead,
    /// A task's head alone is trained, and old text rehearsed.
    #[error(
        "`frozen` trains the task's head alone, and nothing old is forgotten: rehearse nothing"
    )]
    FrozenRehearsal,
    /// Label smoothing where a CRF would ignore it.
    #[error(
        "label smoothing is of answers one by one, and a CRF scores whole sequences: leave it out, or \
         set the task's `crf` to false"
    )]
    SmoothedCrf,
    /// A folder of several runs in place of one model.
    #[error(
        "{} holds the {what}, a model each: give the folder of one, such as {}",
        folder.display(), one.display()
    )]
    SeveralModels {
        /// The folder that was given.
        folder: PathBuf,
        /// What its runs are.
        what: &'static str,
        /// The folder of one of them: of rounds the best.
        one: PathBuf,
    },
    /// A path that the run's record cannot hold.
    #[error("the name of {} is not UTF-8: rename the file or folder", .0.display())]
    NotUnicode(PathBuf),
    /// A column is named, but no source is a table.
    #[error("there is no table to take the column {column:?} from")]
    NoTable {
        /// Name of the column.
        column: String,
    },
    /// The recipe of a task names no file of examples.
    #[error("there are no examples to learn from: name a file of them")]
    NoExamples,
    /// The base model is not the one that the recipe names.
    #[error(
        "{} is not the model that the recipe begins with: its hash is {got}, not {expected}",
        path.display()
    )]
    OtherBase {
        /// Folder of the base model.
        path: PathBuf,
        /// Hash that the recipe names.
        expected: String,
        /// Hash of the model in the folder.
        got: String,
    },
    /// Word vectors for tokens that are no words.
    #[error("vectors are of words, and the {0} tokeniser cuts words: use word or char")]
    VectorsOfWords(TokenizerKind),
    /// Word vectors for a model that begins with another one.
    #[error(
        "the model to begin with has embeddings of its own: leave out the vectors, or begin from \
         nothing"
    )]
    VectorsWithBase,
    /// Word vectors of another width than the embedding.
    #[error(
        "the vectors of {} have {found} numbers, but the model's `width` is {width}: set it to \
         {found}", path.display()
    )]
    VectorWidth {
        /// The file of the vectors.
        path: PathBuf,
        /// Numbers of a vector.
        found: usize,
        /// Numbers of an embedding.
        width: usize,
    },
    /// The file of vectors is not the one that the recipe names.
    #[error(
        "{} does not hold the vectors that the recipe names: its SHA-256 is {got}, not {expected}",
        path.display()
    )]
    OtherVectors {
        /// The file of the vectors.
        path: PathBuf,
        /// SHA-256 that the recipe names.
        expected: String,
        /// SHA-256 of the file.
        got: String,
    },
    /// A tokeniser without a token that an objective needs.
    #[error("the tokeniser has no token {token}, which the objective {objective} needs")]
    NoSpecialToken {
        /// The token.
        token: &'static str,
        /// The objective.
        objective: &'static str,
    },
    /// An n-gram model cannot be counted, read or written.
    #[error(transparent)]
    Ngram(#[from] NgramError),
    /// An n-gram model for a task.
    #[error("an n-gram model predicts text, and learns no task: choose another preset")]
    NgramTask,
    /// Sources for a model that reads none.
    #[error(
        "the form is encoder-decoder, but the model has no encoder: name a preset such as \
         encoder-decoder-small, or the form stream"
    )]
    NoEncoder,
    /// A model that needs sources, for a task that has none.
    #[error(
        "the model has an encoder, and the task gives it nothing to read: name the form \
         encoder-decoder of a task that writes, or another preset"
    )]
    Encoder,
    /// Several networks for a task whose answers a search writes.
    #[error(
        "several networks answer together where they choose among the same answers, and `{0}` writes \
         its own: train one network"
    )]
    MembersWrite(&'static str),
    /// A baseline is to be resumed.
    #[error("a baseline has no checkpoints to resume")]
    BaselineResumed,
    /// No weight of the base model fits the model to train.
    #[error("the model to begin with has no weight of the shapes that this one needs")]
    NothingShared,
    /// The loss on the test files is infinite or not a number.
    #[error("the loss on the test files is not finite: lower the learning rate")]
    TestNotFinite,
    /// A run is resumed with other data, another tokeniser, model or task.
    #[error(
        "the run was begun with another {what}: leave it as it was, or start anew in another folder"
    )]
    Changed {
        /// Name of the changed part.
        what: &'static str,
    },
    /// A `training.json` cannot be parsed.
    #[error("{} cannot be read", path.display())]
    TrainingFile {
        /// Path of the refused file.
        path: PathBuf,
        /// The parser's error, with line and column.
        source: serde_json::Error,
    },
    /// A `training.json` has a version that this program does not know.
    #[error("{} has version {version}; this program reads {known}", path.display())]
    TrainingVersion {
        /// Path of the refused file.
        path: PathBuf,
        /// The version in the file.
        version: u64,
        /// The version that is read.
        known: u32,
    },
    /// A record cannot be written as JSON.
    #[error("the run's record cannot be written")]
    Record(#[source] serde_json::Error),
}

fn holder(process: &Option<u32>) -> String {
    process.map_or_else(|| "another process".into(), |process| format!("process {process}"))
}

impl RunError {
    /// The error, with the file or folder that causes it.
    pub(crate) fn named(self, name: impl ToString) -> Self {
        Self::Named { name: name.to_string(), source: Box::new(self) }
    }
}
