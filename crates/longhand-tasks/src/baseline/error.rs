use std::path::PathBuf;

use longhand_model::checksum::ChecksumError;

/// Why a baseline cannot be trained or read. Each message is one sentence for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// A value that a setting cannot have.
    #[error("the baseline {baseline} cannot have this {key}: {reason}")]
    Setting {
        /// The name of the baseline.
        baseline: &'static str,
        /// The name of the setting.
        key: String,
        /// Why it is refused.
        reason: String,
    },
    /// A setting that the baseline lacks.
    #[error("the baseline {baseline} has no setting `{key}`, {known}: leave it out")]
    NoSetting {
        /// The name of the baseline.
        baseline: &'static str,
        /// The name of the setting.
        key: String,
        /// The settings that it has, in words.
        known: String,
    },
    /// A task that no baseline does, or none beside a network.
    #[error("a baseline gives each text one label, which is not what the task {0} asks for")]
    Task(&'static str),
    /// A task whose answers this baseline does not give.
    #[error(
        "the baseline {baseline} gives each text one label, which is not what the task {task} asks for"
    )]
    Label {
        /// The name of the baseline.
        baseline: &'static str,
        /// The name of the task.
        task: &'static str,
    },
    /// A task whose answers a baseline that writes does not write.
    #[error("the baseline {baseline} writes a summary, which is not what the task {task} asks for")]
    Writes {
        /// The name of the baseline.
        baseline: &'static str,
        /// The name of the task.
        task: &'static str,
    },
    /// A task whose answers are no tags, for a baseline that gives them.
    #[error(
        "the baseline {baseline} gives each word a tag, which is not what the task {task} asks for"
    )]
    Tags {
        /// The name of the baseline.
        baseline: &'static str,
        /// The name of the task.
        task: &'static str,
    },
    /// A task that is measured beside a baseline of its own.
    #[error(
        "the task {task} has a baseline of its own, which every evaluation tells as `{metric}` ({words}): \
         leave out the baseline {baseline}"
    )]
    Measured {
        /// The name of the baseline that was asked for.
        baseline: &'static str,
        /// The name of the task.
        task: &'static str,
        /// The key of the metric.
        metric: &'static str,
        /// The words for the metric.
        words: &'static str,
    },
    /// A baseline beside a network that cannot answer together with one.
    #[error("the baseline {0} writes texts by itself: it cannot answer together with a network")]
    Alone(&'static str),
    /// A setting of the task that says how a network learns or answers.
    #[error("the baseline {baseline} does not use the task's {key}: leave it out")]
    Unused {
        /// The name of the baseline.
        baseline: &'static str,
        /// The name of the task's setting.
        key: &'static str,
    },
    /// The system refused; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file of the settings is refused.
    #[error("{} is not usable", path.display())]
    Settings {
        /// The path of the file.
        path: PathBuf,
        /// The parser's error, with line and column.
        source: serde_json::Error,
    },
    /// The file of the weights is damaged, or no whole safetensors file.
    #[error("{}: {source}; copy or train the model again", path.display())]
    Damaged {
        /// The path of the file.
        path: PathBuf,
        /// The part that differs from what was written.
        source: ChecksumError,
    },
    /// Two files of the folder do not belong together.
    #[error("{} does not hold the weights of this baseline: {reason}", path.display())]
    Weights {
        /// The path of the file of the weights.
        path: PathBuf,
        /// The tensor or key that is wrong.
        reason: String,
    },
    /// More different n-grams than a table can number.
    #[error("the texts have more than {0} different n-grams: choose shorter ones")]
    TooManyNgrams(usize),
}
