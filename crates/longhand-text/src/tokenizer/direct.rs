//! Encoding without the library, for the kinds of our own: the same ids, many times faster.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use super::byte_pairs::BytePairs;
use super::kind::{TokenizerKind, UNKNOWN};

/// The tables of a kind.
#[derive(Clone)]
pub(super) enum Direct {
    Byte,
    Char {
        /// Ids of the first code points, as most texts need no more.
        low: Arc<[u32]>,
        high: Arc<HashMap<char, u32>>,
        unknown: u32,
    },
    Word {
        ids: Arc<HashMap<String, u32>>,
        end: u32,
        unknown: u32,
    },
    Bpe(Arc<BytePairs>),
}

impl Direct {
    /// The tables of a kind, or none where the kind or its vocabulary needs the library.
    pub(super) fn new(
        kind: TokenizerKind,
        tokens: &[String],
        model: &Value,
        unknown: Option<u32>,
        end: Option<u32>,
    ) -> Option<Self> {
        let indexed = || tokens.iter().zip(0_u32..);
        match kind {
            TokenizerKind::Byte => Some(Self::Byte),
            TokenizerKind::Char => {
                let unknown = unknown?;
                let mut low = vec![unknown; LOW];
                let mut high = HashMap::new();
                for (token, id) in indexed().filter(|(token, _)| *token != UNKNOWN) {
                    let character = token.chars().next()?;
                    match low.get_mut(character as usize) {
                        Some(slot) => *slot = id,
                        None => {
                            high.insert(character, id);
                        }
                    }
                }
                Some(Self::Char { low: low.into(), high: Arc::new(high), unknown })
            }
            TokenizerKind::Word => {
                let ids = indexed().map(|(token, id)| (token.clone(), id)).collect();
                Some(Self::Word { ids: Arc::new(ids), end: end?, unknown: unknown? })
            }
            TokenizerKind::Bpe => Some(Self::Bpe(Arc::new(BytePairs::new(model)?))),
            TokenizerKind::Wordpiece | TokenizerKind::Unigram => None,
        }
    }

    /// The ids of a text.
    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 2);
        self.each(text, &mut ids, |_| {});
        ids
    }

    /// The ids of a text, and the bytes of each.
    pub(super) fn spans(&self, text: &str) -> (Vec<u32>, Vec<Range<usize>>) {
        let (mut ids, mut spans) = (Vec::new(), Vec::new());
        self.each(text, &mut ids, |span| spans.push(span));
        if let Self::Bpe(pairs) = self {
            // Its tokens are the whole text, one after the other.
            let mut end = 0;
            spans.extend(ids.iter().map(|&id| {
                let start = end;
                end += pairs.length(id);
                start..end
            }));
        }
        (ids, spans)
    }

    /// Appends the ids of a text, and gives away the bytes of each, but not those of `bpe`.
    fn each(&self, text: &str, ids: &mut Vec<u32>, mut span: impl FnMut(Range<usize>)) {
        match self {
            Self::Byte => ids.extend(text.bytes().enumerate().map(|(at, byte)| {
                span(at..at + 1);
                u32::from(byte)
            })),
            Self::Char { low, high, unknown } => {
                ids.extend(text.char_indices().map(|(at, character)| {
                    span(at..at + character.len_utf8());
                    match low.get(character as usize) {
                        Some(&id) => id,
                        None => high.get(&character).copied().unwrap_or(*unknown),
                    }
                }));
            }
            Self::Word { ids: table, end, unknown } => {
                let mut from = 0;
                for line in text.split_inclusive('\n') {
                    for word in line.split_whitespace() {
                        // A word is a slice of the line.
                        let start = from + (word.as_ptr() as usize - line.as_ptr() as usize);
                        span(start..start + word.len());
                        ids.push(table.get(word).copied().unwrap_or(*unknown));
                    }
                    from += line.len();
                    if line.ends_with('\n') {
                        span(from - 1..from);
                        ids.push(*end);
                    }
                }
            }
            Self::Bpe(pairs) => pairs.encode(text, ids),
        }
    }
}

/// Code points that are looked up in an array.
const LOW: usize = 0x800;
