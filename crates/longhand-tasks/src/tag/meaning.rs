//! The meaning of the numbers that a tagger reads and gives.

use std::collections::HashMap;

use super::example::{Columns, Example};
use super::features::Words;
use super::{Answer, Tagging};
use crate::tags::{EntityCounts, EntityScores, Scheme, Tag};
use crate::task::Scored;

/// Tags of tokens without a role, and of predicates.
pub(super) const SILENT: [&str; 4] = ["_", "O", "V", "C-V"];

impl Tagging {
    /// The columns of an example's file.
    pub(super) fn columns<'a>(&'a self, example: &'a Example) -> &'a Columns {
        example.columns.as_ref().unwrap_or(&self.columns)
    }

    /// The row of each feature of each token, in the sequence of a predicate.
    pub(super) fn feature_rows(
        &self,
        example: &Example,
        predicate: Option<usize>,
    ) -> Vec<Vec<u32>> {
        let columns = self.columns(example);
        let words = example.words_of(columns);
        let cells = example.features_of(columns, predicate);
        let sentence = Words { words: &words, columns: &cells };
        self.features.iter().map(|table| table.encode(sentence).collect()).collect()
    }

    /// The numbers of an example's tags; none for a tag that training lacks.
    pub(super) fn numbers(&self, example: &Example) -> Vec<Option<u32>> {
        let known: HashMap<&str, u32> = self.tags.iter().map(String::as_str).zip(0..).collect();
        let sentences = example.tags_of_sentences().into_iter();
        let tags = sentences.flat_map(|tags| self.written.convert(&tags, self.scheme));
        tags.map(|tag| known.get(tag.as_str()).copied()).collect()
    }

    /// The tags of an example's tokens in the data's own scheme, for one predicate after another.
    /// Without an answer, every word has the tag of nothing.
    pub(super) fn written(&self, example: &Example, answers: &[Answer]) -> Vec<String> {
        let name = |&tag: &u32| self.tags.get(tag as usize).map_or("O", String::as_str);
        let tags = answers.iter().flat_map(|answer| &answer.tags).map(name);
        let columns = self.columns(example);
        if columns.predicate.is_some() {
            return tags.map(str::to_owned).collect();
        }
        let mut tags: Vec<&str> = tags.collect();
        tags.resize(example.len(), "O");
        let places = example.places();
        places.flat_map(|place| self.scheme.convert(&tags[place], self.written)).collect()
    }

    /// Counts the tags that say something: all but those of tokens without a role, and of the
    /// predicates themselves. None where every tag says something, as parts of speech do.
    pub(super) fn roles(&self, scored: &[Scored<'_, Self>]) -> Option<EntityCounts> {
        let speaks = |tag: &u32| {
            self.tags.get(*tag as usize).is_some_and(|tag| !SILENT.contains(&tag.as_str()))
        };
        if (0..self.tags.len() as u32).all(|tag| speaks(&tag)) {
            return None;
        }
        let mut counts = EntityCounts::default();
        for Scored { example, answers, .. } in scored {
            let truth = self.numbers(example);
            let found = answers.iter().flat_map(|answer| &answer.tags);
            for (truth, found) in truth.iter().zip(found) {
                // A role that training lacks is never found.
                counts.truth += u64::from(truth.as_ref().is_none_or(speaks));
                counts.found += u64::from(speaks(found));
                counts.right += u64::from(speaks(found) && *truth == Some(*found));
            }
        }
        Some(counts)
    }

    /// Which of the model's tags may follow each other: pairs, first tags and last tags.
    pub(super) fn legal(&self) -> [Vec<bool>; 3] {
        let parsed: Vec<Option<Tag<'_>>> = self.tags.iter().map(|tag| Tag::parse(tag)).collect();
        let free = self.scheme == Scheme::Raw;
        let pair = |before: &Option<Tag<'_>>, tag: &Option<Tag<'_>>| match (before, tag) {
            (Some(before), Some(tag)) if !free => self.scheme.may_follow(*before, *tag),
            _ => true,
        };
        let outside = Some(Tag::Outside);
        let all = || parsed.iter();
        let pairs = all().flat_map(|before| all().map(move |tag| pair(before, tag))).collect();
        let first = all().map(|tag| pair(&outside, tag)).collect();
        [pairs, first, all().map(|tag| pair(tag, &outside)).collect()]
    }

    /// The place of the tag of nothing among tags of entities.
    pub(super) fn outside(&self) -> Option<usize> {
        let is_outside = |tag: &String| Tag::parse(tag) == Some(Tag::Outside);
        self.tags.iter().position(is_outside).filter(|_| self.scheme != Scheme::Raw)
    }

    /// How well entities were found.
    pub(super) fn scores(&self, scored: &[Scored<'_, Self>]) -> EntityScores {
        let mut scores = EntityScores::default();
        for Scored { example, answers, .. } in scored {
            let found = self.written(example, answers);
            let found: Vec<&str> = found.iter().map(String::as_str).collect();
            scores.add(&example.entities(), &example.entities_of(&found));
        }
        scores
    }
}
