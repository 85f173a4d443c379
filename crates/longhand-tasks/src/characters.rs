//! The characters of words, as the numbers of an alphabet, for the tasks whose models can read them.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use longhand_model::config::{CharacterFilters, CharacterLstm, CharacterReader};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::task::CharacterRows;

/// What reads the characters of a word, beside its own vector. In files it is the table of its sizes,
/// with a `type` beside them: `convolution`, which may be left out, or `lstm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum CharacterSettings {
    /// Filters over neighbouring characters.
    Convolution(FilterSettings),
    /// A recurrence in both directions.
    Lstm(LstmSettings),
}

/// The sizes of filters over the characters of a word, as Ma and Hovy ("End-to-end sequence labeling
/// via bi-directional LSTM-CNNs-CRF", 2016, table 1) have them by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilterSettings {
    /// Numbers in a character's vector (default: 30).
    pub width: NonZeroUsize,
    /// Filters (default: 30).
    pub filters: NonZeroUsize,
    /// Characters that a filter sees (default: 3).
    pub kernel: NonZeroUsize,
}

/// The sizes of an LSTM over the characters of a word, as Lample et al. ("Neural architectures for named
/// entity recognition", 2016, section 5.1) have them by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, tag = "type", rename = "lstm")]
pub struct LstmSettings {
    /// Numbers in a character's vector (default: 25).
    pub width: NonZeroUsize,
    /// Hidden units in each direction (default: 25).
    pub hidden: NonZeroUsize,
}

/// The characters that have a vector of their own, by their frequency in training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub(crate) struct Alphabet {
    numbers: HashMap<char, u32>,
    reader: CharacterSettings,
}

/// The form of an alphabet in `task.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    alphabet: String,
    /// Before there was another one, its name was that of filters.
    #[serde(alias = "filters")]
    reader: CharacterSettings,
}

/// Characters of a word that are read, the first ones: longer words are addresses and numbers.
pub(crate) const LONGEST: usize = 32;
/// The number of a character that training has too seldom.
const UNKNOWN: u32 = 0;
/// How often training must have a character for it to have a vector of its own: those that it has
/// once teach the model what it does not know.
const LEAST: usize = 2;

impl<'de> Deserialize<'de> for CharacterSettings {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(from)?;
        let kind = fields.remove("type").unwrap_or_else(|| "convolution".into());
        let rest = Value::Object(fields);
        match kind.as_str() {
            Some("convolution") => FilterSettings::deserialize(rest).map(Self::Convolution),
            Some("lstm") => LstmSettings::deserialize(rest).map(Self::Lstm),
            _ => {
                let kind = kind.to_string();
                Err(serde_json::Error::unknown_variant(&kind, &["convolution", "lstm"]))
            }
        }
        .map_err(D::Error::custom)
    }
}

impl Default for LstmSettings {
    fn default() -> Self {
        let size = const { NonZeroUsize::new(25).unwrap() };
        Self { width: size, hidden: size }
    }
}

impl Default for FilterSettings {
    fn default() -> Self {
        let thirty = const { NonZeroUsize::new(30).unwrap() };
        Self { width: thirty, filters: thirty, kernel: const { NonZeroUsize::new(3).unwrap() } }
    }
}

/// Whether the first characters of a word alone are read.
pub(crate) fn is_cut(word: &str) -> bool {
    word.chars().nth(LONGEST).is_some()
}

impl Alphabet {
    /// The alphabet of the characters of training words.
    pub(crate) fn learn(
        reader: CharacterSettings,
        characters: impl IntoIterator<Item = char>,
    ) -> Self {
        let mut counts: HashMap<char, usize> = HashMap::new();
        for character in characters {
            *counts.entry(character).or_default() += 1;
        }
        counts.retain(|_, count| *count >= LEAST);
        let mut all: Vec<(char, usize)> = counts.into_iter().collect();
        all.sort_unstable_by_key(|&(character, count)| (std::cmp::Reverse(count), character));
        Stored { alphabet: all.into_iter().map(|(character, _)| character).collect(), reader }
            .into()
    }

    /// What a model reads it with.
    pub(crate) fn reader(&self) -> CharacterReader {
        let vocabulary = self.numbers.len() + 1;
        match self.reader {
            CharacterSettings::Convolution(FilterSettings { width, filters, kernel }) => {
                let [width, filters, kernel] = [width, filters, kernel].map(NonZeroUsize::get);
                CharacterReader::Convolution(CharacterFilters {
                    vocabulary,
                    width,
                    filters,
                    kernel,
                })
            }
            CharacterSettings::Lstm(LstmSettings { width, hidden }) => {
                let [width, hidden] = [width, hidden].map(NonZeroUsize::get);
                CharacterReader::Lstm(CharacterLstm { vocabulary, width, hidden })
            }
        }
    }

