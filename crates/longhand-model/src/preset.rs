//! Named configurations: values, not copies of the model.

use std::fmt;
use std::str::FromStr;

use longhand_kernel::Precision;
use longhand_kernel::weights::Format;

use crate::config::{
    BlockConfig, Cell, Config, CrossAttention, Dropout, Encoder, FORMAT, Filters, FinalNorm,
    Fusion, HeadConfig, HeadKind, LongMemory, ModelType, Norm, Order, Pooling, Positions, Stacks,
    WorkingMemory,
};

/// A configuration known by its name, such as `longhand-nano`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// About one million parameters, both memories in each block: the default.
    LonghandNano,
    /// About ten million parameters.
    LonghandSmall,
    /// About fifty million parameters.
    LonghandBase,
    /// About a hundred and twenty-five million parameters.
    LonghandLarge,
    /// Embedding → stacked LSTM → softmax, the classical language model.
    Lstm,
    /// Embedding 64 → LSTM 64 → LSTM 32 → classes.
    StackedLstmClassifier,
    /// Embedding and positions → attention → LSTM.
    AttentionLstm,
    /// A tanh working memory beside an LSTM, concatenated into a linear layer.
    TanhLstm,
    /// Working memory alone, with feed-forward layers.
    Transformer,
    /// Convolutions of 3, 4 and 5 tokens and the largest value of each (Kim, 2014): no recurrence.
    TextCnn,
    /// Long memory alone: mLSTM blocks with one sLSTM block.
    Xlstm,
    /// Attention beside an LSTM, both in two directions, and a CRF: a tag for each token.
    Tagger,
    /// Two blocks of attention beside an LSTM, both in two directions: a span of the text.
    Reader,
    /// Two stacks, one for each direction of reading, of about half a million parameters each.
    BicausalNano,
    /// The same of about three million parameters each.
    BicausalSmall,
    /// Both memories in two directions, and a head for masked tokens: about a million parameters.
    EncoderNano,
    /// The same of about five million parameters.
    EncoderSmall,
    /// An encoder that reads a source in two directions, and a decoder that writes from it: about
    /// three quarters of a million parameters beside the embedding.
    EncoderDecoderNano,
    /// The same of about four and a half million parameters beside the embedding.
    EncoderDecoderSmall,
}

/// No preset has this name.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no preset `{0}`; there are {names}", names = Preset::ALL.map(Preset::name).join(", "))]
pub struct UnknownPreset(pub String);

