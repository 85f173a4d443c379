use longhand_kernel::weights::MOST_INT8_COLUMNS;

/// The most parameters that a configuration may ask for.
pub(crate) const MOST_PARAMETERS: u128 = 1 << 34;
/// The most numbers that the state of one stream may hold.
pub(crate) const MOST_STATE: u128 = 1 << 30;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is not JSON of the right form.
    #[error("the configuration cannot be read: {0}")]
    Form(String),
    /// The version of the format is unknown.
    #[error("the configuration has format {0}; this program reads formats 1 and 2")]
    Format(u64),
    /// A size is out of range.
    #[error("`{name}` is {value}; it must be from {least} to {most}")]
    Size {
        /// Name of the refused setting.
        name: String,
        /// The value that was given.
        value: usize,
        /// The least value allowed.
        least: usize,
        /// The largest value allowed.
        most: usize,
    },
    /// A probability is out of range.
    #[error("`{name}` is {value}; it must be at least 0 and less than 1")]
    Probability {
        /// Name of the refused setting.
        name: &'static str,
        /// The value that was given.
        value: f32,
    },
    /// The settings of one block contradict each other.
    #[error("block {index}: {source}")]
    Block {
        /// The block, counted from 0.
        index: usize,
        /// The settings that contradict each other.
        source: BlockError,
    },
    /// A head's name cannot begin the name of a parameter.
    #[error(
        "a head cannot be named `{0}`: use letters, digits, `-` and `_`, and none of `embedding`, \
         `features`, `characters`, `positions`, `blocks` and `norm`"
    )]
    HeadName(String),
    /// Two heads have the same name.
    #[error("two heads are named `{0}`: give each a `name` of its own")]
    SameHeadName(String),
    /// A tied head needs the embedding's width.
    #[error("head `{head}`: `tied` needs an input of the embedding's width {width}, not {output}")]
    TiedWidth {
        /// Name of the head.
        head: String,
        /// Width of the embedding.
        width: usize,
        /// Width of the rows that the head reads.
        output: usize,
    },
    /// A language model would see the tokens that it predicts.
    #[error(
        "head `{0}`: a `language-model` must not see the tokens that it predicts; leave \
         `bidirectional` out of the memories"
    )]
    SeesAhead(String),
    /// The two stacks of a bicausal model cannot be.
    #[error("`stacks` can be `bicausal` only with {0}")]
    Bicausal(&'static str),
    /// The settings of an encoder and its decoder contradict each other.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// A norm behind the pooling needs one head that pools.
    #[error("`final_norm` can be `after-pooling` only with one head, which pools")]
    FinalNorm,
    /// A layer is too wide for int8 weights.
    #[error("int8 weights serve layers of at most {MOST_INT8_COLUMNS} inputs, not {0}: use bf16")]
    Int8Width(usize),
    /// A cache in bf16 holds pairs of values.
    #[error("a `kv_cache` in bf16 needs an even head_width, not {0}: use f32")]
    OddCache(usize),
    /// No memory has recurrent weights to drop.
    #[error("`dropout.recurrent` drops recurrent weights, and no memory has any: leave it out")]
    NoRecurrentWeights,
    /// No block has two memories in parallel.
    #[error(
        "`dropout.working` leaves sequences to the long memory beside the working one, and no \
         block has both in parallel: leave it out"
    )]
    NoParallelMemories,
    /// The model would have too many parameters.
    #[error("the model would have {0} parameters; the limit is {MOST_PARAMETERS}")]
    TooLarge(u64),
    /// The state of a stream would be too large.
    #[error(
        "the state of each stream would hold {0} numbers; the limit is {MOST_STATE}: lower \
         `window`, `head_width` or `hidden`"
    )]
    StateTooLarge(u64),
}

