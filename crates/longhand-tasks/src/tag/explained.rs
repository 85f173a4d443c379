//! The parts of a tagger's answer: its entities, or its raw tags one by one.

use std::ops::Range;

use longhand_model::IGNORE;
use longhand_text::batch::LabelledIds;

use super::example::Example;
use super::tokens::text;
use super::{Answer, Tagging, Target};
use crate::tags::{Entity, Scheme};
use crate::task::{Explained, Part};

impl Tagging {
    /// Each entity, or each raw tag that says something, with the tags of its own words alone as the
    /// target of their sequence.
    pub(super) fn explained_parts(
        &self,
        example: &Example,
        items: &[LabelledIds<Target>],
        answers: &[Answer],
    ) -> Vec<Explained<Target>> {
        if answers.is_empty() {
            return Vec::new();
        }
        let windows = example.windows(self.longest());
        let predicates = example.predicates(self.columns(example));
        let explained = |part: Part| {
            let of = predicates.iter().position(|predicate| *predicate == part.predicate)?;
            let window = windows.iter().position(|window| window.contains(&part.first))?;
            let item = of * windows.len() + window;
            let words = part.first..part.last + 1;
            let target = only(&items.get(item)?.label, answers.get(item)?, &windows[window], words);
            Some(Explained { item, target, part: Some(part) })
        };
        let tags = self.written(example, answers);
        let mut parts = match self.scheme {
            Scheme::Raw => self.raw_parts(example, &tags),
            _ => self.entities(example, &tags),
        };
        parts.retain(|part| !self.is_predicate(&part.kind));
        parts.into_iter().filter_map(explained).collect()
    }

    /// The entities that an example's tags mark, for one predicate after another; none of raw tags.
    pub(super) fn entities(&self, example: &Example, tags: &[String]) -> Vec<Part> {
        if self.scheme == Scheme::Raw {
            return Vec::new();
        }
        self.parts(example, tags, |tags| example.entities_of(tags))
    }

    /// Each raw tag that says something of its word.
    fn raw_parts(&self, example: &Example, tags: &[String]) -> Vec<Part> {
        let of_word = |(word, kind)| Entity { kind, first: word, last: word };
        self.parts(example, tags, |tags| {
            let tags = tags.iter().copied().enumerate().filter(|(_, tag)| self.speaks(tag));
            tags.map(of_word).collect()
        })
    }

    /// The parts that `marked` finds in the tags of each predicate.
    fn parts<'a>(
        &self,
        example: &Example,
        tags: &'a [String],
        marked: impl Fn(&[&'a str]) -> Vec<Entity<'a>>,
    ) -> Vec<Part> {
        let columns = self.columns(example);
        let words = example.words_of(columns);
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let mut parts = Vec::new();
        let predicates = example.predicates(columns).into_iter();
        for (predicate, tags) in predicates.zip(example.by_predicate(&tags)) {
            parts.extend(marked(tags).into_iter().map(|Entity { kind, first, last }| Part {
                kind: kind.to_owned(),
                first,
                last,
                text: text(&words[first..=last], self.spaced),
                predicate,
            }));
        }
        parts
    }

    fn longest(&self) -> usize {
        self.longest.get()
    }
}

/// The target of a window with the answer's tags of some words alone.
fn only(label: &Target, answer: &Answer, window: &Range<usize>, words: Range<usize>) -> Target {
    let tag = |(word, &tag): (usize, &u32)| {
        if words.contains(&(window.start + word)) { tag } else { IGNORE }
    };
    let tags = answer.tags.iter().enumerate().map(tag).collect();
    Target { tags, ..label.clone() }
}
