//! What a model is made of: one definition, many configurations.
//!
//! ```text
//! ids → embedding (+ positions) → Block × L → norm → head
//!                                            (a classifier: → pooling → norm → head)
//!
//! Block(x):  u = norm(x)
//!            parallel:       y = fuse(working(u), long(u))
//!            working-first:  y = fuse(long(working(u)))
//!            long-first:     y = fuse(working(long(u)))
//!            x = x + y
//!            x = x + cross_attention(norm(x), source)
//!            x = x + feed_forward(norm(x))
//! ```

mod fields;

use longhand_kernel::Precision;
use longhand_kernel::recurrence::CellKind;
use longhand_kernel::weights::{Format, MOST_INT8_COLUMNS};
use serde::{Deserialize, Serialize};

/// The version of `config.json` that this program writes and reads.
pub const FORMAT: u32 = 1;

/// The largest size that any single setting may have: far above what a machine can hold, and
/// small enough that no product of three overflows.
const LARGEST: usize = 1 << 20;
/// The most parameters that a configuration may ask for.
pub(crate) const MOST_PARAMETERS: u128 = 1 << 34;
/// The most numbers that the memory of one stream may hold.
pub(crate) const MOST_STATE: u128 = 1 << 30;

/// A model's configuration: `config.json`. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Always `longhand`: tells model folders apart.
    pub model_type: ModelType,
    /// The version of this format, [`FORMAT`].
    pub format: u32,
    /// V: how many tokens the model knows.
    pub vocab_size: usize,
    /// D: width of the embedding, and of the residual stream.
    pub width: usize,
    /// What is added to the embedding to tell positions apart.
    #[serde(default)]
    pub positions: Positions,
    /// The norm before each memory, before each feed-forward layer and before the head.
    #[serde(default)]
    pub norm: Norm,
    /// The blocks in order.
    pub blocks: Vec<BlockConfig>,
    /// What turns the last block's output into an answer.
    pub head: HeadConfig,
    /// What is dropped in training.
    #[serde(default)]
    pub dropout: Dropout,
    /// How the weights are held: `f32`, which alone can be trained, `bf16`, `int8` or `int4`.
    #[serde(default, skip_serializing_if = "fields::is_f32", with = "fields::format_name")]
    pub weights: Format,
    /// How the keys and values that attention carries are held: `f32` or `bf16`, which takes half the
    /// memory. In training, too, they are rounded to it.
    #[serde(default, skip_serializing_if = "fields::is_exact", with = "fields::precision_name")]
    pub kv_cache: Precision,
}

/// The only value of `model_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelType {
    /// A model of this program.
    #[default]
    Longhand,
}

/// What is added to the embedding to tell positions apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Positions {
    // Braces without fields, here and in other tagged enums: a variant without braces would let
    // unknown keys pass.
    /// Nothing: recurrences count by themselves, rotary attention by its rotation.
    None {},
    /// A learned vector for each position modulo `count`.
    Learned {
        /// How many positions have a vector of their own.
        count: usize,
    },
    /// Sines and cosines (Vaswani et al., "Attention is all you need", 2017, section 3.5).
    Sinusoidal {},
}

/// The norm before memories and heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// x / rms(x) · w (Zhang and Sennrich, 2019).
    #[default]
    Rms,
    /// (x − mean) / deviation · w + b (Ba et al., 2016).
    Layer,
    /// None, as in the classical stacks.
    None,
}

/// One block: up to two memories, their fusion, and a feed-forward layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockConfig {
    /// The recent past, exact and bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working: Option<WorkingMemory>,
    /// The whole past, compressed and gated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long: Option<LongMemory>,
    /// How the two are connected.
    #[serde(default)]
    pub order: Order,
    /// How their outputs become one.
    #[serde(default)]
    pub fusion: Fusion,
    /// Cross-attention to a source after the memories, if there is any: for decoders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross: Option<CrossAttention>,
    /// Width of the SwiGLU layer (Shazeer, 2020), if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed_forward: Option<usize>,
    /// Whether the block's input is added to its output.
    #[serde(default = "fields::yes")]
    pub residual: bool,
}

