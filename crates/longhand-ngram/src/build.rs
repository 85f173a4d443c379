//! From adjusted counts to probabilities and backoffs, one length of n-grams after the other.

use std::sync::atomic::AtomicBool;

use crate::discount::Discounts;
use crate::error::{NgramError, check};
use crate::key::Packing;
use crate::model::{Level, NEVER, Ngram};
use crate::sorter::Sorted;

/// A model whose shorter n-grams are finished.
pub(crate) struct Builder {
    model: Ngram,
    packing: Packing,
}

/// The words seen after one context, with their counts.
#[derive(Default)]
struct After {
    context: u128,
    counts: Vec<(u32, u64)>,
}

/// Contexts between two looks at the flag that ends the work.
const BETWEEN_CHECKS: usize = 1 << 16;

impl Builder {
    pub(crate) fn new(vocabulary: usize, packing: Packing) -> Self {
        let (levels, discounts) = (Vec::new(), Vec::new());
        Self { model: Ngram { vocabulary, levels, discounts }, packing }
    }

    /// Adds the n-grams that are one word longer than the last ones.
    pub(crate) fn add(
        &mut self,
        mut ngrams: Sorted,
        discounts: Discounts,
        stop: &AtomicBool,
    ) -> Result<(), NgramError> {
        self.model.discounts.push(discounts);
        if self.model.levels.is_empty() {
            return self.unigrams(&mut ngrams, discounts);
        }
        let contexts = self.model.levels.last().map_or(0, Level::len);
        let mut level = Level::default();
        let mut links = Links { backoffs: vec![0.0; contexts], children: Vec::new() };
        let mut after = After::default();
        let mut read = 0usize;
        while let Some((key, count)) = ngrams.next()? {
            let (context, word) = self.packing.split(key);
            if context != after.context {
                self.context(&after, discounts, &mut links, &mut level)?;
                after.context = context;
                after.counts.clear();
                read += 1;
                if read.is_multiple_of(BETWEEN_CHECKS) {
                    check(stop)?;
                }
            }
            after.counts.push((word, count));
        }
        self.context(&after, discounts, &mut links, &mut level)?;
        links.children.resize(contexts + 1, level.words.len() as u32);
        if let Some(last) = self.model.levels.last_mut() {
            (last.backoffs, last.children) = (links.backoffs, links.children);
        }
        self.model.levels.push(level);
        Ok(())
    }

    pub(crate) fn finish(self) -> Ngram {
        self.model
    }

    /// p(w) = (a(w) − D(a(w)) + Σ D / V) / Σ a: what the discounts leave is the same for each
    /// word, seen or not.
    fn unigrams(&mut self, ngrams: &mut Sorted, discounts: Discounts) -> Result<(), NgramError> {
        let vocabulary = self.model.vocabulary;
        let mut counts = vec![0; vocabulary];
        while let Some((key, count)) = ngrams.next()? {
            counts[self.packing.split(key).1 as usize] = count;
        }
        let total: u64 = counts.iter().sum();
        let taken: f64 = counts.iter().map(|&count| discounts.of(count)).sum();
        let uniform = taken / vocabulary as f64;
        let log_probability = |&count: &u64| {
            ((count as f64 - discounts.of(count) + uniform) / total as f64).ln() as f32
        };
        let log_probabilities = counts.iter().map(log_probability).chain([NEVER]).collect();
        self.model.levels.push(Level { log_probabilities, ..Level::default() });
        Ok(())
    }

    /// The n-grams of one context h, which come in the order of their contexts:
    /// p(w | h) = (c(w) − D(c(w))) / Σ c + γ(h) p(w | h without its first word), with
    /// γ(h) = Σ D(c) / Σ c.
    fn context(
        &self,
        after: &After,
        discounts: Discounts,
        links: &mut Links,
        level: &mut Level,
    ) -> Result<(), NgramError> {
        let length = self.model.levels.len();
        let mut words = Vec::with_capacity(length);
        self.packing.words(after.context, length, &mut words);
        // Each context was read as an n-gram of its own, or is a document's start.
        let Some(node) = (!after.counts.is_empty()).then(|| self.model.node(&words)).flatten()
        else {
            return Ok(());
        };
        if level.words.len() + after.counts.len() > u32::MAX as usize {
            return Err(NgramError::TooMany(length + 1));
        }
        let total: u64 = after.counts.iter().map(|entry| entry.1).sum();
        let taken: f64 = after.counts.iter().map(|entry| discounts.of(entry.1)).sum();
        let (total, gamma) = (total as f64, taken / total as f64);
        links.children.resize(node + 1, level.words.len() as u32);
        links.backoffs[node] = gamma.ln() as f32;
        for &(word, count) in &after.counts {
            let shorter = f64::from(self.model.log_probability(&words[1..], word)).exp();
            let own = (count as f64 - discounts.of(count)) / total;
            level.words.push(word);
            level.log_probabilities.push((own + gamma * shorter).ln() as f32);
        }
        Ok(())
    }
}

/// What a length of n-grams learns from the next longer ones.
struct Links {
    backoffs: Vec<f32>,
    children: Vec<u32>,
}
