//! The bytes that each token writes.

use super::decode::{byte_of, byte_piece};
use super::kind::{END, TokenizerKind};
use super::model::Tokenizer;

/// The bytes that each token adds to a text, for whoever decides which token may come next. In the
/// order of a text they are what a [`Decoder`](super::Decoder) gives out.
///
/// A token without bytes writes no text: special tokens, and the end of a document. The
/// same holds for a token whose text depends on more than whether it comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenBytes {
    /// `[V]`: where nothing is written before, or after one of [`WrittenBytes::starts`].
    /// A space that a decoder puts before a word is not part of it.
    pub first: Vec<Vec<u8>>,
    /// `[V]`: behind other tokens; none where it makes no difference.
    pub after: Option<Vec<Vec<u8>>>,
    /// Tokens after which the next one is a first one again.
    pub starts: Vec<u32>,
}

impl Tokenizer {
    /// The bytes that each token writes.
    pub fn written_bytes(&self) -> WrittenBytes {
        let ids = 0..self.vocab_size() as u32;
        let is_text = |id: u32| {
            self.special_tokens().name(id).is_none() && self.document_end_id() != Some(id)
        };
        if !self.own_layout {
            return self.foreign_bytes(is_text);
        }
        let each = |write: &dyn Fn(u32, &str) -> Vec<u8>| -> Vec<Vec<u8>> {
            let bytes = |id| self.token(id).filter(|_| is_text(id)).map(|token| write(id, token));
            ids.clone().map(|id| bytes(id).unwrap_or_default()).collect()
        };
        let spaced = |token: &str| format!(" {token}").into_bytes();
        let (first, after) = match self.kind {
            TokenizerKind::Byte => (each(&|id, _| u8::try_from(id).into_iter().collect()), None),
            TokenizerKind::Bpe => (each(&|_, token| stand_ins(token)), None),
            TokenizerKind::Char => (each(&|_, token| token.as_bytes().to_vec()), None),
            TokenizerKind::Word => {
                let write = |token: &str, other: Vec<u8>| match token {
                    END => b"\n".to_vec(),
                    _ => other,
                };
                let first = each(&|_, token| write(token, token.as_bytes().to_vec()));
                (first, Some(each(&|_, token| write(token, spaced(token)))))
            }
            TokenizerKind::Wordpiece => {
                // The middle of a word comes behind its beginning only.
                let first = each(&|_, token| match token.starts_with("##") {
                    true => Vec::new(),
                    false => token.as_bytes().to_vec(),
                });
                let after = each(&|_, token| match token.strip_prefix("##") {
                    Some(rest) => rest.as_bytes().to_vec(),
                    None => spaced(token),
                });
                (first, Some(after))
            }
            TokenizerKind::Unigram => (each(&|_, token| piece(token)), None),
        };
        let starts = match self.kind {
            TokenizerKind::Word => self.id(END).into_iter().collect(),
            _ => Vec::new(),
        };
        WrittenBytes { first, after, starts }
    }

    /// The bytes of a foreign layout: what its decoder writes, alone and behind a word.
    fn foreign_bytes(&self, is_text: impl Fn(u32) -> bool) -> WrittenBytes {
        let ids = 0..self.vocab_size() as u32;
        if matches!(self.inner.get_decoder(), Some(tokenizers::DecoderWrapper::ByteLevel(_))) {
            let bytes = |id| self.token(id).filter(|_| is_text(id)).map(stand_ins);
            let first = ids.map(|id| bytes(id).unwrap_or_default()).collect();
            return WrittenBytes { first, after: None, starts: Vec::new() };
        }
        let decode = |ids: &[u32]| self.inner.decode(ids, false).unwrap_or_default();
        let is_word = |id: &u32| {
            let text = decode(&[*id]);
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic())
        };
        let word = ids.clone().filter(|&id| is_text(id)).find(is_word);
        let before = word.map(|word| decode(&[word])).unwrap_or_default();
        let (mut first, mut after) = (Vec::new(), Vec::new());
        for id in ids {
            let alone = decode(&[id]);
            let behind = match word {
                Some(word) => decode(&[word, id]).strip_prefix(&before).map(str::to_owned),
                None => Some(alone.clone()),
            };
            let [alone, behind] = match (behind, byte_piece(self.token(id).unwrap_or_default())) {
                _ if !is_text(id) => [Vec::new(), Vec::new()],
                (_, Some(byte)) => [vec![byte], vec![byte]],
                (Some(behind), None) if is_whole(&alone) && is_whole(&behind) => {
                    // In a text that was begun, the first token keeps the space that is its own.
                    let same = alone == behind || behind.strip_prefix(' ') == Some(&alone);
                    [if same { alone } else { String::new() }.into(), behind.into_bytes()]
                }
                _ => [Vec::new(), Vec::new()],
            };
            first.push(alone);
            after.push(behind);
        }
        let after = Some(after).filter(|after| *after != first);
        WrittenBytes { first, after, starts: Vec::new() }
    }
}

/// Whether a text has no half characters.
fn is_whole(text: &str) -> bool {
    !text.contains(char::REPLACEMENT_CHARACTER)
}

/// The bytes of a token that is spelt with stand-ins of bytes; other characters are themselves.
fn stand_ins(token: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(token.len());
    let mut buffer = [0; 4];
    for character in token.chars() {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes()),
        }
    }
    bytes
}

/// The bytes of a piece of a unigram model.
fn piece(token: &str) -> Vec<u8> {
    match byte_piece(token) {
        Some(byte) => vec![byte],
        None => token.replace('▁', " ").into_bytes(),
    }
}