impl Preset {
    /// All presets, the default one first.
    pub const ALL: [Preset; 19] = [
        Preset::LonghandNano,
        Preset::LonghandSmall,
        Preset::LonghandBase,
        Preset::LonghandLarge,
        Preset::Lstm,
        Preset::StackedLstmClassifier,
        Preset::AttentionLstm,
        Preset::TanhLstm,
        Preset::Transformer,
        Preset::TextCnn,
        Preset::Xlstm,
        Preset::Tagger,
        Preset::Reader,
        Preset::BicausalNano,
        Preset::BicausalSmall,
        Preset::EncoderNano,
        Preset::EncoderSmall,
        Preset::EncoderDecoderNano,
        Preset::EncoderDecoderSmall,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Preset::LonghandNano => "longhand-nano",
            Preset::LonghandSmall => "longhand-small",
            Preset::LonghandBase => "longhand-base",
            Preset::LonghandLarge => "longhand-large",
            Preset::Lstm => "lstm",
            Preset::StackedLstmClassifier => "stacked-lstm-classifier",
            Preset::AttentionLstm => "attention-lstm",
            Preset::TanhLstm => "tanh-lstm",
            Preset::Transformer => "transformer",
            Preset::TextCnn => "textcnn",
            Preset::Xlstm => "xlstm",
            Preset::Tagger => "tagger",
            Preset::Reader => "reader",
            Preset::BicausalNano => "bicausal-nano",
            Preset::BicausalSmall => "bicausal-small",
            Preset::EncoderNano => "encoder-nano",
            Preset::EncoderSmall => "encoder-small",
            Preset::EncoderDecoderNano => "encoder-decoder-nano",
            Preset::EncoderDecoderSmall => "encoder-decoder-small",
        }
    }

    /// The configuration for a vocabulary of the given size. Classifiers get two classes and taggers
    /// two tags; the caller sets how many there are.
    pub fn config(self, vocab_size: usize) -> Config {
        match self {
            Preset::LonghandNano => longhand(vocab_size, 160, 2, 4, 256, Dropout::small(0.25)),
            Preset::LonghandSmall => longhand(vocab_size, 352, 4, 8, 128, Dropout::small(0.1)),
            Preset::LonghandBase => longhand(vocab_size, 544, 8, 8, 256, Dropout::small(0.1)),
            Preset::LonghandLarge => longhand(vocab_size, 704, 12, 11, 512, Dropout::small(0.1)),
            Preset::Lstm => Config {
                norm: Norm::None,
                dropout: Dropout { input: 0.2, block: 0.2, ..Dropout::default() },
                heads: vec![HeadConfig::new(HeadKind::LanguageModel { tied: false, bias: true })],
                ..with_blocks(vocab_size, 256, vec![plain(lstm(256)); 2])
            },
            Preset::StackedLstmClassifier => stacked_lstm_classifier(vocab_size),
            Preset::AttentionLstm => Config {
                positions: Positions::Sinusoidal {},
                dropout: Dropout { block: 0.1, ..Dropout::default() },
                ..with_blocks(
                    vocab_size,
                    256,
                    vec![BlockConfig {
                        working: Some(attention(4, 64, 128, false)),
                        long: Some(lstm(256)),
                        order: Order::WorkingFirst,
                        ..block()
                    }],
                )
            },
            Preset::TanhLstm => Config {
                norm: Norm::None,
                dropout: Dropout { block: 0.1, ..Dropout::default() },
                ..with_blocks(
                    vocab_size,
                    256,
                    vec![BlockConfig {
                        working: Some(WorkingMemory::Tanh {}),
                        long: Some(lstm(256)),
                        residual: false,
                        ..block()
                    }],
                )
            },
            Preset::Transformer => Config {
                dropout: Dropout::small(0.1),
                ..with_blocks(
                    vocab_size,
                    144,
                    vec![
                        BlockConfig {
                            working: Some(attention(4, 36, 64, true)),
                            feed_forward: Some(432),
                            ..block()
                        };
                        4
                    ],
                )
            },
            Preset::TextCnn => text_cnn(vocab_size),
            Preset::Xlstm => {
                let [mlstm, slstm] =
                    [Cell::Mlstm, Cell::Slstm].map(|cell| LongMemory::new(cell, 160).with_heads(4));
                let with =
                    |long| BlockConfig { long: Some(long), feed_forward: Some(432), ..block() };
                Config {
                    dropout: Dropout::small(0.1),
                    ..with_blocks(vocab_size, 160, vec![with(mlstm), with(slstm), with(mlstm)])
                }
            }
            Preset::Tagger => tagger(vocab_size),
            Preset::Reader => reader(vocab_size),
            Preset::BicausalNano => bicausal(vocab_size, 128, 2, Dropout::small(0.25)),
            Preset::BicausalSmall => bicausal(vocab_size, 256, 3, Dropout::small(0.2)),
            Preset::EncoderNano => encoder(vocab_size, 160, 2, Dropout::small(0.1)),
            Preset::EncoderSmall => encoder(vocab_size, 256, 4, Dropout::small(0.1)),
            Preset::EncoderDecoderNano => encoder_decoder(vocab_size, 128, 2, Dropout::small(0.1)),
            Preset::EncoderDecoderSmall => encoder_decoder(vocab_size, 256, 3, Dropout::small(0.2)),
        }
    }
}

