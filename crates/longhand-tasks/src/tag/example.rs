//! Sentences and documents of CoNLL files.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::slice::Chunks;
use std::sync::{Arc, OnceLock};

use longhand_text::TextError;
use longhand_text::corpus::LineFault;
use longhand_text::corpus::conll::{Conll, ConllColumn, ConllOptions, Sentence};
use serde::{Deserialize, Serialize};

use super::{Settings, Tagging};
use crate::error::TaskError;
use crate::tags::{Entity, Place, Scheme, Tag, entities};
use crate::task::{At, Reading, Task};

/// A sentence or a document of a file, or some lines to tag.
#[derive(Clone, Debug)]
pub struct Example {
    pub(super) file: Arc<Conll>,
    /// Sentences in a row; none where the lines hold no token.
    pub(super) sentences: Vec<Sentence>,
    /// None for lines to tag: the task knows the columns.
    pub(super) columns: Option<Columns>,
    /// Its tags in one line, made where a report asks for it.
    truth: OnceLock<String>,
}

/// The cells of tokens that are no predicate.
const NO_MARK: [&str; 4] = ["_", "", "-", "O"];

/// Places of columns, from 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Columns {
    pub(super) word: usize,
    /// None where the tags are unknown. With a column of predicates, the first predicate's tags.
    pub(super) label: Option<usize>,
    /// The column that marks predicates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) predicate: Option<usize>,
    pub(super) features: Vec<usize>,
    /// The names of all columns of the training data; empty where it does not name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) names: Vec<String>,
    /// Whether each word ends with a digit that is no part of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) place_digits: bool,
}

impl Columns {
    /// The number of features that are read from the file.
    pub(super) fn features(&self) -> usize {
        let of_predicates = if self.predicate.is_some() { 2 } else { 0 };
        self.features.len() + usize::from(self.place_digits) + of_predicates
    }

    /// Whether cells name columns, those that are read among them, and are no token. A cell alone is
    /// none: it may be a word.
    fn are_named_by(&self, cells: &[&str]) -> bool {
        let is_name = |cell: &&str| self.names.iter().any(|name| name == cell);
        let is_read = |&place: &usize| {
            self.names.get(place).is_some_and(|name| cells.contains(&name.as_str()))
        };
        cells.len() > 1 && cells.iter().all(is_name) && self.read().all(is_read)
    }

    /// Why lines whose columns have these names cannot be read: a column is in another place than in the
    /// training data. Of the lines of a file, the first ones alone name the columns, so that the places
    /// have to be those of training.
    fn misplaced(&self, names: &[String]) -> Option<String> {
        self.read().find_map(|&place| {
            let name = self.names.get(place).filter(|&name| names.get(place) != Some(name))?;
            let found = names.iter().position(|own| own == name)?;
            Some(format!(
                "its column {name:?} is number {found}, counted from 0, but number {place} in the \
                 training data: put the columns into that order"
            ))
        })
    }

    /// The places that are read of a file to tag.
    fn read(&self) -> impl Iterator<Item = &usize> {
        self.features.iter().chain([&self.word]).chain(&self.predicate)
    }

    /// Checks that a file has the columns that are read.
    pub(super) fn check(&self, file: &Conll) -> Result<(), TextError> {
        self.read().try_for_each(|&place| file.place(&ConllColumn::Index(place as i64)).map(|_| ()))
    }
}

impl Example {
    /// The number of tokens.
    pub(super) fn len(&self) -> usize {
        self.sentences.iter().map(|sentence| sentence.tokens.len()).sum()
    }

    /// The place of each sentence among the tokens of the example.
    pub(super) fn places(&self) -> impl Iterator<Item = Range<usize>> {
        self.sentences.iter().scan(0, |end, sentence| {
            let start = *end;
            *end += sentence.tokens.len();
            Some(start..*end)
        })
    }

    /// The places of sequences of at most `longest` tokens: as many whole sentences of one document
    /// as fit, and the parts of a sentence that does not.
    pub(super) fn windows(&self, longest: usize) -> Vec<Range<usize>> {
        let mut windows: Vec<Range<usize>> = Vec::new();
        let mut document = None;
        for (sentence, place) in self.sentences.iter().zip(self.places()) {
            let fits = |window: &&mut Range<usize>| {
                document == Some(sentence.document) && place.end - window.start <= longest
            };
            match windows.last_mut().filter(fits) {
                Some(window) => window.end = place.end,
                None => windows.extend(
                    place
                        .clone()
                        .step_by(longest)
                        .map(|start| start..place.end.min(start + longest)),
                ),
            }
            document = Some(sentence.document);
        }
        windows
    }

    pub(super) fn cells(&self, place: usize) -> Vec<&str> {
        let cells = |sentence| self.file.cells(sentence, place);
        self.sentences.iter().flat_map(cells).collect()
    }

    pub(super) fn words(&self) -> Vec<&str> {
        self.columns.as_ref().map_or(Vec::new(), |columns| self.words_of(columns))
    }

