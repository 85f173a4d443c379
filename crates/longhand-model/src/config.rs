//! The configuration of a model: one definition, many settings.
//!
//! ```text
//! ids → embedding (+ positions) → Block × L → norm → one head or several
//!
//! Block(x):  u = norm(x)
//!            parallel:       y = fuse(working(u), long(u))
//!            working-first:  y = fuse(long(working(u)))
//!            long-first:     y = fuse(working(long(u)))
//!            x = x + y
//!            x = x + cross_attention(norm(x), source)
//!            x = x + feed_forward(norm(x))
//! ```
//!
//! With an `encoder`, the source of `cross_attention` is what its blocks make of another text. With
//! `adapters`, a bottleneck layer follows the fused memories and the feed-forward layer.

mod check;
mod encoder;
mod error;
mod fields;
mod format_1;
mod json;
mod memories;

use longhand_kernel::Precision;
use longhand_kernel::weights::Format;
use serde::{Deserialize, Serialize};

pub(crate) use check::BACKWARD;
pub(crate) use encoder::{ENCODER, POINTER};
pub use encoder::{Encoder, Pointer, Sentences};
pub use error::{BlockError, ConfigError, EncoderError};
pub(crate) use error::{MOST_PARAMETERS, MOST_STATE};
pub use memories::{Cell, Filters, LongMemory, WorkingMemory};

/// The version of `config.json` that this program writes. It reads format 1 as well.
pub const FORMAT: u32 = 2;

/// A model's configuration, as `config.json` holds it. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Always `longhand`: tells model folders apart.
    pub model_type: ModelType,
    /// The version of this format, [`FORMAT`].
    pub format: u32,
    /// V: size of the vocabulary, in tokens.
    pub vocab_size: usize,
    /// D: width of the embedding and of the residual stream.
    pub width: usize,
    /// Sizes of tables of further features of a position, such as the ending of a word. A vector of
    /// each table is added to the token's embedding (default: none).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<usize>,
    /// How the characters of each token are read, which adds to its embedding (default: not at all).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub characters: Option<CharacterReader>,
    /// Position information added to the embedding (default: none).
    #[serde(default)]
    pub positions: Positions,
    /// The norm before each memory, before each feed-forward layer and before
    /// the heads (default: RMS).
    #[serde(default)]
    pub norm: Norm,
    /// The blocks, first to last.
    pub blocks: Vec<BlockConfig>,
    /// The stacks of these blocks, and the order in which each reads the
    /// text (default: one, forward).
    #[serde(default, skip_serializing_if = "fields::is_default")]
    pub stacks: Stacks,
    /// The encoder that the blocks' cross-attention reads (default: none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<Encoder>,
    /// Whether the first head, a language model's, copies tokens of the source beside those that it
    /// writes, as a pointer-generator does (default: no).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<Pointer>,
    /// Where the last norm is applied (default: before the heads).
    #[serde(default, skip_serializing_if = "fields::is_default")]
    pub final_norm: FinalNorm,
    /// A: inner width of the adapter layers behind each block's memories and feed-forward layer
    /// (Houlsby et al., 2019), which are trained where the rest of the body is not (default: none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapters: Option<usize>,
    /// The heads beside each other on the last block's output. `generate`, `score` and `predict`
    /// use the first one.
    pub heads: Vec<HeadConfig>,
    /// Dropout probabilities in training (default: none).
    #[serde(default)]
    pub dropout: Dropout,
    /// The number format of the weights (default: `f32`). Only `f32` can be trained; `bf16`, `int8`
    /// and `int4` are for reading.
    #[serde(default, skip_serializing_if = "fields::is_f32", with = "fields::format_name")]
    pub weights: Format,
    /// The number format of attention's KV cache (default: `f32`). `bf16` takes half the memory;
    /// training rounds keys and values to it as well.
    #[serde(default, skip_serializing_if = "fields::is_exact", with = "fields::precision_name")]
    pub kv_cache: Precision,
}

/// A reader of the characters of a token. In files it is the table of its sizes, with a `type` beside
/// them: `convolution`, which may be left out, or `lstm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum CharacterReader {
    /// Filters over neighbouring characters.
    Convolution(CharacterFilters),
    /// A recurrence in both directions.
    Lstm(CharacterLstm),
}