/// Two LSTMs, the last hidden state of the second in front of the classes.
fn stacked_lstm_classifier(vocab_size: usize) -> Config {
    let head = HeadKind::Classifier { classes: 2, pooling: Pooling::Last };
    Config {
        norm: Norm::None,
        heads: vec![HeadConfig::new(head)],
        dropout: Dropout { input: 0.3, block: 0.3, ..Dropout::default() },
        ..with_blocks(vocab_size, 64, vec![plain(lstm(64)), plain(lstm(32))])
    }
}

/// Both memories read both directions, and a CRF scores neighbouring tags. As in the
/// taggers of the literature the memories' outputs go to the head as they are: a norm and a
/// residual connection cost F1.
fn tagger(vocab_size: usize) -> Config {
    Config {
        norm: Norm::None,
        heads: vec![HeadConfig::new(HeadKind::Tags { tags: 2, crf: true })],
        dropout: Dropout { token: 0.1, input: 0.5, output: 0.5, ..Dropout::default() },
        ..with_blocks(
            vocab_size,
            128,
            vec![BlockConfig {
                working: Some(WorkingMemory::Attention {
                    heads: 4,
                    kv_heads: 4,
                    head_width: 32,
                    window: 64,
                    rotary: true,
                    bidirectional: true,
                }),
                long: Some(lstm(200).in_both_directions()),
                residual: false,
                ..block()
            }],
        )
    }
}

/// Attention in both directions compares the context with the question that comes before it.
fn reader(vocab_size: usize) -> Config {
    let block = BlockConfig {
        working: Some(WorkingMemory::Attention {
            heads: 4,
            kv_heads: 4,
            head_width: 32,
            window: 128,
            rotary: false,
            bidirectional: true,
        }),
        long: Some(lstm(96).in_both_directions()),
        ..block()
    };
    Config {
        heads: vec![HeadConfig::new(HeadKind::Span {})],
        dropout: Dropout { input: 0.3, block: 0.2, output: 0.2, ..Dropout::default() },
        ..with_blocks(vocab_size, 128, vec![block; 2])
    }
}

/// Two stacks of attention beside an LSTM, and one softmax, the embedding's, for both directions.
fn bicausal(vocab_size: usize, width: usize, layers: usize, dropout: Dropout) -> Config {
    Config {
        stacks: Stacks::Bicausal,
        heads: vec![HeadConfig::new(HeadKind::LanguageModel { tied: true, bias: true })],
        ..longhand(vocab_size, width, layers, 4, 64, dropout)
    }
}

/// Blocks whose memories both read the whole text, and a softmax for masked tokens.
fn encoder(vocab_size: usize, width: usize, layers: usize, dropout: Dropout) -> Config {
    let mut config = longhand(vocab_size, width, layers, 4, 128, dropout);
    for block in &mut config.blocks {
        if let Some(WorkingMemory::Attention { bidirectional, .. }) = &mut block.working {
            *bidirectional = true;
        }
        block.long = Some(lstm(width / 2).in_both_directions());
    }
    config.heads = vec![HeadConfig::new(HeadKind::MaskedTokens { tied: true, bias: true })];
    config
}

/// Blocks whose memories both read the whole source, and blocks that read it by cross-attention while
/// they write, with one embedding for source, target and softmax.
fn encoder_decoder(vocab_size: usize, width: usize, layers: usize, dropout: Dropout) -> Config {
    let (heads, head_width) = (4, width / 8);
    let working = |bidirectional| WorkingMemory::Attention {
        heads,
        kv_heads: heads,
        head_width,
        window: 64,
        rotary: true,
        bidirectional,
    };
    let of_encoder = BlockConfig {
        working: Some(working(true)),
        long: Some(lstm(3 * width / 8).in_both_directions()),
        feed_forward: Some(width),
        ..block()
    };
    let of_decoder = BlockConfig {
        working: Some(working(false)),
        long: Some(lstm(3 * width / 4)),
        cross: Some(CrossAttention { heads, kv_heads: heads, head_width, source_width: width }),
        feed_forward: Some(width),
        ..block()
    };
    Config {
        encoder: Some(Encoder {
            vocab_size: None,
            sentences: None,
            blocks: vec![of_encoder; layers],
        }),
        heads: vec![HeadConfig::new(HeadKind::LanguageModel { tied: true, bias: false })],
        dropout,
        ..with_blocks(vocab_size, width, vec![of_decoder; layers])
    }
}

