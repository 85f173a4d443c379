//! The meaning of the numbers that a tagger reads and gives.

use std::collections::HashMap;

use super::example::{Columns, Example};
use super::features::Words;
use super::{Answer, Tagging};
use crate::tags::{Scheme, Tag};

/// Tags of tokens of which there is nothing to say.
const NOTHING: [&str; 2] = ["_", "O"];
/// Tags of predicates, which are known before their roles are: no role, and not measured as one.
const PREDICATE: [&str; 2] = ["V", "C-V"];

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

    /// The numbers of an example's tags, which are legal in each sentence whatever the file has; none
    /// for a tag that training lacks.
    pub(super) fn numbers(&self, example: &Example) -> Vec<Option<u32>> {
        let sentences = example.tags_of_sentences().into_iter();
        self.numbers_of(sentences.flat_map(|tags| self.written.convert(&tags, self.scheme)))
    }

    fn numbers_of(&self, tags: impl IntoIterator<Item = String>) -> Vec<Option<u32>> {
        let known: HashMap<&str, u32> = self.tags.iter().map(String::as_str).zip(0..).collect();
        tags.into_iter().map(|tag| known.get(tag.as_str()).copied()).collect()
    }

    /// The tags of a window as those of a sequence of its own: the parts of an entity that it cuts
    /// are entities, so that a CRF learns a legal path.
    pub(super) fn of_window(&self, tags: &[u32]) -> Vec<u32> {
        let name = |&tag: &u32| self.tags.get(tag as usize).map_or("O", String::as_str);
        let names: Vec<&str> = tags.iter().map(name).collect();
        let parsed: Option<Vec<Tag<'_>>> = names.iter().map(|name| Tag::parse(name)).collect();
        if parsed.is_none_or(|parsed| self.scheme.violations(&parsed) == 0) {
            return tags.to_vec();
        }
        let numbers = self.numbers_of(self.scheme.convert(&names, self.scheme));
        numbers.into_iter().map(|number| number.unwrap_or(self.nothing())).collect()
    }

    /// The number of each tag of an example, for one predicate after another: that of nothing where the
    /// tag is unknown, or training lacks it.
    pub(super) fn targets(&self, example: &Example) -> Vec<u32> {
        let (nothing, numbers) = (self.nothing(), self.numbers(example).into_iter());
        let mut targets: Vec<u32> = numbers.map(|number| number.unwrap_or(nothing)).collect();
        let predicates = example.predicates(self.columns(example));
        targets.resize(predicates.len() * example.len(), nothing);
        targets
    }

    /// The number of the tag of nothing, or of any tag where there is none: for a role that training
    /// lacks, which the model can never give.
    pub(super) fn nothing(&self) -> u32 {
        let place = |name: &&str| self.tags.iter().position(|tag| tag == name);
        NOTHING.iter().find_map(place).unwrap_or(0) as u32
    }

    /// Whether a tag says something of its word.
    pub(super) fn speaks(&self, tag: &str) -> bool {
        !NOTHING.contains(&tag) && !self.is_predicate(tag)
    }

    /// Whether a tag, or the type of an entity, is that of the predicate whose roles are found.
    pub(super) fn is_predicate(&self, kind: &str) -> bool {
        self.columns.predicate.is_some() && PREDICATE.contains(&kind)
    }

    /// The tags of an example's tokens in the data's own scheme, for one predicate after another.
    /// Without an answer, every word has the tag of nothing, and one without a predicate has none.
    pub(super) fn written(&self, example: &Example, answers: &[Answer]) -> Vec<String> {
        let name = |&tag: &u32| self.tags.get(tag as usize).map_or("O", String::as_str);
        let mut tags: Vec<&str> =
            answers.iter().flat_map(|answer| &answer.tags).map(name).collect();
        if self.columns(example).predicate.is_none() {
            tags.resize(example.len(), "O");
        }
        let mut written = Vec::with_capacity(tags.len());
        for tags in example.by_predicate(&tags) {
            for place in example.places() {
                let tags = tags.get(place).unwrap_or_default();
                written.extend(self.scheme.convert(tags, self.written));
            }
        }
        written
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
}

