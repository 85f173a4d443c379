//! `config.json` in format 1. It had one head and no name for it, and one set of keys for every
//! long memory; its classifiers pooled before the last norm.

use longhand_kernel::Precision;
use longhand_kernel::weights::Format;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::{BlockError, ConfigError};
use super::{
    BlockConfig, Cell, Config, Dropout, FORMAT, FinalNorm, Fusion, HeadConfig, HeadKind,
    LongMemory, ModelType, Norm, Order, Pooling, Positions, Stacks, WorkingMemory, fields,
};

/// The keys of the file, in the order in which they were written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config1 {
    model_type: ModelType,
    format: u32,
    vocab_size: usize,
    width: usize,
    #[serde(default)]
    positions: Positions,
    #[serde(default)]
    norm: Norm,
    blocks: Vec<Block1>,
    head: Head1,
    #[serde(default)]
    dropout: Dropout,
    #[serde(default, skip_serializing_if = "fields::is_f32", with = "fields::format_name")]
    weights: Format,
    #[serde(default, skip_serializing_if = "fields::is_exact", with = "fields::precision_name")]
    kv_cache: Precision,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Block1 {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    working: Option<WorkingMemory>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    long: Option<Long1>,
    #[serde(default)]
    order: Order,
    #[serde(default)]
    fusion: Fusion,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    feed_forward: Option<usize>,
    #[serde(default = "fields::yes")]
    residual: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Long1 {
    cell: Cell,
    hidden: usize,
    #[serde(default = "fields::one")]
    heads: usize,
    #[serde(default)]
    bidirectional: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timescale: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
enum Head1 {
    LanguageModel {
        #[serde(default)]
        tied: bool,
        #[serde(default)]
        bias: bool,
    },
    Classifier {
        classes: usize,
        #[serde(default)]
        pooling: Pooling,
    },
}

impl Config {
    /// Overrides of a configuration's keys, with the keys of format 1 among them in today's form.
    /// `head` replaces the heads or, without a `type`, keys of the first head of `config`; the
    /// `cell` of a long memory becomes its `type`.
    pub fn upgrade_overrides(
        config: &Value,
        mut overrides: Map<String, Value>,
    ) -> Map<String, Value> {
        if let Some(head) = overrides.get("head").and_then(Value::as_object).cloned() {
            let first = config["heads"].get(0).and_then(Value::as_object);
            let mut keys =
                first.filter(|_| !head.contains_key("type")).cloned().unwrap_or_default();
            keys.extend(head);
            overrides.remove("head");
            overrides.insert("heads".into(), json!([keys]));
        }
        let blocks = overrides.get_mut("blocks").and_then(Value::as_array_mut);
        for block in blocks.into_iter().flatten() {
            let Some(long) = block.get_mut("long").and_then(Value::as_object_mut) else { continue };
            let Some(cell) = long.remove("cell") else { continue };
            if long.get("heads") == Some(&json!(1)) {
                // The default of the cells that have heads, and unknown to the others.
                long.remove("heads");
            }
            long.insert("type".into(), cell);
        }
        overrides
    }
}

impl Config1 {
    /// The same model in today's format.
    pub(super) fn upgrade(self) -> Result<Config, ConfigError> {
        let block = |(index, block): (usize, Block1)| {
            block.upgrade().map_err(|source| ConfigError::Block { index, source })
        };
        let blocks = self.blocks.into_iter().enumerate().map(block).collect::<Result<_, _>>()?;
        let kind = match self.head {
            Head1::LanguageModel { tied, bias } => HeadKind::LanguageModel { tied, bias },
            Head1::Classifier { classes, pooling } => HeadKind::Classifier { classes, pooling },
        };
        Ok(Config {
            model_type: self.model_type,
            format: FORMAT,
            vocab_size: self.vocab_size,
            width: self.width,
            features: Vec::new(),
            characters: None,
            positions: self.positions,
            norm: self.norm,
            blocks,
            stacks: Stacks::Forward,
            encoder: None,
            pointer: None,
            final_norm: final_norm(self.norm, &kind),
            adapters: None,
            heads: vec![HeadConfig::new(kind)],
            dropout: self.dropout,
            weights: self.weights,
            kv_cache: self.kv_cache,
        })
    }

    /// The same model in format 1; none where format 1 cannot express it.
    pub(super) fn downgrade(config: &Config) -> Option<Self> {
        let [HeadConfig { name, kind }] = &config.heads[..] else { return None };
        let head = match *kind {
            HeadKind::LanguageModel { tied, bias } => Head1::LanguageModel { tied, bias },
            HeadKind::Classifier { classes, pooling } => Head1::Classifier { classes, pooling },
            _ => return None,
        };
        let blocks = config.blocks.iter().map(Block1::downgrade).collect::<Option<_>>()?;
        let same_function = config.final_norm == final_norm(config.norm, kind);
        let same_body = config.features.is_empty()
            && config.characters.is_none()
            && config.stacks == Stacks::Forward
            && config.encoder.is_none();
        (name == HeadConfig::NAME && same_function && same_body).then_some(Self {
            model_type: config.model_type,
            format: 1,
            vocab_size: config.vocab_size,
            width: config.width,
            positions: config.positions,
            norm: config.norm,
            blocks,
            head,
            dropout: config.dropout,
            weights: config.weights,
            kv_cache: config.kv_cache,
        })
    }

    /// The content of the file.
    pub(super) fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self);
        // Plain data with string keys: serialising it cannot fail.
        json.unwrap_or_default() + "\n"
    }
}