/// Filters over the characters of a token: the largest value of each, times a matrix, is added to the
/// token's embedding (Ma and Hovy, "End-to-end sequence labeling via bi-directional LSTM-CNNs-CRF",
/// 2016, section 2.1, whose sizes are the defaults of the tagger).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CharacterFilters {
    /// C: characters that have a vector.
    pub vocabulary: usize,
    /// Width of a character's vector.
    pub width: usize,
    /// N: number of filters.
    pub filters: usize,
    /// k: characters that a filter sees.
    pub kernel: usize,
}

/// An LSTM over the characters of a token in each direction: the last states of the two, times a
/// matrix, are added to the token's embedding (Lample et al., "Neural architectures for named entity
/// recognition", 2016, section 4.1, whose sizes are the defaults of the tagger).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "type", rename = "lstm")]
pub struct CharacterLstm {
    /// C: characters that have a vector.
    pub vocabulary: usize,
    /// Width of a character's vector.
    pub width: usize,
    /// N: hidden units in each direction.
    pub hidden: usize,
}

/// The only value of `model_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelType {
    /// A model of this program.
    #[default]
    Longhand,
}

/// Position information that is added to the embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Positions {
    // Braces without fields, here and in other tagged enums: a variant without braces would let
    // unknown keys pass.
    /// Nothing is added: recurrences count by themselves, rotary attention rotates.
    None {},
    /// A learned vector for each position modulo `count`.
    Learned {
        /// Positions that have a vector of their own.
        count: usize,
    },
    /// Sines and cosines (Vaswani et al., "Attention is all you need", 2017, section 3.5).
    Sinusoidal {},
}

/// The norm before memories, feed-forward layers and heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// x / rms(x) · w (Zhang and Sennrich, 2019).
    #[default]
    Rms,
    /// (x − mean) / deviation · w + b (Ba et al., 2016).
    Layer,
    /// No norm, as in the classical stacks.
    None,
}

/// The stacks of blocks of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stacks {
    /// One stack reads the sequence from its first position to its last.
    #[default]
    Forward,
    /// Two stacks of causal blocks, each with parameters of its own, on one embedding. One reads
    /// the sequence, the other one the reversed sequence; the body's output is [forward; backward]
    /// (Peters et al., "Deep contextualized word representations", 2018, section 3.1).
    Bicausal,
}

/// Where the norm behind the last block is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinalNorm {
    /// To every position, before the heads read it.
    #[default]
    BeforeHeads,
    /// To the pooled vector of the only head, as models of format 1 did.
    AfterPooling,
}

/// One block: up to two memories, their fusion, and a feed-forward layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockConfig {
    /// The memory of the recent past, exact and bounded (default: none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working: Option<WorkingMemory>,
    /// The memory of the whole past, compressed and gated (default: none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long: Option<LongMemory>,
    /// How the two memories are connected (default: parallel).
    #[serde(default)]
    pub order: Order,
    /// How the outputs of the two memories become one (default: concatenation).
    #[serde(default)]
    pub fusion: Fusion,
    /// Cross-attention to a source after the memories, as in decoders (default: none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross: Option<CrossAttention>,
    /// Inner width of the SwiGLU layer (Shazeer, 2020); none for no such layer (default: none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed_forward: Option<usize>,
    /// Whether the block's input is added to its output (default: true).
    #[serde(default = "fields::yes")]
    pub residual: bool,
}

/// Attention to all positions of a source: to the output of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossAttention {
    /// H: number of query heads.
    pub heads: usize,
    /// G: number of key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// K: width of a head.
    pub head_width: usize,
    /// Width of the source's rows: of the encoder's output.
    pub source_width: usize,
}

/// How the two memories of a block are connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Both read the block's input.
    #[default]
    Parallel,
    /// The long memory reads the output of the working memory.
    WorkingFirst,
    /// The working memory reads the output of the long memory.
    LongFirst,
}

/// How the outputs of a block's memories become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fusion {
    /// One linear layer without bias over [WM; LTM], to the model's width.
    #[default]
    Concat,
    /// σ(g) ∘ WM + (1 − σ(g)) ∘ LTM with g a linear layer over [WM; LTM].
    Gate,
    /// WM + LTM, element by element.
    Sum,
    /// The memory's own output: for blocks with one memory, or one after the other.
    None,
}

/// A named head on the body's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeadConfig {
    /// The name of the head, which begins the names of its parameters (default: `head`).
    pub name: String,
    /// The form of its answer.
    #[serde(flatten)]
    pub kind: HeadKind,
}

