//! Text that arrives without end, cut where its tokens can be known.

use longhand_text::TokenizerKind;
use longhand_text::tokenizer::settled;

use crate::error::EngineError;

/// Bytes after which a text without a good place to cut is cut anyway, so that memory stays flat.
const LONGEST: usize = 1 << 20;

/// Bytes in, texts out: each can be encoded alone, and their tokens one after the other are those
/// of the whole. Holds no more than what may still change its tokens.
pub struct TextStream {
    kind: TokenizerKind,
    lossy: bool,
    /// Bytes that may be the beginning of a character.
    bytes: Vec<u8>,
    pending: String,
    /// Bytes that became text.
    offset: u64,
}

impl TextStream {
    /// An empty stream for a kind of tokeniser. A `lossy` one replaces invalid bytes by U+FFFD.
    pub fn new(kind: TokenizerKind, lossy: bool) -> Self {
        Self { kind, lossy, bytes: Vec::new(), pending: String::new(), offset: 0 }
    }

    /// Takes bytes, and gives the text whose tokens are settled by them, which may be empty.
    ///
    /// # Errors
    /// Bytes that are not UTF-8, unless the stream is lossy.
    pub fn push(&mut self, bytes: &[u8]) -> Result<String, EngineError> {
        self.bytes.extend_from_slice(bytes);
        self.decode(false)?;
        let cut = self.cut();
        let tail = self.pending.split_off(cut);
        Ok(std::mem::replace(&mut self.pending, tail))
    }

    /// The rest, at the stream's end.
    ///
    /// # Errors
    /// A last character that is cut off, unless the stream is lossy.
    pub fn finish(&mut self) -> Result<String, EngineError> {
        self.decode(true)?;
        Ok(std::mem::take(&mut self.pending))
    }

    /// Moves whole characters from `bytes` to `pending`.
    fn decode(&mut self, at_end: bool) -> Result<(), EngineError> {
        let mut start = 0;
        while start < self.bytes.len() {
            let rest = &self.bytes[start..];
            let error = match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.pending.push_str(text);
                    start = self.bytes.len();
                    break;
                }
                Err(error) => error,
            };
            let (valid, invalid) = rest.split_at(error.valid_up_to());
            self.pending.push_str(&String::from_utf8_lossy(valid));
            start += valid.len();
            let length = match error.error_len() {
                None if !at_end => break,
                length => length.unwrap_or(invalid.len()),
            };
            if !self.lossy {
                return Err(EngineError::InvalidUtf8 { offset: self.offset + start as u64 });
            }
            self.pending.push(char::REPLACEMENT_CHARACTER);
            start += length;
        }
        self.bytes.drain(..start);
        self.offset += start as u64;
        Ok(())
    }

    /// Where the pending text can be cut.
    fn cut(&self) -> usize {
        let text = &self.pending;
        match settled(text, self.kind) {
            0 if text.len() >= LONGEST => text.rfind(char::is_whitespace).unwrap_or(text.len()),
            settled => settled,
        }
    }
}

#[cfg(test)]
mod tests;
