//! Text that arrives without end, cut where the tokens before the cut are final.

use longhand_text::tokenizer::settled;
use longhand_text::{TokenizerKind, Utf8Decoder};

use crate::error::EngineError;

/// Bytes after which a text without a good place to cut is cut anyway, so that memory stays flat.
const LONGEST: usize = 1 << 20;

/// Takes bytes and gives texts. Each text can be encoded alone: the tokens of all texts, one after
/// the other, are those of the whole. It buffers only text whose tokens may still change.
pub struct TextStream {
    kind: TokenizerKind,
    decoder: Utf8Decoder,
    pending: String,
    /// Bytes of the pending text that were there when nothing of it was settled.
    before: usize,
}

impl TextStream {
    /// An empty stream for a kind of tokeniser. A `lossy` one replaces invalid bytes by U+FFFD.
    pub fn new(kind: TokenizerKind, lossy: bool) -> Self {
        let decoder = Utf8Decoder::new("the input", lossy);
        Self { kind, decoder, pending: String::new(), before: 0 }
    }

    /// Takes bytes, and gives the text whose tokens are now final. It may be empty.
    ///
    /// # Errors
    /// [`EngineError::Text`] for a zero byte or a byte that is not UTF-8. A
    /// lossy stream replaces both.
    pub fn push(&mut self, bytes: &[u8]) -> Result<String, EngineError> {
        self.pending += &self.decoder.push(bytes)?;
        let cut = self.cut();
        let tail = self.pending.split_off(cut);
        self.before = if cut == 0 { tail.len() } else { 0 };
        Ok(std::mem::replace(&mut self.pending, tail))
    }

    /// The rest, at the stream's end.
    ///
    /// # Errors
    /// [`EngineError::Text`] for a last character that is cut off, unless the stream is lossy.
    pub fn finish(&mut self) -> Result<String, EngineError> {
        self.pending += &self.decoder.finish()?;
        self.before = 0;
        Ok(std::mem::take(&mut self.pending))
    }

    /// Where the pending text can be cut.
    fn cut(&self) -> usize {
        let text = &self.pending;
        match settled(text, self.kind, self.before) {
            // A text begins with the whitespace it was cut before: that is no cut again.
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
