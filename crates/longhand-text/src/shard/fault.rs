//! Faults of a token shard, and its version.

/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 3;

/// Why a shard cannot be trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardFault {
    /// The file ends early.
    #[error("it is shorter than its header")]
    Short,
    /// The magic bytes are other ones.
    #[error("it does not begin as a shard does")]
    Magic,
    /// The header does not fit before the tokens.
    #[error("its header is longer than the room for it")]
    LongHeader,
    /// The header is no JSON of a header.
    #[error("its header is wrong: {0}")]
    Header(#[from] serde_json::Error),
    /// The version is another one.
    #[error("its version is {0}, but {VERSION} is needed")]
    Version(u32),
    /// The vocabulary cannot be.
    #[error("its vocabulary has {0} tokens")]
    Vocabulary(usize),
    /// The length is not that of its tokens and documents.
    #[error(
        "it has {found} bytes, but {tokens} tokens and {documents} documents need {}",
        expected.map_or("more than can be counted".to_owned(), |length| length.to_string())
    )]
    Length {
        /// Bytes of the file.
        found: u64,
        /// Tokens in the header.
        tokens: u64,
        /// Documents in the header.
        documents: u64,
        /// Bytes that these need; none where that overflows.
        expected: Option<u64>,
    },
    /// More documents than tokens.
    #[error("it has {documents} documents, but only {tokens} tokens")]
    Documents {
        /// Documents in the header.
        documents: u64,
        /// Tokens in the header.
        tokens: u64,
    },
    /// The documents' starts are wrong.
    #[error("{0}")]
    Starts(&'static str),
    /// An id is not in the vocabulary.
    #[error("it holds the id {id}, but its vocabulary has {vocabulary} tokens")]
    Id {
        /// The id that was found.
        id: u32,
        /// The size of the vocabulary.
        vocabulary: usize,
    },
    /// The content is not what was written.
    #[error("it is damaged: its content does not have the hash that its header tells")]
    Damaged,
}