/// Where format 1 applied the last norm. A norm commutes with taking the last position.
fn final_norm(norm: Norm, head: &HeadKind) -> FinalNorm {
    match head.pooling() {
        Some(Pooling::Mean | Pooling::Max) if norm != Norm::None => FinalNorm::AfterPooling,
        _ => FinalNorm::BeforeHeads,
    }
}

impl Block1 {
    fn upgrade(self) -> Result<BlockConfig, BlockError> {
        let Self { working, long, order, fusion, feed_forward, residual } = self;
        let long = long.map(Long1::upgrade).transpose()?;
        Ok(BlockConfig { working, long, order, fusion, cross: None, feed_forward, residual })
    }

    /// None with cross-attention or a convolution, which format 1 did not have.
    fn downgrade(block: &BlockConfig) -> Option<Self> {
        let BlockConfig { working, long, order, fusion, cross, feed_forward, residual } = *block;
        let long = long.as_ref().map(Long1::downgrade);
        let is_new = cross.is_some() || matches!(working, Some(WorkingMemory::Convolution(_)));
        (!is_new).then_some(Self { working, long, order, fusion, feed_forward, residual })
    }
}

impl Long1 {
    fn upgrade(self) -> Result<LongMemory, BlockError> {
        let Self { cell, hidden, heads, bidirectional, timescale } = self;
        if heads != 1 && matches!(cell, Cell::Lstm | Cell::Rnn) {
            return Err(BlockError::NoHeads);
        }
        if timescale.is_some() && cell != Cell::Lstm {
            return Err(BlockError::NoTimescale);
        }
        Ok(match cell {
            Cell::Lstm => LongMemory::Lstm { hidden, bidirectional, timescale },
            Cell::Slstm => LongMemory::Slstm { hidden, heads, bidirectional },
            Cell::Mlstm => LongMemory::Mlstm { hidden, heads, bidirectional },
            Cell::Rnn => LongMemory::Rnn { hidden, bidirectional },
        })
    }

    fn downgrade(long: &LongMemory) -> Self {
        Self {
            cell: long.cell(),
            hidden: long.hidden(),
            heads: long.heads(),
            bidirectional: long.is_bidirectional(),
            timescale: long.timescale(),
        }
    }
}
