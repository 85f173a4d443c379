//! Text that arrives without end, cut where its tokens can be known.

use longhand_text::tokenizer::settled;
use longhand_text::{TokenizerKind, Utf8Decoder};

use crate::error::EngineError;

/// Bytes after which a text without a good place to cut is cut anyway, so that memory stays flat.
const LONGEST: usize = 1 << 20;

/// Bytes in, texts out: each can be encoded alone, and their tokens one after the other are those
/// of the whole. Holds no more than what may still change its tokens.
pub struct TextStream {
    kind: TokenizerKind,
    decoder: Utf8Decoder,
    pending: String,
}

impl TextStream {
    /// An empty stream for a kind of tokeniser. A `lossy` one replaces invalid bytes by U+FFFD.
    pub fn new(kind: TokenizerKind, lossy: bool) -> Self {
        Self { kind, decoder: Utf8Decoder::new("the input", lossy), pending: String::new() }
    }

    /// Takes bytes, and gives the text whose tokens are settled by them, which may be empty.
    ///
    /// # Errors
    /// A zero byte or a byte that is not UTF-8, which a lossy stream replaces.
    pub fn push(&mut self, bytes: &[u8]) -> Result<String, EngineError> {
        self.pending += &self.decoder.push(bytes)?;
        let cut = self.cut();
        let tail = self.pending.split_off(cut);
        Ok(std::mem::replace(&mut self.pending, tail))
    }

    /// The rest, at the stream's end.
    ///
    /// # Errors
    /// A last character that is cut off, unless the stream is lossy.
    pub fn finish(&mut self) -> Result<String, EngineError> {
        self.pending += &self.decoder.finish()?;
        Ok(std::mem::take(&mut self.pending))
    }

    /// Where the pending text can be cut.
    fn cut(&self) -> usize {
        let text = &self.pending;
        match settled(text, self.kind) {
            // A cut stands before its whitespace, where the next text begins: not there again.
            0 if text.len() >= LONGEST => {
                let last = text.rfind(char::is_whitespace).filter(|&at| at > 0);
                last.unwrap_or(text.len())
            }
            settled => settled,
        }
    }
}

#[cfg(test)]
mod tests;
