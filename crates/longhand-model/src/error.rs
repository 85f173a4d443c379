//! Why a model or one of its heads refuses its input.

/// Why a model cannot read, train or answer.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ModelError {
    /// A token that the embedding does not have.
    #[error("the token id {id} is out of range: the model knows {vocab_size} tokens")]
    Token {
        /// The id that was given.
        id: u32,
        /// V: tokens that the embedding has.
        vocab_size: usize,
    },
    /// A feature that its table does not have.
    #[error("feature {feature} of a position is {value}, but its table has {rows} rows")]
    Feature {
        /// Which feature, counted from 0.
        feature: usize,
        /// The value.
        value: u32,
        /// Rows of the table.
        rows: usize,
    },
    /// More or fewer features than the model reads at each position.
    #[error("{got} values were given for {expected} features of {positions} positions")]
    Features {
        /// How many values.
        got: usize,
        /// Features that the model reads at a position.
        expected: usize,
        /// T·B.
        positions: usize,
    },
    /// The characters of more or fewer tokens than the model reads.
    #[error("the characters of {got} tokens were given, but the model reads those of {expected}")]
    Characters {
        /// How many tokens have characters.
        got: usize,
        /// T·B, or 0 for a model without filters over characters.
        expected: usize,
    },
    /// A character that the table does not have.
    #[error("the character {id} is out of range: the model knows {vocabulary} characters")]
    Character {
        /// Number of the character.
        id: u32,
        /// Rows of the table.
        vocabulary: usize,
    },
    /// The characters of a token beyond those of its sequence.
    #[error(
        "token {token} of sequence {sequence} has the characters from {start} up to {end}, but the \
         sequence has {length}"
    )]
    CharacterRange {
        /// Which token, counted from 0.
        token: usize,
        /// Which sequence, counted from 0.
        sequence: usize,
        /// The first character.
        start: u32,
        /// The character behind the last one.
        end: u32,
        /// Characters of the sequence.
        length: usize,
    },
    /// Words that are not rows of as many sequences as are read.
    #[error(
        "the ranges of {ranges} words were given for {sequences} sequences: each sequence needs \
         its number of words, and as many ranges as the others"
    )]
    Words {
        /// How many ranges.
        ranges: usize,
        /// B: number of sequences.
        sequences: usize,
    },
    /// A word beyond its sequence, or without a token.
    #[error(
        "word {word} of sequence {sequence} has the tokens from {start} up to {end}, but the \
         sequence has {length}"
    )]
    Word {
        /// Which word, counted from 0.
        word: usize,
        /// Which sequence, counted from 0.
        sequence: usize,
        /// Its first token.
        start: u32,
        /// The token behind its last one.
        end: u32,
        /// Tokens of the sequence.
        length: usize,
    },
    /// More or fewer ids than the sequences have positions.
    #[error("{got} token ids were given for {time} positions of {batch} sequences")]
    Length {
        /// Number of ids given.
        got: usize,
        /// T: positions of each sequence.
        time: usize,
        /// B: number of sequences.
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
    /// A change of a rank that a matrix cannot have.
    #[error(
        "a change of rank {rank} does not fit the matrix `{name}` of {rows} rows and {columns} \
         columns: its rank must be from 1 to {}", rows.min(columns)
    )]
    Rank {
        /// Name of the matrix.
        name: String,
        /// The rank that was given.
        rank: usize,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        columns: usize,
    },
    /// A state with another number of streams.
    #[error("a state of {got} streams was given for {expected} sequences")]
    State {
        /// B: sequences of the pass.
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
    /// A source for a model that reads none.
    #[error("a source was given, but the model has no encoder that reads it: leave it out")]
    NoEncoder,
    /// More or fewer sources than sequences that read them.
    #[error(
        "{sources} sources were given for {sequences} sequences: each sequence reads one source, \
         and every source is read by as many sequences"
    )]
    Sources {
        /// S: number of sources.
        sources: usize,
        /// B of the sequences that read them.
        sequences: usize,
    },
    /// Kept sources in a pass that is recorded.
    #[error(
        "kept sources are read in a pass without gradients: give the ids of the sources to a pass \
         that is recorded"
    )]
    Kept,
    /// Kept sources of another model, or of weights that have changed.
    #[error("the kept sources were read with other weights than the model has: read them again")]
    SourceOfOther,
    /// A kept source that is not there.
    #[error("source {index} was asked for, but {sources} are kept")]
    SourceIndex {
        /// The index, counted from 0.
        index: usize,
        /// How many sources are kept.
        sources: usize,
    },
    /// A model of two stacks was given a state that is not empty.
    #[error(
        "the model reads each sequence in both directions, whole and from an empty state: it cannot          go on where another pass ended"
    )]
    NotEmpty,
    /// A model of one stack was asked for the outputs of two.
    #[error("the model reads in one direction: its `stacks` are not `bicausal`")]
    OneStack,
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
    /// Targets that a head cannot learn, or a head that is not there.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// A tokeniser with another number of tokens.
    #[error(
        "the tokeniser has {tokenizer} tokens but the model knows {model}: they do not belong \
         together, copy the model folder again"
    )]
    Vocabulary {
        /// V: tokens that the model knows.
        model: usize,
        /// Tokens of the tokeniser.
        tokenizer: usize,
    },
}

