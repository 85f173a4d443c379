//! Encoding of the three plain kinds without the library: the same ids, many times faster.

use std::collections::HashMap;
use std::sync::Arc;

use super::{TokenizerKind, UNKNOWN};

/// The tables of a plain kind.
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
}

impl Direct {
    /// The tables of a kind, or none where the kind or its vocabulary needs the library.
    pub(super) fn new(
        kind: TokenizerKind,
        tokens: &[String],
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
            TokenizerKind::Bpe | TokenizerKind::Wordpiece | TokenizerKind::Unigram => None,
        }
    }

    /// Appends the ids of a text.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        match self {
            Self::Byte => ids.extend(text.bytes().map(u32::from)),
            Self::Char { low, high, unknown } => {
                ids.extend(text.chars().map(|character| match low.get(character as usize) {
                    Some(&id) => id,
                    None => high.get(&character).copied().unwrap_or(*unknown),
                }));
            }
            Self::Word { ids: table, end, unknown } => {
                let mut lines = text.split('\n');
                let mut line = lines.next();
                while let Some(words) = line {
                    ids.extend(
                        words
                            .split_whitespace()
                            .map(|word| table.get(word).copied().unwrap_or(*unknown)),
                    );
                    line = lines.next();
                    if line.is_some() {
                        ids.push(*end);
                    }
                }
            }
        }
    }
}

/// Code points that are looked up in an array.
const LOW: usize = 0x800;