/// Attention to all positions of a source: to the output of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossAttention {
    /// H: query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// K: width of a head.
    pub head_width: usize,
    /// Width of the source's rows.
    pub source_width: usize,
}

/// A memory of the recent past.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum WorkingMemory {
    /// Attention over a sliding window.
    Attention {
        /// H: query heads.
        heads: usize,
        /// Key and value heads; each serves `heads / kv_heads` query heads.
        kv_heads: usize,
        /// K: width of a head.
        head_width: usize,
        /// W: how many positions are seen, the present one included.
        window: usize,
        /// Rotary positions (Su et al., 2021).
        #[serde(default = "fields::yes")]
        rotary: bool,
        /// Sees the whole sequence, the future included: for encoders.
        #[serde(default)]
        bidirectional: bool,
    },
    /// `WM[t] = tanh(x[t] + WM[t−1])`.
    Tanh {},
}

/// A memory of the whole past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongMemory {
    /// Its recurrence.
    pub cell: Cell,
    /// N: units in each direction.
    pub hidden: usize,
    /// Heads of `slstm` and `mlstm`; 1 for the others.
    #[serde(default = "fields::one")]
    pub heads: usize,
    /// Reads the sequence in both directions; the outputs stand side by side.
    #[serde(default)]
    pub bidirectional: bool,
    /// The longest time, in tokens, for which an LSTM's units begin to remember: forget biases
    /// ln u with u drawn from 1 to one less than this, input biases their negatives (Tallec and
    /// Ollivier, "Can recurrent neural networks warp time?", 2018, equation 16). Without it forget
    /// biases begin at 1, with which a gradient fades within some twenty tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timescale: Option<u32>,
}

/// A recurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cell {
    /// Long short-term memory with a forget gate (Hochreiter and Schmidhuber, 1997; Gers et al.,
    /// 2000), in PyTorch's layout.
    Lstm,
    /// Scalar memory with exponential gates (Beck et al., "xLSTM", 2024).
    Slstm,
    /// Matrix memory (Beck et al., 2024).
    Mlstm,
    /// Elman's recurrence, a baseline.
    Rnn,
}

impl Cell {
    /// The cell of the kernel's recurrences; the matrix memory is none of them.
    pub(crate) fn kind(self) -> Option<CellKind> {
        match self {
            Cell::Lstm => Some(CellKind::Lstm),
            Cell::Slstm => Some(CellKind::Slstm),
            Cell::Rnn => Some(CellKind::Rnn),
            Cell::Mlstm => None,
        }
    }
}

/// How the two memories of a block are connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Both read the block's input.
    #[default]
    Parallel,
    /// The long memory reads what the working memory gives.
    WorkingFirst,
    /// The working memory reads what the long memory gives.
    LongFirst,
}

/// How the outputs of a block's memories become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fusion {
    /// One linear layer over [WM; LTM], without bias, to the model's width.
    #[default]
    Concat,
    /// σ(g) ∘ WM + (1 − σ(g)) ∘ LTM with g a linear layer over [WM; LTM].
    Gate,
    /// WM + LTM.
    Sum,
    /// The memory's own output: for blocks with one memory, or one after the other.
    None,
}

/// What turns the last block's output into an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum HeadConfig {
    /// The next token.
    LanguageModel {
        /// The output matrix is the embedding.
        #[serde(default)]
        tied: bool,
        /// A bias for each token.
        #[serde(default)]
        bias: bool,
    },
    /// One class for the sequence.
    Classifier {
        /// How many classes.
        classes: usize,
        /// How the positions become one vector.
        #[serde(default)]
        pooling: Pooling,
    },
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
    /// The largest value of each unit.
    Max,
}

