//! Features of a token beside its id: its spelling, its neighbours and further columns.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::spelling::{AFFIX, lower, prefix, shape, suffix};

/// A property of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// The word in lower case, each digit as 0.
    Lower,
    /// The kinds of its characters: `Xx` for a capitalised word, `0.0` for 12.5.
    Shape,
    /// The first characters of the word, with their number.
    Prefix(usize),
    /// The last characters of the word, with their number.
    Suffix(usize),
    /// The token before and this one.
    Before,
    /// This token and the next one.
    After,
    /// A further column of the file, by its place among those that are read.
    Column(usize),
}

/// The values of a feature that have a vector of their own, by their frequency in training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct FeatureTable {
    feature: Feature,
    rows: HashMap<String, u32>,
}

/// The form of a table in `task.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    feature: Feature,
    values: Vec<String>,
}

/// The row of a value that training has too seldom.
const UNKNOWN: u32 = 0;
/// The row of a word that is too short, of a neighbour beyond the sentence, and of a token between
/// two words.
pub(super) const ABSENT: u32 = 1;
/// The first row of a value.
const FIRST: u32 = 2;
/// Characters of a mean token, up to which its neighbours say more than its spelling.
const SHORT: f64 = 2.0;

/// A sentence as its features see it.
#[derive(Clone, Copy)]
pub struct Words<'a> {
    /// The words.
    pub words: &'a [&'a str],
    /// The cells of each further column.
    pub columns: &'a [Vec<&'a str>],
}

impl Feature {
    /// The features of words with these lengths: spelling for words, neighbours for characters.
    pub fn suited(words: usize, characters: usize) -> Vec<Self> {
        if characters as f64 <= SHORT * words as f64 {
            return vec![Self::Prefix(1), Self::Suffix(1), Self::Before, Self::After];
        }
        let affixes = (1..=AFFIX).flat_map(|length| [Self::Prefix(length), Self::Suffix(length)]);
        [Self::Lower, Self::Shape].into_iter().chain(affixes).collect()
    }

    /// The value for token `at`, if there is one.
    pub fn value<'a>(self, sentence: Words<'a>, at: usize) -> Option<Cow<'a, str>> {
        let word = *sentence.words.get(at)?;
        let pair = |a: &str, b: &str| Cow::Owned(format!("{a} {b}"));
        match self {
            Self::Lower => Some(lower(word).into()),
            Self::Shape => Some(shape(word).into()),
            Self::Prefix(length) => prefix(word, length).map(Cow::Borrowed),
            Self::Suffix(length) => suffix(word, length).map(Cow::Borrowed),
            Self::Before => Some(pair(sentence.words.get(at.checked_sub(1)?)?, word)),
            Self::After => Some(pair(word, sentence.words.get(at + 1)?)),
            Self::Column(place) => Some((*sentence.columns.get(place)?.get(at)?).into()),
        }
    }

    /// How often training must have a value for it to have a vector.
    fn least(self) -> usize {
        match self {
            Self::Shape | Self::Column(_) => 1,
            _ => 2,
        }
    }
}

impl FeatureTable {
    /// The table of a feature in training sentences.
    pub fn learn<'a>(feature: Feature, sentences: impl IntoIterator<Item = Words<'a>>) -> Self {
        let mut counts: HashMap<Cow<'a, str>, usize> = HashMap::new();
        for sentence in sentences {
            for value in (0..sentence.words.len()).filter_map(|at| feature.value(sentence, at)) {
                *counts.entry(value).or_default() += 1;
            }
        }
        let mut values: Vec<(String, usize)> = counts
            .into_iter()
            .filter(|&(_, count)| count >= feature.least())
            .map(|(value, count)| (value.into_owned(), count))
            .collect();
        values.sort_unstable_by(|(a, first), (b, second)| second.cmp(first).then(a.cmp(b)));
        Stored { feature, values: values.into_iter().map(|(value, _)| value).collect() }.into()
    }

    /// Rows of its table of vectors.
    pub fn rows(&self) -> usize {
        self.rows.len() + FIRST as usize
    }

    /// The row of each token of a sentence.
    pub fn encode(&self, sentence: Words<'_>) -> impl Iterator<Item = u32> {
        (0..sentence.words.len()).map(move |at| match self.feature.value(sentence, at) {
            None => ABSENT,
            Some(value) => self.rows.get(value.as_ref()).copied().unwrap_or(UNKNOWN),
        })
    }
}

