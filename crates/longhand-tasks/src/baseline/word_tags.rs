//! The tags that each word has in training, by which it gets its most frequent one.
//!
//! Of a word that has tag k in c_k of its n occurrences, p(k) = (c_k + s_k) / (n + 1), with the share
//! s_k of the tag among all words. A tag that the word has more often is more probable than any other,
//! and of tags that it has as often the one that is more frequent among all. A word that training lacks
//! has the shares themselves.

use std::collections::BTreeMap;

use super::error::BaselineError;
use super::grams::Grams;
use super::learning::{Learning, Right, log_shares};
use super::tensors::Tensors;

/// How often each word has each tag.
#[derive(Clone, Debug, PartialEq)]
pub struct WordTags {
    /// `[K]`: ln s, the logarithm of each tag's share of all words, with 1 added to each count.
    shares: Vec<f32>,
    /// The occurrences of a word, by its hash, that have a tag.
    counts: BTreeMap<(u64, u32), u32>,
}

/// How words are hashed: as they are written.
const WORDS: Grams = Grams { words: 1, characters: None, case: true, bounds: false };
/// The tensor of the logarithms of the shares of all tags.
const SHARES: &str = "tag_shares";
/// The tensors with an element for each word and each of its tags: the word, the tag and the count.
const PAIRS: [&str; 3] = ["words", "tags", "counts"];

impl WordTags {
    pub(crate) fn fit(learning: &Learning<'_>) -> Self {
        let mut counts: BTreeMap<(u64, u32), u32> = BTreeMap::new();
        let mut all: Vec<u32> = Vec::new();
        for example in learning.train {
            let Right::Tags(tags) = &example.right else { continue };
            for (word, &tag) in example.texts.iter().zip(tags) {
                *counts.entry((WORDS.hash(word), tag)).or_default() += 1;
            }
            all.extend(tags);
        }
        Self { shares: log_shares(learning.classes, all.into_iter()), counts }
    }

    /// The number of tags K.
    pub(crate) fn tags(&self) -> usize {
        self.shares.len()
    }

    /// `[K]`: ln p of each tag of a word.
    pub(crate) fn logits(&self, word: &str) -> Vec<f32> {
        let word = WORDS.hash(word);
        let mut counts: Vec<f64> =
            self.shares.iter().map(|&share| f64::from(share).exp()).collect();
        let mut occurrences = 0.0;
        for (&(_, tag), &count) in self.counts.range((word, 0)..=(word, u32::MAX)) {
            counts[tag as usize] += f64::from(count);
            occurrences += f64::from(count);
        }
        counts.iter().map(|count| (count / (occurrences + 1.0)).ln() as f32).collect()
    }

    pub(crate) fn write(&self, tensors: &mut Tensors) {
        let [words, tags, counts] = PAIRS;
        let pairs = || self.counts.iter();
        let keys: Vec<u64> = pairs().map(|(&(word, _), _)| word).collect();
        tensors.add(SHARES, &[self.shares.len()], self.shares.clone());
        tensors.add_keys(words, &keys);
        tensors.add(tags, &[keys.len()], pairs().map(|(&(_, tag), _)| tag as f32).collect());
        tensors.add(counts, &[keys.len()], pairs().map(|(_, &count)| count as f32).collect());
    }

    /// The tags of a file; none where it holds another model.
    pub(crate) fn read(tensors: &Tensors) -> Result<Option<Self>, BaselineError> {
        if !tensors.has(SHARES) {
            return Ok(None);
        }
        let [words, tags, counts] = PAIRS;
        let (_, shares) = tensors.floats(SHARES, &[None])?;
        let words = tensors.keys(words)?;
        let of_pairs = [Some(words.len())];
        let (_, numbers) = tensors.floats(tags, &of_pairs)?;
        let (_, counts) = tensors.floats(counts, &of_pairs)?;
        let is_tag = |tag: &f32| tag.fract() == 0.0 && (0.0..shares.len() as f32).contains(tag);
        if !numbers.iter().all(is_tag) {
            return Err(tensors.wrong(format!("`{tags}` has a number that is no tag")));
        }
        let pairs = words.iter().zip(&numbers).map(|(&word, &tag)| (word, tag as u32));
        let counts = pairs.zip(counts.iter().map(|&count| count as u32)).collect();
        Ok(Some(Self { shares, counts }))
    }
}

#[cfg(test)]
mod tests {
    use longhand_model::Cpu;

    use super::super::learning::Labelled;
    use super::*;

    /// `the` has tag 0 twice and tag 1 once, `a` the tags 0 and 2 once each, and `b` tag 2 thrice.
    #[test]
    fn a_word_has_its_most_frequent_tag_and_an_unknown_one_that_of_all() {
        let cpu = Cpu::new(1);
        let sentence = |words: &[&'static str], tags: &[u32]| Labelled {
            texts: words.iter().map(|&word| word.into()).collect(),
            right: Right::Tags(tags.to_vec()),
        };
        let train = [
            sentence(&["the", "b", "a", "the"], &[0, 2, 0, 1]),
            sentence(&["b", "the", "b", "a"], &[2, 0, 2, 2]),
            sentence(&[], &[]),
        ];
        let learning = Learning { classes: 3, train: &train, valid: &[], seed: 1, cpu: &cpu };
        let tags = WordTags::fit(&learning);
        assert_eq!(tags.tags(), 3);
        // Of eight words 3, 1 and 4 have the tags, and one more is added to each.
        let shares = [4.0 / 11.0, 2.0 / 11.0, 5.0 / 11.0];
        let check = |word: &str, counts: [f64; 3]| {
            let all: f64 = counts.iter().sum();
            for (found, (count, share)) in tags.logits(word).iter().zip(counts.iter().zip(shares)) {
                let expected = (count + share) / (all + 1.0);
                assert!((f64::from(found.exp()) - expected).abs() < 1e-6, "{word}: {found}");
            }
        };
        check("the", [2.0, 1.0, 0.0]);
        // Of tags that are as frequent, that of more words is more probable.
        check("a", [1.0, 0.0, 1.0]);
        check("b", [0.0, 0.0, 3.0]);
        check("The", [0.0; 3]);
    }
}
