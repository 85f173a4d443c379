//! A tagger's examples as a baseline reads them, and its answers.

use std::borrow::Cow;

use super::example::Example;
use super::{Answer, Tagging};
use crate::baseline::learning::largest;

impl Tagging {
    /// A text for each tag of an example, for one predicate after another: the word; or, where there are
    /// predicates and feature columns, the word's cells in those and its place beside the predicate.
    pub(super) fn plain_words<'a>(&self, example: &'a Example) -> Vec<Cow<'a, str>> {
        let columns = self.columns(example);
        let words = example.words_of(columns);
        let of_predicate = |predicate: Option<usize>| -> Vec<Cow<'a, str>> {
            if predicate.is_none() || columns.features.is_empty() {
                return words.iter().map(|&word| Cow::Borrowed(word)).collect();
            }
            let mut features = example.features_of(columns, predicate);
            // The predicate's own word, which all of them share.
            features.pop();
            let of_word = |word: usize| -> Cow<'a, str> {
                let cells: Vec<&str> = features.iter().map(|cells| cells[word]).collect();
                Cow::Owned(cells.join(" "))
            };
            (0..words.len()).map(of_word).collect()
        };
        example.predicates(columns).into_iter().flat_map(of_predicate).collect()
    }

    /// The words of each sentence, for one predicate after another, each with its cells in the feature
    /// columns and, of a predicate's sentence, its place beside the predicate and the predicate's word.
    pub(super) fn chains_of_words<'a>(&self, example: &'a Example) -> Vec<Vec<Cow<'a, str>>> {
        let columns = self.columns(example);
        let words = example.words_of(columns);
        let mut chains = Vec::new();
        for predicate in example.predicates(columns) {
            let features = example.features_of(columns, predicate);
            let of_word = |word: usize| -> Cow<'a, str> {
                if features.is_empty() {
                    return Cow::Borrowed(words[word]);
                }
                let cells = features.iter().map(|cells| cells[word]);
                Cow::Owned([words[word]].into_iter().chain(cells).collect::<Vec<_>>().join("\t"))
            };
            chains.extend(example.places().map(|place| place.map(of_word).collect()));
        }
        chains
    }

    /// The likeliest tag of each word by its own logits `[n, K]`, whatever its neighbours have.
    pub(super) fn likeliest(&self, logits: &[f32]) -> Answer {
        let likeliest = |row: &[f32]| {
            let best = largest(row);
            let sum: f32 = row.iter().map(|logit| (logit - row[best]).exp()).sum();
            (best as u32, 1.0 / sum)
        };
        let rows = logits.chunks_exact(self.tags.len());
        let (tags, probabilities): (Vec<u32>, Vec<f32>) = rows.map(likeliest).unzip();
        Answer { tags, probabilities }
    }
}
