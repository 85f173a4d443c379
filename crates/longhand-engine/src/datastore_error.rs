//! Why a datastore is refused, or cannot be built.

use std::path::PathBuf;

use longhand_model::FileError;

/// The version of the format that this program writes and reads.
pub const VERSION: u32 = 1;

/// Why a datastore is refused, or cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum DatastoreError {
    /// A folder without the files of a datastore.
    #[error("{} holds no datastore", .0.display())]
    Missing(PathBuf),
    /// A file that differs from the one that was written.
    #[error("{} is damaged: its checksum does not match: build the datastore again", .0.display())]
    Damaged(PathBuf),
    /// A file that no datastore has.
    #[error("{} is not usable ({what}): build the datastore again", path.display())]
    Form {
        /// Path of the refused file.
        path: PathBuf,
        /// What is wrong, as part of a sentence.
        what: String,
    },
    /// A datastore of another version.
    #[error(
        "{} has format version {got}, but this program reads version {VERSION}: build the \
         datastore again with this program", path.display()
    )]
    Version {
        /// Path of the refused file.
        path: PathBuf,
        /// The format version of the file.
        got: u64,
    },
    /// The datastore of another model.
    #[error(
        "the datastore {} belongs to another model ({got:.12}…, this one is {expected:.12}…): use \
         the model that it was built with, or build one with this model", folder.display()
    )]
    Model {
        /// Folder of the refused datastore.
        folder: PathBuf,
        /// Hash of the model that is to use it.
        expected: String,
        /// Hash of the model in its header.
        got: String,
    },
    /// The datastore of another tokeniser.
    #[error(
        "the datastore {} belongs to another tokeniser ({got:.12}…, this one is {expected:.12}…): \
         use the model folder that it was built with", folder.display()
    )]
    Tokenizer {
        /// Folder of the refused datastore.
        folder: PathBuf,
        /// Hash of the tokeniser that is to use it.
        expected: String,
        /// Hash of the tokeniser in its header.
        got: String,
    },
    /// A text without a token that follows another one.
    #[error("the text has no token that follows another one: give a longer text to index")]
    Empty,
    /// More entries than the format can number.
    #[error(
        "the text has more than {most} tokens, the most that a datastore holds: give less text"
    )]
    TooMany {
        /// The most entries of a datastore.
        most: u64,
    },
    /// More neighbours asked for than there are entries.
    #[error(
        "{neighbours} neighbours are asked for, but the datastore has {entries} entries: ask for at \
         most as many"
    )]
    Neighbours {
        /// Neighbours that were asked for.
        neighbours: usize,
        /// Entries that there are.
        entries: u64,
    },
    /// A setting out of its range.
    #[error("{name} is {value}, but must be {allowed}")]
    Setting {
        /// Name of the refused setting.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// The allowed values, in words.
        allowed: &'static str,
    },
    /// A hidden state that is not a number.
    #[error(
        "a hidden state of the model is not finite: the model's weights are damaged or have diverged"
    )]
    NotFinite,
    /// A folder that is in the way.
    #[error("the folder {} is not empty", .0.display())]
    Occupied(PathBuf),
    /// The work was interrupted. Nothing is left of it.
    #[error("stopped: nothing was written")]
    Stopped,
    /// A file cannot be read or written; the message names it.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}
