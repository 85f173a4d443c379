use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use longhand_model::FileError;
use longhand_model::checksum::ChecksumError;
use longhand_text::TextError;

/// Why an n-gram model cannot be made, read or written. Each message is one sentence for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NgramError {
    /// An order that the vocabulary does not allow.
    #[error(
        "the order is {order}, but must be from 1 to {most} with {vocabulary} tokens: name a lower \
         one"
    )]
    Order {
        /// N, as it was asked for.
        order: usize,
        /// The highest order for the vocabulary.
        most: usize,
        /// V: tokens of the vocabulary.
        vocabulary: usize,
    },
    /// More n-grams of one order than an array can number.
    #[error("there are more than 4294967295 different {0}-grams: name a lower order")]
    TooMany(usize),
    /// The sorted parts of the n-grams cannot be written or read back.
    #[error("the n-grams exceed memory, and cannot be sorted in the folder {}", folder.display())]
    Sort {
        /// The folder of the temporary files.
        folder: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The tokens cannot be read.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file cannot be read; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file's bytes differ from those that were written.
    #[error("{}: {source}; copy or train the model again", path.display())]
    Damaged {
        /// Path of the refused file.
        path: PathBuf,
        /// The part that differs from what was written.
        source: ChecksumError,
    },
    /// A file that is no n-gram model, or another one.
    #[error("{} is not usable: {reason}; copy or train the model again", path.display())]
    Form {
        /// Path of the refused file.
        path: PathBuf,
        /// What is wrong with it, in words.
        reason: String,
    },
    /// A line of an ARPA file.
    #[error("line {line} of the ARPA file: {reason}")]
    Arpa {
        /// The number of the line, from 1.
        line: u64,
        /// What is wrong with it, or with lines above.
        reason: String,
    },
    /// Two tokens that an ARPA file cannot tell apart.
    #[error("two tokens of the vocabulary would both be `{0}` in an ARPA file")]
    SameWord(String),
    /// Counting was stopped before its end.
    #[error("counting was stopped before its end, so that there is no model")]
    Stopped,
}

/// Ends the work once `stop` is set.
pub(crate) fn check(stop: &AtomicBool) -> Result<(), NgramError> {
    if stop.load(Ordering::Relaxed) { Err(NgramError::Stopped) } else { Ok(()) }
}
