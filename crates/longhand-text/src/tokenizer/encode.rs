//! From a text to its ids.

use std::ops::Range;

use super::cuts::safe_chunks;
use super::encoding::Encoding;
use super::model::Tokenizer;
use crate::error::TextError;

/// Bytes of text that one thread encodes at a time.
const CHUNK: usize = 1 << 16;

impl Tokenizer {
    /// The ids of a plain text, which never are special tokens. A text that does not end in a line
    /// break gets no `<eos>` at its end.
    ///
    /// # Errors
    /// [`TextError::Encode`] if a tokeniser of a foreign layout cannot express the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        if text.len() <= CHUNK || !self.own_layout {
            return self.encode_part(text);
        }
        let chunks: Vec<&str> = safe_chunks(text, self.kind, CHUNK).collect();
        let parts = self.workers.map(&chunks, |chunk| self.encode_part(chunk));
        let mut ids = Vec::with_capacity(text.len() / 3);
        for part in parts {
            ids.append(&mut part?);
        }
        Ok(ids)
    }

    /// The ids of a plain text with their places in it.
    ///
    /// # Errors
    /// The errors of [`Tokenizer::encode`] for this text.
    pub fn encode_with_offsets(&self, text: &str) -> Result<Encoding, TextError> {
        let (ids, spans) = self.spans(text)?;
        Ok(Encoding::new(text, ids, &spans))
    }

    /// The ids of a text in which the names of special tokens mean these tokens, with their places.
    ///
    /// # Errors
    /// The errors of [`Tokenizer::encode`] for this text.
    pub fn encode_with_special_tokens(&self, text: &str) -> Result<Encoding, TextError> {
        if let Some(marking) = &self.marking {
            let (ids, spans) = library_spans(marking, text)?;
            return Ok(Encoding::new(text, ids, &spans));
        }
        let (mut ids, mut spans) = (Vec::new(), Vec::new());
        let mut from = 0;
        for stretch in self.special_tokens().split(text) {
            let (stretch_ids, stretch_spans) = self.spans(stretch.text)?;
            ids.extend(stretch_ids);
            spans.extend(stretch_spans.iter().map(|span| from + span.start..from + span.end));
            from += stretch.text.len();
            if let Some((id, length)) = stretch.special {
                ids.push(id);
                spans.push(from..from + length);
                from += length;
            }
        }
        Ok(Encoding::new(text, ids, &spans))
    }

    /// The ids of a text in which the names of special tokens at `places`, in bytes and in order, mean
    /// these tokens; elsewhere such a name is plain text.
    ///
    /// # Errors
    /// The errors of [`Tokenizer::encode`] for this text. A place that holds no special token's name
    /// is read as plain text.
    pub fn encode_with_special_tokens_at(
        &self,
        text: &str,
        places: &[Range<usize>],
    ) -> Result<Encoding, TextError> {
        // The library knows more of its tokens, such as the white space that they take in.
        if self.special_tokens().split(text).filter(|part| part.special.is_some()).count()
            == places.len()
        {
            return self.encode_with_special_tokens(text);
        }
        let (mut ids, mut spans) = (Vec::new(), Vec::new());
        let mut plain = |from: usize, to: usize, special: Option<u32>, end: usize| {
            let (stretch_ids, stretch_spans) = self.spans(&text[from..to])?;
            ids.extend(stretch_ids);
            spans.extend(stretch_spans.iter().map(|span| from + span.start..from + span.end));
            if let Some(id) = special {
                ids.push(id);
                spans.push(to..end);
            }
            Ok::<(), TextError>(())
        };
        let mut from = 0;
        for place in places {
            let name = text.get(place.clone()).unwrap_or_default();
            if let Some(id) = self.special_tokens().id(name).filter(|_| place.start >= from) {
                plain(from, place.start, Some(id), place.end)?;
                from = place.end;
            }
        }
        plain(from, text.len(), None, text.len())?;
        Ok(Encoding::new(text, ids, &spans))
    }

    /// Bytes at the beginning of a text that belong to its first token: all before the second one.
    ///
    /// # Errors
    /// The errors of [`Tokenizer::encode`] for this text.
    pub fn first_token_bytes(&self, text: &str) -> Result<usize, TextError> {
        // Two tokens are found in a few words, unless one is very long.
        for size in [256, 1 << 14] {
            let part =
                if self.own_layout { safe_chunks(text, self.kind, size).next() } else { None };
            if let Some(part) = part
                && let Some(second) = self.spans(part)?.1.get(1)
            {
                return Ok(second.start);
            }
        }
        Ok(self.spans(text)?.1.get(1).map_or(text.len(), |second| second.start))
    }

    /// The ids of a plain text, and the bytes of each.
    fn spans(&self, text: &str) -> Result<(Vec<u32>, Vec<Range<usize>>), TextError> {
        if let Some(direct) = &self.direct {
            return Ok(direct.spans(text));
        }
        if !self.own_layout {
            return library_spans(&self.inner, text);
        }
        let chunks: Vec<&str> = safe_chunks(text, self.kind, CHUNK).collect();
        let parts = self.workers.map(&chunks, |chunk| library_spans(&self.inner, chunk));
        let (mut ids, mut spans) = (Vec::new(), Vec::new());
        let mut from = 0;
        for (chunk, part) in chunks.iter().zip(parts) {
            let (chunk_ids, chunk_spans) = part?;
            ids.extend(chunk_ids);
            spans.extend(chunk_spans.iter().map(|span| from + span.start..from + span.end));
            from += chunk.len();
        }
        Ok((ids, spans))
    }

    /// The ids of a text in one piece.
    fn encode_part(&self, text: &str) -> Result<Vec<u32>, TextError> {
        match &self.direct {
            Some(direct) => Ok(direct.encode(text)),
            None => self.encode_whole(text),
        }
    }

    /// The ids of a text by the library alone, in one piece.
    pub(super) fn encode_whole(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encoding = self.inner.encode_fast(text, false).map_err(TextError::Encode)?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// The ids of a text by the library, and the bytes of each.
pub(super) fn library_spans(
    library: &tokenizers::Tokenizer,
    text: &str,
) -> Result<(Vec<u32>, Vec<Range<usize>>), TextError> {
    let encoding = library.encode(text, false).map_err(TextError::Encode)?;
    let spans = encoding.get_offsets().iter().map(|&(start, end)| start..end);
    Ok((encoding.get_ids().to_vec(), spans.collect()))
}