#[cfg(test)]
mod tests {
    use longhand_model::Targets;
    use longhand_text::batch::LabelledBatch;
    use longhand_text::{Tokenizer, TokenizerKind};

    use super::*;
    use crate::tag::Settings;
    use crate::task::{Reading, Task};

    /// Names that begin, go on and end where no scheme lets them, and one of four words.
    const SLIPS: &str =
        "a I-X\nb O\nc B-X\nd I-Y\ne E-Y\n\nf I-X\ng I-X\nh I-X\ni I-X\nj S-X\n\nk B-Y\n";

    #[test]
    fn what_is_learnt_is_a_legal_path_in_every_scheme_and_window() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), SLIPS).unwrap();
        for scheme in [Scheme::Iob1, Scheme::Iob2, Scheme::Bioes] {
            for (longest, document) in [(9_usize, false), (3, false), (2, true), (1, false)] {
                let longest = longest.try_into().unwrap();
                let settings =
                    Settings { scheme: Some(scheme), document, longest, ..Settings::default() };
                let read = Tagging::read(&settings, file.path(), &Reading::default()).unwrap();
                let task = Tagging::learn(&settings, &read.examples, "it").unwrap();
                let words = Tagging::texts(&read.examples[0]).join(" ");
                let words = std::iter::once(Ok(words));
                let tokenizer =
                    Tokenizer::train(TokenizerKind::Word, None, words, &mut |_| {}).unwrap();
                let encoded = read.examples.iter().map(|e| task.encode(&tokenizer, e).unwrap());
                for item in encoded.flat_map(|encoded| encoded.items) {
                    let names = item.label.tags.iter().map(|&tag| &*task.tags[tag as usize]);
                    let tags: Vec<Tag<'_>> = names.map(|name| Tag::parse(name).unwrap()).collect();
                    assert_eq!(scheme.violations(&tags), 0, "{scheme} {longest}: {tags:?}");
                }
            }
        }
    }

    #[test]
    fn the_parts_of_a_name_that_a_window_cuts_are_names() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), "a O\nb B-X\nc I-X\nd I-X\n").unwrap();
        let settings = Settings { scheme: Some(Scheme::Bioes), ..Settings::default() };
        let read = Tagging::read(&settings, file.path(), &Reading::default()).unwrap();
        let task = Tagging::learn(&settings, &read.examples, "it").unwrap();
        let names = |tags: &[u32]| -> Vec<&str> {
            tags.iter().map(|&tag| &*task.tags[tag as usize]).collect()
        };
        let whole = task.targets(&read.examples[0]);
        assert_eq!(names(&whole), ["O", "B-X", "I-X", "E-X"]);
        assert_eq!(task.of_window(&whole), whole);
        assert_eq!(names(&task.of_window(&whole[..2])), ["O", "S-X"]);
        assert_eq!(names(&task.of_window(&whole[..3])), ["O", "B-X", "E-X"]);
        assert_eq!(names(&task.of_window(&whole[2..])), ["B-X", "E-X"]);

        // A batch is learnt with what is legal.
        let words = Vec::new();
        let (features, characters) = (Vec::new(), Default::default());
        let target = crate::tag::Target { tags: whole, features, characters, words };
        let batch = LabelledBatch { batch: 1, labels: vec![target], ..Default::default() };
        task.with_targets(&batch, |targets| {
            let Targets::Tags(tags, Some(legal)) = targets else { panic!("{targets:?}") };
            let mut steps =
                tags.windows(2).map(|two| two[0] as usize * task.tags.len() + two[1] as usize);
            assert!(steps.all(|place| legal.transitions[place]));
            assert!(!legal.start[tags[2] as usize] && !legal.end[tags[1] as usize]);
        });
    }
}