/// Settings of one block that contradict each other.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BlockError {
    /// Each key head must serve the same number of query heads.
    #[error("{heads} heads cannot share {kv_heads} key heads evenly")]
    KeyHeads {
        /// Number of query heads.
        heads: usize,
        /// Number of key and value heads.
        kv_heads: usize,
    },
    /// Rotary positions rotate pairs of values.
    #[error("rotary positions need an even head_width, not {0}")]
    OddRotary(usize),
    /// Heads must divide the units evenly.
    #[error("{hidden} hidden units cannot be cut into {heads} heads")]
    Heads {
        /// N: number of hidden units.
        hidden: usize,
        /// H: number of heads.
        heads: usize,
    },
    /// Only an sLSTM and an mLSTM have heads.
    #[error("`heads` belongs to slstm and mlstm; leave it out here")]
    NoHeads,
    /// Only an LSTM has timescales.
    #[error("`timescale` belongs to lstm; leave it out here")]
    NoTimescale,
    /// The block has no memory.
    #[error("it has no memory: give `working`, `long` or both")]
    NoMemory,
    /// An order needs two memories.
    #[error("one memory after the other needs both")]
    OneMemory,
    /// Two fusions need parallel memories.
    #[error("`gate` and `sum` fuse parallel memories: use the order `parallel`")]
    NotParallel,
    /// Two fusions need two memories.
    #[error("`gate` and `sum` need both memories")]
    NothingToFuse,
    /// Two fusions need memories of one width.
    #[error("`gate` and `sum` need memories of one width, not {working} and {long}")]
    Widths {
        /// Width of the working memory's output.
        working: usize,
        /// Width of the long memory's output.
        long: usize,
    },
    /// Parallel memories need a fusion.
    #[error("two parallel memories need a fusion")]
    NoFusion,
    /// A residual needs an output of the input's width.
    #[error("a residual needs an output as wide as the input, {input}, not {output}")]
    Residual {
        /// Width of the block's input.
        input: usize,
        /// Width of its output.
        output: usize,
    },
}

/// Settings of an encoder and a decoder that contradict each other.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum EncoderError {
    /// Cross-attention without an encoder that it reads.
    #[error("block {0} has `cross`, which reads an `encoder`: give the model one, or leave it out")]
    Missing(usize),
    /// An encoder that no block reads.
    #[error("no block reads the `encoder`: give a block `cross`, or leave the encoder out")]
    Unread,
    /// The settings of one of its blocks contradict each other.
    #[error("`{place}blocks[{index}]`: {source}")]
    Block {
        /// What has the blocks, with a dot behind it.
        place: &'static str,
        /// The block, counted from 0.
        index: usize,
        /// The settings that contradict each other.
        source: BlockError,
    },
    /// A memory of an encoder that reads forward.
    #[error(
        "`{place}blocks[{index}]` has a memory that reads forward only: an encoder reads a \
         source whole, make it `bidirectional`"
    )]
    Forward {
        /// What has the blocks, with a dot behind it.
        place: &'static str,
        /// The block, counted from 0.
        index: usize,
    },
    /// Cross-attention within the encoder.
    #[error(
        "`{place}blocks[{index}]` has `cross`, which belongs to the body's blocks: leave it out"
    )]
    Cross {
        /// What has the blocks, with a dot behind it.
        place: &'static str,
        /// The block, counted from 0.
        index: usize,
    },
    /// Blocks that read sentences' tokens give rows of another width than the model's.
    #[error(
        "`encoder.sentences.blocks` give rows {got} wide, but the rows of sentences have the model's \
         `width` {expected}"
    )]
    SentenceWidth {
        /// The width that they give.
        got: usize,
        /// The model's width.
        expected: usize,
    },
    /// Cross-attention to rows of another width than the encoder's.
    #[error(
        "block {block}: `cross.source_width` is {got}, but the encoder's output is {expected} wide"
    )]
    SourceWidth {
        /// The block of the decoder, counted from 0.
        block: usize,
        /// The width that it reads.
        got: usize,
        /// Width of the encoder's output.
        expected: usize,
    },
    /// Two stacks cannot be a decoder.
    #[error("`stacks` cannot be `bicausal` beside an `encoder`: the decoder is one stack")]
    Bicausal,
    /// Further inputs of a position, which a source would lack.
    #[error("an `encoder` reads tokens alone: leave out `features` and `characters`")]
    Inputs,
    /// A pointer without a source.
    #[error("`pointer` copies tokens of a source: give the model an `encoder`, or leave it out")]
    PointerAlone,
    /// A pointer to tokens that the head does not have.
    #[error(
        "`pointer` copies tokens of the model's vocabulary, and the `encoder` has its own: leave \
         out `encoder.vocab_size`, or the pointer"
    )]
    PointerVocabulary,
    /// A pointer to tokens that the blocks read as parts of sentences.
    #[error(
        "`pointer` copies tokens, and the `encoder` reads sentences: leave out \
         `encoder.sentences`, or the pointer"
    )]
    PointerSentences,
    /// A pointer beside a head that writes no text.
    #[error("`pointer` copies beside a `language-model`, which must be the first head")]
    PointerHead,
    /// A head whose parameters would have names of the encoder's.
    #[error("a head cannot be named `{0}` in a model that has one: give it another `name`")]
    HeadName(&'static str),
}
