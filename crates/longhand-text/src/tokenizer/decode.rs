//! Ids to text, one at a time.

use std::ops::Deref;
use std::sync::Arc;

use super::kind::{END, TokenizerKind};
use super::model::Tokenizer;
use crate::error::TextError;

/// Turns ids into text as they arrive, and never hands out half a character. It shares its
/// tokeniser by default, so that it can live in a struct or a thread; `T` may also borrow one.
#[derive(Clone)]
pub struct Decoder<T = Arc<Tokenizer>> {
    tokenizer: T,
    /// Bytes that may be the beginning of a character.
    held: Vec<u8>,
    /// Whether the next word has no space before it.
    at_start: bool,
    /// Ids whose text is not settled, for files of a foreign layout.
    window: Vec<u32>,
    /// Bytes of the window's text that were handed out.
    handed_out: usize,
}

impl Tokenizer {
    /// A decoder for ids that arrive one by one.
    pub fn decoder(&self) -> Decoder<&Self> {
        Decoder::new(self)
    }

    /// The text of ids; bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`TextError::TokenId`] where an id is outside of the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        let mut decoder = self.decoder();
        let mut text = String::new();
        for &id in ids {
            text.push_str(&decoder.push(id)?);
        }
        text.push_str(&decoder.finish());
        Ok(text)
    }

    /// A token as a person reads it: its text where that is whole characters, its bytes as `\xe4`
    /// where it is a part of one, otherwise as the vocabulary spells it.
    pub fn label(&self, id: u32) -> String {
        let token = self.token(id).unwrap_or_default();
        match self.kind() {
            TokenizerKind::Byte | TokenizerKind::Bpe => match self.decode(&[id]) {
                Ok(text) if !text.contains(char::REPLACEMENT_CHARACTER) => text,
                _ => {
                    let bytes = self.token_bytes(id).unwrap_or_default();
                    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
                }
            },
            _ => token.to_owned(),
        }
    }

    /// The bytes of a token of a byte-level kind, which may be a part of a character;
    /// none for the other kinds.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let token = self.token(id)?;
        match self.kind {
            TokenizerKind::Byte | TokenizerKind::Bpe => {
                let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
                Some(bytes.unwrap_or_else(|| token.as_bytes().to_vec()))
            }
            _ => None,
        }
    }
}

impl<T: Deref<Target = Tokenizer>> Decoder<T> {
    /// A decoder at the beginning of a text.
    pub fn new(tokenizer: T) -> Self {
        Self { tokenizer, held: Vec::new(), at_start: true, window: Vec::new(), handed_out: 0 }
    }

    /// Takes the next id, and gives the text that is settled by it, which may be empty.
    ///
    /// # Errors
    /// [`TextError::TokenId`] where the id is outside of the vocabulary.
    pub fn push(&mut self, id: u32) -> Result<String, TextError> {
        let tokenizer = &*self.tokenizer;
        let token = tokenizer
            .token(id)
            .ok_or(TextError::TokenId { id, vocabulary: tokenizer.vocab_size() })?;
        if !tokenizer.own_layout {
            return self.push_foreign(id);
        }
        let at_start = std::mem::replace(&mut self.at_start, false);
        match tokenizer.kind {
            // Special tokens follow the bytes.
            TokenizerKind::Byte => match u8::try_from(id) {
                Ok(byte) => self.held.push(byte),
                Err(_) => self.held.extend_from_slice(token.as_bytes()),
            },
            TokenizerKind::Bpe => {
                // The reverse of the stand-ins; a token of anything else is itself.
                let mut buffer = [0; 4];
                for character in token.chars() {
                    match byte_of(character) {
                        Some(byte) => self.held.push(byte),
                        None => self
                            .held
                            .extend_from_slice(character.encode_utf8(&mut buffer).as_bytes()),
                    }
                }
            }
            TokenizerKind::Char => self.held.extend_from_slice(token.as_bytes()),
            TokenizerKind::Word if token == END => {
                self.held.push(b'\n');
                self.at_start = true;
            }
            TokenizerKind::Word => {
                if !at_start {
                    self.held.push(b' ');
                }
                self.held.extend_from_slice(token.as_bytes());
            }
            TokenizerKind::Wordpiece => {
                let continued = token.strip_prefix("##").filter(|_| !at_start);
                if continued.is_none() && !at_start {
                    self.held.push(b' ');
                }
                self.held.extend_from_slice(continued.unwrap_or(token).as_bytes());
            }
            TokenizerKind::Unigram => match byte_piece(token) {
                Some(byte) => self.held.push(byte),
                None => self.held.extend_from_slice(token.replace('▁', " ").as_bytes()),
            },
        }
        Ok(self.settled())
    }