/// The form of a head's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum HeadKind {
    /// The next token at each position.
    LanguageModel {
        /// Whether the output matrix is the embedding (default: false).
        #[serde(default)]
        tied: bool,
        /// Whether each token has a bias (default: false).
        #[serde(default)]
        bias: bool,
    },
    /// One class for the sequence.
    Classifier {
        /// C: number of classes.
        classes: usize,
        /// How the positions become one vector (default: last).
        #[serde(default)]
        pooling: Pooling,
    },
    /// The tokens that were masked in the input, at their positions (Devlin et al., "BERT", 2019,
    /// section 3.1). The memories may see the future.
    MaskedTokens {
        /// Whether the output matrix is the embedding (default: false).
        #[serde(default)]
        tied: bool,
        /// Whether each token has a bias (default: false).
        #[serde(default)]
        bias: bool,
    },
    /// How the two sentences of a sequence relate: one class, such as whether the
    /// second follows the first.
    SentencePair {
        /// C: number of relations (default: 2).
        #[serde(default = "fields::two")]
        classes: usize,
        /// How the positions become one vector (default: last).
        #[serde(default)]
        pooling: Pooling,
    },
    /// Labels that are on or off independently of each other, for the sequence.
    MultiLabel {
        /// L: number of labels.
        labels: usize,
        /// How the positions become one vector (default: last).
        #[serde(default)]
        pooling: Pooling,
    },
    /// One tag at each position.
    Tags {
        /// K: number of tags to choose from.
        tags: usize,
        /// Whether a linear-chain CRF scores neighbouring tags and both ends of
        /// a sequence (default: false).
        #[serde(default, skip_serializing_if = "fields::is_default")]
        crf: bool,
    },
    /// The first and the last position of a span of the sequence.
    Span {},
}

/// How the positions of a sequence become one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The last real position.
    #[default]
    Last,
    /// The mean of the real positions.
    Mean,
    /// The largest value of each unit over the real positions.
    Max,
}

/// Dropout in training. Each field is a probability below 1 (default: 0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dropout {
    /// Whole tokens of the embedding (Gal and Ghahramani, 2016).
    pub token: f32,
    /// The first block's input.
    pub input: f32,
    /// The outputs of the memories, before their fusion.
    pub memory: f32,
    /// The working memory of whole sequences, in all blocks with parallel memories. Sequences that
    /// keep it are not scaled. The long memory then learns what it would leave to attention
    /// (compare the changing windows of Cabannes et al., "Short window attention
    /// enables long-term memorization", 2025).
    #[serde(skip_serializing_if = "fields::is_zero")]
    pub working: f32,
    /// The output of each memory pair and each feed-forward layer, before it is added to the
    /// residual stream; without residuals, each block's output.
    pub block: f32,
    /// The input of each head.
    pub output: f32,
    /// Recurrent weights of an LSTM, sLSTM or Elman recurrence (Merity et al., "weight-drop",
    /// 2017). An mLSTM has none.
    pub recurrent: f32,
    /// Whether a sequence keeps one mask for all positions instead of one mask
    /// per position (default: false).
    pub locked: bool,
}

impl Config {
    /// The kind of the first head, which `generate`, `score` and `predict` use.
    pub fn head(&self) -> Option<&HeadKind> {
        self.heads.first().map(|head| &head.kind)
    }

    /// Whether the first head is a language model's on one stack without an encoder,
    /// which continues a text.
    pub fn is_language_model(&self) -> bool {
        self.stacks == Stacks::Forward && self.encoder.is_none() && self.predicts_next()
    }

    /// Whether the first head is a language model's on a decoder, which writes a text from a source.
    pub fn writes_from_source(&self) -> bool {
        self.encoder.is_some() && self.predicts_next()
    }

    /// Whether it learns the objective `bicausal`: the first head is a language
    /// model's on two stacks.
    pub fn is_bicausal(&self) -> bool {
        self.stacks == Stacks::Bicausal && self.predicts_next()
    }

    /// Whether it learns the objective `masked`: the first head is one for masked tokens.
    pub fn fills_masks(&self) -> bool {
        matches!(self.head(), Some(HeadKind::MaskedTokens { .. }))
    }

    fn predicts_next(&self) -> bool {
        matches!(self.head(), Some(HeadKind::LanguageModel { .. }))
    }