    /// The characters of words, and for each token those of the word that it is part of, if
    /// it is of any.
    pub(crate) fn rows(
        &self,
        words: &[&str],
        owners: impl IntoIterator<Item = Option<usize>>,
    ) -> CharacterRows {
        let mut rows = CharacterRows::default();
        let mut of_words = Vec::with_capacity(words.len());
        for word in words {
            let start = rows.ids.len() as u32;
            rows.ids.extend(read(word).map(|c| self.numbers.get(&c).copied().unwrap_or(UNKNOWN)));
            of_words.push((start, rows.ids.len() as u32));
        }
        let owners = owners.into_iter();
        rows.ranges = owners.map(|word| word.map_or((0, 0), |word| of_words[word])).collect();
        rows
    }
}

/// The characters of a word that are read.
pub(crate) fn read(word: &str) -> impl Iterator<Item = char> {
    word.chars().take(LONGEST)
}

impl From<Stored> for Alphabet {
    fn from(Stored { alphabet, reader }: Stored) -> Self {
        let mut numbers = HashMap::new();
        for character in alphabet.chars() {
            let number = numbers.len() as u32 + 1;
            numbers.entry(character).or_insert(number);
        }
        Self { numbers, reader }
    }
}

impl From<Alphabet> for Stored {
    fn from(Alphabet { numbers, reader }: Alphabet) -> Self {
        let mut all: Vec<(char, u32)> = numbers.into_iter().collect();
        all.sort_unstable_by_key(|&(_, number)| number);
        Self { alphabet: all.into_iter().map(|(character, _)| character).collect(), reader }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alphabet(words: &[&str]) -> Alphabet {
        let reader = CharacterSettings::Convolution(FilterSettings::default());
        Alphabet::learn(reader, words.iter().flat_map(|word| read(word)))
    }

    #[test]
    fn characters_are_numbered_by_their_frequency_and_rare_ones_are_unknown() {
        let alphabet = alphabet(&["baa", "ab", "xé", "é"]);
        let json = serde_json::to_string(&alphabet).unwrap();
        let reader = r#"{"width":30,"filters":30,"kernel":3}"#;
        assert_eq!(json, format!(r#"{{"alphabet":"abé","reader":{reader}}}"#));
        assert_eq!(serde_json::from_str::<Alphabet>(&json).unwrap(), alphabet);
        let earlier = json.replace("\"reader\"", "\"filters\"");
        assert_eq!(serde_json::from_str::<Alphabet>(&earlier).unwrap(), alphabet);
        assert_eq!(alphabet.reader().table()[0], 4);
        let rows = alphabet.rows(&["éx", "ba"], [Some(0), Some(1)]);
        assert_eq!((rows.ids, rows.ranges), (vec![3, 0, 2, 1], vec![(0, 2), (2, 4)]));
        // A character that a file names twice has one number, so that none is beyond the table.
        let twice = json.replace("abé", "aab");
        assert_eq!(serde_json::from_str::<Alphabet>(&twice).unwrap().reader().table()[0], 3);
    }

    #[test]
    fn a_reader_is_named_by_its_type_and_has_sizes_of_its_own() {
        let parse = |json: &str| serde_json::from_str::<CharacterSettings>(json);
        for (json, expected) in [
            ("{}", CharacterSettings::Convolution(FilterSettings::default())),
            (
                r#"{"type": "convolution"}"#,
                CharacterSettings::Convolution(FilterSettings::default()),
            ),
            (r#"{"type": "lstm"}"#, CharacterSettings::Lstm(LstmSettings::default())),
        ] {
            let settings = parse(json).unwrap();
            assert_eq!(settings, expected);
            assert_eq!(parse(&serde_json::to_string(&settings).unwrap()).unwrap(), settings);
        }
        let lstm = parse(r#"{"type": "lstm", "hidden": 7}"#).unwrap();
        let alphabet = Alphabet::learn(lstm, "aab".chars());
        let expected = CharacterLstm { vocabulary: 2, width: 25, hidden: 7 };
        assert_eq!(alphabet.reader(), CharacterReader::Lstm(expected));
        let json = serde_json::to_string(&alphabet).unwrap();
        assert_eq!(serde_json::from_str::<Alphabet>(&json).unwrap(), alphabet);
        for (json, words) in [
            (r#"{"type": "gru"}"#, "unknown variant"),
            (r#"{"type": "lstm", "kernel": 3}"#, "unknown field `kernel`"),
            (r#"{"hidden": 3}"#, "unknown field `hidden`"),
            (r#"{"type": "lstm", "hidden": 0}"#, "nonzero"),
        ] {
            let error = parse(json).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn parts_of_a_word_share_its_characters_and_a_token_between_words_has_none() {
        let owners = [Some(0), Some(0), None, Some(1)];
        let rows = alphabet(&["aabb"]).rows(&["ab", "b"], owners);
        assert_eq!((rows.ids, rows.ranges), (vec![1, 2, 2], vec![(0, 2), (0, 2), (0, 0), (2, 3)]));
    }

    #[test]
    fn long_words_are_cut_behind_their_first_characters() {
        let long = "é".repeat(LONGEST) + "xx";
        assert!(is_cut(&long) && !is_cut(&long[..2 * LONGEST]));
        let alphabet = alphabet(&[&long]);
        assert_eq!(alphabet.reader().table()[0], 2);
        assert_eq!(alphabet.rows(&[&long], [Some(0)]).ids, [1; LONGEST]);
    }
}
