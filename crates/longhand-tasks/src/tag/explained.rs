//! The parts of a tagger's answer that are explained: its entities, or its raw tags one by one.

use std::ops::Range;

use longhand_model::IGNORE;
use longhand_text::batch::LabelledIds;

use super::example::Example;
use super::meaning::SILENT;
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
        let explained = |part: Part| {
            let predicates = example.predicates(self.columns(example));
            let of = predicates.iter().position(|predicate| *predicate == part.predicate)?;
            let window = windows.iter().position(|window| window.contains(&part.first))?;
            let item = of * windows.len() + window;
            let words = part.first..part.last + 1;
            let target = only(&items.get(item)?.label, answers.get(item)?, &windows[window], words);
            Some(Explained { item, target, part: Some(part) })
        };
        self.parts(example, answers).into_iter().filter_map(explained).collect()
    }

    fn parts(&self, example: &Example, answers: &[Answer]) -> Vec<Part> {
        let columns = self.columns(example);
        let words = example.words_of(columns);
        let tags = self.written(example, answers);
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let part = |kind: &str, [first, last]: [usize; 2], predicate| {
            let text = words[first..=last].join(" ");
            Part { kind: kind.to_owned(), first, last, text, predicate }
        };
        if self.scheme != Scheme::Raw {
            let entities = example.entities_of(&tags).into_iter();
            return entities
                .map(|Entity { kind, first, last }| part(kind, [first, last], None))
                .collect();
        }
        let predicates = example.predicates(columns).into_iter();
        let lists = predicates.zip(tags.chunks(words.len().max(1)));
        let speaking = lists.flat_map(|(predicate, tags)| {
            let tags = tags.iter().enumerate().filter(|(_, tag)| !SILENT.contains(tag));
            tags.map(move |(word, tag)| (tag, word, predicate))
        });
        speaking.map(|(tag, word, predicate)| part(tag, [word, word], predicate)).collect()
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