/// What is dropped in training, each a probability below 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dropout {
    /// Whole tokens of the embedding (Gal and Ghahramani, 2016).
    pub token: f32,
    /// The first block's input.
    pub input: f32,
    /// The fused memories, before they become one.
    pub memory: f32,
    /// The working memory of whole sequences, for one pass and in all blocks with both memories in
    /// parallel, what is kept unscaled: the long memory then learns what it would leave to attention
    /// (compare the changing windows of Cabannes et al., "Short window attention enables long-term
    /// memorization", 2025).
    #[serde(skip_serializing_if = "fields::is_zero")]
    pub working: f32,
    /// What each memory pair and each feed-forward layer adds to the residual stream; in stacks
    /// without residuals, each block's output.
    pub block: f32,
    /// The head's input.
    pub output: f32,
    /// Recurrent weights of an LSTM, sLSTM or Elman recurrence (Merity et al., "weight-drop",
    /// 2017). An mLSTM has none.
    pub recurrent: f32,
    /// One mask per sequence, kept over its positions, instead of one per position.
    pub locked: bool,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ConfigError {
    /// Not JSON of the right form.
    #[error("the configuration cannot be read: {0}")]
    Form(String),
    /// A size out of range.
    #[error("`{name}` is {value}; it must be from {least} to {most}")]
    Size {
        /// Which setting.
        name: String,
        /// Its value.
        value: usize,
        /// The least allowed.
        least: usize,
        /// The most allowed.
        most: usize,
    },
    /// A probability out of range.
    #[error("`{name}` is {value}; it must be at least 0 and less than 1")]
    Probability {
        /// Which setting.
        name: &'static str,
        /// Its value.
        value: f32,
    },
    /// Settings that contradict each other.
    #[error("{0}")]
    Conflict(String),
    /// More parameters than can be.
    #[error("the model would have {0} parameters; at most {MOST_PARAMETERS} can be")]
    TooLarge(u64),
    /// A larger memory than can be.
    #[error(
        "the memory of each stream would hold {0} numbers; at most {MOST_STATE} can be: lower \
         `window`, `head_width` or `hidden`"
    )]
    StateTooLarge(u64),
}

impl Config {
    /// Reads and checks `config.json`.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ConfigError> {
        let config: Self =
            serde_json::from_slice(bytes).map_err(|e| ConfigError::Form(e.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// As `config.json`, for people to read.
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self);
        // Plain data with string keys: serialising it cannot fail.
        json.unwrap_or_default() + "\n"
    }

