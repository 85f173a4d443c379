//! The characters of words, as the numbers of an alphabet.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use longhand_model::config::CharacterFilters;
use serde::{Deserialize, Serialize};

use super::tokens::Tokens;
use crate::task::CharacterRows;

/// The sizes of filters over the characters of a word, as Ma and Hovy ("End-to-end sequence labeling
/// via bi-directional LSTM-CNNs-CRF", 2016, table 1) have them by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CharacterSettings {
    /// Numbers in a character's vector (default: 30).
    pub width: NonZeroUsize,
    /// Filters (default: 30).
    pub filters: NonZeroUsize,
    /// Characters that a filter sees (default: 3).
    pub kernel: NonZeroUsize,
}

/// The characters that have a vector of their own, by their frequency in training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub(super) struct Alphabet {
    numbers: HashMap<char, u32>,
    filters: CharacterSettings,
}

/// The form of an alphabet in `task.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    alphabet: String,
    filters: CharacterSettings,
}

/// Characters of a word that the filters see, the first ones: longer words are addresses and numbers.
pub(super) const LONGEST: usize = 32;
/// The number of a character that training has too seldom.
const UNKNOWN: u32 = 0;
/// How often training must have a character for it to have a vector of its own: those that it has
/// once teach the model what it does not know.
const LEAST: usize = 2;

impl Default for CharacterSettings {
    fn default() -> Self {
        let thirty = const { NonZeroUsize::new(30).unwrap() };
        Self { width: thirty, filters: thirty, kernel: const { NonZeroUsize::new(3).unwrap() } }
    }
}

/// Whether the filters see the first characters of a word alone.
pub(super) fn is_cut(word: &str) -> bool {
    word.chars().nth(LONGEST).is_some()
}

impl Alphabet {
    /// The alphabet of training words.
    pub(super) fn learn<'a>(
        filters: CharacterSettings,
        words: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut counts: HashMap<char, usize> = HashMap::new();
        for character in words.into_iter().flat_map(read) {
            *counts.entry(character).or_default() += 1;
        }
        counts.retain(|_, count| *count >= LEAST);
        let mut all: Vec<(char, usize)> = counts.into_iter().collect();
        all.sort_unstable_by_key(|&(character, count)| (std::cmp::Reverse(count), character));
        Stored { alphabet: all.into_iter().map(|(character, _)| character).collect(), filters }
            .into()
    }

    /// The filters that a model has for it.
    pub(super) fn filters(&self) -> CharacterFilters {
        let CharacterSettings { width, filters, kernel } = self.filters;
        CharacterFilters {
            vocabulary: self.numbers.len() + 1,
            width: width.get(),
            filters: filters.get(),
            kernel: kernel.get(),
        }
    }

    /// The characters of words, and for each of their tokens those of the word that it is part of.
    pub(super) fn rows(&self, words: &[&str], tokens: &Tokens) -> CharacterRows {
        let mut rows = CharacterRows::default();
        let mut of_words = Vec::with_capacity(words.len());
        for word in words {
            let start = rows.ids.len() as u32;
            rows.ids.extend(read(word).map(|c| self.numbers.get(&c).copied().unwrap_or(UNKNOWN)));
            of_words.push((start, rows.ids.len() as u32));
        }
        let owners = tokens.owners().into_iter();
        rows.ranges = owners.map(|word| word.map_or((0, 0), |word| of_words[word])).collect();
        rows
    }
}

/// The characters of a word that are read.
fn read(word: &str) -> impl Iterator<Item = char> {
    word.chars().take(LONGEST)
}

impl From<Stored> for Alphabet {
    fn from(Stored { alphabet, filters }: Stored) -> Self {
        let mut numbers = HashMap::new();
        for character in alphabet.chars() {
            let number = numbers.len() as u32 + 1;
            numbers.entry(character).or_insert(number);
        }
        Self { numbers, filters }
    }
}

impl From<Alphabet> for Stored {
    fn from(Alphabet { numbers, filters }: Alphabet) -> Self {
        let mut all: Vec<(char, u32)> = numbers.into_iter().collect();
        all.sort_unstable_by_key(|&(_, number)| number);
        Self { alphabet: all.into_iter().map(|(character, _)| character).collect(), filters }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alphabet(words: &[&str]) -> Alphabet {
        Alphabet::learn(CharacterSettings::default(), words.iter().copied())
    }

    fn tokens(words: &[(u32, u32)], count: usize) -> Tokens {
        Tokens { ids: vec![0; count], words: words.to_vec() }
    }

    #[test]
    fn characters_are_numbered_by_their_frequency_and_rare_ones_are_unknown() {
        let alphabet = alphabet(&["baa", "ab", "xé", "é"]);
        let json = serde_json::to_string(&alphabet).unwrap();
        let filters = r#"{"width":30,"filters":30,"kernel":3}"#;
        assert_eq!(json, format!(r#"{{"alphabet":"abé","filters":{filters}}}"#));
        assert_eq!(serde_json::from_str::<Alphabet>(&json).unwrap(), alphabet);
        assert_eq!(alphabet.filters().vocabulary, 4);
        let rows = alphabet.rows(&["éx", "ba"], &tokens(&[(0, 1), (1, 2)], 2));
        assert_eq!((rows.ids, rows.ranges), (vec![3, 0, 2, 1], vec![(0, 2), (2, 4)]));
        // A character that a file names twice has one number, so that none is beyond the table.
        let twice = json.replace("abé", "aab");
        assert_eq!(serde_json::from_str::<Alphabet>(&twice).unwrap().filters().vocabulary, 3);
    }

    #[test]
    fn parts_of_a_word_share_its_characters_and_a_token_between_words_has_none() {
        let rows = alphabet(&["aabb"]).rows(&["ab", "b"], &tokens(&[(0, 2), (3, 4)], 4));
        assert_eq!((rows.ids, rows.ranges), (vec![1, 2, 2], vec![(0, 2), (0, 2), (0, 0), (2, 3)]));
    }

    #[test]
    fn long_words_are_cut_behind_their_first_characters() {
        let long = "é".repeat(LONGEST) + "xx";
        assert!(is_cut(&long) && !is_cut(&long[..2 * LONGEST]));
        let alphabet = alphabet(&[&long]);
        assert_eq!(alphabet.filters().vocabulary, 2);
        assert_eq!(alphabet.rows(&[&long], &tokens(&[(0, 1)], 1)).ids, [1; LONGEST]);
    }
}