/// Targets that a head cannot learn, or a head that is not there.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum HeadError {
    /// No head has this name.
    #[error("the model has no head `{name}`; its heads are `{}`", .heads.join("`, `"))]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names of the model's heads.
        heads: Vec<String>,
    },
    /// Rows of another width than the head reads.
    #[error(
        "the head `{head}` reads rows of width {expected}, not {got}: a language model's head reads          one stack at a time"
    )]
    Width {
        /// Name of the head.
        head: String,
        /// Width of the rows that it reads.
        expected: usize,
        /// Width of the rows that were given.
        got: usize,
    },
    /// Targets of another kind.
    #[error("the head `{head}` learns {expected}, not {got}")]
    Targets {
        /// Name of the head.
        head: String,
        /// The targets that it learns.
        expected: &'static str,
        /// The targets that were given.
        got: &'static str,
    },
    /// More or fewer targets than the head has answers.
    #[error("{got} targets were given for {expected} answers of the head `{head}`")]
    Count {
        /// Name of the head.
        head: String,
        /// Number of the head's answers.
        expected: usize,
        /// Number of targets given.
        got: usize,
    },
    /// A target that the head does not have.
    #[error("target {place} of the head `{head}` is {target}, but must be below {outputs}")]
    Target {
        /// Name of the head.
        head: String,
        /// Place of the target, counted from 0.
        place: usize,
        /// The target that was given.
        target: u32,
        /// Tokens, classes or tags of the head.
        outputs: usize,
    },
    /// A target for a position behind a sequence's end.
    #[error("target {place} of the head `{head}` is for padding: give `IGNORE` there")]
    Padding {
        /// Name of the head.
        head: String,
        /// Place of the target, counted from 0.
        place: usize,
    },
    /// A sequence of which a CRF is given some tags but not all.
    #[error(
        "the head `{head}` is a CRF and learns whole sequences: give all tags of sequence \
         {sequence}, or `IGNORE` for each"
    )]
    PartOfTags {
        /// The head's name.
        head: String,
        /// The sequence, counted from 0.
        sequence: usize,
    },
    /// A flag that is no number from 0 to 1.
    #[error("flag {place} of the head `{head}` is {value}, but must be from 0 to 1")]
    Flag {
        /// Name of the head.
        head: String,
        /// Place of the flag, counted from 0.
        place: usize,
        /// The flag that was given.
        value: f32,
    },
    /// A span that is not within its sequence.
    #[error(
        "the span of sequence {sequence} for the head `{head}` is from {first} to {last}, but the \
         sequence has {length} positions"
    )]
    Span {
        /// Name of the head.
        head: String,
        /// The sequence, counted from 0.
        sequence: usize,
        /// First position of the span.
        first: u32,
        /// Last position of the span.
        last: u32,
        /// Positions of the sequence.
        length: usize,
    },
}