    /// Checks every size and every pair of settings that must agree.
    /// [`Model::check`](crate::Model::check) also checks how large the model would be.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.format != FORMAT {
            return Err(ConfigError::Conflict(format!(
                "the configuration has format {}; this program reads format {FORMAT}",
                self.format
            )));
        }
        size("vocab_size", self.vocab_size, 1, LARGEST)?;
        size("width", self.width, 1, LARGEST)?;
        size("the number of blocks", self.blocks.len(), 1, 1024)?;
        if let Positions::Learned { count } = self.positions {
            size("positions.count", count, 1, LARGEST)?;
        }
        if let HeadConfig::Classifier { classes, .. } = self.head {
            size("head.classes", classes, 1, LARGEST)?;
        }
        self.dropout.check()?;
        let mut width = self.width;
        for (index, block) in self.blocks.iter().enumerate() {
            width = block.check(index, width)?;
        }
        self.check_head()?;
        self.check_weights()?;
        self.check_kv_cache()?;
        self.check_dropout()
    }

    /// Width of the last block's output.
    pub fn output_width(&self) -> usize {
        self.blocks.iter().fold(self.width, |width, block| block.output_width(width))
    }

    /// W: the largest window of the blocks' attention; none where no block has attention.
    pub fn largest_window(&self) -> Option<usize> {
        let windows = self.blocks.iter().filter_map(|block| match block.working {
            Some(WorkingMemory::Attention { window, .. }) => Some(window),
            _ => None,
        });
        windows.max()
    }

    /// Whether every memory looks backward only, so that the model can be stepped.
    pub fn is_causal(&self) -> bool {
        self.blocks.iter().all(|block| {
            !block.long.is_some_and(|long| long.bidirectional)
                && !matches!(
                    block.working,
                    Some(WorkingMemory::Attention { bidirectional: true, .. })
                )
        })
    }

    /// The most columns of any matrix, or a little more.
    fn widest(&self) -> usize {
        let mut widest = self.width;
        let mut width = self.width;
        for block in &self.blocks {
            let working = block.working.map_or(0, |w| w.output_width(width));
            let long = block.long.map_or(0, |long| long.output_width());
            width = block.output_width(width);
            let cross = block.cross.map_or(0, |c| c.source_width.max(c.heads * c.head_width));
            widest = widest
                .max(working + long)
                .max(cross)
                .max(width)
                .max(block.feed_forward.unwrap_or(0));
        }
        widest
    }

    /// The configuration's hash: names the architecture in files.
    pub fn hash(&self) -> String {
        blake3::hash(self.to_json().as_bytes()).to_hex().to_string()
    }

    fn check_head(&self) -> Result<(), ConfigError> {
        let HeadConfig::LanguageModel { tied, .. } = self.head else { return Ok(()) };
        let width = self.output_width();
        if tied && width != self.width {
            return Err(ConfigError::Conflict(format!(
                "`head.tied` needs a last block of the embedding's width {}, not {width}",
                self.width
            )));
        }
        if !self.is_causal() {
            return Err(ConfigError::Conflict(
                "a `language-model` must not see the tokens that it is to predict: leave \
                 `bidirectional` out of its memories"
                    .into(),
            ));
        }
        Ok(())
    }

    fn check_weights(&self) -> Result<(), ConfigError> {
        let widest = self.widest();
        if self.weights == Format::Int8 && widest > MOST_INT8_COLUMNS {
            return Err(ConfigError::Conflict(format!(
                "int8 weights serve layers of at most {MOST_INT8_COLUMNS} inputs, not {widest}: \
                 use bf16"
            )));
        }
        Ok(())
    }

    fn check_kv_cache(&self) -> Result<(), ConfigError> {
        let odd = self.blocks.iter().find_map(|block| match block.working {
            Some(WorkingMemory::Attention { head_width, bidirectional: false, .. }) => {
                (head_width % 2 == 1).then_some(head_width)
            }
            _ => None,
        });
        match odd {
            Some(width) if self.kv_cache == Precision::Bf16 => Err(ConfigError::Conflict(format!(
                "a `kv_cache` in bf16 needs an even head_width, not {width}: use f32"
            ))),
            _ => Ok(()),
        }
    }

    fn check_dropout(&self) -> Result<(), ConfigError> {
        let recurs = |block: &BlockConfig| block.long.is_some_and(|long| long.cell != Cell::Mlstm);
        if self.dropout.recurrent > 0.0 && !self.blocks.iter().any(recurs) {
            return Err(ConfigError::Conflict(
                "`dropout.recurrent` drops recurrent weights, and none of the memories has any: \
                 leave it out"
                    .into(),
            ));
        }
        if self.dropout.working > 0.0 && !self.blocks.iter().any(BlockConfig::is_parallel_pair) {
            return Err(ConfigError::Conflict(
                "`dropout.working` leaves sequences to the long memory beside the working one, and \
                 no block has both in parallel: leave it out"
                    .into(),
            ));
        }
        Ok(())
    }
}

impl Default for Positions {
    fn default() -> Self {
        Positions::None {}
    }
}

impl BlockConfig {
    /// Whether both memories read the same input, side by side.
    pub(crate) fn is_parallel_pair(&self) -> bool {
        self.working.is_some() && self.long.is_some() && self.order == Order::Parallel
    }

    /// Width of the block's output when its input has the given width.
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

