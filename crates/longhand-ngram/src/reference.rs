//! The model by its definition, in double precision: nothing is sorted, stored or shared. For tests.

use std::collections::{BTreeMap, BTreeSet};

use crate::discount::Discounts;

/// A text of documents, with the mark of their start before each.
pub(crate) struct Reference {
    vocabulary: usize,
    /// For each length, less one, the adjusted counts.
    counts: Vec<BTreeMap<Vec<u32>, u64>>,
    discounts: Vec<Discounts>,
}

impl Reference {
    pub(crate) fn new(documents: &[&[u32]], vocabulary: usize, order: usize) -> Self {
        let start = vocabulary as u32;
        let mut raw = vec![BTreeMap::<Vec<u32>, u64>::new(); order];
        let mut before = vec![BTreeMap::<Vec<u32>, BTreeSet<u32>>::new(); order];
        for document in documents {
            let words = [&[start], *document].concat();
            for end in 1..words.len() {
                for k in 1..=order.min(end + 1) {
                    let ngram = words[end + 1 - k..=end].to_vec();
                    *raw[k - 1].entry(ngram.clone()).or_default() += 1;
                    if end + 1 > k {
                        before[k - 1].entry(ngram).or_default().insert(words[end - k]);
                    }
                }
            }
        }
        let adjusted = |k: usize| {
            let count = |ngram: &Vec<u32>, raw: u64| match k == order || ngram[0] == start {
                true => raw,
                false => before[k - 1][ngram].len() as u64,
            };
            raw[k - 1].iter().map(|(ngram, &raw)| (ngram.clone(), count(ngram, raw))).collect()
        };
        let counts: Vec<BTreeMap<Vec<u32>, u64>> = (1..=order).map(adjusted).collect();
        let n = |counts: &BTreeMap<Vec<u32>, u64>| {
            [1, 2, 3, 4].map(|j| counts.values().filter(|&&count| count == j).count() as u64)
        };
        let discounts = counts.iter().map(|counts| Discounts::estimate(n(counts))).collect();
        Self { vocabulary, counts, discounts }
    }

    /// p(word | context), with at most N−1 words of context.
    pub(crate) fn probability(&self, context: &[u32], word: u32) -> f64 {
        let k = context.len();
        let discounts = &self.discounts[k];
        let after = self.counts[k].iter().filter(|(ngram, _)| ngram[..k] == *context);
        let counts: BTreeMap<u32, u64> = after.map(|(ngram, &count)| (ngram[k], count)).collect();
        let shorter = match context.split_first() {
            None => 1.0 / self.vocabulary as f64,
            Some((_, shorter)) => self.probability(shorter, word),
        };
        if counts.is_empty() {
            return shorter;
        }
        let total = counts.values().sum::<u64>() as f64;
        let gamma = counts.values().map(|&count| discounts.of(count)).sum::<f64>() / total;
        let count = counts.get(&word).copied().unwrap_or(0);
        (count as f64 - discounts.of(count)) / total + gamma * shorter
    }
}
