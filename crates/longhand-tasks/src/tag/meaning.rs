//! The meaning of the numbers that a tagger reads and gives.

use std::collections::HashMap;

use super::example::{Columns, Example};
use super::features::Words;
use super::{Answer, Tagging};
use crate::tags::{EntityScores, Scheme, Tag, entities};
use crate::task::Scored;

impl Tagging {
    /// The columns of an example's file.
    pub(super) fn columns<'a>(&'a self, example: &'a Example) -> &'a Columns {
        example.columns.as_ref().unwrap_or(&self.columns)
    }

    /// The row of each feature of each token.
    pub(super) fn feature_rows(&self, example: &Example) -> Vec<Vec<u32>> {
        let columns = self.columns(example);
        let words = example.cells(columns.word);
        let cells: Vec<Vec<&str>> =
            columns.features.iter().map(|&place| example.cells(place)).collect();
        let sentence = Words { words: &words, columns: &cells };
        self.features.iter().map(|table| table.encode(sentence).collect()).collect()
    }

    /// The numbers of an example's tags; none for a tag that training lacks.
    pub(super) fn numbers(&self, example: &Example) -> Vec<Option<u32>> {
        let known: HashMap<&str, u32> = self.tags.iter().map(String::as_str).zip(0..).collect();
        let tags = self.written.convert(&example.tags(), self.scheme);
        tags.iter().map(|tag| known.get(tag.as_str()).copied()).collect()
    }

    /// An answer's tags in the data's own scheme, with the tag of nothing for words beyond it.
    pub(super) fn written(&self, answer: Option<&Answer>, words: usize) -> Vec<String> {
        let tags = answer.map_or(&[][..], |answer| &answer.tags);
        let name = |&tag: &u32| self.tags.get(tag as usize).map_or("O", String::as_str);
        let mut tags: Vec<&str> = tags.iter().map(name).collect();
        tags.resize(words, "O");
        self.scheme.convert(&tags, self.written)
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

    /// How well entities were found.
    pub(super) fn scores(&self, scored: &[Scored<'_, Self>]) -> EntityScores {
        let mut scores = EntityScores::default();
        for Scored { example, answers, .. } in scored {
            let found = self.written(answers.first(), example.sentence.tokens.len());
            let parsed: Option<Vec<Tag<'_>>> = found.iter().map(|tag| Tag::parse(tag)).collect();
            scores.add(&example.entities(), &entities(&parsed.unwrap_or_default()));
        }
        scores
    }
}
