//! Byte-level byte-pair encoding without the library: the same ids, many times faster.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

use ahash::AHashMap;
use serde_json::Value;

use super::layout::byte_characters;
use super::pattern::pre_tokens;

/// The merges of a vocabulary, and the words that were encoded before.
pub(super) struct BytePairs {
    /// The id of each byte.
    bytes: [u32; 256],
    /// The rank and the id of each pair of ids that is merged.
    merges: AHashMap<(u32, u32), (u32, u32)>,
    /// Bytes of each token.
    lengths: Vec<u32>,
    /// One cache for each thread that has encoded.
    caches: Mutex<Vec<Cache>>,
}

impl BytePairs {
    /// The tables of a model of the library's JSON; none if it needs more than byte-level merges.
    pub(super) fn new(model: &Value) -> Option<Self> {
        let absent = ["unk_token", "continuing_subword_prefix", "end_of_word_suffix", "dropout"];
        let switches = ["byte_fallback", "fuse_unk", "ignore_merges"];
        if absent.iter().any(|key| !model[key].is_null())
            || switches.iter().any(|key| model[key].as_bool() == Some(true))
        {
            return None;
        }
        let vocabulary = model["vocab"].as_object()?;
        let id = |token: &str| u32::try_from(vocabulary.get(token)?.as_u64()?).ok();
        let mut bytes = [0; 256];
        for (slot, character) in bytes.iter_mut().zip(byte_characters()) {
            *slot = id(character.encode_utf8(&mut [0; 4]))?;
        }
        let mut merges = AHashMap::new();
        for (merge, rank) in model["merges"].as_array()?.iter().zip(0_u32..) {
            let (left, right) = match merge {
                Value::String(pair) => pair.split_once(' ')?,
                pair => (pair[0].as_str()?, pair[1].as_str()?),
            };
            merges.insert((id(left)?, id(right)?), (rank, id(&format!("{left}{right}"))?));
        }
        let mut lengths = vec![0; vocabulary.len()];
        for (token, id) in vocabulary {
            *lengths.get_mut(usize::try_from(id.as_u64()?).ok()?)? = token.chars().count() as u32;
        }
        Some(Self { bytes, merges, lengths, caches: Mutex::default() })
    }

    /// Appends the ids of a text.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let mut cache = self.lock().pop().unwrap_or_default();
        for word in pre_tokens(text) {
            if let Some(known) = cache.get(word) {
                ids.extend_from_slice(known);
                continue;
            }
            let first = ids.len();
            self.merge(word.as_bytes(), &mut cache.scratch, ids);
            cache.insert(word, &ids[first..]);
        }
        self.lock().push(cache);
    }

    /// Bytes of a token.
    pub(super) fn length(&self, id: u32) -> usize {
        self.lengths.get(id as usize).map_or(0, |&length| length as usize)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Cache>> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends the ids of one word. The pair of the lowest rank is merged first; among
    /// equals the leftmost one.
    fn merge(&self, word: &[u8], scratch: &mut Scratch, ids: &mut Vec<u32>) {
        let Scratch { symbols, queue } = scratch;
        symbols.clear();
        let count = word.len();
        symbols.extend(word.iter().enumerate().map(|(at, &byte)| Symbol {
            id: self.bytes[byte as usize],
            before: at.checked_sub(1),
            after: Some(at + 1).filter(|&after| after < count),
            merged: false,
        }));
        queue.clear();
        for at in 0..count.saturating_sub(1) {
            self.propose(symbols, at, at + 1, queue);
        }
        while let Some(Reverse((_, at, id))) = queue.pop() {
            let Symbol { id: left, after: Some(next), merged: false, .. } = symbols[at] else {
                continue;
            };
            let right = symbols[next];
            // A proposal may be out of date: one of its sides has become another token.
            if self.merges.get(&(left, right.id)).is_none_or(|&(_, made)| made != id) {
                continue;
            }
            symbols[next].merged = true;
            symbols[at].id = id;
            symbols[at].after = right.after;
            if let Some(after) = right.after {
                symbols[after].before = Some(at);
                self.propose(symbols, at, after, queue);
            }
            if let Some(before) = symbols[at].before {
                self.propose(symbols, before, at, queue);
            }
        }
        ids.extend(symbols.iter().filter(|symbol| !symbol.merged).map(|symbol| symbol.id));
    }

    fn propose(&self, symbols: &[Symbol], left: usize, right: usize, queue: &mut Queue) {
        if let Some(&(rank, id)) = self.merges.get(&(symbols[left].id, symbols[right].id)) {
            queue.push(Reverse((rank, left, id)));
        }
    }
}

/// A token within a word, with its neighbours.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    before: Option<usize>,
    after: Option<usize>,
    /// Whether the token is now part of the one before.
    merged: bool,
}

/// Proposed merges: rank, place of the left side, id of the result.
type Queue = BinaryHeap<Reverse<(u32, usize, u32)>>;

#[derive(Default)]
struct Scratch {
    symbols: Vec<Symbol>,
    queue: Queue,
}

/// Words with their ids.
#[derive(Default)]
struct Cache {
    /// The range of each word's ids in `ids`.
    places: AHashMap<Box<str>, (u32, u32)>,
    ids: Vec<u32>,
    scratch: Scratch,
}

/// The most words of a cache, about 10 MB.
const WORDS: usize = 1 << 17;
/// Bytes of the longest word that is kept in a cache.
const LONGEST_WORD: usize = 48;

impl Cache {
    fn get(&self, word: &str) -> Option<&[u32]> {
        let &(start, end) = self.places.get(word)?;
        self.ids.get(start as usize..end as usize)
    }

    fn insert(&mut self, word: &str, ids: &[u32]) {
        if word.len() <= LONGEST_WORD && self.places.len() < WORDS {
            let start = self.ids.len() as u32;
            self.ids.extend_from_slice(ids);
            self.places.insert(word.into(), (start, self.ids.len() as u32));
        }
        // The room for one very long word is given back.
        if self.scratch.symbols.capacity() > 1 << 16 {
            self.scratch = Scratch::default();
        }
    }
}