    /// The words of its tokens in these columns.
    pub(super) fn words_of(&self, columns: &Columns) -> Vec<&str> {
        let mut words = self.cells(columns.word);
        if columns.place_digits {
            words.iter_mut().for_each(|word| *word = with_digit(word).0);
        }
        words
    }

    /// The tokens that are predicates; each has tags of its own, and so a sequence of its own. One
    /// sequence without a predicate where no column marks them.
    pub(super) fn predicates(&self, columns: &Columns) -> Vec<Option<usize>> {
        let Some(column) = columns.predicate else { return vec![None] };
        let marks = self.cells(column).into_iter().enumerate();
        marks.filter(|(_, mark)| !NO_MARK.contains(mark)).map(|(token, _)| Some(token)).collect()
    }

    /// The values of each feature that is read from the file, in the sequence of a predicate.
    pub(super) fn features_of(
        &self,
        columns: &Columns,
        predicate: Option<usize>,
    ) -> Vec<Vec<&str>> {
        let mut features: Vec<Vec<&str>> =
            columns.features.iter().map(|&place| self.cells(place)).collect();
        if columns.place_digits {
            let words = self.cells(columns.word).into_iter();
            features.push(words.map(|word| with_digit(word).1).collect());
        }
        if let Some(predicate) = predicate {
            features.push((0..self.len()).map(|token| distance(token, predicate)).collect());
            let word = self.cells(columns.word).get(predicate).copied().unwrap_or_default();
            features.push(vec![word; self.len()]);
        }
        features
    }

    /// The tags as the file has them, those of one predicate after another's; empty
    /// where they are unknown.
    pub(super) fn tags(&self) -> Vec<&str> {
        self.tags_of_sentences().concat()
    }

    /// The tags of each sentence, for one predicate after another; empty where they are unknown.
    pub(super) fn tags_of_sentences(&self) -> Vec<Vec<&str>> {
        let Some(columns) = &self.columns else { return Vec::new() };
        let Some(label) = columns.label else { return Vec::new() };
        let count = self.predicates(columns).len();
        let tags = |place| {
            self.sentences.iter().map(move |sentence| self.file.cells(sentence, place).collect())
        };
        (label..label + count).flat_map(tags).collect()
    }

    /// The parts of a list that has something for each token, one predicate after another.
    pub(super) fn by_predicate<'a, T>(&self, all: &'a [T]) -> Chunks<'a, T> {
        all.chunks(self.len().max(1))
    }

    /// Tags, one predicate after another, in one line.
    pub(super) fn line_of(&self, tags: &[&str]) -> String {
        let lists: Vec<String> = self.by_predicate(tags).map(|tags| tags.join(" ")).collect();
        lists.join(" | ")
    }

    /// Its tags in one line; empty where they are unknown.
    pub(super) fn truth(&self) -> &str {
        self.truth.get_or_init(|| self.line_of(&self.tags()))
    }

    /// The entities that its tags mark, those of each predicate by themselves; none of raw tags.
    pub(super) fn entities(&self) -> Vec<Vec<Entity<'_>>> {
        self.by_predicate(&self.tags()).map(|tags| self.entities_of(tags)).collect()
    }

    /// The entities that the tags of its tokens for one predicate mark, sentence by sentence; none of
    /// raw tags.
    pub(super) fn entities_of<'a>(&self, tags: &[&'a str]) -> Vec<Entity<'a>> {
        let mut all = Vec::new();
        for place in self.places() {
            let tags = tags.get(place.clone()).unwrap_or_default();
            let parsed: Option<Vec<Tag<'a>>> = tags.iter().map(|tag| Tag::parse(tag)).collect();
            all.extend(entities(&parsed.unwrap_or_default()).into_iter().map(|entity| Entity {
                first: entity.first + place.start,
                last: entity.last + place.start,
                ..entity
            }));
        }
        all
    }
}