    /// Whether the embedding is the output matrix of a head as well.
    pub fn is_tied(&self) -> bool {
        self.heads.iter().any(|head| head.kind.is_tied())
    }

    /// Width of the body's output, which the heads of tasks read.
    pub fn output_width(&self) -> usize {
        match self.stacks {
            Stacks::Forward => self.stack_width(),
            Stacks::Bicausal => 2 * self.stack_width(),
        }
    }

    /// Width of the last block's output.
    pub(crate) fn stack_width(&self) -> usize {
        width_behind(&self.blocks, self.width)
    }

    /// Width of the rows that a head reads. A language model's head reads one stack at a time: it
    /// would see its target in the other one.
    pub(crate) fn input_width(&self, head: &HeadKind) -> usize {
        match head {
            HeadKind::LanguageModel { .. } => self.stack_width(),
            _ => self.output_width(),
        }
    }

    /// W: the most positions that a working memory sees at once; none where no block has
    /// attention or a convolution.
    pub fn largest_window(&self) -> Option<usize> {
        let windows = self.blocks.iter().filter_map(|block| match block.working? {
            WorkingMemory::Attention { window, .. } => Some(window),
            WorkingMemory::Convolution(filters) => Some(filters.longest),
            WorkingMemory::Tanh {} => None,
        });
        windows.max()
    }

    /// Whether every memory looks backward only, so that the model can decode step by step.
    pub fn is_causal(&self) -> bool {
        self.stacks == Stacks::Forward && self.has_causal_blocks()
    }

    /// Whether no memory of a block reads ahead.
    pub(crate) fn has_causal_blocks(&self) -> bool {
        self.blocks.iter().all(|block| {
            !block.long.is_some_and(|long| long.is_bidirectional())
                && !block.working.is_some_and(|working| working.is_bidirectional())
        })
    }
}

/// Width of the last block's output for an input of the given width.
pub(crate) fn width_behind(blocks: &[BlockConfig], width: usize) -> usize {
    blocks.iter().fold(width, |width, block| block.output_width(width))
}

impl Default for Positions {
    fn default() -> Self {
        Positions::None {}
    }
}

impl BlockConfig {
    /// Whether both memories read the same input, in parallel.
    pub(crate) fn is_parallel_pair(&self) -> bool {
        self.working.is_some() && self.long.is_some() && self.order == Order::Parallel
    }

    /// Whether all of its memories see the whole sequence.
    pub(crate) fn reads_both_ways(&self) -> bool {
        self.working.is_none_or(|working| working.is_bidirectional())
            && self.long.is_none_or(|long| long.is_bidirectional())
    }

    /// Width of the block's output for an input of the given width.
    pub fn output_width(&self, input: usize) -> usize {
        let working = |input| self.working.map(|w| w.output_width(input));
        let long = self.long.map(|l| l.output_width());
        match self.fusion {
            Fusion::Concat => input,
            Fusion::Gate | Fusion::Sum => working(input).or(long).unwrap_or(input),
            Fusion::None => match self.order {
                Order::LongFirst => long.map_or(working(input), working).or(long),
                Order::WorkingFirst | Order::Parallel => long.or(working(input)),
            }
            .unwrap_or(input),
        }
    }
}

impl HeadConfig {
    /// The name of a head that is given none.
    pub const NAME: &str = "head";

    /// A head with the default name.
    pub fn new(kind: HeadKind) -> Self {
        Self { name: Self::NAME.into(), kind }
    }
}

impl HeadKind {
    /// Whether its output matrix is the embedding.
    pub fn is_tied(&self) -> bool {
        matches!(
            *self,
            HeadKind::LanguageModel { tied: true, .. } | HeadKind::MaskedTokens { tied: true, .. }
        )
    }

    /// Whether its answers are tokens.
    pub fn predicts_tokens(&self) -> bool {
        matches!(self, HeadKind::LanguageModel { .. } | HeadKind::MaskedTokens { .. })
    }

    /// How it pools the positions of a sequence; none for a head that answers at each position.
    pub fn pooling(&self) -> Option<Pooling> {
        match *self {
            HeadKind::Classifier { pooling, .. }
            | HeadKind::SentencePair { pooling, .. }
            | HeadKind::MultiLabel { pooling, .. } => Some(pooling),
            HeadKind::LanguageModel { .. }
            | HeadKind::MaskedTokens { .. }
            | HeadKind::Tags { .. }
            | HeadKind::Span {} => None,
        }
    }
}
