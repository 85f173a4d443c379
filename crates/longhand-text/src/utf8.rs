//! Bytes that arrive in pieces, as text.

use crate::error::TextError;

/// Bytes in, whole characters out; a byte order mark at the very beginning is no text.
#[derive(Debug)]
pub struct Utf8Decoder {
    /// Name of the source, for messages.
    name: String,
    lossy: bool,
    /// Bytes that may be the beginning of a character, at most three.
    held: Vec<u8>,
    /// Bytes before the held ones.
    offset: u64,
    /// Whether no character has come yet.
    fresh: bool,
}

impl Utf8Decoder {
    /// A decoder for a source with a name. A `lossy` one replaces invalid bytes by
    /// U+FFFD, as [`String::from_utf8_lossy`] does.
    pub fn new(name: impl Into<String>, lossy: bool) -> Self {
        Self { name: name.into(), lossy, held: Vec::new(), offset: 0, fresh: true }
    }

    /// Takes bytes, and gives the whole characters that they end, which may be none.
    ///
    /// # Errors
    /// [`TextError::Utf16`], [`TextError::Binary`] for a zero byte, [`TextError::InvalidUtf8`] for
    /// other bytes that are not UTF-8. A lossy decoder replaces the bytes instead.
    pub fn push(&mut self, bytes: &[u8]) -> Result<String, TextError> {
        let mut all = std::mem::take(&mut self.held);
        let bytes = if all.is_empty() {
            bytes
        } else {
            all.extend_from_slice(bytes);
            &all
        };
        if self.offset == 0 && !self.lossy && is_utf16(bytes) {
            return Err(TextError::Utf16(self.name.clone()));
        }
        let zero = bytes.iter().position(|&byte| byte == 0);
        if let Some(zero) = zero.filter(|_| !self.lossy) {
            let offset = self.offset + zero as u64;
            return Err(TextError::Binary { name: self.name.clone(), offset });
        }
        let text = self.decode(bytes, false)?;
        Ok(if zero.is_some() { text.replace('\0', "\u{fffd}") } else { text })
    }

    /// The rest at the end: U+FFFD for a character that was cut off, or nothing.
    ///
    /// # Errors
    /// [`TextError::InvalidUtf8`] for a character that was cut off, unless the decoder is lossy.
    pub fn finish(&mut self) -> Result<String, TextError> {
        let held = std::mem::take(&mut self.held);
        self.decode(&held, true)
    }

    fn decode(&mut self, bytes: &[u8], ended: bool) -> Result<String, TextError> {
        let mut text = String::with_capacity(bytes.len());
        let mut rest = bytes.len();
        for chunk in bytes.utf8_chunks() {
            let (valid, invalid) = (chunk.valid(), chunk.invalid());
            text.push_str(valid);
            self.offset += valid.len() as u64;
            rest -= valid.len() + invalid.len();
            if invalid.is_empty() {
                continue;
            }
            let is_beginning = || {
                let error = std::str::from_utf8(invalid).err();
                rest == 0 && error.is_some_and(|error| error.error_len().is_none())
            };
            if !ended && is_beginning() {
                self.held.extend_from_slice(invalid);
                break;
            }
            if !self.lossy {
                let (name, offset) = (self.name.clone(), self.offset);
                return Err(TextError::InvalidUtf8 { name, offset });
            }
            text.push(char::REPLACEMENT_CHARACTER);
            self.offset += invalid.len() as u64;
        }
        if self.fresh && !text.is_empty() {
            self.fresh = false;
            if text.starts_with(BYTE_ORDER_MARK) {
                text.drain(..BYTE_ORDER_MARK.len_utf8());
            }
        }
        Ok(text)
    }
}

/// Whether a text begins as UTF-16 does: with its byte order mark, or with two characters of ASCII.
fn is_utf16(bytes: &[u8]) -> bool {
    let zeros = bytes.first_chunk::<4>().map(|bytes| bytes.map(|byte| byte == 0));
    let wide = [[false, true, false, true], [true, false, true, false]];
    bytes.starts_with(&[0xff, 0xfe])
        || bytes.starts_with(&[0xfe, 0xff])
        || zeros.is_some_and(|zeros| wide.contains(&zeros))
}

const BYTE_ORDER_MARK: char = '\u{feff}';

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(lossy: bool, pieces: &[&[u8]]) -> Result<String, TextError> {
        let mut decoder = Utf8Decoder::new("it", lossy);
        let mut text = String::new();
        for piece in pieces {
            text.push_str(&decoder.push(piece)?);
        }
        Ok(text + &decoder.finish()?)
    }

    #[test]
    fn characters_may_be_cut_anywhere() {
        let text = "é中𝄞a";
        for cut in 0..text.len() {
            let (before, after) = text.as_bytes().split_at(cut);
            assert_eq!(decoded(false, &[before, b"", after]).unwrap(), text);
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_text_at_the_beginning_alone() {
        let marked = "\u{feff}a\u{feff}";
        assert_eq!(decoded(false, &[marked.as_bytes()]).unwrap(), "a\u{feff}");
        let pieces: Vec<&[u8]> = marked.as_bytes().chunks(1).collect();
        assert_eq!(decoded(false, &pieces).unwrap(), "a\u{feff}");
    }

    #[test]
    fn what_is_no_text_is_named_by_its_offset() {
        let check = |pieces: &[&[u8]], words: &str| {
            let message = decoded(false, pieces).unwrap_err().to_string();
            assert!(message.starts_with("it ") && message.contains(words), "{message}");
        };
        check(&[b"ab\xe4\xb8", b"x"], "not valid UTF-8 at byte offset 2");
        check(&[b"\xef\xbb\xbfa\xff"], "not valid UTF-8 at byte offset 4");
        check(&[b"a", b"\xe4"], "not valid UTF-8 at byte offset 1");
        check(&[b"ab\xe4", b"\xb8\0"], "binary file (byte 0 at offset 4)");
        check(&[b"\xff\xfea\0b\0"], "is UTF-16 text");
        check(&[b"\xfe\xff\x4e\x2d"], "is UTF-16 text");
        check(&[b"a\0b\0"], "is UTF-16 text");
        check(&[b"\0a\0b"], "is UTF-16 text");
        check(&[b"\xfea"], "not valid UTF-8 at byte offset 0");
    }

    #[test]
    fn a_lossy_decoder_replaces_zero_bytes() {
        assert_eq!(decoded(true, &[b"a\0b", b"\0\0c"]).unwrap(), "a\u{fffd}b\u{fffd}\u{fffd}c");
        assert_eq!(decoded(true, &[b"\xe4", b"\0"]).unwrap(), "\u{fffd}\u{fffd}");
    }

    proptest! {
        #[test]
        fn a_lossy_decoder_reads_as_the_standard_library_does(
            bytes in prop::collection::vec(1_u8.., 0..60),
            size in 1_usize..20,
        ) {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            let whole = String::from_utf8_lossy(&bytes);
            let expected = whole.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&whole);
            prop_assert_eq!(decoded(true, &pieces).unwrap(), expected);
        }
    }
}