/// Reads the sentences of a file, or its documents.
pub(super) fn read(
    settings: &Settings,
    file: &Path,
    reading: &Reading,
) -> Result<Vec<Example>, TaskError> {
    if settings.document && settings.predicate_column.is_some() {
        let (task, key, value) = (Tagging::NAME, "document".into(), "true".into());
        let reason = "with a predicate_column, each predicate reads its own sentence alone, so leave \
            one of the two out";
        return Err(TaskError::Setting { task, key, value, reason: reason.into() });
    }
    let column = |name: &String| {
        let Ok(column) = name.parse::<ConllColumn>();
        column
    };
    let (word, label) = (column(&settings.word_column), column(&settings.label_column));
    let features: Vec<ConllColumn> = settings.feature_columns.iter().map(column).collect();
    let predicate = settings.predicate_column.as_ref().map(column);
    let mut all = features.iter().chain([&word, &label]).chain(&predicate);
    let header = all.any(|column| matches!(column, ConllColumn::Name(_)));
    let varying = predicate.is_some();
    // Where the words are not first, numbers can be.
    let numbered = settings.word_column != "0";
    let options = ConllOptions { header, varying, numbered, lossy: reading.lossy };
    let file = Conll::read(file, options)?;
    let place = |column: &ConllColumn| file.place(column);
    let predicate = predicate.as_ref().map(place).transpose()?;
    let label = match (reading.unlabelled, predicate) {
        (true, _) => None,
        (false, Some(predicate)) => Some(predicate + 1),
        (false, None) => Some(place(&label)?),
    };
    let columns = Columns {
        word: place(&word)?,
        label,
        predicate,
        features: features.iter().map(place).collect::<Result<_, _>>()?,
        names: file.names().to_vec(),
        place_digits: settings.place_digits,
    };
    let file = Arc::new(file);
    let together = |a: &Sentence, b: &Sentence| settings.document && a.document == b.document;
    let examples = file.sentences().chunk_by(together).map(|sentences| Example {
        file: file.clone(),
        sentences: sentences.to_vec(),
        columns: Some(columns.clone()),
        truth: OnceLock::new(),
    });
    let examples: Vec<Example> = examples.collect();
    for example in &examples {
        if let Some(place) = example.tags().iter().position(|tag| tag.is_empty()) {
            let first = example.sentences.first().map_or(0, |sentence| sentence.tokens.start);
            let line = file.line(first + place % example.len().max(1));
            let (name, fault) = (file.name().to_owned(), LineFault::NoLabel);
            return Err(TextError::Line { name, line, fault }.into());
        }
    }
    Ok(examples)
}

/// Lines to tag, whose columns are those of the training data. Where that names them, a line with the
/// same names may come first, and is no token.
pub(super) fn parse(columns: &Columns, text: &str, at: At<'_>) -> Result<Example, TaskError> {
    let block = |header: bool| {
        let (numbered, varying) = (columns.word != 0, columns.predicate.is_some());
        let options = ConllOptions { header, varying, numbered, lossy: false };
        Conll::block(at.name, text, at.example as u64, options)
    };
    let mut file = block(false)?;
    if columns.are_named_by(&file.row(0)) {
        file = block(true)?;
    }
    if let Some(reason) = columns.misplaced(file.names()) {
        return Err(TextError::Table { name: at.name.into(), reason }.into());
    }
    let sentences = file.sentences().to_vec();
    Ok(Example { file: Arc::new(file), sentences, columns: None, truth: OnceLock::new() })
}

/// The place of a token beside its predicate, 0 for the predicate itself.
fn distance(token: usize, predicate: usize) -> &'static str {
    const BEFORE: [&str; 6] = ["-1", "-2", "-3", "-4", "-5", "before"];
    const BEHIND: [&str; 6] = ["1", "2", "3", "4", "5", "behind"];
    let name = |names: [&'static str; 6], distance: usize| names[distance.min(names.len()) - 1];
    match token.cmp(&predicate) {
        Ordering::Less => name(BEFORE, predicate - token),
        Ordering::Equal => "0",
        Ordering::Greater => name(BEHIND, token - predicate),
    }
}

/// A word and the digit at its end; a word without a digit, or of a digit alone, keeps all.
fn with_digit(word: &str) -> (&str, &str) {
    let place = word.len() - usize::from(word.ends_with(|c: char| c.is_ascii_digit()));
    if place == 0 { (word, "") } else { word.split_at(place) }
}

/// The scheme of the examples' tags.
pub(super) fn scheme_of(examples: &[Example]) -> Scheme {
    let tags: Vec<Vec<&str>> = examples.iter().flat_map(Example::tags_of_sentences).collect();
    Scheme::of(tags.iter().map(Vec::as_slice))
}

/// Tags of the examples that their scheme does not allow after the tag before.
pub(super) fn illegal_tags(examples: &[Example]) -> usize {
    let scheme = scheme_of(examples);
    let violations = |tags: Vec<&str>| {
        let parsed: Option<Vec<Tag<'_>>> = tags.into_iter().map(Tag::parse).collect();
        parsed.map_or(0, |tags| scheme.violations(&tags))
    };
    examples.iter().flat_map(Example::tags_of_sentences).map(violations).sum()
}

/// The tags of a scheme for every type of entity in the examples, or the raw tags themselves.
pub(super) fn tags_of(examples: &[Example], scheme: Scheme) -> Vec<String> {
    if scheme == Scheme::Raw {
        let tags: BTreeSet<&str> = examples.iter().flat_map(Example::tags).collect();
        return tags.into_iter().map(str::to_owned).collect();
    }
    let places: &[Place] = match scheme {
        Scheme::Bioes => &[Place::Begin, Place::Middle, Place::End, Place::Single],
        _ => &[Place::Begin, Place::Middle],
    };
    let entities = examples.iter().flat_map(Example::entities).flatten();
    let kinds: BTreeSet<&str> = entities.map(|entity| entity.kind).collect();
    let of_kind = |kind| places.iter().map(move |&place| Tag::Inside(place, kind));
    let tags = [Tag::Outside].into_iter().chain(kinds.into_iter().flat_map(of_kind));
    tags.map(|tag| tag.to_string()).collect()
}
