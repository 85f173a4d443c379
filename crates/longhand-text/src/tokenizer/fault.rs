//! Faults of tokeniser files and of training, as parts of the crate's errors.

/// Why a `tokenizer.json` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerFault {
    /// The bytes are no JSON.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// The library cannot read or write the file.
    #[error("{}", crate::quote::shortened(&.0.to_string()))]
    Library(#[source] tokenizers::Error),
    /// The JSON value has another shape than a tokeniser.
    #[error("{0}")]
    Shape(&'static str),
    /// The type of the model is none that the library knows.
    #[error("the model type {} is unknown", crate::quote::shortened(.0))]
    Model(String),
    /// Two tokens have one id.
    #[error("the id {0} is given to two tokens")]
    SameId(u32),
    /// An id is too large.
    #[error("the id {id} is beyond its {count} tokens")]
    Beyond {
        /// The id in the file.
        id: u32,
        /// The number of its tokens.
        count: usize,
    },
    /// A special token cannot have this name.
    #[error("{} cannot be a special token: {fault}", crate::quote::quoted(name))]
    Special {
        /// The name of the token.
        name: String,
        /// The rule that the name breaks.
        fault: &'static str,
    },
}

/// Why a tokeniser cannot be trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainingFault {
    /// The vocabulary is too small for the kind.
    #[error("a vocabulary of {size} is too small, it needs at least {least}")]
    TooSmall {
        /// The number of tokens asked for.
        size: usize,
        /// The smallest number for this kind.
        least: usize,
    },
    /// The vocabulary is larger than any model's.
    #[error("a vocabulary of {size} is too large, it may have at most {most}")]
    TooLarge {
        /// The number of tokens asked for.
        size: usize,
        /// The largest number of tokens.
        most: usize,
    },
    /// There is nothing to learn from.
    #[error("the corpus holds no text")]
    NoText,
    /// The library's trainer failed.
    #[error("{0}")]
    Library(String),
}
