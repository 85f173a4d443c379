//! The chains of words to learn from: the features of each word as numbers, and its right tag.

use super::super::error::BaselineError;
use super::super::index::{Index, Rows};
use super::super::learning::{Labelled, Right};
use super::features::Templates;

/// Chains of words, one after the other. A chain without words is left out.
#[derive(Debug)]
pub(super) struct Chains {
    /// The features of each word.
    rows: Rows,
    /// The tag of each word.
    tags: Vec<u32>,
    /// The first word of each chain, and the end of the last one.
    bounds: Vec<usize>,
}

impl Chains {
    /// The chains of training, and the numbers of their features: of those that occur `cutoff` times.
    pub(super) fn learn(
        templates: Templates,
        examples: &[Labelled<'_>],
        cutoff: usize,
    ) -> Result<(Index, Self), BaselineError> {
        let (mut all, mut counts) = (Index::default(), Vec::new());
        let read = Self::of(templates, examples, |key| {
            let number = all.add(key)?;
            counts.resize(all.len(), 0_usize);
            counts[number as usize] += 1;
            Ok(Some(number))
        })?;
        let mut index = Index::default();
        let mut numbers = Vec::with_capacity(all.len());
        for (&key, &count) in all.keys().iter().zip(&counts) {
            numbers.push(if count >= cutoff { Some(index.add(key)?) } else { None });
        }
        let mut rows = Rows::default();
        let mut kept = Vec::new();
        for row in read.rows.iter() {
            kept.clear();
            kept.extend(row.iter().filter_map(|&feature| numbers[feature as usize]));
            rows.push(&kept);
        }
        Ok((index, Self { rows, ..read }))
    }

    /// Chains whose features have numbers already; those that have none are left out.
    pub(super) fn read(templates: Templates, examples: &[Labelled<'_>], index: &Index) -> Self {
        let known = |key| Ok(index.get(key));
        // Looking up a key cannot fail.
        Self::of(templates, examples, known).unwrap_or_default()
    }

    fn of(
        templates: Templates,
        examples: &[Labelled<'_>],
        mut number: impl FnMut(u64) -> Result<Option<u32>, BaselineError>,
    ) -> Result<Self, BaselineError> {
        let (mut chains, mut row) = (Self::default(), Vec::new());
        for example in examples {
            let Right::Tags(tags) = &example.right else { continue };
            if tags.is_empty() {
                continue;
            }
            let mut failed = None;
            templates.each(&example.read(), |keys| {
                row.clear();
                for &key in keys {
                    match number(key) {
                        Ok(feature) => row.extend(feature),
                        Err(error) => failed = Some(error),
                    }
                }
                chains.rows.push(&row);
            });
            if let Some(error) = failed {
                return Err(error);
            }
            chains.tags.extend(tags);
            chains.bounds.push(chains.tags.len());
        }
        Ok(chains)
    }

    pub(super) fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    /// The features of each word of a chain, and the tags of all of them.
    pub(super) fn chain(&self, place: usize) -> (impl Iterator<Item = &[u32]> + Clone, &[u32]) {
        let words = self.bounds[place]..self.bounds[place + 1];
        (words.clone().map(|word| self.rows.row(word)), &self.tags[words])
    }
}

impl Default for Chains {
    fn default() -> Self {
        Self { rows: Rows::default(), tags: Vec::new(), bounds: vec![0] }
    }
}
