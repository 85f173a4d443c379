//! Why a model refuses what it is given.

/// Why a model cannot read, train or answer.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ModelError {
    /// A token that the embedding does not have.
    #[error("the token id {id} is out of range: the model knows {vocab_size} tokens")]
    Token {
        /// The id.
        id: u32,
        /// V.
        vocab_size: usize,
    },
    /// More or fewer ids than the sequences have positions.
    #[error("{got} token ids were given for {time} positions of {batch} sequences")]
    Length {
        /// How many ids.
        got: usize,
        /// T.
        time: usize,
        /// B.
        batch: usize,
    },
    /// Weights that are packed for reading.
    #[error(
        "the model's weights are {0}, packed for reading, and cannot be trained: train the f32 \
         model that they were made from, and quantize it again"
    )]
    Frozen(&'static str),
    /// A change of low rank for no matrix.
    #[error("no matrix between layers is given a change of low rank: name one that has none")]
    NoMatrix,
    /// A state with another number of streams.
    #[error("a state of {got} streams was given for {expected} sequences")]
    State {
        /// B.
        expected: usize,
        /// Streams of the state.
        got: usize,
    },
    /// A state of another model.
    #[error("the state belongs to another model: it carries other tensors than this one")]
    Layout,
    /// A model with cross-attention was given nothing to read across to.
    #[error("the model reads a source by cross-attention, and none was given")]
    NoSource,
    /// A source that does not fit the model or the sequence.
    #[error(
        "the source has {batch} sequences of width {width}; cross-attention needs {sequences} of \
         width {expected:?}"
    )]
    Source {
        /// Sequences of the source.
        batch: usize,
        /// Width of its rows.
        width: usize,
        /// B of the sequence that reads it.
        sequences: usize,
        /// The width that each block's cross-attention reads.
        expected: Vec<usize>,
    },
    /// Some rows of a larger state, given to a pass that is recorded or reads several positions.
    #[error(
        "rows of a larger state can read one position of each stream, in a pass without gradients"
    )]
    Lent,
    /// A backward pass without a model that the forward pass recorded.
    #[error(
        "the backward pass was given other weights than the forward pass read: give every model \
         of the pass, unchanged"
    )]
    Backward,
    /// A tokeniser with another number of tokens.
    #[error(
        "the tokeniser has {tokenizer} tokens but the model knows {model}: they do not belong \
         together, copy the model folder again"
    )]
    Vocabulary {
        /// V.
        model: usize,
        /// Tokens of the tokeniser.
        tokenizer: usize,
    },
}