    /// The text of bytes still held, which are no whole character: U+FFFD, or nothing.
    pub fn finish(&mut self) -> String {
        self.at_start = true;
        if !self.tokenizer.own_layout {
            let text = self.tokenizer.inner.decode(&self.window, false).unwrap_or_default();
            self.window.clear();
            let handed_out = std::mem::take(&mut self.handed_out);
            return text.get(handed_out..).unwrap_or_default().to_owned();
        }
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }

    /// Ids whose text a foreign decoder is still asked for.
    #[cfg(test)]
    pub(super) fn held_ids(&self) -> usize {
        self.window.len()
    }

    /// Takes from the held bytes all but an unfinished character at the end.
    fn settled(&mut self) -> String {
        let keep = unfinished(&self.held);
        let end = self.held.len() - keep;
        let text = String::from_utf8_lossy(&self.held[..end]).into_owned();
        self.held.drain(..end);
        text
    }

    /// A foreign decoder may look at neighbours, so a window of ids is decoded again and again.
    fn push_foreign(&mut self, id: u32) -> Result<String, TextError> {
        self.window.push(id);
        let text = self.tokenizer.inner.decode(&self.window, false).map_err(TextError::Encode)?;
        let full = self.window.len() > FOREIGN_WINDOW;
        let unsettled = unsettled(&text);
        if unsettled > 0 && !full {
            return Ok(String::new());
        }
        let end = text.len() - unsettled;
        let start = text.floor_char_boundary(self.handed_out.min(end));
        let new = text[start..end].to_owned();
        self.handed_out = end.max(start);
        if full {
            // The last ids stay as context for the next ones.
            self.window.drain(..FOREIGN_WINDOW / 2);
            let context = self.tokenizer.inner.decode(&self.window, false).unwrap_or_default();
            self.handed_out = context.len() - unsettled.min(context.len());
        }
        Ok(new)
    }
}

/// Ids that a foreign decoder may look back on.
const FOREIGN_WINDOW: usize = 64;

/// Bytes at the end of a foreign decoder's text that may still become a character: its first
/// bytes, of which there are at most three, each shown as U+FFFD.
fn unsettled(text: &str) -> usize {
    let shown = text.chars().rev().take(3).take_while(|&c| c == char::REPLACEMENT_CHARACTER);
    shown.count() * char::REPLACEMENT_CHARACTER.len_utf8()
}

/// The byte that a stand-in of the byte-level kinds means; see `layout::byte_characters`.
pub(super) fn byte_of(character: char) -> Option<u8> {
    let code = character as u32;
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => Some(code as u8),
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// The byte of a fallback piece, `<0x0A>`.
pub(super) fn byte_piece(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// Bytes at the end that begin a character but do not finish it.
fn unfinished(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        if byte & 0xc0 == 0x80 {
            continue;
        }
        let tail = &bytes[bytes.len() - back..];
        return match std::str::from_utf8(tail) {
            // No error length: the input ended too early, and more bytes may complete it.
            Err(error) if error.valid_up_to() == 0 && error.error_len().is_none() => back,
            _ => 0,
        };
    }
    0
}