/// 100 filters of each width and the largest value of each over the text, half of which a step drops
/// (Kim, "Convolutional neural networks for sentence classification", 2014, section 3.1).
fn text_cnn(vocab_size: usize) -> Config {
    let filters = Filters { filters: 100, shortest: 3, longest: 5, bidirectional: true };
    let block = BlockConfig {
        working: Some(WorkingMemory::Convolution(filters)),
        fusion: Fusion::None,
        residual: false,
        ..block()
    };
    let head = HeadKind::Classifier { classes: 2, pooling: Pooling::Max };
    Config {
        norm: Norm::None,
        heads: vec![HeadConfig::new(head)],
        dropout: Dropout { output: 0.5, ..Dropout::default() },
        ..with_blocks(vocab_size, 128, vec![block])
    }
}

impl Dropout {
    /// The same share of the memories' and feed-forward layers' outputs, positions independent.
    fn small(share: f32) -> Self {
        Self { block: share, ..Self::default() }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(name: &str) -> Result<Self, UnknownPreset> {
        let found = Self::ALL.into_iter().find(|preset| preset.name() == name);
        found.ok_or_else(|| UnknownPreset(name.into()))
    }
}

/// Rotary attention beside an LSTM in every block, and a SwiGLU of 8/3 of the width.
fn longhand(
    vocab_size: usize,
    width: usize,
    layers: usize,
    heads: usize,
    window: usize,
    dropout: Dropout,
) -> Config {
    let block = BlockConfig {
        working: Some(attention(heads, width / heads, window, true)),
        long: Some(lstm(width)),
        feed_forward: Some((8 * width / 3).next_multiple_of(16)),
        ..block()
    };
    Config { dropout, ..with_blocks(vocab_size, width, vec![block; layers]) }
}

fn with_blocks(vocab_size: usize, width: usize, blocks: Vec<BlockConfig>) -> Config {
    Config {
        model_type: ModelType::Longhand,
        format: FORMAT,
        vocab_size,
        width,
        features: Vec::new(),
        characters: None,
        positions: Positions::None {},
        norm: Norm::Rms,
        blocks,
        stacks: Stacks::Forward,
        encoder: None,
        pointer: None,
        final_norm: FinalNorm::BeforeHeads,
        adapters: None,
        heads: vec![HeadConfig::new(HeadKind::LanguageModel { tied: false, bias: false })],
        dropout: Dropout::default(),
        weights: Format::F32,
        kv_cache: Precision::F32,
    }
}

fn block() -> BlockConfig {
    BlockConfig {
        working: None,
        long: None,
        order: Order::Parallel,
        fusion: Fusion::Concat,
        cross: None,
        feed_forward: None,
        residual: true,
    }
}

fn plain(long: LongMemory) -> BlockConfig {
    BlockConfig { long: Some(long), fusion: Fusion::None, residual: false, ..block() }
}

fn lstm(hidden: usize) -> LongMemory {
    LongMemory::new(Cell::Lstm, hidden)
}

fn attention(heads: usize, head_width: usize, window: usize, rotary: bool) -> WorkingMemory {
    WorkingMemory::Attention {
        heads,
        kv_heads: heads,
        head_width,
        window,
        rotary,
        bidirectional: false,
    }
}
