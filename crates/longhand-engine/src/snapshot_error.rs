//! Why a snapshot is refused.

use longhand_model::checksum::ChecksumError;
use longhand_model::{FileError, StateError};

use crate::sampler::SamplerError;

/// The version of the format that this program writes and reads. In version 1, the carried keys of
/// all heads stood together at each position.
pub const VERSION: u32 = 2;
/// The largest file that is read.
pub(crate) const LARGEST: u64 = 1 << 32;

/// Why a snapshot is refused.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Not a snapshot, or a damaged one.
    #[error("not a whole snapshot of a session ({0}): save it again")]
    Form(String),
    /// A tensor or the header differs from what was written.
    #[error("the snapshot is damaged ({0}): save it again")]
    Damaged(ChecksumError),
    /// The snapshot has another version of the format.
    #[error(
        "the snapshot has format version {got}, but this program reads version {VERSION}: save \
         it again with this program"
    )]
    Version {
        /// The format version of the file.
        got: u64,
    },
    /// The snapshot of another model.
    #[error(
        "the snapshot belongs to another model ({got:.12}…, this one is {expected:.12}…): use \
         the model that wrote it"
    )]
    Model {
        /// Hash of this engine's model.
        expected: String,
        /// Hash of the model in the file.
        got: String,
    },
    /// The snapshot of another tokeniser.
    #[error(
        "the snapshot belongs to another tokeniser ({got:.12}…, this one is {expected:.12}…): \
         use the model folder that wrote it"
    )]
    Tokenizer {
        /// Hash of this engine's tokeniser.
        expected: String,
        /// Hash of the tokeniser in the file.
        got: String,
    },
    /// A conversation by another chat template.
    #[error(
        "the conversation was held by another chat template: use the model folder, or the template, \
         that it was saved with"
    )]
    Template,
    /// Memories that this model has not.
    #[error("{0}: the snapshot is damaged, save it again")]
    State(StateError),
    /// Sampler settings out of range.
    #[error("{0}: the snapshot is damaged, save it again")]
    Sampler(SamplerError),
    /// Two snapshots that cannot be compared.
    #[error("the two snapshots cannot be compared: {0}")]
    Incomparable(String),
    /// Too large to be one.
    #[error("{0} bytes are too large for a snapshot: at most {LARGEST} are read")]
    TooLarge(u64),
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<ChecksumError> for SnapshotError {
    fn from(error: ChecksumError) -> Self {
        match error {
            ChecksumError::Form(what) => Self::Form(what),
            damaged => Self::Damaged(damaged),
        }
    }
}

// Their messages hold the causes, so they name no source.
impl From<StateError> for SnapshotError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl From<SamplerError> for SnapshotError {
    fn from(error: SamplerError) -> Self {
        Self::Sampler(error)
    }
}