impl From<Stored> for FeatureTable {
    fn from(Stored { feature, values }: Stored) -> Self {
        let mut rows = HashMap::new();
        for value in values {
            let row = rows.len() as u32 + FIRST;
            rows.entry(value).or_insert(row);
        }
        Self { feature, rows }
    }
}

impl From<FeatureTable> for Stored {
    fn from(table: FeatureTable) -> Self {
        let mut values: Vec<(String, u32)> = table.rows.into_iter().collect();
        values.sort_unstable_by_key(|&(_, row)| row);
        let values = values.into_iter().map(|(value, _)| value).collect();
        Self { feature: table.feature, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_is_seen() {
        let check = |feature: Feature, word: &str, expected: Option<&str>| {
            let sentence = Words { words: &[word], columns: &[] };
            assert_eq!(feature.value(sentence, 0).as_deref(), expected, "{feature:?} {word}");
        };
        check(Feature::Lower, "Élan-12", Some("élan-00"));
        check(Feature::Shape, "McDonald's", Some("XxXx'x"));
        check(Feature::Shape, "12.50%", Some("0.0%"));
        check(Feature::Shape, "中国A", Some("cX"));
        check(Feature::Prefix(2), "été", Some("ét"));
        check(Feature::Suffix(2), "été", Some("té"));
        check(Feature::Prefix(3), "été", Some("été"));
        check(Feature::Prefix(4), "été", None);
        check(Feature::Suffix(4), "été", None);
        check(Feature::Prefix(0), "été", None);
        check(Feature::Column(0), "été", None);
    }

    #[test]
    fn neighbours_and_columns_are_seen() {
        let columns = [vec!["P", "Q"]];
        let sentence = Words { words: &["中", "国"], columns: &columns };
        let values = |feature: Feature| [0, 1].map(|at| feature.value(sentence, at));
        assert_eq!(values(Feature::Before), [None, Some("中 国".into())]);
        assert_eq!(values(Feature::After), [Some("中 国".into()), None]);
        assert_eq!(values(Feature::Column(0)), [Some("P".into()), Some("Q".into())]);
    }

    #[test]
    fn the_features_suit_the_writing() {
        assert!(Feature::suited(10, 45).contains(&Feature::Suffix(4)));
        assert!(Feature::suited(10, 10).contains(&Feature::Before));
        assert_eq!(Feature::suited(0, 0).len(), 4);
    }

    #[test]
    fn values_that_training_has_once_are_unknown() {
        let words = ["baa", "caa", "b", "dab"];
        let sentence = Words { words: &words, columns: &[] };
        let table = FeatureTable::learn(Feature::Suffix(2), [sentence]);
        assert_eq!(table.rows(), 3);
        assert_eq!(table.encode(sentence).collect::<Vec<_>>(), [2, 2, 1, 0]);
        let json = serde_json::to_string(&table).unwrap();
        assert_eq!(json, r#"{"feature":{"suffix":2},"values":["aa"]}"#);
        assert_eq!(serde_json::from_str::<FeatureTable>(&json).unwrap(), table);
        let shapes =
            FeatureTable::learn(Feature::Shape, [Words { words: &["a", "B"], columns: &[] }]);
        assert_eq!(shapes.rows(), 4);
        // A value that a file names twice has one row, so that no row is beyond the table.
        let twice = r#"{"feature":"shape","values":["x","x","X"]}"#;
        assert_eq!(serde_json::from_str::<FeatureTable>(twice).unwrap().rows(), 4);
    }
}