    fn check(&self, index: usize, input: usize) -> Result<usize, ConfigError> {
        let conflict = |text: String| Err(ConfigError::Conflict(format!("block {index}: {text}")));
        let name = |name: &str| format!("blocks[{index}].{name}");
        if let Some(WorkingMemory::Attention {
            heads, kv_heads, head_width, window, rotary, ..
        }) = self.working
        {
            size(&name("working.heads"), heads, 1, 4096)?;
            size(&name("working.kv_heads"), kv_heads, 1, heads)?;
            size(&name("working.head_width"), head_width, 1, 4096)?;
            size(&name("working.window"), window, 1, LARGEST)?;
            if heads % kv_heads != 0 {
                return conflict(format!("{heads} heads cannot share {kv_heads} key heads evenly"));
            }
            if rotary && head_width % 2 != 0 {
                return conflict(format!(
                    "rotary positions need an even head_width, not {head_width}"
                ));
            }
        }
        if let Some(long) = self.long {
            size(&name("long.hidden"), long.hidden, 1, LARGEST)?;
            size(&name("long.heads"), long.heads, 1, long.hidden)?;
            if matches!(long.cell, Cell::Lstm | Cell::Rnn) && long.heads != 1 {
                return conflict("`heads` belongs to slstm and mlstm; leave it out here".into());
            }
            if let Some(timescale) = long.timescale {
                size(&name("long.timescale"), timescale as usize, 2, LARGEST)?;
                if long.cell != Cell::Lstm {
                    return conflict("`timescale` belongs to lstm; leave it out here".into());
                }
            }
            if long.hidden % long.heads != 0 {
                return conflict(format!(
                    "{} hidden units cannot be cut into {} heads",
                    long.hidden, long.heads
                ));
            }
        }
        if let Some(CrossAttention { heads, kv_heads, head_width, source_width }) = self.cross {
            size(&name("cross.heads"), heads, 1, 4096)?;
            size(&name("cross.kv_heads"), kv_heads, 1, heads)?;
            size(&name("cross.head_width"), head_width, 1, 4096)?;
            size(&name("cross.source_width"), source_width, 1, LARGEST)?;
            if heads % kv_heads != 0 {
                return conflict(format!("{heads} heads cannot share {kv_heads} key heads evenly"));
            }
        }
        if let Some(width) = self.feed_forward {
            size(&name("feed_forward"), width, 1, LARGEST)?;
        }
        let (working, long) = (self.working.is_some(), self.long.is_some());
        match (self.fusion, self.order) {
            _ if !working && !long => {
                return conflict("it has no memory: give `working`, `long` or both".into());
            }
            (_, Order::WorkingFirst | Order::LongFirst) if !(working && long) => {
                return conflict("one memory after the other needs both".into());
            }
            (Fusion::Gate | Fusion::Sum, Order::WorkingFirst | Order::LongFirst) => {
                return conflict(
                    "`gate` and `sum` fuse memories side by side: use `parallel`".into(),
                );
            }
            (Fusion::Gate | Fusion::Sum, Order::Parallel) => {
                let widths = (
                    self.working.map(|w| w.output_width(input)),
                    self.long.map(|l| l.output_width()),
                );
                match widths {
                    (Some(a), Some(b)) if a == b => {}
                    (Some(a), Some(b)) => {
                        return conflict(format!(
                            "`gate` and `sum` need memories of one width, not {a} and {b}"
                        ));
                    }
                    _ => return conflict("`gate` and `sum` need both memories".into()),
                }
            }
            (Fusion::None, Order::Parallel) if working && long => {
                return conflict("two memories side by side need a fusion".into());
            }
            _ => {}
        }
        let output = self.output_width(input);
        if self.residual && output != input {
            return conflict(format!(
                "a residual needs an output as wide as the input, {input}, not {output}"
            ));
        }
        Ok(output)
    }
}

impl WorkingMemory {
    /// Width of its output when its input has the given width.
    pub fn output_width(&self, input: usize) -> usize {
        match *self {
            WorkingMemory::Attention { heads, head_width, .. } => heads * head_width,
            WorkingMemory::Tanh {} => input,
        }
    }
}

impl LongMemory {
    /// Width of its output.
    pub fn output_width(&self) -> usize {
        if self.bidirectional { 2 * self.hidden } else { self.hidden }
    }
}

impl Dropout {
    fn check(&self) -> Result<(), ConfigError> {
        let all = [
            ("dropout.token", self.token),
            ("dropout.input", self.input),
            ("dropout.memory", self.memory),
            ("dropout.working", self.working),
            ("dropout.block", self.block),
            ("dropout.output", self.output),
            ("dropout.recurrent", self.recurrent),
        ];
        match all.into_iter().find(|(_, value)| !(0.0..1.0).contains(value)) {
            Some((name, value)) => Err(ConfigError::Probability { name, value }),
            None => Ok(()),
        }
    }
}

fn size(name: &str, value: usize, least: usize, most: usize) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(ConfigError::Size { name: name.into(), value, least, most })
    }
}
