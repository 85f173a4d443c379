//! The encoder of a model that writes from a source, and what must agree with the decoder.

use serde::{Deserialize, Serialize};

use super::error::{ConfigError, EncoderError};
use super::{BlockConfig, Config, HeadConfig, Stacks, check, width_behind};

/// The first part of the names of an encoder's parameters.
pub(crate) const ENCODER: &str = "encoder";

/// The first part of the names of a pointer's parameters.
pub(crate) const POINTER: &str = "pointer";

/// Blocks that read a source, whole and in both directions. The blocks of the body are then a
/// decoder, whose `cross` reads the encoder's output (Vaswani et al., "Attention is all you need",
/// 2017, section 3.1). Positions, norm, adapters and dropout are those of the body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoder {
    /// Tokens of a vocabulary of its own, with an embedding of its own (default: the model's,
    /// whose embedding it shares).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
    /// Rows of sentences in place of those of tokens (default: those of tokens).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentences: Option<Sentences>,
    /// The blocks, first to last. Their memories are bidirectional.
    pub blocks: Vec<BlockConfig>,
}

/// A row for each sentence of a source: the sum of its tokens' vectors, each through a gate that
/// belongs to its place in the sentence (Sukhbaatar et al., "End-to-end memory networks", 2015, section
/// 4.1). The blocks and the decoder's cross-attention then read sentences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sentences {
    /// The ids that end a sentence; a task fills them in from its tokeniser. Without one, a source
    /// is one sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<u32>,
    /// P: places in a sentence, each with a gate of its own. A sentence of more tokens goes on in
    /// further rows; of a question, the last row asks.
    pub places: usize,
    /// Whether the last sentence is a question: it has gates of its own, and its row times a matrix is
    /// added to those of all others (Seo et al., "Query-reduction networks for question
    /// answering", 2017, section 2; default: false).
    #[serde(default, skip_serializing_if = "super::fields::is_default")]
    pub question: bool,
    /// Blocks that read the tokens of each sentence by itself before they are added (default: none).
    /// Their memories are bidirectional.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<BlockConfig>,
}

/// A distribution over the source's tokens, which is mixed with that of the first head (See et al.,
/// "Get to the point: summarization with pointer-generator networks", 2017).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pointer {
    /// K: features of its queries and keys.
    pub width: usize,
    /// Whether it is told how much of each position it read before, and learns to read no position
    /// twice (section 2.3; default: false).
    #[serde(default)]
    pub coverage: bool,
}

impl Encoder {
    /// Width of its output, in a model of the given width.
    pub fn output_width(&self, width: usize) -> usize {
        width_behind(&self.blocks, width)
    }
}

impl Config {
    /// The tokens that a source can have; none without an encoder.
    pub fn source_vocabulary(&self) -> Option<usize> {
        Some(self.encoder.as_ref()?.vocab_size.unwrap_or(self.vocab_size))
    }

    /// The blocks of each stack: those of the body, of the encoder and of its sentences.
    pub(super) fn all_stacks(&self) -> impl Iterator<Item = &[BlockConfig]> {
        let encoder = self.encoder.iter();
        let of_encoder = encoder.flat_map(|encoder| [&encoder.blocks[..], encoder.of_sentences()]);
        std::iter::once(&self.blocks[..]).chain(of_encoder)
    }

    pub(super) fn check_encoder(&self) -> Result<(), ConfigError> {
        let crosses =
            self.blocks.iter().enumerate().filter_map(|(index, b)| Some((index, b.cross?)));
        let Some(encoder) = &self.encoder else {
            if self.pointer.is_some() {
                return Err(EncoderError::PointerAlone.into());
            }
            return match crosses.map(|(index, _)| index).next() {
                Some(index) => Err(EncoderError::Missing(index).into()),
                None => Ok(()),
            };
        };
        encoder.check(self.width)?;
        if let Some(pointer) = self.pointer {
            check::size("pointer.width", pointer.width, 1, check::LARGEST)?;
        }
        let has = |name: &str| self.heads.iter().any(|head: &HeadConfig| head.name == name);
        let points = self.pointer.is_some();
        let refused = [
            (self.stacks == Stacks::Bicausal, EncoderError::Bicausal),
            (!self.features.is_empty() || self.characters.is_some(), EncoderError::Inputs),
            (has(ENCODER), EncoderError::HeadName(ENCODER)),
            (points && has(POINTER), EncoderError::HeadName(POINTER)),
            (points && encoder.vocab_size.is_some(), EncoderError::PointerVocabulary),
            (points && encoder.sentences.is_some(), EncoderError::PointerSentences),
            (points && !self.predicts_next(), EncoderError::PointerHead),
            (crosses.clone().count() == 0, EncoderError::Unread),
        ];
        if let Some((_, error)) = refused.into_iter().find(|(is_refused, _)| *is_refused) {
            return Err(error.into());
        }
        let expected = encoder.output_width(self.width);
        let mut widths = crosses.map(|(block, cross)| (block, cross.source_width));
        match widths.find(|&(_, got)| got != expected) {
            Some((block, got)) => Err(EncoderError::SourceWidth { block, got, expected }.into()),
            None => Ok(()),
        }
    }
}

impl Encoder {
    fn check(&self, width: usize) -> Result<(), ConfigError> {
        if let Some(count) = self.vocab_size {
            check::size("encoder.vocab_size", count, 1, check::LARGEST)?;
        }
        if let Some(sentences) = &self.sentences {
            check::size("encoder.sentences.places", sentences.places, 1, check::LARGEST)?;
        }
        check::size("the number of the encoder's blocks", self.blocks.len(), 1, 1024)?;
        let got = check_blocks("encoder.sentences.", self.of_sentences(), width)?;
        if got != width {
            return Err(EncoderError::SentenceWidth { got, expected: width }.into());
        }
        check_blocks("encoder.", &self.blocks, width).map(drop)
    }

    fn of_sentences(&self) -> &[BlockConfig] {
        self.sentences.as_ref().map_or(&[], |sentences| &sentences.blocks)
    }
}

/// Checks blocks that read a source; gives the width of their output.
fn check_blocks(
    place: &'static str,
    blocks: &[BlockConfig],
    mut width: usize,
) -> Result<usize, ConfigError> {
    for (index, block) in blocks.iter().enumerate() {
        let of_encoder = |error| match error {
            ConfigError::Block { index, source } => {
                EncoderError::Block { place, index, source }.into()
            }
            error => error,
        };
        width = block.check(place, index, width).map_err(of_encoder)?;
        if block.cross.is_some() {
            return Err(EncoderError::Cross { place, index }.into());
        }
        if !block.reads_both_ways() {
            return Err(EncoderError::Forward { place, index }.into());
        }
    }
    Ok(width)
}
